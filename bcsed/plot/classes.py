"""Bars of classes, and counts of clips, folds and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .style import (
    MAX_NAMED,
    RULE,
    UNKNOWN_TAXON,
    axes,
    axes_legend,
    colours,
    count_text,
    display_text,
    integer_ticks,
    plain_numbers,
)

# An axis of counts is logarithmic if their ratio is larger.
_LOG_RATIO = 30
_OVER_BARS: Mapping[str, Any] = {**RULE, "color": "black", "linewidth": 1.2}
_HISTOGRAM: Mapping[str, Any] = {"color": "C0", "edgecolor": "white", "linewidth": 0.5}


def class_auc_bars(table: pd.DataFrame, ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw the ROC-AUC of each class in descending order, coloured by taxon.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.scores.metrics.per_class`: ``class``, ``n_positive`` and ``auc``; others are omitted.
    taxa : mapping of str to str, optional
        Taxonomic class of each class; '' or missing if unknown.
    """
    scored = table[table["auc"].notna()].sort_values(["auc", "class"], ascending=[False, True])
    names = [str(name) for name in scored["class"]]
    labels = [f"{display_text(name)} ({n})" for name, n in zip(names, scored["n_positive"].astype(int), strict=True)]
    ax = _class_bars(ax, names, scored["auc"].to_numpy(np.float64), labels, taxa or {}, "ROC-AUC (0 to 1)")
    mean = f", mean {scored['auc'].mean():.3f}" if len(scored) else ""
    ax.set_title(f"ROC-AUC per class\n{len(scored)} of {count_text(len(table), 'class', 'classes')} scored{mean}")
    if len(names) <= MAX_NAMED:
        ax.axvline(0.5, label="chance", **_OVER_BARS)
        ax.set(xlim=(0, 1), ylabel="class (true rows or clips)")
    else:
        ax.axhline(0.5, label="chance", **_OVER_BARS)
        ax.set(ylim=(0, 1), xlabel="class, by ROC-AUC (rank)")
    axes_legend(ax)
    return ax


