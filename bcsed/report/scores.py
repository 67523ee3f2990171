"""The section about a prediction: its scores, its ensemble, its recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import plot
from ..config.strict import from_dict
from ..errors import BcsedError, ConfigError, DataError
from ..files import read_errors
from ..models.backends import Backend
from ..models.bundle.bundle import load
from ..models.ensemble import from_bundles
from ..predict import outputs
from ..predict.store import model_weights, read_manifest
from ..recordings import find_recordings, recording_names, unique_stems
from ..scores import metrics, postprocess
from ..scores.ablation import ablate
from ..scores.checks.ids import parse_row_ids
from ..scores.detections.detect import DetectionSettings
from ..scores.detections.species import SpeciesList
from ..scores.evaluation import make_evaluation, read_truth
from ..scores.table import SCORES, SUBMISSION, check_table, read_parquet, read_table
from .evaluation import evaluation_sections, event_section
from .page import Item, Section, Table, make_figure
from .recordings import Recording, ReportContext, Viewer, group_recordings, row_length

_N_BOOTSTRAP = 500


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The content of a folder of `bcsed predict`, or of a score table alone."""

    path: Path
    manifest: Mapping[str, Any]  # empty for a table
    scores: pd.DataFrame
    paths: Mapping[str, str]  # name of a recording -> its path at the time of the prediction
    members: Mapping[str, pd.DataFrame]  # scores of each member, if they were written

    @property
    def models(self) -> list[dict[str, Any]]:
        """The bundles of the ensemble."""
        return list(self.manifest.get("models", ()))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(map(str, self.scores.columns))


def read_prediction(path: Path) -> Prediction:
    """Read a folder of `bcsed predict`, or a score table."""
    if path.is_file():
        scores = read_table(path)
        check_table(scores, where=str(path))
        return Prediction(path=path, manifest={}, scores=scores, paths={}, members={})
    manifest = read_manifest(path)
    models = manifest["models"]
    manifest["row_s"] = manifest["settings"]["row_s"]
    written = manifest["formats"]
    members = outputs.read_members(path) if "members" in written and (path / outputs.MEMBERS).is_dir() else {}
    paths: dict[str, str] = {}
    if "scores" in written and (path / SCORES).is_file():
        table = read_parquet(path / SCORES)
        with read_errors(path / SCORES, "a table of scores"):
            rows = parse_row_ids(table["row_id"])
            recordings = table["recording"].astype(str).to_numpy()
            paths = {rows.stems[stem]: name for stem, name in zip(rows.recording, recordings, strict=True)}
            scores = table.set_index("row_id").drop(columns=["recording", "start_s", "end_s"])
    elif "submission" in written and (path / SUBMISSION).is_file():
        scores = read_table(path / SUBMISSION)
    elif members:
        scores = postprocess.combine(members, model_weights(models), kind=str(manifest["mean"]))
        stages = postprocess.parse_stages(manifest.get("post_processing") or ())
        try:
            scores = postprocess.apply(scores, postprocess.split_stages(stages, len(models))[0])
        except ConfigError:  # of some taxa only, which the folder does not contain
            manifest["post_processing"] = []
    else:
        raise DataError(f"{path} contains no score table; predict with --format submission or scores.")
    scores.columns = scores.columns.astype(str)
    check_table(scores, where=str(path))
    return Prediction(path=path, manifest=manifest, scores=scores, paths=paths, members=members)


