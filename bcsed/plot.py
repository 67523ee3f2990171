"""Figures, made without a display."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_MARKS = {"clip_auc": "held-out clips", "row_auc": "soundscape rows"}
# Beyond these, bars have no names: they could not be read.
_MOST_NAMED = 40
_WRAP, _MOST_CHANGES = 44, 4
# Counts that differ more than this are drawn on a logarithmic axis.
_LOG_FROM = 30
_RULE: Mapping[str, Any] = {"color": "grey", "linewidth": 0.8, "linestyle": ":"}


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
    figure = _figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    left.plot(history["epoch"], history["loss"], marker=".", label="training")
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    left.legend()
    for column, name in _MARKS.items():
        if column in history:
            right.plot(history["epoch"], history[column], marker=".", label=name)
    right.axhline(0.5, label="chance", **_RULE)
    right.set(xlabel="epoch", ylabel="macro ROC-AUC", title="Validation", ylim=(0.4, 1.0))
    right.legend(loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)


def comparison(table: pd.DataFrame, path: str | Path, *, title: str = "Comparison") -> None:
    """Draw a dot and its 95 % interval per variant, and its gain over the first where there is one.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.compare.table`, the first line on top.
    path : str or Path
        Where to, a PNG.
    title : str
        Above the figure.
    """
    has_gain = bool(table["gain"].notna().any())
    labels = [_variant_label(number, line) for number, line in enumerate(table.to_dict("records"), 1)]
    n_lines = sum(label.count("\n") + 1 for label in labels)
    figure = _figure(11.0 if has_gain else 8.0, 2.0 + 0.15 * n_lines + 0.2 * len(table))
    axes = figure.subplots(1, 2 if has_gain else 1, squeeze=False, sharey=True)[0]
    height = np.arange(len(table))[::-1]
    first = np.arange(len(table)) == 0
    paired = first | table["gain"].notna().to_numpy()
    same = {"color": "C0", "label": "macro ROC-AUC" if has_gain or not paired.all() else None}
    other = {"color": "C0", "markerfacecolor": "white", "label": "scored on other data than line 1"}
    for chosen, style in ((paired, same), (~paired, other)):
        if chosen.any():
            _dots(axes[0], table[chosen], height[chosen], ("auc", "low", "high"), style)
    low, high = axes[0].get_xlim()
    if low <= 0.5 <= high:
        axes[0].axvline(0.5, label="chance", **_RULE)
    axes[0].set(xlabel="macro ROC-AUC (0 to 1), 95 % over recordings", ylabel="variant", title="Macro ROC-AUC")
    axes[0].set_yticks(height, labels, fontsize=9)
    axes[0].set_ylim(-0.6, len(table) - 0.4)
    if has_gain:
        gains = paired & ~first
        style = {"color": "C1", "label": "gain"}
        _dots(axes[1], table[gains], height[gains], ("gain", "gain_low", "gain_high"), style)
        axes[1].axvline(0.0, label="no difference", **_RULE)
        axes[1].set(xlabel="difference of macro ROC-AUC, paired, 95 %", title="Gain over line 1")
    _legend(figure, axes)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)


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
    columns = [name for name in _MARKS if any(name in one for runs in histories.values() for one in runs)]
    columns = columns or ["clip_auc"]
    figure = _figure(5.2 * len(columns) + 2.2, 3.8)
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axis, column in zip(axes, columns, strict=True):
        for place, (name, runs) in enumerate(histories.items()):
            drawn = [one for one in runs if column in one]
            for number, one in enumerate(drawn):
                label = f"{name} ({len(drawn)} runs)" if len(drawn) > 1 else name
                style = {"color": f"C{place % 10}", "linestyle": "-" if place < 10 else "--"}
                axis.plot(one["epoch"], one[column], marker=".", label=label if not number else None, **style)
        low, high = axis.get_ylim()
        if low <= 0.5 <= high:
            axis.axhline(0.5, label="chance", **_RULE)
        axis.set(xlabel="epoch", ylabel="macro ROC-AUC", title=_MARKS[column])
        axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axes, "outside right center")
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)


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
    counts = pd.Series(per_class, dtype=np.int64).sort_values(ascending=False, kind="stable")
    others = pd.Series(unselected or {}, dtype=np.int64).reindex(counts.index, fill_value=0)
    named = len(counts) <= _MOST_NAMED
    figure = _figure(10.0, max(3.6, 1.6 + 0.2 * len(counts)) if named else 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _class_bars(left, counts, others if unselected is not None else None, named=named)
    _file_histogram(right, np.asarray(per_file, np.int64))
    if unselected is not None:
        _legend(figure, [left])
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)


def _class_bars(axis: Any, counts: pd.Series[int], others: pd.Series[int] | None, *, named: bool) -> None:
    place = np.arange(1, len(counts) + 1)
    every = np.concatenate([counts.to_numpy(), others.to_numpy() if others is not None else []])
    seen = every[every > 0]
    dots = {"color": "C1", "marker": "o", "markersize": 4 if named else 2.5, "linestyle": "", "label": "not kept"}
    if named:
        axis.barh(place, counts, color="C0", label="kept")
        if others is not None:
            axis.plot(others, place, **dots)
        axis.set_yticks(place, list(counts.index), fontsize=8)
        axis.set(xlabel="rows", ylabel="class", ylim=(len(counts) + 0.6, 0.4))
    else:
        axis.bar(place, counts, color="C0", width=1.0, label="kept")
        if others is not None:
            axis.plot(place, others, **dots)
        axis.set(xlabel="class, by rows kept (rank)", ylabel="rows", xlim=(0.4, len(counts) + 0.6))
    axis.set_title(f"Rows per class\n{_told(counts.to_numpy(), 'class', 'classes')}")
    along = "x" if named else "y"
    if len(seen) and seen.max() > _LOG_FROM * seen.min():
        # From below 1, so that a single row is still a bar.
        axis.set(**{f"{along}scale": "log", f"{along}lim": (0.7, 1.4 * seen.max())})
    else:
        axis.set(**{f"{along}lim": (0, 1.05 * every.max(initial=1))})


def _file_histogram(axis: Any, per_file: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    most = int(per_file.max(initial=0))
    step = max(1, -(-(most + 1) // 30))
    axis.hist(per_file, bins=np.arange(0, most + step + 1, step) - 0.5, color="C0", edgecolor="white", linewidth=0.5)
    axis.set(xlabel="rows kept of a recording", ylabel="recordings", xlim=(-0.6, most + step - 0.4))
    axis.set_ylim(bottom=0, top=None if len(per_file) else 1)
    axis.set_title(f"Rows per recording\n{_told(per_file, 'recording', 'recordings')}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.get_major_locator().set_params(integer=True)


def _told(counts: np.ndarray[Any, np.dtype[np.int64]], one: str, many: str) -> str:
    n_empty = int((counts == 0).sum())
    return f"{len(counts)} {one if len(counts) == 1 else many}" + (f", {n_empty} without a row" if n_empty else "")


def _legend(figure: Any, axes: Iterable[Any], place: str = "outside lower center") -> None:
    """Put one legend beside all axes, where it hides nothing."""
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if found:
        columns = 1 if "right" in place else len(found)
        figure.legend(found.values(), found.keys(), loc=place, ncols=columns)


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


def _variant_label(number: int, line: Mapping[Any, Any]) -> str:
    runs = f" ({line['n_runs']} runs)" if line["n_runs"] > 1 else ""
    changes = line["differs"].split("; ") if line["differs"] else []
    shown = [textwrap.shorten(change, _WRAP, placeholder=" ...") for change in changes[:_MOST_CHANGES]]
    more = [f"and {len(changes) - len(shown)} more"] if len(changes) > len(shown) else []
    return "\n".join([f"{number}: {line['experiment']}{runs}", *shown, *more])


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