def class_counts(counts: Mapping[str, int], ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw the number of clips per class in descending order, coloured by taxon (see `class_auc_bars`)."""
    sorted_counts = pd.Series(counts, dtype=np.int64).sort_values(ascending=False, kind="stable")
    names = [str(name) for name in sorted_counts.index]
    values = sorted_counts.to_numpy()
    ax = _class_bars(ax, names, values, [display_text(name) for name in names], taxa or {}, "clips")
    ax.set_title(f"Clips per class\n{values.sum()} clips, {_count_title(values, 'class', 'classes', 'clip')}")
    if len(names) > MAX_NAMED:
        ax.set_xlabel("class, by clips (rank)")
    _scale_counts(ax, "x" if len(names) <= MAX_NAMED else "y", values)
    axes_legend(ax)
    return ax


def durations(seconds: Sequence[float] | npt.NDArray[Any], ax: Any = None) -> Any:
    """Draw a histogram of the durations of recordings."""
    ax = axes(ax)
    values = np.asarray(seconds, np.float64)
    ax.hist(values, bins=30, **_HISTOGRAM)
    summary = f", median {np.median(values):.1f} s, {values.sum() / 3600:.1f} h in all" if len(values) else ""
    ax.set(xlabel="duration (s)", ylabel="recordings")
    ax.set_title(f"Durations\n{count_text(len(values), 'recording', 'recordings')}{summary}")
    ax.set_xlim(left=0)
    integer_ticks(ax.yaxis)
    return ax


def folds(
    fold_of: Sequence[int] | npt.NDArray[Any],
    ax: Any = None,
    *,
    taxa: Sequence[str] | None = None,
    held_out: int | None = None,
) -> Any:
    """Draw the number of clips per fold.

    Parameters
    ----------
    fold_of : sequence of N int
        As from `bcsed.data.labels.assign_folds`; -1 is never held out.
    taxa : sequence of N str, optional
        Taxon of each clip, for stacked bars.
    held_out : int, optional
        The fold to mark.
    """
    ax = axes(ax)
    fold_numbers = np.asarray(fold_of, np.int64)
    taxon_of = np.asarray(taxa if taxa is not None else [""] * len(fold_numbers), object)
    bars = [*range(int(fold_numbers.max(initial=-1)) + 1), *([-1] if (fold_numbers < 0).any() else [])]
    bottom = np.zeros(len(bars))
    for taxon, colour in colours(taxon_of).items():
        heights = np.array([((fold_numbers == number) & (taxon_of == taxon)).sum() for number in bars])
        label = None if taxa is None else display_text(taxon) or UNKNOWN_TAXON
        ax.bar(range(len(bars)), heights, bottom=bottom, color=colour if taxa is not None else "C0", label=label)
        bottom += heights
    names = ["never\nheld out" if n < 0 else f"{n}\n(held out)" if n == held_out else str(n) for n in bars]
    ax.set_xticks(range(len(bars)), names)
    ax.set(xlabel="fold", ylabel="clips", title="Folds")
    ax.margins(y=0.08)
    integer_ticks(ax.yaxis)
    axes_legend(ax)
    return ax


def rows_per_class(per_class: Mapping[str, int], ax: Any = None, *, unselected: Mapping[str, int] | None = None) -> Any:
    """Draw the number of selected pseudolabelled rows per class in descending order, without a legend.

    `unselected` is the number of labelled rows of each class that were not selected.
    """
    counts = pd.Series(per_class, dtype=np.int64).sort_values(ascending=False, kind="stable")
    others = pd.Series(unselected or {}, dtype=np.int64).reindex(counts.index, fill_value=0)
    named = len(counts) <= MAX_NAMED
    ax = axes(ax, 7.0, max(3.6, 1.6 + 0.2 * len(counts)) if named else 4.4)
    positions = np.arange(1, len(counts) + 1)
    dots = {"color": "C1", "marker": "o", "markersize": 4 if named else 2.5, "linestyle": "", "label": "not selected"}
    _draw_bars(ax, positions, counts, named=named, color="C0", label="selected")
    if unselected is not None:
        ax.plot(*((others, positions) if named else (positions, others)), **dots)
    _label_bars(ax, [display_text(str(name)) for name in counts.index], "rows")
    if not named:
        ax.set_xlabel("class, by selected rows (rank)")
    ax.set_title(f"Rows per class\n{_count_title(counts.to_numpy(), 'class', 'classes')}")
    all_counts = np.concatenate([counts.to_numpy(), others.to_numpy() if unselected is not None else []])
    _scale_counts(ax, "x" if named else "y", all_counts)
    return ax


def rows_per_recording(per_file: Sequence[int] | npt.NDArray[Any], ax: Any = None) -> Any:
    """Draw a histogram of the number of selected pseudolabelled rows per recording."""
    ax = axes(ax, 4.4)
    counts = np.asarray(per_file, np.int64)
    most = int(counts.max(initial=0))
    step = max(1, -(-(most + 1) // 30))
    ax.hist(counts, bins=np.arange(0, most + step + 1, step) - 0.5, **_HISTOGRAM)
    ax.set(xlabel="selected rows of a recording", ylabel="recordings", xlim=(-0.6, most + step - 0.4))
    ax.set_ylim(bottom=0, top=None if len(counts) else 1)
    ax.set_title(f"Rows per recording\n{_count_title(counts, 'recording', 'recordings')}")
    integer_ticks(ax.xaxis)
    integer_ticks(ax.yaxis)
    return ax


def _class_bars(
    ax: Any,
    names: Sequence[str],
    values: npt.NDArray[Any],
    labels: Sequence[str],
    taxa: Mapping[str, str],
    measure: str,
) -> Any:
    """Draw one bar per class in the colour of its taxon: horizontal with names, or vertical if there are too many."""
    named = len(names) <= MAX_NAMED
    # The width includes the names of the bars and of the legend.
    longest = max(map(len, labels), default=0) if named else 0
    width = 5.0 + 0.07 * longest + 0.1 * max((len(display_text(taxon)) for taxon in taxa.values()), default=0)
    ax = axes(ax, width, max(2.6, 1.4 + 0.2 * len(names)) if named else 4.0)
    positions = np.arange(1, len(names) + 1)
    taxon_of = np.array([taxa.get(name, "") for name in names], object)
    for taxon, colour in colours(taxon_of).items():
        members = taxon_of == taxon
        label = display_text(taxon) or (UNKNOWN_TAXON if taxa else None)
        _draw_bars(ax, positions[members], values[members], named=named, color=colour, label=label)
    _label_bars(ax, labels, measure)
    return ax


def _draw_bars(ax: Any, positions: Any, values: Any, *, named: bool, **style: Any) -> None:
    if named:
        ax.barh(positions, values, **style)
    else:
        ax.bar(positions, values, width=1.0, **style)


def _label_bars(ax: Any, labels: Sequence[str], measure: str) -> None:
    n = len(labels)
    if n <= MAX_NAMED:
        ax.set_yticks(np.arange(1, n + 1), list(labels), fontsize=8)
        ax.set(xlabel=measure, ylabel="class", ylim=(n + 0.6, 0.4))
    else:
        ax.set(ylabel=measure, xlim=(0.4, n + 0.6))


def _scale_counts(ax: Any, axis: str, counts: npt.NDArray[Any]) -> None:
    """Set the limits of an axis of counts, logarithmic if their ratio is large."""
    positive = counts[counts > 0]
    if len(positive) and positive.max() > _LOG_RATIO * positive.min():
        # Starts below 1, so that a single row is still a bar.
        ax.set(**{f"{axis}scale": "log", f"{axis}lim": (0.7, 1.4 * positive.max())})
        plain_numbers(ax.xaxis if axis == "x" else ax.yaxis)
    else:
        ax.set(**{f"{axis}lim": (0, 1.05 * counts.max(initial=1))})


def _count_title(counts: npt.NDArray[Any], singular: str, plural: str, item: str = "row") -> str:
    n_empty = int((counts == 0).sum())
    return count_text(len(counts), singular, plural) + (f", {n_empty} without a {item}" if n_empty else "")
