"""Scores compared with the truth: ROC-AUC of each class, thresholds, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import plot
from ..data.annotated_rows import is_annotation_table
from ..errors import ConfigError, DataError
from ..scores import metrics
from ..scores.calibration import calibrate
from ..scores.detections.taxonomy import ClassName, display_name
from ..scores.evaluation import KINDS, Evaluation
from ..scores.events import evaluate_events, rows_of_table
from ..scores.table import make_table
from .page import Section, Table, make_figure

# A class has a threshold if this share of its detections is true, with at least so many true rows.
PRECISION, MIN_POSITIVES = 0.9, 5


def evaluation_sections(evaluation: Evaluation, names: Mapping[str, ClassName]) -> list[Section]:
    """Return the sections that compare scores with the truth."""
    truth = make_table(evaluation.ids, evaluation.classes, evaluation.truth.astype(np.float32))
    scores = make_table(evaluation.ids, evaluation.classes, evaluation.scores)
    kind = KINDS[evaluation.kind]
    items = f"{len(truth)} {kind}"
    try:
        auc, n_classes = metrics.macro_auc(truth, scores)
    except DataError as error:
        return [Section("Classes", [f"ROC-AUC is not defined on {items}: {error}"])]
    per_class = metrics.per_class(truth, scores)
    calibration = calibrate(truth, scores, precision=PRECISION, min_positives=MIN_POSITIVES)
    summary = (
        f"Macro ROC-AUC {auc:.4f} over {n_classes} of {len(per_class)} classes, on {items}{_interval(evaluation)}. "
        "ROC-AUC is not defined for a class that is true everywhere or nowhere."
    )
    bars = make_figure(
        plot.class_auc_bars(per_class, taxa=taxa_of(names)),
        alt=f"Bars of the ROC-AUC of {n_classes} classes, the highest first; the mean is {auc:.3f}.",
        caption=f"ROC-AUC of each class on {items}; 0.5 is chance. The table contains the numbers.",
    )
    quality = Section(
        "Scores, precision and recall",
        [
            f"{len(calibration.thresholds)} of {len(per_class)} classes have a threshold with a precision of at "
            f"least {PRECISION:.0%} and at least {MIN_POSITIVES} true {kind} above it.",
            make_figure(
                plot.score_histogram(scores.to_numpy(), truth=truth.to_numpy(), ylabel=f"{kind} and classes"),
                alt="Histogram of the scores where a class is present and where it is absent, on a logarithmic axis.",
                caption="Distribution of the scores where a class is present and where it is absent.",
            ),
            make_figure(
                plot.reliability(calibration.reliability, ece=calibration.ece),
                alt=f"Share of true rows over the mean score; expected calibration error {calibration.ece:.3f}.",
                caption="Calibration: on the dotted line, scores equal the share of true rows.",
            ),
            make_figure(
                plot.precision_recall(truth.to_numpy(), scores.to_numpy(), thresholds=calibration.table),
                alt="Precision over recall of all classes together, and of each class at its own threshold.",
                caption=f"Precision and recall; dots: classes at their thresholds for a precision of {PRECISION:.0%}.",
            ),
        ],
    )
    return [Section("Classes", [summary, bars, _class_table(per_class, calibration.table, names)]), quality]


def event_section(scores: pd.DataFrame, path: Path, threshold: float, names: Mapping[str, ClassName]) -> Section | None:
    """Return the section that compares scores of rows with the events of an annotation table; None of another file."""
    if not is_annotation_table(path):
        return None
    try:
        values = evaluate_events(rows_of_table(scores), [path], threshold=threshold)
    except ConfigError as error:
        return Section("Events", [str(error)])
    f1 = [f"{kind} F1 {values.macro(f'{kind}_f1'):.4f}" for kind in ("collar", "intersection")]
    summary = (
        f"{' and '.join(f1)} at threshold {threshold:g}; PSDS1 {values.psds['psds1']:.4f}, PSDS2 "
        f"{values.psds['psds2']:.4f}: {values.per_class['events'].sum()} events of {len(values.per_class)} of "
        f"{values.n_classes} classes in {values.n_recordings} annotated recordings, collar {values.collar_s:g} s. "
        f"Consecutive rows of at least the threshold are one detection."
    )
    table = values.per_class.assign(**{"class": [full_name(name, names) for name in values.per_class["class"]]})
    columns = ["class", "events"]
    for kind in ("collar", "intersection"):
        columns += [f"{kind} F1", f"{kind} F1, best threshold"]
    order = ("class", "events", "collar_f1", "best_collar_f1", "intersection_f1", "best_intersection_f1")
    rows = table.sort_values("intersection_f1", ascending=False, kind="stable")[[*order, "psds1", "psds2"]]
    caption = "Events of each class, the highest intersection F1 first"
    lines = rows.itertuples(index=False, name=None)
    return Section("Events", [summary, Table(caption=caption, columns=(*columns, "PSDS1", "PSDS2"), rows=list(lines))])


def taxa_of(names: Mapping[str, ClassName]) -> dict[str, str]:
    """Return the taxon of each class that has one."""
    return {label: name.taxon for label, name in names.items() if name.taxon}


def full_name(label: str, names: Mapping[str, ClassName]) -> str:
    """Return the label of a class with its common or scientific name, if these differ."""
    name = display_name(label, names)
    return f"{label}, {name}" if name != label else label


def _class_table(per_class: pd.DataFrame, thresholds: pd.DataFrame, names: Mapping[str, ClassName]) -> Table:
    merged = per_class.merge(thresholds.drop(columns="n_positive"), on="class", how="left")
    merged.loc[merged["threshold"].isna(), ["precision", "recall"]] = np.nan
    taxa = taxa_of(names)
    rows: list[Sequence[Any]] = []
    for row in merged.sort_values("auc", ascending=False, kind="stable").to_dict("records"):
        label = str(row["class"])
        numbers = (row[name] for name in ("auc", "average_precision", "threshold", "precision", "recall"))
        rows.append((full_name(label, names), taxa.get(label, ""), int(row["n_positive"]), *numbers))
    columns = ("class", "taxon", "true", "ROC-AUC", "average precision", "threshold", "its precision", "its recall")
    return Table(caption="Classes, the highest ROC-AUC first", columns=columns, rows=rows)


def _interval(evaluation: Evaluation) -> str:
    files, rng = list(evaluation.files), np.random.default_rng(0)
    if len(set(files)) < 2:
        return ""
    low, high = metrics.bootstrap_auc(evaluation.truth, evaluation.scores, files, n=500, rng=rng)
    return f" (95 % interval over recordings: {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
