"""Scores beside the truth: classes, recordings, thresholds, how far scores can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import plot
from ..errors import DataError
from ..scores import metrics
from ..scores.calibration import calibrate
from ..scores.detections.taxonomy import ClassName
from ..scores.evaluation import KINDS, Evaluation
from .page import Figure, Section, Table, Text
from .svg import svg

PRECISION, SUPPORT = 0.9, 5


def frames(answers: Evaluation) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return truth and scores as tables."""
    names = {"index": pd.Index(answers.ids, dtype=object), "columns": pd.Index(answers.classes, dtype=object)}
    return pd.DataFrame(answers.truth.astype(np.float32), **names), pd.DataFrame(answers.scores, **names)


def evaluation_sections(answers: Evaluation, names: Mapping[str, ClassName]) -> list[Section]:
    """Return the sections that compare scores with the truth."""
    truth, scores = frames(answers)
    what = KINDS[answers.kind]
    per_class = metrics.per_class(truth, scores)
    taxa = {label: name.taxon for label, name in names.items() if name.taxon}
    try:
        auc, n_classes = metrics.macro_auc(truth, scores)
    except DataError as error:
        return [Section("Classes", [Text(f"On {len(truth)} {what} nothing can be scored: {error}")])]
    drawn = figure(
        plot.class_auc_bars(per_class, taxa=taxa),
        alt=f"Bars of the ROC-AUC of {n_classes} classes, the best first; the mean is {auc:.3f}.",
        caption=f"ROC-AUC of each class on {len(truth)} {what}; .5 is chance. The numbers are in the table below.",
    )
    found = calibrate(truth, scores, precision=PRECISION, min_positives=SUPPORT)
    table = _classes(per_class, found.table, names)
    told = (
        f"Macro ROC-AUC {auc:.4f} over {n_classes} of {len(per_class)} classes, on {len(truth)} {what}"
        f"{_sure(answers)}; a class without a true or without an untrue one has none."
    )
    believed = Section(
        "Scores, precision and recall",
        [
            Text(
                f"{len(found.thresholds)} of {len(per_class)} classes have a threshold from which on {PRECISION:.0%} "
                f"of what is found is true, with at least {SUPPORT} true {what} behind it."
            ),
            figure(
                plot.score_histogram(scores.to_numpy(), truth=truth.to_numpy(), what=f"{what} and classes"),
                alt="Histogram of the scores, true and not true ones apart, on a logarithmic axis.",
                caption="How high scores are where a class is there, and where it is not.",
            ),
            figure(
                plot.reliability(found.reliability, ece=found.ece),
                alt=f"Share of true ones beside the mean score; expected calibration error {found.ece:.3f}.",
                caption="How often what was called so probable is true; on the dotted line, exactly as often.",
            ),
            figure(
                plot.precision_recall(truth.to_numpy(), scores.to_numpy(), thresholds=found.table),
                alt="Precision over recall of all classes together, and of each class at its own threshold.",
                caption=f"Precision and recall; dots: classes at their thresholds for a precision of {PRECISION:.0%}.",
            ),
        ],
    )
    return [Section("Classes", [Text(told), drawn, table]), believed]


def figure(ax: object, *, alt: str, caption: str) -> Figure:
    """Return drawn axes as an item of the page."""
    text, width = svg(ax)
    return Figure(svg=text, alt=alt, caption=caption, width=width)


def recording_auc(truth: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
    """Return how well what is true in a recording is ranked above what is not, all rows and classes together.

    NaN where nothing, or everything, is true.
    """
    return float(metrics.class_auc(truth.reshape(-1, 1), scores.reshape(-1, 1).astype(np.float64))[0])


def shown_name(label: str, names: Mapping[str, ClassName]) -> str:
    """Return a class's label, and its common or scientific name where that tells more."""
    name = names.get(label)
    told = (name.common or name.scientific) if name else ""
    return f"{label}, {told}" if told and told != label else label


def _classes(per_class: pd.DataFrame, thresholds: pd.DataFrame, names: Mapping[str, ClassName]) -> Table:
    both = per_class.merge(thresholds.drop(columns="n_positive"), on="class", how="left")
    lines: list[Sequence[Any]] = []
    for line in both.to_dict("records"):
        label = str(line["class"])
        reached = pd.notna(line["threshold"])
        lines.append(
            (
                *(shown_name(label, names), names[label].taxon if label in names else ""),
                *(int(line["n_positive"]), line["auc"], line["average_precision"]),
                *(line["threshold"], line["precision"] if reached else None, line["recall"] if reached else None),
            )
        )
    columns = ("class", "taxon", "true", "ROC-AUC", "average precision", "threshold", "precision there", "recall there")
    lines.sort(key=lambda line: -line[3] if pd.notna(line[3]) else 1.0)
    return Table(caption="Classes, the best first", columns=columns, rows=lines)


def _sure(answers: Evaluation) -> str:
    if len(set(answers.files)) < 2:
        return ""
    rng = np.random.default_rng(0)
    low, high = metrics.bootstrap_auc(answers.truth, answers.scores, list(answers.files), n=500, rng=rng)
    return f" (95 % over recordings: {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
