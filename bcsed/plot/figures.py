"""Complete figures, written as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .classes import rows_per_class, rows_per_recording
from .style import MAX_NAMED, figure, legend
from .training import MARKS, gains, label_lines, loss, validation, validations, variants


def learning_curves(history: pd.DataFrame, path: str | Path, *, title: str = "") -> None:
    """Draw loss and macro ROC-AUC over the epochs of a training (rows of ``metrics.csv``)."""
    canvas = figure(8.0, 3.2)
    left, right = canvas.subplots(1, 2)
    loss(history, left)
    validation(history, right)
    _save(canvas, path, title)


def comparison(table: pd.DataFrame, path: str | Path, *, title: str = "Comparison") -> None:
    """Draw macro ROC-AUC per variant with its 95 % interval and, if available, the gain over the first variant.

    `table` is as from `bcsed.analysis.compare.compare_variants`; its first line is drawn on top.
    """
    has_gain = bool(table["gain"].notna().any())
    canvas = figure(11.0 if has_gain else 8.0, 2.0 + 0.15 * label_lines(table) + 0.2 * len(table))
    axes = canvas.subplots(1, 2 if has_gain else 1, squeeze=False, sharey=True)[0]
    if has_gain:
        gains(table, axes[1])
        axes[1].set_ylabel("")
    # Drawn last, because it sets the labels of the shared axis.
    variants(table, axes[0])
    legend(canvas, axes)
    _save(canvas, path, title)


def curves(
    histories: Mapping[str, Sequence[pd.DataFrame]], path: str | Path, *, title: str = "Validation over the epochs"
) -> None:
    """Draw the macro ROC-AUC of several trainings over their epochs (`histories` as of `validations`)."""
    columns = [name for name in MARKS if any(name in history for runs in histories.values() for history in runs)]
    columns = columns or ["clip_auc"]
    canvas = figure(5.2 * len(columns) + 2.2, 3.8)
    axes = canvas.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, column in zip(axes, columns, strict=True):
        validations(histories, column, ax)
    legend(canvas, axes, "outside right center")
    _save(canvas, path, title)


def pseudolabel_counts(
    per_class: Mapping[str, int],
    per_file: Sequence[int],
    path: str | Path,
    *,
    title: str = "Pseudolabels",
    unselected: Mapping[str, int] | None = None,
) -> None:
    """Draw the number of selected pseudolabelled rows per class (see `rows_per_class`) and per recording."""
    named = len(per_class) <= MAX_NAMED
    canvas = figure(10.0, max(3.6, 1.6 + 0.2 * len(per_class)) if named else 4.4)
    left, right = canvas.subplots(1, 2, width_ratios=(1.6, 1))
    rows_per_class(per_class, left, unselected=unselected)
    rows_per_recording(per_file, right)
    if unselected is not None:
        legend(canvas, [left])
    _save(canvas, path, title)


def _save(canvas: Any, path: str | Path, title: str) -> None:
    canvas.suptitle(title)
    canvas.savefig(path, format="png", dpi=120)
