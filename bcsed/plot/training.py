"""How trainings went, and which of several is better."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .style import RULE, axes, called, whole_numbers

MARKS = {"clip_auc": "held-out clips", "row_auc": "soundscape rows"}
_WRAP, _MOST_CHANGES = 44, 4


def loss(history: pd.DataFrame, ax: Any = None) -> Any:
    """Draw a training's loss over its epochs.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, as in ``metrics.csv``.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax, 4.0)
    ax.plot(history["epoch"], history["loss"], marker=".", label="training")
    ax.set(xlabel="epoch", ylabel="loss", title="Loss")
    whole_numbers(ax.xaxis)
    ax.legend()
    return ax


def validation(history: pd.DataFrame, ax: Any = None) -> Any:
    """Draw a training's macro ROC-AUC over its epochs, of held-out clips and soundscape rows where they are there.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, as in ``metrics.csv``.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax, 4.0)
    least = 0.5
    for column, name in MARKS.items():
        if column in history:
            ax.plot(history["epoch"], history[column], marker=".", label=name)
            least = min(least, float(history[column].min()))
    ax.axhline(0.5, label="chance", **RULE)
    ax.set(xlabel="epoch", ylabel="macro ROC-AUC", title="Validation", ylim=(min(0.4, least - 0.05), 1.0))
    whole_numbers(ax.xaxis)
    ax.legend(loc="lower right")
    return ax


def validations(histories: Mapping[str, Sequence[pd.DataFrame]], column: str = "clip_auc", ax: Any = None) -> Any:
    """Draw the macro ROC-AUC of several trainings over their epochs, one colour per variant.

    Parameters
    ----------
    histories : mapping of str to sequence of DataFrame
        A variant's name, and the ``metrics.csv`` of each of its runs.
    column : {'clip_auc', 'row_auc'}
        Of held-out clips, or of soundscape rows; runs without it are left out.
    ax : Axes, optional

    Returns
    -------
    Axes
        Without a legend, so that axes side by side can share one.
    """
    ax = axes(ax, 5.2)
    for place, (name, runs) in enumerate(histories.items()):
        drawn = [one for one in runs if column in one]
        for number, one in enumerate(drawn):
            label = f"{called(name)} ({len(drawn)} runs)" if len(drawn) > 1 else called(name)
            style = {"color": f"C{place % 10}", "linestyle": "-" if place < 10 else "--"}
            ax.plot(one["epoch"], one[column], marker=".", label=label if not number else None, **style)
    low, high = ax.get_ylim()
    if low <= 0.5 <= high:
        ax.axhline(0.5, label="chance", **RULE)
    ax.set(xlabel="epoch", ylabel="macro ROC-AUC", title=MARKS[column])
    whole_numbers(ax.xaxis)
    return ax


def variants(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw a dot and its 95 % interval per variant.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.analysis.compare.table`, the first line on top.
    ax : Axes, optional

    Returns
    -------
    Axes
        Without a legend; a white dot was scored on other data than line 1.
    """
    ax = axes(ax, 8.0, 2.0 + 0.4 * len(table))
    labels = [_label(number, line) for number, line in enumerate(table.to_dict("records"), 1)]
    height = np.arange(len(table))[::-1]
    has_gain = bool(table["gain"].notna().any())
    paired = (np.arange(len(table)) == 0) | table["gain"].notna().to_numpy()
    same = {"color": "C0", "label": "macro ROC-AUC" if has_gain or not paired.all() else None}
    other = {"color": "C0", "markerfacecolor": "white", "label": "scored on other data than line 1"}
    for chosen, style in ((paired, same), (~paired, other)):
        if chosen.any():
            _dots(ax, table[chosen], height[chosen], ("auc", "low", "high"), style)
    low, high = ax.get_xlim()
    if low <= 0.5 <= high:
        ax.axvline(0.5, label="chance", **RULE)
    ax.set(xlabel="macro ROC-AUC (0 to 1), 95 % over recordings", ylabel="variant", title="Macro ROC-AUC")
    ax.set_yticks(height, labels, fontsize=9)
    ax.set_ylim(-0.6, len(table) - 0.4)
    return ax


def gains(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw what each variant gains over the first, and its 95 % interval.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.analysis.compare.table`.
    ax : Axes, optional

    Returns
    -------
    Axes
        Without a legend; variants are named by their numbers.
    """
    ax = axes(ax, 5.0, 2.0 + 0.4 * len(table))
    height = np.arange(len(table))[::-1]
    drawn = (np.arange(len(table)) > 0) & table["gain"].notna().to_numpy()
    _dots(ax, table[drawn], height[drawn], ("gain", "gain_low", "gain_high"), {"color": "C1", "label": "gain"})
    ax.axvline(0.0, label="no difference", **RULE)
    ax.set(xlabel="difference of macro ROC-AUC, paired, 95 %", ylabel="variant", title="Gain over line 1")
    ax.set_yticks(height, [str(number) for number in range(1, len(table) + 1)])
    ax.set_ylim(-0.6, len(table) - 0.4)
    return ax


def label_lines(table: pd.DataFrame) -> int:
    """Return how many lines of text the names of `variants` are."""
    return sum(_label(number, line).count("\n") + 1 for number, line in enumerate(table.to_dict("records"), 1))


def _dots(
    axis: Any,
    table: pd.DataFrame,
    height: np.ndarray[Any, np.dtype[np.int64]],
    columns: tuple[str, str, str],
    style: Mapping[str, Any],
) -> None:
    value, low, high = (table[name].to_numpy(np.float64) for name in columns)
    # A quantile interval need not hold its estimate, and bars of negative length are refused.
    below, above = np.maximum(value - low, 0), np.maximum(high - value, 0)
    axis.errorbar(value, height, xerr=np.stack([below, above]), fmt="o", capsize=3, **style)


def _label(number: int, line: Mapping[Any, Any]) -> str:
    runs = f" ({line['n_runs']} runs)" if line["n_runs"] > 1 else ""
    changes = line["differs"].split("; ") if line["differs"] else []
    shown = [
        textwrap.shorten(change, _WRAP, placeholder=" ...").replace("$", r"\$") for change in changes[:_MOST_CHANGES]
    ]
    more = [f"and {len(changes) - len(shown)} more"] if len(changes) > len(shown) else []
    return "\n".join([f"{number}: {called(line['experiment'])}{runs}", *shown, *more])
