"""Bars of classes and folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from . import style
from .recordings import rows_per_recording

# An axis of counts is logarithmic if their ratio is larger.
_LOG_RATIO = 30
_OVER_BARS: Mapping[str, Any] = {**style.RULE, "color": "black", "linewidth": 1.2}


def class_auc_bars(table: pd.DataFrame, ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw the ROC-AUC of each class in descending order, coloured by taxon.

    `table` has ``class``, ``n_positive`` and ``auc``, as from `bcsed.scores.metrics.per_class`. `taxa` is the taxonomic
    class of each class; '' or missing if unknown.
    """
    scored = table[table["auc"].notna()].sort_values(["auc", "class"], ascending=[False, True])
    names = [str(name) for name in scored["class"]]
    n_true = scored["n_positive"].astype(int)
    labels = [f"{style.display_text(name)} ({n})" for name, n in zip(names, n_true, strict=True)]
    ax = _class_bars(ax, names, scored["auc"].to_numpy(np.float64), labels, taxa or {}, "ROC-AUC (0 to 1)", "ROC-AUC")
    mean = f", mean {scored['auc'].mean():.3f}" if len(scored) else ""
    ax.set_title(f"ROC-AUC per class\n{len(scored)} of {style.count_text(len(table), 'class', 'classes')} scored{mean}")
    if len(names) <= style.MAX_NAMED:
        ax.axvline(0.5, label="chance", **_OVER_BARS)
        ax.set(xlim=(0, 1), ylabel="class (true rows or clips)")
    else:
        ax.axhline(0.5, label="chance", **_OVER_BARS)
        ax.set(ylim=(0, 1))
    style.axes_legend(ax)
    return ax


