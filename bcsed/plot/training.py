"""Plots of trainings and of comparisons between them, and complete figures, written as PNG files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .style import RULE, axes, display_text, figure, integer_ticks, legend, save

MARKS = {"clip_auc": "held-out clips", "row_auc": "soundscape rows"}
_WRAP, _MAX_CHANGES = 44, 4


def loss(history: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the loss over the epochs of a training (rows of ``metrics.csv``)."""
    ax = axes(ax, 4.0)
    ax.plot(history["epoch"], history["loss"], marker=".", label="training")
    ax.set(xlabel="epoch", ylabel="loss", title="Loss")
    integer_ticks(ax.xaxis)
    ax.legend()
    return ax


def validation(history: pd.DataFrame, ax: Any = None) -> Any:
    """Draw macro ROC-AUC of held-out clips and soundscape rows over the epochs of a training (``metrics.csv``)."""
    ax = axes(ax, 4.0)
    lowest = 0.5
    for column, name in MARKS.items():
        if column in history:
            ax.plot(history["epoch"], history[column], marker=".", label=name)
            lowest = min(lowest, float(history[column].min()))
    ax.axhline(0.5, label="chance", **RULE)
    ax.set(xlabel="epoch", ylabel="macro ROC-AUC", title="Validation", ylim=(min(0.4, lowest - 0.05), 1.0))
    integer_ticks(ax.xaxis)
    ax.legend(loc="lower right")
    return ax


def validations(histories: Mapping[str, Sequence[pd.DataFrame]], column: str = "clip_auc", ax: Any = None) -> Any:
    """Draw macro ROC-AUC of several trainings over their epochs, one colour per variant, without a legend.

    `histories` maps the name of a variant to the ``metrics.csv`` of its runs. `column` is ``clip_auc`` (held-out clips)
    or ``row_auc`` (soundscape rows); runs without it are omitted.
    """
    ax = axes(ax, 5.2)
    for index, (name, runs) in enumerate(histories.items()):
        validated = [history for history in runs if column in history]
        label = f"{display_text(name)} ({len(validated)} runs)" if len(validated) > 1 else display_text(name)
        style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--", "marker": "."}
        for number, history in enumerate(validated):
            ax.plot(history["epoch"], history[column], label=label if not number else None, **style)
    low, high = ax.get_ylim()
    if low <= 0.5 <= high:
        ax.axhline(0.5, label="chance", **RULE)
    ax.set(xlabel="epoch", ylabel="macro ROC-AUC", title=MARKS[column])
    integer_ticks(ax.xaxis)
    return ax


