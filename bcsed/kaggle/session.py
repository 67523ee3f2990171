"""Training and pseudolabelling in Kaggle's sessions, which end after some hours whether one is done or not.

A session stops by itself before that, with everything in ``working`` that is needed to go on. Its output, attached
to the next session, is mounted where nothing can be written: it is copied, and continued there.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio.decode import find_recordings
from ..config.experiments import find_experiment, parse_changes
from ..data.competitions import detect_competition
from ..errors import ConfigError, DataError
from .inputs import BUNDLE, COMPETITION, PSEUDOLABELS, RUN, WEIGHTS, find_bundles, find_input, find_inputs, kaggle_root
from .markers import InputKind, Log
from .worker import train_distributed

if TYPE_CHECKING:
    from ..config.experiments import Experiment

FRESH, AUTO = "fresh", "auto"

_log = logging.getLogger(__name__)


class _OutOfTimeError(Exception):
    """The session's hours are over; what is finished is kept."""


def train(
    *,
    competition: str = "birdclef-2026",
    experiment: str = "exp-39",
    changes: Sequence[str] = (),
    fold: int | None = 0,
    pretrained: str = "",
    pseudolabels: str = "",
    resume: str = AUTO,
    hours: float = 8.3,
    processes: int | None = None,
    jobs: int = 4,
    cache_gb: float = 4.0,
    root: str | Path | None = None,
    say: Log = _log.info,
) -> Path | None:
    """Train a network, stopping before the session ends, and seal it when all epochs are done.

    Parameters
    ----------
    competition : str
        Slug or path of the competition's data.
    experiment : str
        A row of `bcsed.config.experiments.TABLE`.
    changes : sequence of str
        Fields to change, ``group.field=value``.
    fold : int or None
        The fold that is held out; None learns from everything.
    pretrained : str
        Slug or path of weights to start from; ``none`` for a random start; '' for what the experiment says.
    pseudolabels : str
        Slug or path of a table, for an experiment that injects pseudolabelled soundscapes; '' for the one that is
        attached.
    resume : str
        ``auto`` goes on with the one run that is attached, and says so where there is none; ``fresh`` begins a new
        run; else the slug or path of the run to go on with, which must be there.
    hours : float
        After these, counted from the start of the process, the training stops with a checkpoint.
    processes : int, optional
        That share every batch; one for each GPU by default.
    jobs : int
        Threads that decode, of each process.
    cache_gb : float
        Memory for decoded recordings, of each process.
    root : str or Path, optional
        The folder of ``input`` and ``working``, see `kaggle_root`.
    say : callable
        Told what is chosen and how it goes.

    Returns
    -------
    Path or None
        The sealed bundle, ``working/bundle-<experiment>-<fold>``; None if epochs are left for another session.

    Raises
    ------
    ConfigError, DataError
        If something is not attached, two runs could be meant, or the run to go on with was another training.
    """
    import torch

    from ..predict.budget import process_age_s
    from ..train.api import train as run_training
    from ..train.checkpoints import finished
    from ..train.options import TrainInputs, TrainOptions

    home = kaggle_root(root)
    row = _experiment(experiment, changes, pretrained)
    data = find_input(COMPETITION, competition, root=home, say=say)
    table = _table(row, pseudolabels, home, say)
    start = None if pretrained in ("", "none") else _weights(pretrained, home, say)
    out = home / "working" / "run"
    going_on = _take_up(out, resume, home, say)
    left_min = 60.0 * hours - process_age_s() / 60.0
    if left_min <= 0:
        raise ConfigError(f"hours={hours:g} are over before the training begins; give the session more.")
    # A run with all its epochs is not trained further; whether it is the one that was asked for is looked at anyway.
    given: dict[str, Any] = {
        "fold": fold,
        "resume": going_on,
    }
    inputs: dict[str, Any] = {"pseudolabels": table and str(table), "pretrained": start and str(start)}
    settings: dict[str, Any] = {"jobs": jobs, "cache_gb": cache_gb, "stop_after_min": left_min}
    if processes is None:
        processes = max(1, torch.cuda.device_count())
    if processes > 1:
        say(f"{processes} processes share every batch")
        told = {"experiment": row.name, "changes": _changes(changes, pretrained), "data": str(data), "out": str(out)}
        train_distributed({**given, **told, "inputs": inputs, "options": settings}, home / "working", processes, say)
    else:
        run_training(
            row,
            data,
            out,
            **given,
            inputs=TrainInputs(**inputs),
            options=TrainOptions(**settings),
            epoch_done=lambda values: say(epoch_line(values, row.fit.epochs)),
        )
    if not finished(out):
        say(
            f"stopped after {process_age_s() / 3600:.1f} h of {hours:g}, before all {row.fit.epochs} epochs were done; "
            "attach this notebook's output as an input and run it again, and it goes on from here"
        )
        return None
    return _seal(out, home / "working" / f"bundle-{row.name}-{'all' if fold is None else fold}", say)