def class_counts(counts: Mapping[str, int], ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw the number of clips per class in descending order, coloured by taxon (see `class_auc_bars`)."""
    sorted_counts = pd.Series(counts, dtype=np.int64).sort_values(ascending=False, kind="stable")
    names = [str(name) for name in sorted_counts.index]
    values = sorted_counts.to_numpy()
    ax = _class_bars(ax, names, values, [style.display_text(name) for name in names], taxa or {}, "clips", "clips")
    ax.set_title(f"Clips per class\n{values.sum()} clips, {style.count_title(values, 'class', 'classes', 'clip')}")
    _scale_counts(ax, "x" if len(names) <= style.MAX_NAMED else "y", values)
    style.axes_legend(ax)
    return ax


def folds(
    fold_of: npt.ArrayLike, ax: Any = None, *, taxa: Sequence[str] | None = None, held_out: int | None = None
) -> Any:
    """Draw the number of clips per fold, stacked by taxon.

    `fold_of` (N,) is as from `bcsed.data.labels.assign_folds`, -1 is never held out; `taxa` (N,) is the taxon of each
    clip; the fold `held_out` is marked.
    """
    ax = style.axes(ax)
    fold_numbers = np.asarray(fold_of, np.int64)
    taxon_of = np.asarray(taxa if taxa is not None else [""] * len(fold_numbers), object)
    bars = [*range(int(fold_numbers.max(initial=-1)) + 1), *([-1] if (fold_numbers < 0).any() else [])]
    bottom = np.zeros(len(bars))
    for taxon, colour in style.colours(taxon_of).items():
        heights = np.array([((fold_numbers == number) & (taxon_of == taxon)).sum() for number in bars])
        label = None if taxa is None else style.display_text(taxon) or style.UNKNOWN_TAXON
        ax.bar(range(len(bars)), heights, bottom=bottom, color=colour if taxa is not None else "C0", label=label)
        bottom += heights
    names = ["never\nheld out" if n < 0 else f"{n}\n(held out)" if n == held_out else str(n) for n in bars]
    ax.set_xticks(range(len(bars)), names)
    ax.set(xlabel="fold", ylabel="clips", title="Folds")
    ax.margins(y=0.08)
    style.integer_ticks(ax.yaxis)
    style.axes_legend(ax)
    return ax


def rows_per_class(per_class: Mapping[str, int], ax: Any = None, *, unselected: Mapping[str, int] | None = None) -> Any:
    """Draw the number of selected pseudolabelled rows per class in descending order, without a legend.

    `unselected` is the number of labelled rows of each class that were not selected.
    """
    counts = pd.Series(per_class, dtype=np.int64).sort_values(ascending=False, kind="stable")
    others = pd.Series(unselected or {}, dtype=np.int64).reindex(counts.index, fill_value=0)
    named = len(counts) <= style.MAX_NAMED
    ax = style.axes(ax, 7.0, max(3.6, 1.6 + 0.2 * len(counts)) if named else 4.4)
    positions = np.arange(1, len(counts) + 1)
    dots = {"color": "C1", "marker": "o", "markersize": 4 if named else 2.5, "linestyle": "", "label": "not selected"}
    _draw_bars(ax, positions, counts, named=named, color="C0", label="selected")
    if unselected is not None:
        ax.plot(*((others, positions) if named else (positions, others)), **dots)
    _label_bars(ax, [style.display_text(str(name)) for name in counts.index], "rows", "selected rows")
    ax.set_title(f"Rows per class\n{style.count_title(counts.to_numpy(), 'class', 'classes')}")
    all_counts = np.concatenate([counts.to_numpy(), others.to_numpy() if unselected is not None else []])
    _scale_counts(ax, "x" if named else "y", all_counts)
    return ax


def pseudolabel_counts(
    per_class: Mapping[str, int],
    per_file: Sequence[int],
    path: str | Path,
    *,
    title: str = "Pseudolabels",
    unselected: Mapping[str, int] | None = None,
) -> None:
    """Draw the number of selected pseudolabelled rows per class (see `rows_per_class`) and per recording."""
    named = len(per_class) <= style.MAX_NAMED
    canvas = style.figure(10.0, max(3.6, 1.6 + 0.2 * len(per_class)) if named else 4.4)
    left, right = canvas.subplots(1, 2, width_ratios=(1.6, 1))
    rows_per_class(per_class, left, unselected=unselected)
    rows_per_recording(per_file, right)
    if unselected is not None:
        style.legend(canvas, [left])
    style.save(canvas, path, title)


def _class_bars(
    ax: Any, names: Sequence[str], values: Any, labels: Sequence[str], taxa: Mapping[str, str], measure: str, order: str
) -> Any:
    """Draw one bar per class in the colour of its taxon: horizontal with names, or vertical if there are too many."""
    named = len(names) <= style.MAX_NAMED
    # The width includes the names of the bars and of the legend.
    longest = max(map(len, labels), default=0) if named else 0
    width = 5.0 + 0.07 * longest + 0.1 * max((len(style.display_text(taxon)) for taxon in taxa.values()), default=0)
    ax = style.axes(ax, width, max(2.6, 1.4 + 0.2 * len(names)) if named else 4.0)
    positions = np.arange(1, len(names) + 1)
    taxon_of = np.array([taxa.get(name, "") for name in names], object)
    for taxon, colour in style.colours(taxon_of).items():
        members = taxon_of == taxon
        label = style.display_text(taxon) or (style.UNKNOWN_TAXON if taxa else None)
        _draw_bars(ax, positions[members], values[members], named=named, color=colour, label=label)
    _label_bars(ax, labels, measure, order)
    return ax


def _draw_bars(ax: Any, positions: Any, values: Any, *, named: bool, **options: Any) -> None:
    if named:
        ax.barh(positions, values, **options)
    else:
        ax.bar(positions, values, width=1.0, **options)


def _label_bars(ax: Any, labels: Sequence[str], measure: str, order: str) -> None:
    n = len(labels)
    if n <= style.MAX_NAMED:
        ax.set_yticks(np.arange(1, n + 1), list(labels), fontsize=8)
        ax.set(xlabel=measure, ylabel="class", ylim=(n + 0.6, 0.4))
    else:
        ax.set(xlabel=f"class, by {order} (rank)", ylabel=measure, xlim=(0.4, n + 0.6))


def _scale_counts(ax: Any, axis: str, counts: npt.NDArray[Any]) -> None:
    """Set the limits of an axis of counts, logarithmic if their ratio is large."""
    positive = counts[counts > 0]
    if len(positive) and positive.max() > _LOG_RATIO * positive.min():
        # Starts below 1, so that a single row is still a bar.
        ax.set(**{f"{axis}scale": "log", f"{axis}lim": (0.7, 1.4 * positive.max())})
        style.plain_numbers(ax.xaxis if axis == "x" else ax.yaxis)
    else:
        ax.set(**{f"{axis}lim": (0, 1.05 * counts.max(initial=1))})
