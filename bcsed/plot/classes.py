"""Bars of classes, and counts of what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .style import MOST_NAMED, RULE, UNKNOWN_TAXON, axes, called, colours, counted, plain_numbers, whole_numbers

# Counts that differ more than this are drawn on a logarithmic axis.
_LOG_FROM = 30
_OVER_BARS: Mapping[str, Any] = {**RULE, "color": "black", "linewidth": 1.2}


def class_auc_bars(table: pd.DataFrame, ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw the ROC-AUC of each class, the best first, coloured by taxon.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.scores.metrics.per_class`: ``class``, ``n_positive`` and ``auc``; a class without one is not drawn.
    ax : Axes, optional
    taxa : mapping of str to str, optional
        The taxonomic class of each class, '' or absent where it is not known.

    Returns
    -------
    Axes
    """
    scored = table[table["auc"].notna()].sort_values(["auc", "class"], ascending=[False, True])
    names = [str(name) for name in scored["class"]]
    labels = [f"{called(name)} ({n})" for name, n in zip(names, scored["n_positive"].astype(int), strict=True)]
    ax = _bars(ax, names, scored["auc"].to_numpy(np.float64), labels, taxa or {}, "ROC-AUC (0 to 1)")
    mean = f", mean {scored['auc'].mean():.3f}" if len(scored) else ""
    ax.set_title(f"ROC-AUC per class\n{len(scored)} of {counted(len(table), 'class', 'classes')} scored{mean}")
    if len(names) <= MOST_NAMED:
        ax.axvline(0.5, label="chance", **_OVER_BARS)
        ax.set(xlim=(0, 1), ylabel="class (true rows or clips)")
    else:
        ax.axhline(0.5, label="chance", **_OVER_BARS)
        ax.set(ylim=(0, 1), xlabel="class, by ROC-AUC (rank)")
    _legend(ax)
    return ax


def class_counts(counts: Mapping[str, int], ax: Any = None, *, taxa: Mapping[str, str] | None = None) -> Any:
    """Draw how many clips each class has, the most first, coloured by taxon.

    Parameters
    ----------
    counts : mapping of str to int
    ax : Axes, optional
    taxa : mapping of str to str, optional
        See `class_auc_bars`.

    Returns
    -------
    Axes
    """
    sorted_counts = pd.Series(counts, dtype=np.int64).sort_values(ascending=False, kind="stable")
    names = [str(name) for name in sorted_counts.index]
    values = sorted_counts.to_numpy()
    ax = _bars(ax, names, values, [called(name) for name in names], taxa or {}, "clips")
    ax.set_title(f"Clips per class\n{values.sum()} clips, {_told(values, 'class', 'classes', 'clip')}")
    if len(names) > MOST_NAMED:
        ax.set_xlabel("class, by clips (rank)")
    _logarithmic(ax, "x" if len(names) <= MOST_NAMED else "y", values)
    _legend(ax)
    return ax


def durations(seconds: Sequence[float] | npt.NDArray[Any], ax: Any = None) -> Any:
    """Draw how long recordings are.

    Parameters
    ----------
    seconds : sequence of float
        One per recording.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    values = np.asarray(seconds, np.float64)
    ax.hist(values, bins=30, color="C0", edgecolor="white", linewidth=0.5)
    hours = values.sum() / 3600
    told = f", median {np.median(values):.1f} s, {hours:.1f} h in all" if len(values) else ""
    ax.set(xlabel="duration (s)", ylabel="recordings")
    ax.set_title(f"Durations\n{counted(len(values), 'recording', 'recordings')}{told}")
    ax.set_xlim(left=0)
    whole_numbers(ax.yaxis)
    return ax


def folds(
    fold_of: Sequence[int] | npt.NDArray[Any],
    ax: Any = None,
    *,
    taxa: Sequence[str] | None = None,
    held_out: int | None = None,
) -> Any:
    """Draw how many clips each fold has.

    Parameters
    ----------
    fold_of : sequence of N int
        As from `bcsed.data.labels.folds`; -1 is never held out.
    ax : Axes, optional
    taxa : sequence of N str, optional
        The taxon of each clip; bars are stacked by it.
    held_out : int, optional
        The fold to mark.

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    dealt = np.asarray(fold_of, np.int64)
    kinds = np.asarray(taxa if taxa is not None else [""] * len(dealt), object)
    numbers = [*range(int(dealt.max(initial=-1)) + 1), *([-1] if (dealt < 0).any() else [])]
    bottom = np.zeros(len(numbers))
    for taxon, colour in colours(kinds).items():
        heights = np.array([((dealt == number) & (kinds == taxon)).sum() for number in numbers])
        label = None if taxa is None else called(taxon) or UNKNOWN_TAXON
        ax.bar(range(len(numbers)), heights, bottom=bottom, color=colour if taxa is not None else "C0", label=label)
        bottom += heights
    names = ["never\nheld out" if n < 0 else f"{n}\n(held out)" if n == held_out else str(n) for n in numbers]
    ax.set_xticks(range(len(numbers)), names)
    ax.set(xlabel="fold", ylabel="clips", title="Folds")
    ax.margins(y=0.08)
    whole_numbers(ax.yaxis)
    _legend(ax)
    return ax


