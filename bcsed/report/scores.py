"""The part of the page of a prediction: its recordings, its members, and what is true where that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import plot
from ..audio.decode import find_recordings, recording_names
from ..errors import BcsedError, DataError
from ..files import read_errors
from ..models import bundle as bundles
from ..models.ensemble import Ensemble, from_bundles
from ..predict import outputs
from ..predict.outputs import read_members
from ..predict.store import MANIFEST
from ..scores import metrics, postprocess
from ..scores.ablation import ablate
from ..scores.checks.ids import split_row_id
from ..scores.detections.detect import DetectionSettings
from ..scores.evaluation import make_evaluation, read_truth
from ..scores.table import check_table, read_parquet, read_table
from .evaluation import evaluation_sections, figure
from .page import Facts, Item, Section, Table, Text
from .recordings import Recording, Viewer, in_time, row_length
from .runs import ReportContext

_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a folder of `bcsed predict` holds.

    Parameters
    ----------
    path : Path
    manifest : mapping
    scores : DataFrame
    places : mapping of str to str
        Name of a recording -> its path, as it was predicted.
    members : mapping of str to DataFrame
        Scores of each member, where they were kept.
    """

    path: Path
    manifest: Mapping[str, Any]
    scores: pd.DataFrame
    places: Mapping[str, str]
    members: Mapping[str, pd.DataFrame]


