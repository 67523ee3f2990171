"""Run the rounds of a noisy student: label soundscapes, train students, export them, write the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..analysis.compare.evaluate import evaluate_on_soundscapes
from ..analysis.compare.runs import read_run
from ..config.strict import to_dict
from ..data.competitions import detect_competition, read_class_list
from ..errors import ConfigError, DataError
from ..files import (
    check_fields,
    check_schema,
    is_occupied,
    load_json,
    lock_folder,
    read_json,
    remove_partial_files,
    require_file,
    write_json,
)
from ..models.bundle.bundle import Bundle, load
from ..models.ensemble import Member, load_member
from ..predict.spec import Windowing
from ..recordings import find_recordings, printable
from ..scores import metrics
from ..train.api import train
from ..train.checkpoints import RUN, export_run, finished, read_description
from ..train.data import TrainInputs, TrainOptions, require_same_data
from ..train.pseudolabels.api import label_with_truth, make_pseudolabels
from ..train.pseudolabels.table import Pseudolabels, read_pseudolabels
from .plan import PROBE, SCHEMA, Plan, read_plan

PLAN, LEDGER = "plan.json", "ledger.json"
TABLE = "pseudolabels.parquet"
_ENTRY = {"round": int, "students": list, "teacher": list, "pseudolabels": dict | None}
_STUDENT = {"name": str, "sha256": str, "auc": int | float | None}

Log = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def run(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    recordings: Sequence[str | Path] | None = None,
    truth: str | Path | None = None,
    log: Log = lambda _: None,
    progress: Progress = lambda *_: None,
    options: TrainOptions | None = None,
    recorded: Plan | None = None,
    trainer: Callable[..., Any] | None = None,
) -> list[dict[str, Any]]:
    """Run a plan, or the rest of it, and return the ledger.

    The ledger has for each round its teachers, counts of its pseudolabels, and fingerprint and scores of each student.
    `data` is the folder of a competition, whose soundscapes are labelled; `out` that of the rounds. `recordings` and
    `truth` are labelled soundscapes on which every student is evaluated; they must not be among the soundscapes of
    `data`, which is not checked. `log` is called with a sentence for each step; `progress` with (label, recordings
    done, all recordings) during labelling. `recorded` is the plan that is written and compared, with names where `plan`
    has paths; `trainer` is called instead of `bcsed.train.train`. Raises ConfigError, BundleError or DataError if the
    folder contains another plan, or a finished round was changed; and as labelling and training.
    """
    if (recordings is None) != (truth is None):
        raise ConfigError("recordings and truth go together: the recordings to score, and their labels.")
    out, data = Path(out), Path(data)
    # Before the first round is trained, and before the plan is written, so that it can be corrected.
    if recordings is not None and truth is not None:
        require_file(Path(truth))
        find_recordings(recordings)
    finished_rounds = len(read_ledger(out)) if (out / LEDGER).is_file() else 0
    _check_files(plan, read_class_list(data, detect_competition(data)), finished_rounds)
    _require_same_plan(recorded or plan, out)
    with lock_folder(out):
        remove_partial_files(out)
        ledger = read_ledger(out) if (out / LEDGER).is_file() else []
        _require_same_data(plan, out, data)
        for number, each in enumerate(plan.rounds, 1):
            if number <= len(ledger):
                _verify(out, ledger[number - 1])
                if truth is not None:
                    _evaluate(out, ledger, number, recordings, truth)
                continue
            folder = out / f"round-{number}"
            pseudolabels = _label(plan, number, data, out, log, progress)
            if pseudolabels is not None:
                _report_failures(pseudolabels, folder / TABLE, log, options or TrainOptions())
            students = []
            for name in each.names():
                bundle = _train_student(
                    plan, number, name, data, folder, log, partial(trainer or train, options=options)
                )
                students.append(_describe_student(bundle, name, folder / name, recordings, truth))
            ledger.append({"round": number, **_describe_labels(pseudolabels), "students": students})
            write_json(out / LEDGER, {"schema": SCHEMA, "rounds": ledger})
            log(describe_round(ledger[-1]))
    return ledger


def student_runs(plan: Plan, out: str | Path) -> list[list[Path]]:
    """Return the run folders of the students of each round."""
    folders = [Path(out) / f"round-{number}" for number in range(1, 1 + len(plan.rounds))]
    return [[folder / name / "run" for name in each.names()] for folder, each in zip(folders, plan.rounds, strict=True)]


def describe_round(entry: Mapping[str, Any]) -> str:
    """Return one line about a round of the ledger."""
    aucs = [student["auc"] for student in entry["students"] if student["auc"] is not None]
    scored_on = ", ".join(dict.fromkeys(str(student.get("scored_on")) for student in entry["students"]))
    score = f"macro ROC-AUC {sum(aucs) / len(aucs):.4f} on {scored_on}" if aucs else "not scored"
    text = f"round {entry['round']}: {len(entry['students'])} students, {score}"
    if entry["pseudolabels"]:
        text += f"; {entry['pseudolabels']['rows_with_label']} rows labelled by {len(entry['teacher'])} networks"
    return text


def read_ledger(out: str | Path) -> list[dict[str, Any]]:
    """Read the ledger of a folder of rounds; DataError if it is missing or damaged."""
    file = Path(out) / LEDGER
    values = load_json(file)
    if isinstance(values, dict):
        check_schema(values, file, (SCHEMA,))
    entries = values.get("rounds") if isinstance(values, dict) else values  # schema 1
    if not isinstance(entries, list):
        raise DataError(f"{file} is damaged: it must contain a list of rounds.")
    for number, entry in enumerate(entries, 1):
        check_fields(entry, _ENTRY, f"{file}, round {number}")
        for student in entry["students"]:
            check_fields(student, _STUDENT, f"{file}, round {number}, a student")
        if entry["pseudolabels"] is not None:
            check_fields(entry["pseudolabels"], {"rows_with_label": int}, f"{file}, round {number}, pseudolabels")
    return entries


def _check_files(plan: Plan, classes: Sequence[str], n_finished: int) -> None:
    """Refuse files and classes of a plan's unfinished rounds that are missing, and teachers that are none."""
    for number, each in list(enumerate(plan.rounds, 1))[n_finished:]:
        each.selection().check_classes(classes)
        if PROBE in each.teacher and not Path(PROBE).exists():
            raise ConfigError(
                f"a teacher of round {number} is a probe: name its bundle (on the command line, --probe)."
            )
        for member in each.teacher:
            if member.endswith(".csv"):
                require_file(Path(member))
            elif member != "previous" and not member.startswith("round-"):
                load_member(Path(member))
        for file in (each.pretrained, *each.embeddings, *plan.labels, *plan.events, plan.noise):
            if file is not None and not Path(file).exists():
                raise ConfigError(f"{file}, which round {number} needs, does not exist.")