def rows_per_class(per_class: Mapping[str, int], ax: Any = None, *, unselected: Mapping[str, int] | None = None) -> Any:
    """Draw how many pseudolabelled rows were kept of each class, the most first.

    Parameters
    ----------
    per_class : mapping of str to int
    ax : Axes, optional
    unselected : mapping of str to int, optional
        Rows of each class that were labelled with it and not kept.

    Returns
    -------
    Axes
        Without a legend, so that axes side by side can share one.
    """
    counts = pd.Series(per_class, dtype=np.int64).sort_values(ascending=False, kind="stable")
    others = pd.Series(unselected or {}, dtype=np.int64).reindex(counts.index, fill_value=0)
    named = len(counts) <= MOST_NAMED
    ax = axes(ax, 7.0, max(3.6, 1.6 + 0.2 * len(counts)) if named else 4.4)
    place = np.arange(1, len(counts) + 1)
    dots = {"color": "C1", "marker": "o", "markersize": 4 if named else 2.5, "linestyle": "", "label": "not kept"}
    if named:
        ax.barh(place, counts, color="C0", label="kept")
        if unselected is not None:
            ax.plot(others, place, **dots)
        ax.set_yticks(place, [called(str(name)) for name in counts.index], fontsize=8)
        ax.set(xlabel="rows", ylabel="class", ylim=(len(counts) + 0.6, 0.4))
    else:
        ax.bar(place, counts, color="C0", width=1.0, label="kept")
        if unselected is not None:
            ax.plot(place, others, **dots)
        ax.set(xlabel="class, by rows kept (rank)", ylabel="rows", xlim=(0.4, len(counts) + 0.6))
    ax.set_title(f"Rows per class\n{_told(counts.to_numpy(), 'class', 'classes')}")
    every = np.concatenate([counts.to_numpy(), others.to_numpy() if unselected is not None else []])
    _logarithmic(ax, "x" if named else "y", every)
    return ax


def rows_per_recording(per_file: Sequence[int] | npt.NDArray[Any], ax: Any = None) -> Any:
    """Draw of how many recordings so many pseudolabelled rows were kept.

    Parameters
    ----------
    per_file : sequence of int
        Rows kept of each recording.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax, 4.4)
    counts = np.asarray(per_file, np.int64)
    most = int(counts.max(initial=0))
    step = max(1, -(-(most + 1) // 30))
    ax.hist(counts, bins=np.arange(0, most + step + 1, step) - 0.5, color="C0", edgecolor="white", linewidth=0.5)
    ax.set(xlabel="rows kept of a recording", ylabel="recordings", xlim=(-0.6, most + step - 0.4))
    ax.set_ylim(bottom=0, top=None if len(counts) else 1)
    ax.set_title(f"Rows per recording\n{_told(counts, 'recording', 'recordings')}")
    whole_numbers(ax.xaxis)
    whole_numbers(ax.yaxis)
    return ax


def _bars(
    ax: Any,
    names: Sequence[str],
    values: npt.NDArray[Any],
    labels: Sequence[str],
    taxa: Mapping[str, str],
    measure: str,
) -> Any:
    """Draw one bar per class in its taxon's colour: on their sides with names, upright where there are too many."""
    named = len(names) <= MOST_NAMED
    # Room for the names beside the bars, and for those of the legend.
    widest = max(map(len, labels), default=0) if named else 0
    width = 5.0 + 0.07 * widest + 0.1 * max((len(called(taxon)) for taxon in taxa.values()), default=0)
    ax = axes(ax, width, max(2.6, 1.4 + 0.2 * len(names)) if named else 4.0)
    place = np.arange(1, len(names) + 1)
    taxon_of = np.array([taxa.get(name, "") for name in names], object)
    for taxon, colour in colours(taxon_of).items():
        chosen = taxon_of == taxon
        label = called(taxon) or (UNKNOWN_TAXON if taxa else None)
        if named:
            ax.barh(place[chosen], values[chosen], color=colour, label=label)
        else:
            ax.bar(place[chosen], values[chosen], color=colour, width=1.0, label=label)
    if named:
        ax.set_yticks(place, list(labels), fontsize=8)
        ax.set(xlabel=measure, ylabel="class", ylim=(len(names) + 0.6, 0.4))
    else:
        ax.set(ylabel=measure, xlim=(0.4, len(names) + 0.6))
    return ax


def _legend(ax: Any) -> None:
    """Put a legend beside the axes, where there is something to tell apart."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)


def _logarithmic(ax: Any, along: str, counts: npt.NDArray[Any]) -> None:
    """Let an axis of counts be logarithmic where they differ much."""
    seen = counts[counts > 0]
    if len(seen) and seen.max() > _LOG_FROM * seen.min():
        # From below 1, so that a single row is still a bar.
        ax.set(**{f"{along}scale": "log", f"{along}lim": (0.7, 1.4 * seen.max())})
        plain_numbers(ax.xaxis if along == "x" else ax.yaxis)
    else:
        ax.set(**{f"{along}lim": (0, 1.05 * counts.max(initial=1))})


def _told(counts: npt.NDArray[Any], one: str, many: str, thing: str = "row") -> str:
    n_empty = int((counts == 0).sum())
    return counted(len(counts), one, many) + (f", {n_empty} without a {thing}" if n_empty else "")
