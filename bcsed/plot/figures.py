"""Whole figures, written as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from . import training as learning
from .classes import rows_per_class, rows_per_recording
from .style import MOST_NAMED, figure, legend


def learning_curves(history: pd.DataFrame, path: str | Path, *, title: str = "") -> None:
    """Draw a training's loss and macro ROC-AUC over its epochs into a PNG file.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, as in ``metrics.csv``.
    path : str or Path
        Where to; its suffix does not matter.
    title : str
        Above the figure.
    """
    made = figure(8.0, 3.2)
    left, right = made.subplots(1, 2)
    learning.loss(history, left)
    learning.validation(history, right)
    made.suptitle(title)
    made.savefig(path, format="png", dpi=120)


def comparison(table: pd.DataFrame, path: str | Path, *, title: str = "Comparison") -> None:
    """Draw a dot and its 95 % interval per variant, and its gain over the first where there is one.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.analysis.compare.table`, the first line on top.
    path : str or Path
        Where to, a PNG.
    title : str
        Above the figure.
    """
    has_gain = bool(table["gain"].notna().any())
    height = 2.0 + 0.15 * learning.label_lines(table) + 0.2 * len(table)
    made = figure(11.0 if has_gain else 8.0, height)
    axes = made.subplots(1, 2 if has_gain else 1, squeeze=False, sharey=True)[0]
    if has_gain:
        learning.gains(table, axes[1])
        axes[1].set_ylabel("")
    # Last, since it names what both share.
    learning.variants(table, axes[0])
    legend(made, axes)
    made.suptitle(title)
    made.savefig(path, format="png", dpi=120)


def curves(
    histories: Mapping[str, Sequence[pd.DataFrame]], path: str | Path, *, title: str = "Validation over the epochs"
) -> None:
    """Draw the macro ROC-AUC of several trainings over their epochs, one colour per variant.

    Parameters
    ----------
    histories : mapping of str to sequence of DataFrame
        A variant's name, and the ``metrics.csv`` of each of its runs.
    path : str or Path
        Where to, a PNG.
    title : str
        Above the figure.
    """
    columns = [name for name in learning.MARKS if any(name in one for runs in histories.values() for one in runs)]
    columns = columns or ["clip_auc"]
    made = figure(5.2 * len(columns) + 2.2, 3.8)
    axes = made.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axis, column in zip(axes, columns, strict=True):
        learning.validations(histories, column, axis)
    legend(made, axes, "outside right center")
    made.suptitle(title)
    made.savefig(path, format="png", dpi=120)


def pseudolabel_counts(
    per_class: Mapping[str, int],
    per_file: Sequence[int],
    path: str | Path,
    *,
    title: str = "Pseudolabels",
    unselected: Mapping[str, int] | None = None,
) -> None:
    """Draw how many pseudolabelled rows were kept, per class and per recording.

    Parameters
    ----------
    per_class : mapping of str to int
        Rows kept of each class.
    per_file : sequence of int
        Rows kept of each recording.
    path : str or Path
        Where to, a PNG.
    title : str
        Above the figure.
    unselected : mapping of str to int, optional
        Rows of each class that were labelled with it and not kept.
    """
    named = len(per_class) <= MOST_NAMED
    made = figure(10.0, max(3.6, 1.6 + 0.2 * len(per_class)) if named else 4.4)
    left, right = made.subplots(1, 2, width_ratios=(1.6, 1))
    rows_per_class(per_class, left, unselected=unselected)
    rows_per_recording(per_file, right)
    if unselected is not None:
        legend(made, [left])
    made.suptitle(title)
    made.savefig(path, format="png", dpi=120)