def variants(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw macro ROC-AUC per variant with its 95 % interval, without a legend.

    `table` is as from `bcsed.analysis.compare.compare_variants`, the first line on top. A white dot was scored on other
    data than line 1.
    """
    ax = axes(ax, 8.0, 2.0 + 0.4 * len(table))
    labels = [_label(number, line) for number, line in enumerate(table.to_dict("records"), 1)]
    height = np.arange(len(table))[::-1]
    has_gain = bool(table["gain"].notna().any())
    paired = (np.arange(len(table)) == 0) | table["gain"].notna().to_numpy()
    same = {"color": "C0", "label": "macro ROC-AUC" if has_gain or not paired.all() else None}
    other = {"color": "C0", "markerfacecolor": "white", "label": "scored on other data than line 1"}
    for subset, style in ((paired, same), (~paired, other)):
        if subset.any():
            _dots(ax, table[subset], height[subset], ("auc", "low", "high"), style)
    low, high = ax.get_xlim()
    if low <= 0.5 <= high:
        ax.axvline(0.5, label="chance", **RULE)
    ax.set(xlabel="macro ROC-AUC (0 to 1), 95 % over recordings", ylabel="variant", title="Macro ROC-AUC")
    ax.set_yticks(height, labels, fontsize=9)
    ax.set_ylim(-0.6, len(table) - 0.4)
    return ax


def gains(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the gain of each variant over the first with its 95 % interval, without a legend (see `variants`)."""
    ax = axes(ax, 5.0, 2.0 + 0.4 * len(table))
    height = np.arange(len(table))[::-1]
    paired = (np.arange(len(table)) > 0) & table["gain"].notna().to_numpy()
    _dots(ax, table[paired], height[paired], ("gain", "gain_low", "gain_high"), {"color": "C1", "label": "gain"})
    ax.axvline(0.0, label="no difference", **RULE)
    ax.set(xlabel="difference of macro ROC-AUC, paired, 95 %", ylabel="variant", title="Gain over line 1")
    ax.set_yticks(height, [str(number) for number in range(1, len(table) + 1)])
    ax.set_ylim(-0.6, len(table) - 0.4)
    return ax


def learning_curves(history: pd.DataFrame, path: str | Path, *, title: str = "") -> None:
    """Draw loss and macro ROC-AUC over the epochs of a training (rows of ``metrics.csv``)."""
    canvas = figure(8.0, 3.2)
    left, right = canvas.subplots(1, 2)
    loss(history, left)
    validation(history, right)
    save(canvas, path, title)


def comparison(table: pd.DataFrame, path: str | Path, *, title: str = "Comparison") -> None:
    """Draw macro ROC-AUC per variant and, if available, the gain over the first, with intervals (see `variants`)."""
    has_gain = bool(table["gain"].notna().any())
    canvas = figure(11.0 if has_gain else 8.0, 2.0 + 0.15 * label_lines(table) + 0.2 * len(table))
    panels = canvas.subplots(1, 2 if has_gain else 1, squeeze=False, sharey=True)[0]
    if has_gain:
        gains(table, panels[1])
        panels[1].set_ylabel("")
    # Drawn last, because it sets the labels of the shared axis.
    variants(table, panels[0])
    legend(canvas, panels)
    save(canvas, path, title)


def curves(
    histories: Mapping[str, Sequence[pd.DataFrame]], path: str | Path, *, title: str = "Validation over the epochs"
) -> None:
    """Draw the macro ROC-AUC of several trainings over their epochs (`histories` as of `validations`)."""
    columns = [name for name in MARKS if any(name in history for runs in histories.values() for history in runs)]
    columns = columns or ["clip_auc"]
    canvas = figure(5.2 * len(columns) + 2.2, 3.8)
    panels = canvas.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, column in zip(panels, columns, strict=True):
        validations(histories, column, ax)
    legend(canvas, panels, "outside right center")
    save(canvas, path, title)


def label_lines(table: pd.DataFrame) -> int:
    """Return the number of text lines in the labels of `variants`."""
    return sum(_label(number, line).count("\n") + 1 for number, line in enumerate(table.to_dict("records"), 1))


def _dots(ax: Any, table: pd.DataFrame, height: Any, columns: tuple[str, str, str], style: Mapping[str, Any]) -> None:
    value, low, high = (table[name].to_numpy(np.float64) for name in columns)
    # A quantile interval may exclude its estimate, and errorbar refuses negative lengths.
    below, above = np.maximum(value - low, 0), np.maximum(high - value, 0)
    ax.errorbar(value, height, xerr=np.stack([below, above]), fmt="o", capsize=3, **style)


def _label(number: int, line: Mapping[Any, Any]) -> str:
    runs = f" ({line['n_runs']} runs)" if line["n_runs"] > 1 else ""
    changes = line["differs"].split("; ") if line["differs"] else []
    texts = [textwrap.shorten(text, _WRAP, placeholder=" ...").replace("$", r"\$") for text in changes[:_MAX_CHANGES]]
    more = [f"and {len(changes) - _MAX_CHANGES} more"] if len(changes) > _MAX_CHANGES else []
    return "\n".join([f"{number}: {display_text(line['experiment'])}{runs}", *texts, *more])