def read(path: Path) -> Predicted:
    """Read a folder of `bcsed predict`, or a score table by itself.

    Raises
    ------
    DataError
        If it is not finished or damaged, or has no scores.
    """
    if path.is_file():
        scores = read_table(path)
        check_table(scores, where=str(path))
        return Predicted(path=path, manifest={}, scores=scores, places={}, members={})
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        models = [dict(model) for model in manifest["models"]]
        manifest = {**manifest, "models": models, "row_s": int(manifest["settings"]["row_s"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} is no finished folder of predict: {MANIFEST} says nothing of its models.") from error
    members = read_members(path) if (path / outputs.MEMBERS).is_dir() else {}
    places: dict[str, str] = {}
    if (path / outputs.SCORES).is_file():
        table = read_parquet(path / outputs.SCORES)
        with read_errors(path / outputs.SCORES, "a table of scores"):
            stems = [split_row_id(row_id)[0] for row_id in table["row_id"]]
            places = dict(zip(stems, table["recording"].astype(str), strict=True))
            scores = table.set_index("row_id").drop(columns=["recording", "start_s", "end_s"])
    elif (path / outputs.SUBMISSION).is_file():
        scores = read_table(path / outputs.SUBMISSION)
    elif members:
        weights = [float(model["weight"]) for model in models]
        scores = postprocess.combine(members, weights, kind=str(manifest["mean"]))
    else:
        raise DataError(f"{path} holds no score table; predict with --format submission or scores.")
    scores.columns = scores.columns.astype(str)
    check_table(scores, where=str(path))
    return Predicted(path=path, manifest=manifest, scores=scores, places=places, members=members)


def section(found: Predicted, around: ReportContext) -> Section:
    """Return a prediction's part."""
    made = Section(f"Scores {found.path.resolve().name}", [Facts(_facts(found))])
    row_s = found.manifest.get("row_s") or row_length(list(map(str, found.scores.index)))
    classes = tuple(map(str, found.scores.columns))
    truth = None if around.truth is None else _truth(found, around.truth)
    if truth is not None:
        made.sections += evaluation_sections(make_evaluation(truth, found.scores), around.names)
    else:
        made.sections.append(
            Section(
                "Scores over all rows and classes",
                [
                    figure(
                        plot.score_histogram(found.scores.to_numpy()),
                        alt="Histogram of the scores on a logarithmic axis.",
                        caption=f"{found.scores.size} scores: {len(found.scores)} rows, {len(classes)} classes.",
                    ),
                    Table(
                        caption="Classes, those with the highest scores first",
                        columns=("class", "highest score", "mean score", "rows of at least 0.5"),
                        rows=_class_lines(found.scores),
                    ),
                ],
            )
        )
    if len(found.manifest.get("models", ())) > 1:
        made.sections.append(_ensemble(found, truth, around))
    viewer = Viewer(
        classes=classes,
        names=around.names,
        ensemble=_network(found, classes, around),
        row_s=row_s,
        detection=_detection(found, classes),
        n_shown=around.n_shown,
        progress=around.progress,
    )
    told = _asked(found, viewer)
    made.sections.append(viewer.section(_recordings(found, truth, around, viewer.row_s), told))
    return made


def _facts(found: Predicted) -> list[tuple[str, str]]:
    told = found.manifest
    facts = [("file" if not told else "folder", str(found.path)), ("rows", str(len(found.scores)))]
    facts += [("classes", str(found.scores.shape[1]))]
    if told:
        models = told["models"]
        facts += [
            ("networks", ", ".join(f"{model.get('experiment') or model['bundle']}" for model in models)),
            *([("mean", str(told["mean"]))] if len(models) > 1 else []),
            ("post-processing", " ".join(told.get("post_processing", ())) or "none"),
            ("windows", str(told["settings"].get("windows", ""))),
            ("precision", str(told["settings"].get("precision", ""))),
            ("recordings", f"{told.get('n_recordings', '')}, {told.get('n_failed', 0)} failed"),
            ("time", f"{told.get('seconds', 0)} s"),
        ]
    return [(name, value) for name, value in facts if value]


def _class_lines(scores: pd.DataFrame) -> list[Sequence[object]]:
    high, mean, sure = scores.max(), scores.mean(), (scores >= 0.5).sum()
    order = high.sort_values(ascending=False, kind="stable").index
    return [(str(name), float(high[name]), float(mean[name]), int(sure[name])) for name in order]


def _truth(found: Predicted, path: str | Path) -> pd.DataFrame:
    truth = read_truth(path, list(map(str, found.scores.columns)))
    known: pd.DataFrame = truth.loc[truth.index.intersection(found.scores.index, sort=False)]
    if known.empty:
        raise DataError(f"none of the {len(truth)} true rows of {path} is in {found.path}; is it of other recordings?")
    return known


def _ensemble(found: Predicted, truth: pd.DataFrame | None, around: ReportContext) -> Section:
    """Return what the members are, how alike they are, and what each is worth."""
    models = found.manifest["models"]
    kept = list(found.members.values())
    aucs: list[float | None] = [None] * len(models)
    if truth is not None and len(kept) == len(models):
        for place, table in enumerate(kept):
            columns = [name for name in truth.columns if name in table.columns]
            known = truth[columns]
            areas = metrics.class_auc(known, metrics.align_tables(known, table, extra=True)) if columns else np.empty(0)
            aucs[place] = float(np.nanmean(areas)) if np.isfinite(areas).any() else None
    lines = [
        (
            place,
            str(model["bundle"]),
            str(model.get("experiment", "")),
            float(model["weight"]),
            str(model.get("sha256", ""))[:12],
            auc,
        )
        for place, (model, auc) in enumerate(zip(models, aucs, strict=True), 1)
    ]
    headings = ("member", "bundle", "experiment", "weight", "SHA-256", "macro ROC-AUC")
    made = Section("Ensemble", [Table(caption="Members", columns=headings, rows=lines)])
    if len(kept) < 2:
        made.items.append(Text("The members' own scores were not kept; predict with --format members to compare them."))
        return made
    matrix = postprocess.spearman(found.members)
    made.items.append(
        figure(
            plot.correlations(matrix),
            alt="Matrix of the rank correlations between members; its numbers are in the cells.",
            caption="How alike members order the rows of a class: Spearman's correlation, mean over classes. Members "
            "that differ more add more to one another.",
        )
    )
    if truth is None:
        made.items.append(Text("With --truth, each member, step and mean is scored on and off."))
    else:
        made.items += _worth(found, truth, around)
    return made


def _worth(found: Predicted, truth: pd.DataFrame, around: ReportContext) -> list[Item]:
    """Return what each step, member and mean is worth."""
    taxa = {label: name.taxon for label, name in around.names.items()}
    weights = [float(model["weight"]) for model in found.manifest["models"]]
    kind = str(found.manifest["mean"])
    steps = postprocess.parse_stages(found.manifest.get("post_processing") or postprocess.COMMON)
    scores = postprocess.combine(found.members, weights, kind=kind, classes=list(found.scores.columns))
    rng = np.random.default_rng(0)
    try:
        table = ablate(
            truth, scores, steps, taxa=taxa, members=found.members, weights=weights, kind=kind, n=_DRAWS, rng=rng
        )
    except BcsedError as error:
        return [Text(f"What members and steps are worth cannot be said: {error}")]
    cells = ("line", "auc", "n_classes", "gain", "gain_low", "gain_high")
    return [
        figure(
            plot.ablation(table),
            alt="Bars of what each step, member and mean gains; the table below has the numbers.",
            caption="What each step, each member and each kind of mean gains over the scores as they are.",
        ),
        Table(
            caption="Ablation",
            columns=("scores", "macro ROC-AUC", "classes", "gain", "from (95 %)", "to (95 %)"),
            rows=[tuple(line[name] for name in cells) for line in table.to_dict("records")],
        ),
    ]


def _network(found: Predicted, classes: Sequence[str], around: ReportContext) -> Ensemble | None:
    """Return the network to ask: the bundle given, else the first of the prediction's that is still there."""
    for model in [None, *found.manifest.get("models", ())]:
        try:
            loaded = around.bundle if model is None else bundles.load(Path(str(model["bundle"])))
        except BcsedError:
            continue
        same = model is None or (loaded is not None and loaded.sha256 == model.get("sha256"))
        if loaded is not None and same and set(classes) <= set(loaded.contract.classes):
            return from_bundles([loaded])
    return None


def _detection(found: Predicted, classes: Sequence[str]) -> DetectionSettings:
    told = found.manifest.get("detection", {})
    own = {name: value for name, value in told.get("thresholds", {}).items() if name in set(classes)}
    return DetectionSettings(threshold=told.get("threshold", 0.5), thresholds=own)


def _asked(found: Predicted, viewer: Viewer) -> list[str]:
    told = [f"A row is found from a score of {viewer.detection.threshold:g} on."]
    if viewer.ensemble is not None and len(found.manifest.get("models", ())) > 1:
        told.append("Attention is that of one member; scores are those of all of them together.")
    return told


def _recordings(found: Predicted, truth: pd.DataFrame | None, around: ReportContext, row_s: int) -> list[Recording]:
    paths = {name: Path(path) for name, path in found.places.items()}
    given = find_recordings(around.recordings) if around.recordings else []
    # What is named now counts more than where it once was.
    paths |= {path.stem: path for path in given} | dict(zip(recording_names(given), given, strict=True))
    classes = list(found.scores.columns)
    values, ids = found.scores.to_numpy(np.float32), list(map(str, found.scores.index))
    known = None
    if truth is not None:
        # The truth may tell of some classes and rows only.
        known = truth.reindex(index=found.scores.index, columns=classes).to_numpy(np.float32)
    listed = []
    stems = [split_row_id(row_id)[0] for row_id in ids]
    for name, places in pd.Series(range(len(ids))).groupby(stems, sort=False):
        chosen = places.to_numpy()
        own = [ids[place] for place in chosen]
        listed.append(
            Recording(
                name=str(name),
                path=paths.get(str(name)),
                scores=in_time(own, values[chosen], row_s, 0.0),
                truth=None if known is None else in_time(own, known[chosen], row_s, np.nan),
            )
        )
    return listed
