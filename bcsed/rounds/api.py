"""Rounds of a noisy student: networks label the place, new networks learn from both, and again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis import compare
from ..data.competitions import detect_competition
from ..errors import ConfigError, DataError
from ..files import atomic_write, is_occupied, remove_partial_files
from ..models import bundle as bundles
from ..models.bundle.bundle import Bundle
from ..models.export import export
from ..predict.blocks import Windowing
from ..scores import metrics
from ..train import pseudolabels as pseudolabel
from ..train.api import train
from ..train.checkpoints import finished, load_run
from ..train.options import TrainInputs, TrainOptions
from ..train.pseudolabels.table import Pseudolabels
from .plan import Plan

PLAN, LEDGER = "plan.json", "ledger.json"
TABLE = "pseudolabels.parquet"

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def run(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    recordings: Sequence[str | Path] | None = None,
    truth: str | Path | None = None,
    say: Say = lambda _: None,
    progress: Progress = lambda *_: None,
    options: TrainOptions | None = None,
) -> list[dict[str, Any]]:
    """Run a plan, or what is left of it.

    Parameters
    ----------
    plan : Plan
    data : str or Path
        A competition's folder; its soundscapes are what is labelled.
    out : str or Path
        The folder of the rounds.
    recordings, truth : optional
        Labelled soundscapes on which every student is scored; they are never learned from here, and it is
        the caller's to see that they are not among the soundscapes of `data`.
    say, progress : callable, optional
        Told what is done; and of the recordings labelled, with (label, done, in all).
    options : TrainOptions, optional
        How each student's training is run.

    Returns
    -------
    list of dict
        The ledger: for each round its teachers, what was labelled, and each student's fingerprint and scores.

    Raises
    ------
    ConfigError, BundleError, DataError
        If the folder holds another plan, or a finished round was changed; and as labelling and training.
    """
    if (recordings is None) != (truth is None):
        raise ConfigError("recordings and truth go together: what to score on, and its labels.")
    out, data = Path(out), Path(data)
    _claim(plan, out)
    remove_partial_files(out)
    ledger = _read_ledger(out)
    for number, each in enumerate(plan.rounds, 1):
        if number <= len(ledger):
            _verify(out, ledger[number - 1])
            continue
        folder = out / f"round-{number}"
        labelled = _label(plan, number, data, out, say, progress)
        told = []
        for name in each.names():
            sealed = _student(plan, number, name, data, folder, labelled is not None, say, options)
            told.append(_describe(sealed, name, folder / name, recordings, truth))
        ledger.append({"round": number, "teacher": _teachers(labelled), **_counts(labelled), "students": told})
        with atomic_write(out / LEDGER) as temporary:
            temporary.write_text(json.dumps(ledger, indent=1) + "\n", encoding="utf-8")
        say(line(ledger[-1]))
    return ledger


def students(plan: Plan, out: str | Path) -> list[list[Path]]:
    """Return the runs of each round's students."""
    return [
        [Path(out) / f"round-{number}" / name / "run" for name in each.names()]
        for number, each in enumerate(plan.rounds, 1)
    ]


def line(entry: Mapping[str, Any]) -> str:
    """Say in a line what a round came to."""
    scored = [student["auc"] for student in entry["students"] if student["auc"] is not None]
    best = f"macro ROC-AUC {sum(scored) / len(scored):.4f}" if scored else "not scored"
    told = f"round {entry['round']}: {len(entry['students'])} students, {best}"
    if entry["pseudolabels"]:
        told += f"; {entry['pseudolabels']['rows_with_label']} rows labelled by {len(entry['teacher'])} networks"
    return told


def _claim(plan: Plan, out: Path) -> None:
    """Refuse a folder that holds something else than this plan."""
    told = json.loads(json.dumps(dataclasses.asdict(plan)))
    file = out / PLAN
    if file.is_file():
        try:
            earlier = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is damaged: not readable as JSON.") from error
        if earlier != told:
            changed = next((key for key in told if earlier.get(key) != told[key]), "fields")
            raise DataError(f"{out} holds another plan (its {changed} differ); name another folder.")
        return
    if is_occupied(out):
        raise DataError(f"{out} holds other things; name a new folder for the rounds.")
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _read_ledger(out: Path) -> list[dict[str, Any]]:
    file = out / LEDGER
    if not file.is_file():
        return []
    try:
        ledger: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is damaged: not readable as JSON.") from error
    return ledger


def _verify(out: Path, entry: Mapping[str, Any]) -> None:
    """Refuse to build on a finished round whose networks are not those of the ledger."""
    for student in entry["students"]:
        path = out / f"round-{entry['round']}" / student["name"] / "bundle"
        if bundles.load(path).sha256 != student["sha256"]:
            raise DataError(f"{path} is not the network that {out / LEDGER} tells of; remove what comes after it.")


