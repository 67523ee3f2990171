"""Compare two score tables of the same recordings, and explain their difference in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...scores.checks.finding import ERROR, Finding
from ...scores.checks.values import find_broadcast
from .align import AlignedTables, Floats, Misalignment, align, correlate, find_misalignments, finite_mean, rank_columns

# Processors, libraries and text of six digits differ by less.
TOLERANCE = 1e-4
# Another numerical precision explains differences up to this, with nearly unchanged ranks.
_ROUNDING = 0.02
# The share of recordings with equal rows from which on a table is called broadcast.
_MIN_BROADCAST = 0.5
# The largest error of a named function, as a share of the second table's range.
_MAX_ERROR = 2e-3
# From this rank correlation on, a class is an increasing function of the same class.
_SAME_RANKS = 0.9999


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The difference of two tables."""

    verdict: str  # one sentence
    # 'same', 'broadcast', 'shift', 'columns', 'row order', 'recordings', the name of a function (see `_Transform`),
    # 'rounding', 'some recordings', 'ends', 'some rows', 'classes', 'everywhere' or 'no numbers'
    cause: str
    same: bool  # whether they agree to the tolerance
    findings: tuple[Finding, ...]  # rows and classes that only one table has
    spearman: pd.Series[float]  # rank correlation of each class
    # mean rank correlation with the second table's rows moved back by this number of rows; empty if not computed
    shifts: Mapping[int, float] = field(default_factory=dict)
    largest: pd.Series[float]  # largest difference in each recording, after the correction that the verdict names


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str] = ("the first table", "the second"),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare two score tables of the same recordings, aligned by the names of rows and classes.

    Rows and classes of one table only are reported and left out, rows with values that are not numbers are left out.
    Differences up to `tolerance` are ignored. The verdict contains `names`.

    Raises DataError if they have no row or class in common.
    """
    pair = align(first, second, names)
    if not pair.first.size:
        verdict = f"{names[1]} and {names[0]} have no row in which all values are numbers: nothing to compare."
        empty = pd.Series(dtype=np.float64)
        return Comparison(
            verdict=verdict, cause="no numbers", same=False, findings=pair.findings, spearman=empty, largest=empty
        )
    x, y = rank_columns(pair.first), rank_columns(pair.second)
    correlations = correlate(x, y)
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
        cause, verdict, gap = _explain(pair, correlations, misalignment, names, tolerance)
        ids = replace(ids, recording=ids.recording[misalignment.first_rows], end_s=ids.end_s[misalignment.first_rows])
    largest = pd.Series(gap.max(1)).groupby(ids.recording).max()
    largest.index = pd.Index([ids.stems[k] for k in largest.index], name="recording")
    return Comparison(
        verdict=verdict,
        cause=cause,
        same=cause == "same" and all(finding.severity != ERROR for finding in pair.findings),
        findings=pair.findings,
        spearman=pd.Series(correlations, index=pd.Index(pair.classes, name="class")),
        shifts=shifts,
        largest=largest.sort_values(ascending=False, kind="stable"),
    )


def _explain(
    pair: AlignedTables, correlations: Floats, change: Misalignment, names: tuple[str, str], tolerance: float
) -> tuple[str, str, Floats]:
    """Correct a misalignment, search a function, and describe the rest; return cause, verdict and remaining gap."""
    x, y = pair.first[change.first_rows], pair.second[np.ix_(change.second_rows, change.columns)]
    gap: Floats = np.abs(x - y)
    ranks = correlations if change.kind == "none" else correlate(rank_columns(x), rank_columns(y))
    function = _find_transform(x, y, ranks, tolerance)
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


class _Transform(NamedTuple):
    """An increasing function that maps one table to another."""

    name: str  # 'sigmoid', 'logit', 'scale', 'affine', 'power', 'temperature', 'monotone' or 'per class'
    description: str  # with its parameters
    error: float  # the largest


def _find_transform(first: Floats, second: Floats, spearman: Floats, tolerance: float) -> _Transform | None:
    """Return the increasing function that maps the first table (R, K) to the second, if there is one.

    `spearman` (K,) is the rank correlation of each class. Tables that differ by at most `tolerance` have no function.
    """
    if float(np.abs(first - second).max()) <= tolerance:
        return None
    correlations = spearman[np.isfinite(spearman)]
    if not correlations.size or float(correlations.min()) < 0.99:
        return None
    x, y = first.reshape(-1), second.reshape(-1)
    max_error = _MAX_ERROR * float(np.ptp(y))
    for name, description, fitted, expected in _fits(x, y):
        error = float(np.abs(fitted - expected).max())
        if error <= max_error:
            return _Transform(name, description, error)
    # Rounding may have made equal values of the first table unequal: among them any order is accepted.
    sorted_y = y[np.lexsort((y, x))]
    error = float((np.maximum.accumulate(sorted_y) - sorted_y).max())
    if error <= max_error and float(correlations.min()) >= 0.999:
        return _Transform("monotone", "without a simple name", error)
    if float(correlations.min()) >= _SAME_RANKS:
        return _Transform("per class", "a different one for each class, such as its ranks", np.inf)
    return None


def _fits(x: Floats, y: Floats) -> Iterator[tuple[str, str, Floats, Floats]]:
    """Yield candidates: name, description, function of values of the first table, and those of the second."""
    x_is_probability, y_is_probability = (v.min() >= 0 and v.max() <= 1 for v in (x, y))
    if y_is_probability:
        yield "sigmoid", "the sigmoid", _sigmoid(x), y
    inside = (x > 1e-6) & (x < 1 - 1e-6)
    if x_is_probability and not y_is_probability and inside.any():
        yield "logit", "the logit", _logit(x[inside]), y[inside]
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor > 0:
        yield "scale", f"times {factor:.4g}", factor * x, y
    if x_is_probability and y_is_probability:
        yield from _probability_fits(x, y)
    slope, base = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, 0.0)
    if slope > 0:
        yield "affine", f"times {slope:.4g} and {base:+.4g}", slope * x + base, y


def _probability_fits(x: Floats, y: Floats) -> Iterator[tuple[str, str, Floats, Floats]]:
    # Close to 0 and 1, rounding hides the exponent and the temperature.
    inside = (x > 1e-3) & (x < 1 - 1e-3) & (y > 1e-6) & (y < 1 - 1e-6)
    if inside.sum() >= 3:
        log_x, log_y = np.log(x[inside]), np.log(y[inside])
        exponent = float((log_x * log_y).sum() / np.square(log_x).sum())
        yield "power", f"to the power {exponent:.4g}", x**exponent, y
    inside = (x > 1e-4) & (x < 1 - 1e-4) & (y > 1e-4) & (y < 1 - 1e-4)
    logit_x, logit_y = _logit(x[inside]), _logit(y[inside])
    if inside.sum() < 3 or np.ptp(logit_x) == 0:
        return
    slope, base = map(float, np.polyfit(logit_x, logit_y, 1))
    if slope > 0:
        description = f"its logits divided by a temperature of {1 / slope:.4g}"
        shift = f" and {base:+.3g}" if abs(base) > 1e-2 else ""
        fitted = _sigmoid(slope * _logit(np.clip(x, 1e-12, 1 - 1e-12)) + base)
        yield "temperature", description + shift, fitted, y


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -500, 500)))


def _logit(x: Floats) -> Floats:
    return np.log(x) - np.log1p(-x)
