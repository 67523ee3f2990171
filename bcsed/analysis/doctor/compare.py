"""Compare two score tables of the same recordings, and explain their difference in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...scores.checks.finding import ERROR, Finding
from ...scores.checks.values import find_broadcast
from .align import (
    AlignedTables,
    Floats,
    Misalignment,
    Ranks,
    align,
    find_misalignments,
    finite_mean,
    rank_columns,
    spearman,
)
from .transforms import find_transform

# Processors, libraries and text of six digits differ by less.
TOLERANCE = 1e-4
# Another numerical precision explains differences up to this, with nearly unchanged ranks.
_ROUNDING = 0.02
# The share of recordings with equal rows from which on a table is called broadcast.
_MIN_BROADCAST = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The difference of two tables.

    Parameters
    ----------
    verdict : str
        One sentence.
    cause : str
        'same', 'broadcast', 'shift', 'columns', 'row order', 'recordings', the name of a function (see
        `bcsed.analysis.doctor.transforms`), 'rounding', 'some recordings', 'ends', 'some rows', 'classes',
        'everywhere' or 'no numbers'.
    same : bool
        Whether they agree to the tolerance.
    findings : tuple of Finding
        Rows and classes that only one table has.
    spearman : Series
        Rank correlation of each class.
    shifts : mapping of int to float
        Mean rank correlation with the second table's rows moved back by this number of rows; empty if not computed.
    largest : Series
        Largest difference in each recording, after the correction that the verdict names.
    """

    verdict: str
    cause: str
    same: bool
    findings: tuple[Finding, ...]
    spearman: pd.Series[float]
    shifts: Mapping[int, float]
    largest: pd.Series[float]


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str] = ("the first table", "the second"),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare two score tables of the same recordings, aligned by the names of rows and classes.

    Parameters
    ----------
    first, second : DataFrame
        Indexed by row id. Rows and classes of one table only are reported and left out; rows with values that are
        not numbers are left out.
    names : two str
        Names of the tables in the verdict.
    tolerance : float
        Smaller differences are ignored.

    Raises
    ------
    DataError
        If they have no row or class in common.
    """
    pair = align(first, second, names)
    if not pair.first.size:
        return Comparison(
            verdict=f"{names[1]} and {names[0]} have no row in which all values are numbers: nothing to compare.",
            cause="no numbers",
            same=False,
            findings=pair.findings,
            spearman=pd.Series(dtype=np.float64),
            shifts={},
            largest=pd.Series(dtype=np.float64),
        )
    x, y = rank_columns(pair.first), rank_columns(pair.second)
    shifts: Mapping[int, float] = {}
    gap = np.abs(pair.first - pair.second)
    ids = pair.ids
    if gap.max() <= tolerance:
        verdict = (
            f"{names[1]} and {names[0]} agree to {gap.max():.1g} in {gap.shape[0]} rows of {gap.shape[1]} classes."
        )
        cause = "same"
    elif (broadcast := _find_broadcast(pair)) is not None:
        cause, verdict = "broadcast", _describe_broadcast(pair, names, *broadcast)
    else:
        misalignment, shifts = find_misalignments(pair, x, y)
        cause, verdict, gap = _explain(pair, x, y, misalignment, names, tolerance)
        ids = replace(ids, recording=ids.recording[misalignment.first_rows], end_s=ids.end_s[misalignment.first_rows])
    largest = pd.Series(gap.max(1)).groupby(ids.recording).max()
    largest.index = pd.Index([ids.stems[k] for k in largest.index], name="recording")
    return Comparison(
        verdict=verdict,
        cause=cause,
        same=cause == "same" and all(finding.severity != ERROR for finding in pair.findings),
        findings=pair.findings,
        spearman=pd.Series(spearman(x, y), index=pd.Index(pair.classes, name="class")),
        shifts=shifts,
        largest=largest.sort_values(ascending=False, kind="stable"),
    )


def _explain(
    pair: AlignedTables, first: Ranks, second: Ranks, change: Misalignment, names: tuple[str, str], tolerance: float
) -> tuple[str, str, Floats]:
    """Correct a misalignment, search a function, and describe the rest; return cause, verdict and remaining gap."""
    x, y = pair.first[change.first_rows], pair.second[np.ix_(change.second_rows, change.columns)]
    gap: Floats = np.abs(x - y)
    ranks = spearman(first, second) if change.kind == "none" else spearman(rank_columns(x), rank_columns(y))
    function = find_transform(x, y, ranks, tolerance)
    if function is not None and function.name in ("monotone", "per class") and gap.max() <= _ROUNDING:
        function = None  # rounding that preserved the ranks
    if change.kind == "none" and function is None:
        return *_describe_gap(pair, gap, ranks, names, tolerance), gap
    parts = []
    if change.kind != "none":
        parts.append(f"{names[1]} has {change.description}")
    if function is not None:
        error = f" (to {function.error:.1g})" if np.isfinite(function.error) else ""
        subject = "its values are also" if parts else f"{names[1]} is"
        parts.append(
            f"{subject} an increasing function of {names[0]}, {function.description}{error}: ROC-AUC is unchanged, "
            "thresholds are not"
        )
    elif gap.max() <= tolerance:
        parts.append(f"after correction the tables agree to {gap.max():.1g}")
    else:
        parts.append(f"after correction they differ by up to {gap.max():.2g} (mean Spearman {finite_mean(ranks):.3f})")
    cause = change.kind if change.kind != "none" or function is None else function.name
    return cause, "; ".join(parts) + ".", gap


def _find_broadcast(pair: AlignedTables) -> tuple[int, npt.NDArray[np.int64]] | None:
    """Return which table alone (0, 1) has equal rows in most recordings, and in which recordings."""
    n_several = int((pair.ids.n_rows > 1).sum())
    constant = [find_broadcast(pair.ids, values) for values in (pair.first, pair.second)]
    only = [np.setdiff1d(constant[0], constant[1]), np.setdiff1d(constant[1], constant[0])]
    table = int(len(only[1]) >= len(only[0]))
    if not n_several or len(only[table]) < max(1, _MIN_BROADCAST * n_several):
        return None
    return table, only[table]


def _describe_broadcast(
    pair: AlignedTables, names: tuple[str, str], table: int, recordings: npt.NDArray[np.int64]
) -> str:
    constant, varied = (pair.second, pair.first) if table else (pair.first, pair.second)
    rows = np.flatnonzero(np.isin(pair.ids.recording, recordings))
    recording = pair.ids.recording[rows]
    gap = np.abs(constant - varied)
    # The repeated row is the row, mean or maximum of the other table with the smallest difference.
    gaps = {}
    for number in range(int(min(pair.ids.n_rows[recordings].min(), 60))):
        of_number = rows[pair.number[rows] == number]
        if len(of_number):
            gaps[f"row {number + 1}"] = float(np.median(gap[of_number].max(1)))
    for name, function in (("the mean of the rows", "mean"), ("the maximum of the rows", "max")):
        pooled = pd.DataFrame(varied[rows]).groupby(recording).transform(function).to_numpy(np.float64)
        gaps[name] = float(np.median(np.abs(pooled - constant[rows]).max(1)))
    nearest = min(gaps, key=lambda name: gaps[name])
    is_clear = gaps[nearest] <= 0.25 * max(float(np.median(list(gaps.values()))), 1e-12)
    source = f"; the value is {nearest} of {names[1 - table]} (to {gaps[nearest]:.1g})" if is_clear else ""
    n_several = int((pair.ids.n_rows > 1).sum())
    return (
        f"{names[table]} has equal scores in all rows of a recording in {len(recordings)} of {n_several} recordings, "
        f"unlike {names[1 - table]}{source}."
    )


def _describe_gap(
    pair: AlignedTables, gap: Floats, ranks: Floats, names: tuple[str, str], tolerance: float
) -> tuple[str, str]:
    """Return cause and verdict: the recordings, rows or classes that differ."""
    row_differs, class_differs = (np.asarray(gap.max(axis) > tolerance) for axis in (1, 0))
    recordings = np.unique(pair.ids.recording[row_differs])
    n, correlation, largest = len(pair.ids.stems), finite_mean(ranks), float(gap.max())
    both = f"{names[1]} and {names[0]} differ"
    if largest <= _ROUNDING and correlation > 0.995:
        return "rounding", (
            f"{both} by at most {largest:.1g} (mean Spearman {correlation:.4f}), as with another numerical precision, "
            "decoder or library."
        )
    if len(recordings) <= 0.9 * n:
        some = ", ".join(repr(pair.ids.stems[k]) for k in recordings[:3])
        return "some recordings", (
            f"{both} in {len(recordings)} of {n} recordings, {some}, by up to {largest:.2g}, and agree in the others: "
            "compare how these files are decoded."
        )
    if class_differs.mean() <= 0.5:
        some = ", ".join(repr(pair.classes[k]) for k in np.flatnonzero(class_differs)[:3])
        return "classes", (
            f"{both} in {class_differs.sum()} of {len(class_differs)} classes, {some}, by up to {largest:.2g}, and "
            "agree in the others."
        )
    ends = _differing_ends(pair, row_differs)
    if ends:
        return "ends", f"{both} only in the {ends} of their recordings: they are padded differently at the ends."
    worst = pair.classes[int(np.nanargmin(ranks))] if np.isfinite(ranks).any() else pair.classes[0]
    evidence = f"mean Spearman {correlation:.3f}, lowest in class {worst!r}"
    if row_differs.mean() <= 0.9:
        return "some rows", (
            f"{both} in {row_differs.sum()} of {len(row_differs)} rows, by up to {largest:.2g} ({evidence}), and agree "
            "in the others: some windows are processed differently."
        )
    return "everywhere", (
        f"{both} in {row_differs.mean():.0%} of their rows ({evidence}), and no shift, order or function explains it; "
        "`bcsed trace` finds the stage that differs."
    )


def _differing_ends(pair: AlignedTables, row_differs: npt.NDArray[np.bool_]) -> str:
    """Return which rows differ if only the first or last of each recording do."""
    n_rows = pair.ids.n_rows[pair.ids.recording]
    first, last = pair.number == 0, pair.number == n_rows - 1
    if (n_rows < 4).all() or (row_differs & ~first & ~last).any():
        return ""
    ends = [name for name, is_end in (("first", first), ("last", last)) if (row_differs & is_end).any()]
    return f"{' and '.join(ends)} row{'s' if len(ends) > 1 else ''}"
