"""Training and pseudolabelling in Kaggle sessions, which end after some hours.

A session stops by itself before that and leaves in ``working`` everything that is needed to continue. Its output,
attached to the next session, is mounted read-only; it is copied and continued in the copy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.experiments import Experiment, find_experiment, parse_changes
from ..config.strict import from_dict, read_values, to_dict
from ..data.competitions import detect_competition, read_taxa
from ..errors import BcsedError, ConfigError, DataError
from ..files import shorten_list
from ..recordings import find_recordings
from . import inputs
from .inputs import Log, find_input, kaggle_root
from .notebooks import PseudolabelSettings, TrainSettings

# Prefixes of lines for the user, among all that torchrun prints.
_LINE, _ERROR = "bcsed> ", "bcsed! "

_log = logging.getLogger(__name__)


class OutOfTimeError(Exception):
    """The hours of the session are over; finished work is kept."""


def train(settings: TrainSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Path | None:
    """Train a network, stop before the session ends, and export a bundle when all epochs are trained.

    `root` is the folder of ``input`` and ``working``, see `kaggle_root`; `log` is called with sentences about the
    inputs and the progress. Returns the bundle, ``working/bundle-<experiment>-<fold>``; None if epochs are left for
    another session. Raises ConfigError or DataError if the initial weights are not named, an input is not attached or
    ambiguous, or the run to continue was another training.
    """
    from ..models.pretrained import read_key_map
    from ..train.checkpoints import export_run, finished
    from ..train.data import TrainInputs, TrainOptions

    home = kaggle_root(root)
    weights = find_weights(settings.pretrained, home, log)
    changes = [*settings.changes, *(["fit.pretrained=false"] if weights is None else [])]
    experiment = find_experiment(settings.experiment).vary(settings.experiment, **parse_changes(changes))
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    key_map = settings.key_map
    if key_map not in ("", "order") and not key_map.lstrip().startswith("{"):
        key_map = str(find_input(inputs.KEY_MAP, key_map, root=home, log=log))
    out = home / "working" / "run"
    files = TrainInputs(
        pseudolabels=_find_table(experiment, settings.pseudolabels, home, log),
        teacher=[find_input(inputs.TEACHER, each, root=home, log=log) for each in settings.teacher],
        pretrained=weights,
        key_map=read_key_map(key_map) if key_map else None,
        allow_mismatch=settings.allow_mismatch,
        **find_files(settings.labels, settings.events, settings.noise, home, log),
    )
    resume = copy_earlier(inputs.RUN, out, settings.resume, home, log, start=weights)
    left_min = minutes_left(settings.hours)
    if left_min <= 0:
        raise ConfigError(f"hours={settings.hours:g} are over before the training starts; set more hours.")
    # A finished run is not trained further, but is still compared with the settings.
    run_training(
        experiment,
        data,
        out,
        fold=settings.fold,
        resume=resume,
        inputs=files,
        options=TrainOptions(
            jobs=settings.jobs, cache_gb=settings.cache_gb, stop_after_min=left_min, on_error=settings.on_error
        ),
        processes=settings.processes,
        log=log,
    )
    if not finished(out):
        log_stop(settings.hours, log)
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
    from ..models.ensemble import load_member
    from ..predict import Windowing
    from ..scores.postprocess import parse_weights
    from ..train.pseudolabels import Selection, make_pseudolabels, scores_folder

    home = kaggle_root(root)
    out = home / "working" / "pseudolabels.parquet"
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    competition = detect_competition(data)
    recordings = find_recordings([data / competition.soundscapes_dir])[: settings.limit]
    paths = inputs.find_members(settings.bundles, settings.tables, root=home, log=log)
    members = [load_member(path, settings.missing_rows) for path in paths]
    taxa, classes = read_taxa(data, competition), [member.classes for member in members]
    scores = scores_folder(out)
    copy_scores(scores, home, log)
    log(f"labelling {len(recordings)} soundscapes of {data / competition.soundscapes_dir}")
    try:
        table = make_pseudolabels(
            members,
            recordings,
            out,
            selection=Selection(
                kind=settings.select,
                threshold=settings.threshold,
                thresholds=read_values(settings.class_thresholds, "class_thresholds", "class=threshold"),
                floor=settings.min_score,
                top_n=settings.top_n,
                power=settings.power,
                balance=settings.balance,
            ),
            weights=parse_weights(settings.weights, settings.class_weights, classes, taxa),
            mean=settings.ensemble_mean,
            windowing=Windowing(
                row_s=competition.row_s, windows=settings.windows, stride_s=settings.stride_s, pool=settings.pool
            ),
            jobs=settings.jobs,
            progress=stop_after(minutes_left(settings.hours), log),
        )
    except OutOfTimeError:
        log_stop(settings.hours, log)
        return None
    # The table contains all scores; the folder of thousands of parts would be mounted with it.
    shutil.rmtree(scores)
    for text in (*map("left out: {}".format, table.provenance["failed"].values()), *table.provenance["notes"]):
        log(text)
    counts = [count for count in table.per_class().values() if count]
    log(f"{out}: {len(table.values)} rows; {sum(counts)} labels of {len(counts)} of {len(table.classes)} classes")
    return out


def run_training(
    experiment: Experiment, data: str | Path, out: str | Path, *, processes: int | None, log: Log, **arguments: Any
) -> None:
    """Train as `bcsed.train.train`, in several processes that share every batch; by default one for each GPU."""
    import torch

    from ..train import api

    n_processes = processes or max(1, torch.cuda.device_count())
    if n_processes == 1:
        arguments["epoch_done"] = lambda values: log(format_epoch(values, experiment.fit.epochs))
        api.train(experiment, data, out, **arguments)
        return
    log(f"{n_processes} processes share every batch")
    arguments |= {name: vars(arguments[name]) for name in ("inputs", "options")}
    job = {"experiment": to_dict(experiment), "data": data, "out": out, **arguments}
    _launch(json.dumps(job, default=str), n_processes, log)


def _launch(job: str, n_processes: int, log: Log) -> None:
    """Run `main` in several processes, whose rank and number torchrun sets."""
    error, last = "", ""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(job)
        file.flush()
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_processes}"]
        command = [sys.executable, *launch, "-m", "bcsed.kaggle.session", file.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout or ():
                if line.startswith(_LINE):
                    log(line.removeprefix(_LINE).rstrip())
                elif line.startswith(_ERROR):
                    error = line.removeprefix(_ERROR).rstrip()
                elif "Error: " not in last:  # the first error of a process, or torchrun's last line
                    last = line.strip() or last
    if process.returncode:
        raise DataError(error or f"one of {n_processes} processes failed with status {process.returncode} ({last}).")


def main(path: str) -> int:
    """Train as one of several processes, and return the exit status."""
    from ..train.data import TrainInputs, TrainOptions

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    job["experiment"] = from_dict(Experiment, job["experiment"])
    job |= {"inputs": TrainInputs(**job["inputs"]), "options": TrainOptions(**job["options"])}
    try:
        run_training(**job, processes=1, log=lambda line: print(_LINE + line, flush=True))
    except BcsedError as error:
        if os.environ.get("RANK", "0") == "0":
            print(_ERROR + str(error), flush=True)
        return 2
    return 0


def format_epoch(values: Mapping[str, Any], n_epochs: int) -> str:
    """Return the metrics of an epoch as one line."""
    parts = [f"epoch {values['epoch']:.0f}/{n_epochs}", f"loss {values['loss']:.4g}"]
    for key, name in (("clip", "clips"), ("row", "soundscape rows")):
        if f"{key}_auc" in values:
            parts.append(f"{name}: macro ROC-AUC {values[f'{key}_auc']:.4f} ({values[f'{key}_classes']:.0f} classes)")
    return ", ".join([*parts, f"{values['seconds']:.0f} s", *(["best"] if values["best"] else [])])


def _find_table(experiment: Experiment, wanted: str, home: Path, log: Log) -> Path | None:
    """Return the table of pseudolabels, if the experiment uses one."""
    if experiment.pseudo.share > 0 and experiment.data.pseudo_source == "table":
        return find_input(inputs.PSEUDOLABELS, wanted, root=home, log=log)
    if wanted:
        raise ConfigError(
            f"{experiment.name} injects no pseudolabelled soundscapes, so {wanted!r} would not be used; set "
            "pseudo.share, or leave the table out."
        )
    return None


def find_files(labels: Sequence[str], events: Sequence[str], noise: str, home: Path, log: Log) -> dict[str, Any]:
    """Return the attached labels, events and noise, as fields of `bcsed.train.TrainInputs`."""
    return {
        "labels": [find_input(inputs.LABELS, name, root=home, log=log) for name in labels],
        "events": [find_input(inputs.EVENTS, name, root=home, log=log) for name in events],
        "noise": find_input(inputs.NOISE, noise, root=home, log=log) if noise else None,
    }


def find_weights(wanted: str, home: Path, log: Log) -> Path | None:
    """Return the initial weights (a run, a bundle or a file), None for 'none'; ConfigError without a name."""
    if wanted == "none":
        return None
    if not wanted:
        source, kind = home / "input", inputs.WEIGHTS
        files = [path.relative_to(source) for path in inputs.find_inputs(kind, root=home, log=lambda _: None)]
        attached = f"has {shorten_list(map(str, files), 12)}" if files else f"has no {kind.name}: {kind.attach}"
        raise ConfigError(f"set pretrained to the initial weights, or 'none' for a random start; {source} {attached}.")
    for kind in (inputs.RUN, inputs.BUNDLE):
        with contextlib.suppress(DataError):
            return find_input(kind._replace(name="initial weights"), wanted, root=home, log=log)
    return find_input(inputs.WEIGHTS._replace(name="initial weights"), wanted, root=home, log=log)


def copy_earlier(
    kind: inputs.InputKind, out: Path, resume: str, home: Path, log: Log, start: Path | None = None
) -> bool:
    """Copy earlier work to `out`, unless the weights `start` are from there; return False if there is none."""
    if resume == "fresh":
        shutil.rmtree(out, ignore_errors=True)
        log("resume='fresh': everything is trained from the beginning")
        return False
    if (out / Path(kind.markers[0]).name).is_file():
        log(f"{kind.name}: {out}, started in this session")
        return True
    wanted = "" if resume == "auto" else resume
    folders = inputs.find_inputs(kind, wanted, root=home, log=lambda _: None)
    if start is not None:
        folders = [path for path in folders if path not in (start, start.parent)]
    if not folders:
        log(f"no {kind.name} among the inputs, so the training starts from the beginning; to continue, {kind.attach}")
        return False
    if len(folders) > 1:
        raise DataError(
            f"{folders[0]} and {folders[1]} could both be the {kind.name}; name one of them as resume, or 'fresh' to "
            "start from the beginning."
        )
    log(f"{kind.name}: {folders[0]}")
    log("it is continued in a copy; resume='fresh' would start from the beginning")
    shutil.rmtree(out, ignore_errors=True)
    _copy_files(folders[0], out)
    return True


def copy_scores(scores: Path, home: Path, log: Log) -> None:
    """Copy the scores of an earlier session into ``working``, so that they can be completed."""
    if scores.is_dir():
        return
    kind = inputs.InputKind("scores to continue", ("manifest.json",), "")
    folders = [path for path in inputs.find_inputs(kind, root=home, log=lambda _: None) if path.name == scores.name]
    if len(folders) > 1:
        raise DataError(f"{folders[0]} and {folders[1]} are scores of two sessions; attach the one to continue.")
    for path in folders:
        log(f"{kind.name}: {path}")
        _copy_files(path, scores)


def _copy_files(source: Path, target: Path) -> None:
    # Not copytree, which copies the permissions of the mount, under which nothing can be written.
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def stop_after(minutes: float, log: Log) -> Callable[[int, int], None]:
    """Return a progress callback that raises `OutOfTimeError` after some minutes."""
    end, tenth = time.monotonic() + 60.0 * minutes, 0

    def step(done: int, total: int) -> None:
        nonlocal tenth
        if 10 * done // max(1, total) != tenth:
            tenth = 10 * done // max(1, total)
            log(f"{done} of {total} recordings")
        if time.monotonic() > end and done < total:
            raise OutOfTimeError

    return step


def minutes_left(hours: float) -> float:
    """Return the minutes until this process is some hours old."""
    from ..predict.budget import process_age_s

    return 60.0 * hours - process_age_s() / 60.0


def log_stop(hours: float, log: Log) -> None:
    """Log that work is left for another session."""
    log(
        f"stopped after {hours - minutes_left(hours) / 60:.1f} h of {hours:g}; attach this notebook's output as an "
        "input and run it again to continue"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