def _label(plan: Plan, number: int, data: Path, out: Path, say: Say, progress: Progress) -> Pseudolabels | None:
    """Let a round's teachers label the soundscapes, unless they have."""
    each = plan.rounds[number - 1]
    if not each.teacher:
        return None
    path = out / f"round-{number}" / TABLE
    if path.is_file() and path.with_suffix(".json").is_file():
        return pseudolabel.read_pseudolabels(path)
    path.unlink(missing_ok=True)
    members = _members(plan, number, out)
    year = detect_competition(data)
    say(f"round {number}: {len(members)} networks label {data / year.soundscapes_dir}")
    return pseudolabel.make_pseudolabels(
        [member for member, _ in members],
        [data / year.soundscapes_dir],
        path,
        selection=each.selection(),
        weights=[weight for _, weight in members],
        windowing=Windowing(row_s=year.row_s, windows=each.windows, stride_s=each.stride_s),
        progress=lambda done, total: progress(f"label {number}", done, total),
    )


def _members(plan: Plan, number: int, out: Path) -> list[tuple[Bundle, float]]:
    each = plan.rounds[number - 1]
    found = []
    for member, weight in zip(each.teacher, each.weights or (1.0,) * len(each.teacher), strict=True):
        told = f"round-{number - 1}" if member == "previous" else member
        if told.startswith("round-"):
            earlier, _, name = told.removeprefix("round-").partition("/")
            names = (name,) if name else plan.rounds[int(earlier) - 1].names()
            paths = [out / f"round-{earlier}" / student / "bundle" for student in names]
        else:
            paths = [Path(told)]
        found += [(bundles.load(path), weight / len(paths)) for path in paths]
    return found


def _student(
    plan: Plan,
    number: int,
    name: str,
    data: Path,
    folder: Path,
    taught: bool,
    say: Say,
    options: TrainOptions | None,
) -> Bundle:
    """Train and seal a student, or what is left of that."""
    run_folder, sealed = folder / name / "run", folder / name / "bundle"
    if sealed.is_dir():
        return bundles.load(sealed)
    experiment = plan.student(number, name)
    if not finished(run_folder):
        begun = (run_folder / "run.json").is_file()
        say(f"round {number}: {name} {'goes on' if begun else 'learns'}, {experiment.fit.epochs} epochs")
        train(
            experiment,
            data,
            run_folder,
            fold=plan.fold,
            resume=begun,
            inputs=TrainInputs(
                pseudolabels=folder / TABLE if taught else None, pretrained=plan.rounds[number - 1].pretrained
            ),
            options=options,
        )
    for left in sealed.parent.glob(f".{sealed.name}.*"):
        # What a kill during the sealing left behind.
        shutil.rmtree(left, ignore_errors=True)
    trained = load_run(run_folder)
    return export(
        trained.network,
        sealed,
        contract=trained.contract,
        priors=trained.priors,
        recipe=trained.recipe,
        provenance={**trained.provenance, "plan": plan.name, "round": number},
    )


def _describe(
    sealed: Bundle,
    name: str,
    folder: Path,
    recordings: Sequence[str | Path] | None,
    truth: str | Path | None,
) -> dict[str, Any]:
    """Return what the ledger says of a student; its score on given soundscapes, else on what it held out."""
    told = sealed.provenance["metrics"]
    auc, n_classes = told.get("row_auc", told.get("clip_auc")), told.get("row_classes", told.get("clip_classes"))
    if recordings is not None and truth is not None:
        answers = compare.evaluate_on_soundscapes(compare.read_run(sealed.path), recordings, truth, keep=folder)
        auc, n_classes = metrics.macro_auc(answers.truth, answers.scores)
    return {
        "name": name,
        "experiment": sealed.provenance["experiment"],
        "fingerprint": sealed.contract.fingerprint,
        "sha256": sealed.sha256,
        "auc": None if auc is None else round(float(auc), 6),
        "n_classes": None if n_classes is None else int(n_classes),
        "scored_on": str(Path(truth).name) if truth is not None else "held-out data" if auc is not None else None,
    }


def _teachers(labelled: Pseudolabels | None) -> list[dict[str, Any]]:
    if labelled is None:
        return []
    keys = ("experiment", "fingerprint", "sha256", "weight")
    return [{key: teacher[key] for key in keys} for teacher in labelled.provenance["teachers"]]


def _counts(labelled: Pseudolabels | None) -> dict[str, Any]:
    if labelled is None:
        return {"pseudolabels": None}
    per_class = sorted(labelled.per_class().values())
    return {
        "pseudolabels": {
            "selection": labelled.provenance["selection"],
            "recordings": len(labelled.per_file()),
            "rows": len(labelled.values),
            "rows_with_label": int((labelled.values > 0).any(1).sum()),
            "mass": round(float(labelled.values.astype("f8").sum()), 3),
            "rows_per_class": {"least": per_class[0], "median": per_class[len(per_class) // 2], "most": per_class[-1]},
        }
    }
