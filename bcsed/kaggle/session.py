"""Training and pseudolabelling in Kaggle sessions, which end after some hours.

A session stops by itself before that and leaves in ``working`` everything that is needed to continue. Its output,
attached to the next session, is mounted read-only; it is copied and continued in the copy.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..audio.decode import find_recordings
from ..config.experiments import Experiment, find_experiment, parse_changes
from ..data.competitions import detect_competition
from ..errors import BcsedError, ConfigError, DataError
from ..files import write_json
from . import inputs
from .inputs import Log, find_input, kaggle_root
from .notebooks import PseudolabelSettings, TrainSettings

# Prefixes of lines for the user, among all that torchrun prints.
_LINE, _ERROR = "bcsed> ", "bcsed! "

_log = logging.getLogger(__name__)


class _OutOfTimeError(Exception):
    """The hours of the session are over; finished recordings are kept."""


def train(settings: TrainSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Path | None:
    """Train a network, stop before the session ends, and export a bundle when all epochs are trained.

    `root` is the folder of ``input`` and ``working``, see `kaggle_root`; `log` is called with sentences about the
    inputs and the progress. Returns the bundle, ``working/bundle-<experiment>-<fold>``; None if epochs are left for
    another session. Raises ConfigError or DataError if an input is not attached or ambiguous, or the run to continue
    was another training.
    """
    import torch

    from ..predict.budget import process_age_s
    from ..train.checkpoints import export_run, finished

    home = kaggle_root(root)
    changes = [*settings.changes, *(["fit.pretrained=false"] if settings.pretrained == "none" else [])]
    experiment = find_experiment(settings.experiment).vary(settings.experiment, **parse_changes(changes))
    out = home / "working" / "run"
    job: dict[str, Any] = {
        "experiment": experiment.name,
        "changes": changes,
        "data": str(find_input(inputs.COMPETITION, settings.competition, root=home, log=log)),
        "out": str(out),
        "fold": settings.fold,
        "inputs": {
            "pseudolabels": _find_table(experiment, settings.pseudolabels, home, log),
            "pretrained": _find_weights(settings.pretrained, home, log),
        },
        "resume": _prepare_run(out, settings.resume, home, log),
    }
    left_min = 60.0 * settings.hours - process_age_s() / 60.0
    if left_min <= 0:
        raise ConfigError(f"hours={settings.hours:g} are over before the training starts; set more hours.")
    job["options"] = {"jobs": settings.jobs, "cache_gb": settings.cache_gb, "stop_after_min": left_min}
    n_processes = settings.processes or max(1, torch.cuda.device_count())
    # A finished run is not trained further, but is still compared with the settings.
    if n_processes > 1:
        log(f"{n_processes} processes share every batch")
        train_distributed(job, home / "working", n_processes, log)
    else:
        _train_job(job, log)
    if not finished(out):
        log(
            f"stopped after {process_age_s() / 3600:.1f} h of {settings.hours:g}, before all "
            f"{experiment.fit.epochs} epochs were trained; attach this notebook's output as an input and run it again "
            "to continue"
        )
        return None
    fold = "all" if settings.fold is None else settings.fold
    bundle = home / "working" / f"bundle-{experiment.name}-{fold}"
    shutil.rmtree(bundle, ignore_errors=True)
    provenance = export_run(out, bundle).provenance
    log(f"exported {bundle} from the {provenance['checkpoint']} checkpoint, epoch {provenance['epoch']}")
    return bundle


def pseudolabel(settings: PseudolabelSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Path | None:
    """Label the training soundscapes with bundles, and stop before the session ends.

    Return ``working/pseudolabels.parquet``, or None if recordings are left for another session, which continues if the
    output of this one is attached. Arguments as for `train`; errors also as of `bcsed.train.pseudolabels`.
    """
    from ..models.bundle import load
    from ..predict import Windowing, process_age_s
    from ..train.pseudolabels import Selection, make_pseudolabels, scores_folder

    home = kaggle_root(root)
    out = home / "working" / "pseudolabels.parquet"
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    competition = detect_competition(data)
    recordings = find_recordings([data / competition.soundscapes_dir])[: settings.limit]
    bundles = inputs.find_bundles(settings.bundles, root=home, scratch=home / "working" / ".bundles", log=log)
    scores = scores_folder(out)
    _copy_scores(scores, home, log)
    log(f"labelling {len(recordings)} soundscapes of {data / competition.soundscapes_dir}")
    try:
        table = make_pseudolabels(
            [load(path) for path in bundles],
            recordings,
            out,
            selection=Selection(
                kind=settings.select,
                threshold=settings.threshold,
                floor=settings.min_score,
                top_n=settings.top_n,
                power=settings.power,
            ),
            weights=settings.weights,
            windowing=Windowing(row_s=competition.row_s, windows=settings.windows, stride_s=settings.stride_s),
            jobs=settings.jobs,
            progress=_stop_after(3600.0 * settings.hours - process_age_s(), log),
        )
    except _OutOfTimeError:
        log(
            f"stopped after {process_age_s() / 3600:.1f} h of {settings.hours:g}; attach this notebook's output as an "
            "input and run it again to continue"
        )
        return None
    # The table contains all scores; the folder of thousands of parts would be mounted with it.
    shutil.rmtree(scores)
    counts = [count for count in table.per_class().values() if count]
    log(f"{out}: {len(table.values)} rows; {sum(counts)} labels of {len(counts)} of {len(table.classes)} classes")
    return out


def train_distributed(job: Mapping[str, Any], folder: Path, n_processes: int, log: Log) -> None:
    """Run a training, whose arguments are in `job`, in several processes that share every batch."""
    path = folder / ".job.json"
    write_json(path, job)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_processes}"]
    command = [sys.executable, *launch, "-m", "bcsed.kaggle.session", str(path)]
    error, last = "", ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if line.startswith(_LINE):
                log(line.removeprefix(_LINE).rstrip())
            elif line.startswith(_ERROR):
                error = line.removeprefix(_ERROR).rstrip()
            else:
                last = line.strip() or last
    path.unlink(missing_ok=True)
    if process.returncode:
        raise DataError(error or f"one of {n_processes} processes failed with status {process.returncode} ({last}).")


def main(path: str) -> int:
    """Train as one of several processes, and return the exit status."""
    try:
        _train_job(json.loads(Path(path).read_text(encoding="utf-8")), lambda line: print(_LINE + line, flush=True))
    except BcsedError as error:
        if os.environ.get("RANK", "0") == "0":
            print(_ERROR + str(error), flush=True)
        return 2
    return 0


def _train_job(job: Mapping[str, Any], log: Log) -> None:
    from ..train.api import train as run_training
    from ..train.data import TrainInputs, TrainOptions

    experiment = find_experiment(job["experiment"]).vary(job["experiment"], **parse_changes(job["changes"]))
    run_training(
        experiment,
        job["data"],
        job["out"],
        fold=job.get("fold", 0),
        resume=job["resume"],
        inputs=TrainInputs(**job.get("inputs", {})),
        options=TrainOptions(**job.get("options", {})),
        epoch_done=lambda values: log(format_epoch(values, experiment.fit.epochs)),
    )


def format_epoch(values: Mapping[str, Any], n_epochs: int) -> str:
    """Return the metrics of an epoch as one line."""
    parts = [f"epoch {values['epoch']:.0f}/{n_epochs}", f"loss {values['loss']:.4g}"]
    for key, name in (("clip", "clips"), ("row", "soundscape rows")):
        if f"{key}_auc" in values:
            parts.append(f"{name}: macro ROC-AUC {values[f'{key}_auc']:.4f} ({values[f'{key}_classes']:.0f} classes)")
    return ", ".join([*parts, f"{values['seconds']:.0f} s", *(["best"] if values["best"] else [])])


def _find_table(experiment: Experiment, wanted: str, home: Path, log: Log) -> str | None:
    """Return the table of pseudolabels, if the experiment uses one."""
    if experiment.pseudo.share > 0 and experiment.data.pseudo_source == "table":
        return str(find_input(inputs.PSEUDOLABELS, wanted, root=home, log=log))
    if wanted:
        raise ConfigError(
            f"{experiment.name} injects no pseudolabelled soundscapes, so {wanted!r} would not be used; set "
            "pseudo.share, or leave the table out."
        )
    return None


def _find_weights(wanted: str, home: Path, log: Log) -> str | None:
    """Return the initial weights: a run, a bundle, or a file."""
    if wanted in ("", "none"):
        return None
    for kind in (inputs.RUN, inputs.BUNDLE):
        try:
            return str(find_input(kind, wanted, root=home, log=log))
        except DataError:
            continue
    return str(find_input(inputs.WEIGHTS, wanted, root=home, log=log))


def _prepare_run(out: Path, resume: str, home: Path, log: Log) -> bool:
    """Copy the run to continue into ``working``; return False if a new run starts."""
    if resume == "fresh":
        shutil.rmtree(out, ignore_errors=True)
        log("a new run starts, as resume='fresh' demands")
        return False
    if (out / "run.json").is_file():
        log(f"{inputs.RUN.name}: {out}, started in this session")
        return True
    runs = inputs.find_inputs(inputs.RUN, "" if resume == "auto" else resume, root=home, log=log)
    if not runs:
        log(f"no run to resume among the inputs, so a new run starts at epoch 1; to continue one, {inputs.RUN.attach}")
        return False
    if len(runs) > 1:
        raise DataError(
            f"{runs[0]} and {runs[1]} are two runs that could be resumed; name one of them, or 'fresh' for a new run."
        )
    log("the run is continued in a copy; resume='fresh' would start a new run")
    shutil.rmtree(out, ignore_errors=True)
    _copy_files(runs[0], out, [path for path in runs[0].iterdir() if not path.name.startswith(".")])
    return True


def _copy_scores(scores: Path, home: Path, log: Log) -> None:
    """Copy the scores of an earlier session into ``working``, so that they can be completed."""
    if scores.is_dir():
        return
    kind = inputs.InputKind("scores to continue", ("manifest.json",), "")
    folders = [path for path in inputs.find_inputs(kind, root=home, log=lambda _: None) if path.name == scores.name]
    if len(folders) > 1:
        raise DataError(f"{folders[0]} and {folders[1]} are scores of two sessions; attach the one to continue.")
    for path in folders:
        log(f"{kind.name}: {path}")
        _copy_files(path, scores, list(path.rglob("*")))


def _copy_files(source: Path, target: Path, paths: list[Path]) -> None:
    # Not copytree, which copies the permissions of the mount, under which nothing can be written.
    for path in sorted(path for path in paths if path.is_file()):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _stop_after(seconds: float, log: Log) -> Callable[[int, int], None]:
    """Return a progress callback that raises `_OutOfTimeError` after some seconds."""
    end, tenth = time.monotonic() + seconds, 0

    def step(done: int, total: int) -> None:
        nonlocal tenth
        if 10 * done // max(1, total) > tenth:
            tenth = 10 * done // total
            log(f"{done} of {total} recordings")
        if time.monotonic() > end and done < total:
            raise _OutOfTimeError

    return step


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