def pseudolabel(
    *,
    competition: str = "birdclef-2026",
    bundles: Sequence[str] = (),
    weights: Sequence[float] | None = None,
    select: str = "threshold",
    threshold: float = 0.5,
    top_n: int = 0,
    floor: float = 0.1,
    power: float = 1.0,
    windows: str = "centred",
    stride_s: float | None = None,
    limit: int | None = None,
    hours: float = 8.3,
    jobs: int = 4,
    root: str | Path | None = None,
    say: Log = _log.info,
) -> Path | None:
    """Let bundles label the training soundscapes, stopping before the session ends.

    Parameters
    ----------
    competition, bundles, weights, hours, root, say
        See `train` and `bcsed.kaggle.submit`.
    select : {'threshold', 'top', 'soft'}
        Which answers are believed; see `bcsed.train.pseudolabels.Selection`.
    threshold, top_n, floor, power
        Its numbers.
    windows, stride_s, jobs
        See `bcsed.predict.predict`.
    limit : int, optional
        Only the first so many soundscapes.

    Returns
    -------
    Path or None
        ``working/pseudolabels.parquet``; None if recordings are left for another session, which goes on where this
        one stopped if this one's output is attached.

    Raises
    ------
    ConfigError, DataError, BundleError
        If something is not attached, or as `bcsed.train.pseudolabels.make`.
    """
    from ..models.bundle.bundle import load
    from ..predict.blocks import Windowing
    from ..predict.budget import process_age_s
    from ..train import pseudolabels as labelling

    home = kaggle_root(root)
    out = home / "working" / "pseudolabels.parquet"
    data = find_input(COMPETITION, competition, root=home, say=say)
    year = detect_competition(data)
    recordings = find_recordings([data / year.soundscapes_dir])[:limit]
    found = find_bundles(bundles, root=home, scratch=home / "working" / ".bundles", say=say)
    answers = labelling.scores_folder(out)
    _take_up_answers(answers, home, say)
    selection = labelling.Selection(kind=select, threshold=threshold, floor=floor, top_n=top_n, power=power)
    say(f"labelling {len(recordings)} soundscapes of {data / year.soundscapes_dir}")
    try:
        table = labelling.make_pseudolabels(
            [load(path) for path in found],
            recordings,
            out,
            selection=selection,
            weights=weights,
            windowing=Windowing(row_s=year.row_s, windows=windows, stride_s=stride_s),
            jobs=jobs,
            progress=_until(3600.0 * hours - process_age_s(), say),
        )
    except _OutOfTimeError:
        say(
            f"stopped after {process_age_s() / 3600:.1f} h of {hours:g}; attach this notebook's output as an input and "
            "run it again, and it goes on from here"
        )
        return None
    # What was answered is in the table; a folder of thousands of parts would be mounted with it.
    shutil.rmtree(answers)
    kept = {name: count for name, count in table.per_class().items() if count}
    say(f"{out}: {len(table.values)} rows; {sum(kept.values())} labels of {len(kept)} of {len(table.classes)} classes")
    return out