def prediction_section(prediction: Prediction, context: ReportContext) -> Section:
    """Return the section about a prediction."""
    scores, ids = prediction.scores, list(map(str, prediction.scores.index))
    row_s = prediction.manifest.get("row_s") or row_length(ids)
    truth = None if context.truth is None else _read_truth(prediction, context.truth)
    section = Section(f"Scores {prediction.path.resolve().name}", [_facts(prediction)])
    if truth is not None:
        section.sections += evaluation_sections(make_evaluation(truth, scores), context.names)
    else:
        section.sections.append(_distribution(prediction))
    if len(prediction.models) > 1:
        section.sections.append(_ensemble(prediction, truth, context))
    settings = prediction.manifest.get("detection", {})
    thresholds = {name: value for name, value in settings.get("thresholds", {}).items() if name in prediction.classes}
    detection = DetectionSettings(threshold=settings.get("threshold", 0.5), thresholds=thresholds)
    if truth is not None and context.truth is not None:
        # As for rows, recordings count that are in the table.
        annotated = scores.loc[truth.index]
        events = event_section(annotated, Path(context.truth), detection.threshold, context.names)
        section.sections += [] if events is None else [events]
    member = _load_member(prediction, context)
    species = prediction.manifest.get("species")
    listed = None if species is None else from_dict(SpeciesList, species, f"{prediction.path}: species")
    shown: dict[str, Any] = {"row_s": row_s, "context": context, "member": member, "species": listed}
    viewer = Viewer(classes=prediction.classes, detection=detection, **shown)
    remarks = [f"Rows with a score of at least {detection.threshold:g} are detections."]
    if listed is not None:
        n_removed = sum(prediction.manifest.get("removed_detections", {}).values())
        remarks.append(f"Only the species of {listed.path} are detected; it removed {n_removed} detections.")
    if member is not None and len(prediction.models) > 1:
        remarks.append("The attention is that of one member; the scores are those of the ensemble.")
    section.sections.append(viewer.section(_recordings(prediction, ids, truth, context, row_s), remarks))
    return section


def _facts(prediction: Prediction) -> dict[str, str]:
    manifest, models = prediction.manifest, prediction.models
    facts = {"folder" if manifest else "file": str(prediction.path)}
    facts |= {"rows": str(len(prediction.scores)), "classes": str(len(prediction.classes))}
    if manifest:
        facts |= {
            "networks": ", ".join(str(model.get("experiment") or model["bundle"]) for model in models),
            "mean": str(manifest["mean"]) if len(models) > 1 else "",
            "post-processing": " ".join(manifest.get("post_processing", ())) or "none",
            "windows": str(manifest["settings"].get("windows", "")),
            "precision": str(manifest["settings"].get("precision", "")),
            "recordings": f"{manifest.get('n_recordings', '')}, {manifest.get('n_failed', 0)} failed",
            "time": f"{manifest.get('seconds', 0)} s",
        }
    return facts


def _distribution(prediction: Prediction) -> Section:
    scores = prediction.scores
    highest, mean, n_high = scores.max(), scores.mean(), (scores >= 0.5).sum()
    order = highest.sort_values(ascending=False, kind="stable").index
    figure = make_figure(
        plot.score_histogram(scores.to_numpy()),
        alt="Histogram of the scores on a logarithmic axis.",
        caption=f"{scores.size} scores: {len(scores)} rows, {len(order)} classes.",
    )
    rows = [(str(name), float(highest[name]), float(mean[name]), int(n_high[name])) for name in order]
    columns = ("class", "highest score", "mean score", "rows of at least 0.5")
    table = Table(caption="Classes, the highest scores first", columns=columns, rows=rows)
    return Section("Scores of all rows and classes", [figure, table])


def _read_truth(prediction: Prediction, path: str | Path) -> pd.DataFrame:
    truth = read_truth(path, prediction.classes, prediction.scores.index)
    known: pd.DataFrame = truth.loc[truth.index.intersection(prediction.scores.index, sort=False)]
    if known.empty:
        advice = "name the labels of the same recordings."
        raise DataError(f"none of the {len(truth)} labelled rows of {path} is in {prediction.path}; {advice}")
    return known


def _ensemble(prediction: Prediction, truth: pd.DataFrame | None, context: ReportContext) -> Section:
    """Return the section about the members: their scores, correlations and contributions."""
    aucs: list[float | None] = [None] * len(prediction.models)
    if truth is not None and len(prediction.members) == len(prediction.models):
        aucs = [_mean_auc(truth, table) for table in prediction.members.values()]
    rows: list[Sequence[Any]] = []
    for number, (model, auc) in enumerate(zip(prediction.models, aucs, strict=True), 1):
        experiment, sha256 = str(model.get("experiment", "")), str(model.get("sha256", ""))[:12]
        rows.append((number, str(model["bundle"]), experiment, model["weight"], sha256, auc))
    columns = ("member", "bundle", "experiment", "weight", "SHA-256", "macro ROC-AUC")
    items: list[Item] = [Table(caption="Members", columns=columns, rows=rows)]
    if len(prediction.members) < 2:
        remark = "The scores of the members were not written; predict with --format members to compare them."
        return Section("Ensemble", [*items, remark])
    items.append(
        make_figure(
            plot.correlations(postprocess.spearman(prediction.members)),
            alt="Matrix of the rank correlations between members; its cells contain the numbers.",
            caption="Similarity of the members: Spearman's correlation of the rows of a class, mean over classes. "
            "An ensemble of less similar members gains more.",
        )
    )
    if truth is None:
        items.append("With --truth, each member, stage and mean is evaluated with and without it.")
    else:
        items += _ablation(prediction, truth, context)
    return Section("Ensemble", items)


