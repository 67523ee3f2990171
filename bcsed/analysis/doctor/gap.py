"""Describe the difference of two aligned tables that no cause explains: its size, and where it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..explained import Floats
from .align import AlignedTables, Index, finite_mean

# Differences up to this, with nearly unchanged ranks, are called small.
_SMALL = 0.02


def describe_gap(
    pair: AlignedTables, gap: Floats, ranks: Floats, names: tuple[str, str], tolerance: float
) -> tuple[str, tuple[Index, Index] | None, str]:
    """Return the name of the part that differs, its rows and classes (None for all), and the verdict."""
    row_differs, class_differs = (np.asarray(gap.max(axis) > tolerance) for axis in (1, 0))
    recordings = np.unique(pair.ids.recording[row_differs])
    n, correlation, largest = len(pair.ids.stems), finite_mean(ranks), float(gap.max())
    both, rest = f"{names[1]} and {names[0]} differ", f"by up to {largest:.2g}, and agree in the others"
    rows, columns = np.arange(len(gap)), np.arange(gap.shape[1])
    if len(recordings) <= 0.9 * n:
        some = ", ".join(repr(pair.ids.stems[k]) for k in recordings[:3])
        part = np.flatnonzero(np.isin(pair.ids.recording, recordings)), columns
        return "some recordings", part, f"{both} in {len(recordings)} of {n} recordings, {some}, {rest}"
    if class_differs.mean() <= 0.5:
        some = ", ".join(repr(pair.classes[k]) for k in np.flatnonzero(class_differs)[:3])
        part = rows, np.flatnonzero(class_differs)
        return "classes", part, f"{both} in {class_differs.sum()} of {len(class_differs)} classes, {some}, {rest}"
    ends = _differing_ends(pair, row_differs)
    if ends:
        return "ends", (np.flatnonzero(row_differs), columns), f"{both} only in the {ends} of their recordings, {rest}"
    worst = pair.classes[int(np.nanargmin(ranks))] if np.isfinite(ranks).any() else pair.classes[0]
    evidence = f"mean Spearman {correlation:.3f}, lowest in class {worst!r}"
    if row_differs.mean() <= 0.9:
        count = f"{row_differs.sum()} of {len(row_differs)} rows"
        return "some rows", (np.flatnonzero(row_differs), columns), f"{both} in {count}, {rest} ({evidence})"
    if largest <= _SMALL and correlation > 0.995:
        text = f"{both} by at most {largest:.1g} (mean Spearman {correlation:.4f}), and no cause explains it"
        return "small", None, text
    size = f"in {row_differs.mean():.0%} of their rows, by up to {largest:.2g} ({evidence})"
    advice = "no shift, order or function explains it; `bcsed trace` finds the stage that differs"
    return "everywhere", None, f"{both} {size}, and {advice}"


def _differing_ends(pair: AlignedTables, row_differs: npt.NDArray[np.bool_]) -> str:
    """Return which rows differ if only the first or last of each recording do."""
    n_rows = pair.ids.n_rows[pair.ids.recording]
    first, last = pair.number == 0, pair.number == n_rows - 1
    if (n_rows < 4).all() or (row_differs & ~first & ~last).any():
        return ""
    ends = [name for name, is_end in (("first", first), ("last", last)) if (row_differs & is_end).any()]
    return f"{' and '.join(ends)} row{'s' if len(ends) > 1 else ''}"