def _require_same_plan(plan: Plan, out: Path) -> None:
    """Write the plan into a new folder; refuse a folder with another plan or with other files."""
    values, file = to_dict(plan), out / PLAN
    if file.is_file():
        earlier = to_dict(read_plan(file))
        changed = [key for key in values if earlier[key] != values[key]]
        if changed:
            raise DataError(f"{out} contains another plan ({changed[0]} differs); name another folder.")
    elif is_occupied(out):
        raise DataError(f"{out} contains other files; name a new folder for the rounds.")
    else:
        write_json(file, {"schema": SCHEMA, **values})


def _require_same_data(plan: Plan, out: Path, data: Path) -> None:
    """Refuse other training data than those of the first student; the later ones were trained on the same."""
    for file in sorted(out.glob(f"round-1/*/run/{RUN}"))[:1]:
        inputs = _inputs(plan, 1, out / "round-1")
        if inputs.pseudolabels is None or Path(inputs.pseudolabels).is_file():
            require_same_data(read_description(file.parent), data, inputs, file.parent)
    folder = data / detect_competition(data).soundscapes_dir
    for file in sorted(out.glob(f"round-*/{Path(TABLE).with_suffix('.json')}")):
        labelled = read_json(file)
        if "failed" not in labelled:  # true labels, or a table of an earlier version
            continue
        stems = {Path(name).stem for name in (*labelled["rows_per_file"], *labelled["failed"])} | {*labelled["silent"]}
        if other := sorted({printable(path.stem) for path in find_recordings([folder])} - stems):
            raise DataError(f"{file.parent} did not label {other[0]}, which is in {folder} now; name another folder.")