def _mean_auc(truth: pd.DataFrame, table: pd.DataFrame) -> float | None:
    columns = [name for name in truth.columns if name in table.columns]
    known = truth[columns]
    areas = metrics.class_auc(known, metrics.align_tables(known, table, extra=True)) if columns else np.empty(0)
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else None


def _ablation(prediction: Prediction, truth: pd.DataFrame, context: ReportContext) -> list[Item]:
    """Return the contribution of each stage, member and mean."""
    members, kind = prediction.members, str(prediction.manifest["mean"])
    weights = model_weights(prediction.models)
    # The scores of members are those after their own stages.
    stages, _ = postprocess.split_stages(
        postprocess.parse_stages(prediction.manifest.get("post_processing") or ()), len(prediction.models)
    )
    stages = stages or postprocess.parse_stages(postprocess.COMMON)
    scores = postprocess.combine(members, weights, kind=kind, classes=list(prediction.scores.columns))
    taxa = {label: name.taxon for label, name in context.names.items()}
    options: dict[str, Any] = {"members": members, "weights": weights, "kind": kind, "taxa": taxa}
    try:
        table = ablate(truth, scores, stages, n=_N_BOOTSTRAP, rng=np.random.default_rng(0), **options)
    except BcsedError as error:
        return [f"The contributions of members and stages cannot be computed: {error}"]
    figure = make_figure(
        plot.ablation(table),
        alt="Bars of the gain of each stage, member and mean; the table contains the numbers.",
        caption="Gain of each stage, each member and each kind of mean over the scores without change.",
    )
    cells = ["line", "auc", "n_classes", "gain", "gain_low", "gain_high"]
    columns = ("scores", "macro ROC-AUC", "classes", "gain", "from (95 %)", "to (95 %)")
    rows = [[line[name] for name in cells] for line in table.to_dict("records")]
    return [figure, Table(caption="Ablation", columns=columns, rows=rows)]


def _load_member(prediction: Prediction, context: ReportContext) -> Backend | None:
    """Return the network that computes the attention: the given bundle, else the prediction's first that is found."""
    for model in (None, *prediction.models):
        try:
            bundle = context.bundle if model is None else load(Path(str(model["bundle"])))
        except BcsedError:
            continue
        same = bundle is not None and (model is None or bundle.sha256 == model.get("sha256"))
        if bundle is not None and same and set(prediction.classes) <= set(bundle.contract.classes):
            return from_bundles([bundle]).members[0]
    return None


def _recordings(
    prediction: Prediction, ids: Sequence[str], truth: pd.DataFrame | None, context: ReportContext, row_s: int
) -> list[Recording]:
    """Return the scored recordings, with their files as far as these are found."""
    paths = {name: Path(path) for name, path in prediction.paths.items()}
    files = find_recordings(context.recordings)
    # Paths that are given now replace those of the prediction.
    paths |= unique_stems(files) | dict(zip(recording_names(files), files, strict=True))
    known: npt.NDArray[Any] | None = None
    if truth is not None:
        # The truth may have some of the classes and rows only.
        known = truth.reindex(index=prediction.scores.index, columns=prediction.scores.columns).to_numpy(np.float32)
    rows = parse_row_ids(ids)
    names = [rows.stems[stem] for stem in rows.recording]
    scores = prediction.scores.to_numpy(np.float32)
    return group_recordings(names, scores, known, rows.end_s // row_s - 1, paths.get)