def _experiment(name: str, changes: Sequence[str], pretrained: str) -> Experiment:

    row = find_experiment(name)
    return row.vary(row.name, **parse_changes(_changes(changes, pretrained)))


def _changes(changes: Sequence[str], pretrained: str) -> list[str]:
    return [*changes, *(["fit.pretrained=false"] if pretrained == "none" else [])]


def _table(row: Experiment, wanted: str, home: Path, say: Log) -> Path | None:
    """Return the table of pseudolabels, if the experiment learns from one."""
    if row.pseudo.share > 0 and row.data.pseudo_source == "table":
        return find_input(PSEUDOLABELS, wanted, root=home, say=say)
    if wanted:
        raise ConfigError(
            f"{row.name} injects no pseudolabelled soundscapes, so {wanted!r} would not be heard; set pseudo.share, "
            "or leave the table away."
        )
    return None


def _weights(wanted: str, home: Path, say: Log) -> Path:
    """Return what to start from: a run, a bundle, or a file of weights."""
    for kind in (RUN, BUNDLE, WEIGHTS):
        try:
            return find_input(kind, wanted, root=home, say=say)
        except DataError:
            if kind is WEIGHTS:
                raise
    raise AssertionError("unreachable")


def _take_up(out: Path, resume: str, home: Path, say: Log) -> bool:
    """Copy the run to go on with to where it can be written; return whether there is one."""
    if (out / "run.json").is_file() and resume != FRESH:
        say(f"{RUN.name}: {out}, begun in this session")
        return True
    if resume == FRESH:
        shutil.rmtree(out, ignore_errors=True)
        say("a new run begins, as was asked")
        return False
    found = find_inputs(RUN, "" if resume == AUTO else resume, root=home, say=say)
    if not found:
        say(f"no run to resume among the inputs, so a new run begins at epoch 1; to go on with one, {RUN.attach}")
        return False
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1]} are two runs that could be resumed; name the one that is meant, or 'fresh' for "
            "a new one."
        )
    say("it is continued in a copy; 'fresh' would begin a new run")
    shutil.rmtree(out, ignore_errors=True)
    # Not copytree: it takes over the mount's permissions, under which nothing could be written.
    for path in sorted(found[0].iterdir()):
        if path.is_file() and not path.name.startswith("."):
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / path.name)
    return True


def _take_up_answers(answers: Path, home: Path, say: Log) -> None:
    """Copy what an earlier session's teachers have answered to where it can be added to."""
    if answers.is_dir():
        return
    kind = InputKind(name="answers to go on with", markers=("manifest.json",), attach="")
    found = [path for path in find_inputs(kind, root=home, say=lambda _: None) if path.name == answers.name]
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} are answers of two sessions; attach the one to go on with.")
    for path in found:
        say(f"{kind.name}: {path}")
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            target = answers / file.relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _until(seconds: float, say: Log) -> Callable[[int, int], None]:
    """Return a callable for progress that ends the work after some seconds."""
    end, told = time.monotonic() + seconds, [0]

    def step(done: int, total: int) -> None:
        if 10 * done // max(1, total) > told[0]:
            told[0] = 10 * done // total
            say(f"{done} of {total} recordings")
        if time.monotonic() > end and done < total:
            raise _OutOfTimeError

    return step


def epoch_line(values: Mapping[str, Any], n_epochs: int) -> str:
    """Say in a line how an epoch ended."""
    parts = [f"epoch {values['epoch']:.0f}/{n_epochs}", f"loss {values['loss']:.4g}"]
    parts += [f"{key} macro ROC-AUC {values[f'{key}_auc']:.4f}" for key in ("clip", "row") if f"{key}_auc" in values]
    return ", ".join([*parts, f"{values['seconds']:.0f} s"])


def _seal(run: Path, out: Path, say: Log) -> Path:
    """Seal a finished run's network in a bundle."""
    from ..train.export import export_run

    shutil.rmtree(out, ignore_errors=True)
    provenance = export_run(run, out).provenance
    say(f"sealed {out} from the {provenance['checkpoint']} checkpoint, epoch {provenance['epoch']}")
    return out