def _inputs(plan: Plan, number: int, folder: Path) -> TrainInputs:
    """Return the files from which the students of a round, in its folder, are trained."""
    each = plan.rounds[number - 1]
    return TrainInputs(
        pseudolabels=folder / TABLE if each.teacher else None,
        pretrained=each.pretrained,
        teacher=each.embeddings,
        labels=plan.labels,
        events=plan.events,
        noise=plan.noise,
    )


def _verify(out: Path, entry: Mapping[str, Any]) -> None:
    """Refuse a finished round whose bundles are not those of the ledger."""
    for student in entry["students"]:
        path = out / f"round-{entry['round']}" / student["name"] / "bundle"
        if load(path).sha256 != student["sha256"]:
            advice = "remove this round and the later ones from both."
            raise DataError(f"{path} is not the network listed in {out / LEDGER}; {advice}")


def _label(plan: Plan, number: int, data: Path, out: Path, log: Log, progress: Progress) -> Pseudolabels | None:
    """Label the soundscapes with the teachers of a round, or read the existing table."""
    each = plan.rounds[number - 1]
    if not each.teacher:
        return None
    path = out / f"round-{number}" / TABLE
    if path.is_file() and path.with_suffix(".json").is_file():
        return read_pseudolabels(path)
    path.unlink(missing_ok=True)
    competition = detect_competition(data)
    if each.truth is not None:
        log(f"round {number}: true labels of {each.truth}")
        return label_with_truth(each.truth, read_class_list(data, competition), path)
    teachers = _teachers(plan, number, out)
    soundscapes = data / competition.soundscapes_dir
    log(f"round {number}: {len(teachers)} networks label {soundscapes}")
    return make_pseudolabels(
        [bundle for bundle, _ in teachers],
        [soundscapes],
        path,
        selection=each.selection(),
        weights=[weight for _, weight in teachers],
        mean=each.mean,
        windowing=Windowing(row_s=competition.row_s, windows=each.windows, stride_s=each.stride_s),
        frames=each.frames,
        progress=lambda done, total: progress(f"label {number}", done, total),
    )


def _report_failures(table: Pseudolabels, path: Path, log: Log, options: TrainOptions) -> None:
    """Log the soundscapes that could not be labelled, or refuse (DataError) them; log the notes on the others."""
    failed = table.provenance.get("failed", {})
    if failed and options.on_error == "stop":
        for file in (path, path.with_suffix(".json")):
            file.unlink()
        raise DataError(
            f"{len(failed)} of {table.provenance['n_recordings']} soundscapes cannot be read, the first: "
            f"{next(iter(failed.values()))} Repair or remove them, or leave them out with --on-error skip."
        )
    for text in (*(f"left out: {reason}" for reason in failed.values()), *table.provenance.get("notes", ())):
        log(f"{path.parent.name}: {text}")


def _teachers(plan: Plan, number: int, out: Path) -> list[tuple[Member, float]]:
    """Return the teachers of a round and their weights, score tables last."""
    each = plan.rounds[number - 1]
    teachers: list[tuple[Member, float]] = []
    for member, weight in zip(each.teacher, each.weights or (1.0,) * len(each.teacher), strict=True):
        source = f"round-{number - 1}" if member == "previous" else member
        paths = [Path(source)]
        if source.startswith("round-"):
            earlier, _, name = source.removeprefix("round-").partition("/")
            names = (name,) if name else plan.rounds[int(earlier) - 1].names()
            paths = [out / f"round-{earlier}" / student / "bundle" for student in names]
        teachers += [(load_member(path), weight / len(paths)) for path in paths]
    return sorted(teachers, key=lambda teacher: not isinstance(teacher[0], Bundle))


def _train_student(
    plan: Plan, number: int, name: str, data: Path, folder: Path, log: Log, start: Callable[..., Any]
) -> Bundle:
    """Train and export a student, or the rest of that."""
    run_folder, sealed = folder / name / "run", folder / name / "bundle"
    if sealed.is_dir():
        return load(sealed)
    experiment = plan.student(number, name)
    if not finished(run_folder):
        resume = (run_folder / RUN).is_file()
        log(f"round {number}: {'resuming' if resume else 'training'} {name}, {experiment.fit.epochs} epochs")
        start(experiment, data, run_folder, fold=plan.fold, resume=resume, inputs=_inputs(plan, number, folder))
    if not finished(run_folder):
        raise ConfigError(f"the training in {run_folder} stopped before its last epoch; call `run` again to go on.")
    for remainder in sealed.parent.glob(f".{sealed.name}.*"):
        # An export that was killed leaves its temporary folder.
        shutil.rmtree(remainder, ignore_errors=True)
    return export_run(run_folder, sealed, provenance={"plan": plan.name, "round": number})


def _describe_student(
    bundle: Bundle, name: str, folder: Path, recordings: Sequence[str | Path] | None, truth: str | Path | None
) -> dict[str, Any]:
    """Return the ledger's entry of a student, with its score on the given soundscapes, else on held-out data."""
    values = bundle.provenance["metrics"]
    auc = values.get("row_auc", values.get("clip_auc"))
    n_classes = values.get("row_classes", values.get("clip_classes"))
    scored_on = None if auc is None else "held-out data"
    if recordings is not None and truth is not None:
        evaluation = evaluate_on_soundscapes(read_run(bundle.path), recordings, truth, keep=folder)
        auc, n_classes = metrics.macro_auc(evaluation.truth, evaluation.scores)
        scored_on = Path(truth).name
    return {
        "name": name,
        "experiment": bundle.provenance["experiment"],
        "fingerprint": bundle.contract.fingerprint,
        "sha256": bundle.sha256,
        "auc": None if auc is None else round(float(auc), 6),
        "n_classes": None if n_classes is None else int(n_classes),
        "scored_on": scored_on,
    }


def _evaluate(
    out: Path, ledger: Sequence[dict[str, Any]], number: int, recordings: Sequence[str | Path] | None, truth: str | Path
) -> None:
    """Evaluate the students of a finished round on the given data."""
    # A student that was scored on the same labels and recordings is not scored again, see `evaluate_on_soundscapes`.
    for k, student in enumerate(students := ledger[number - 1]["students"]):
        folder = out / f"round-{number}" / student["name"]
        students[k] = _describe_student(load(folder / "bundle"), student["name"], folder, recordings, truth)
    write_json(out / LEDGER, {"schema": SCHEMA, "rounds": ledger})


def _describe_labels(pseudolabels: Pseudolabels | None) -> dict[str, Any]:
    """Return the ledger's entries about teachers and pseudolabels."""
    if pseudolabels is None:
        return {"teacher": [], "pseudolabels": None}
    keys = ("experiment", "fingerprint", "sha256", "weight")
    per_class = sorted(pseudolabels.per_class().values())
    return {
        "teacher": [{key: teacher[key] for key in keys} for teacher in pseudolabels.provenance["teachers"]],
        "pseudolabels": {
            "selection": pseudolabels.provenance["selection"],
            "recordings": len(pseudolabels.per_file()),
            "rows": len(pseudolabels.values),
            "rows_with_label": int((pseudolabels.values > 0).any(1).sum()),
            "mass": round(float(pseudolabels.values.astype("f8").sum()), 3),
            "rows_per_class": {"least": per_class[0], "median": per_class[len(per_class) // 2], "most": per_class[-1]},
        },
    }
