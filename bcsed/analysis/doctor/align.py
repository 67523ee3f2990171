"""Align two tables by name, and find a misalignment of their rows or columns.

Each column is ranked once; shifts and other orders of columns, rows or recordings are compared by the correlation of
these ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...scores.checks.finding import ERROR, WARNING, Finding, make_finding
from ...scores.checks.ids import RowIds, infer_row_s, parse_row_ids
from ...scores.checks.values import numeric_values
from ..explained import Floats, nearest

Ranks = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]
_T = TypeVar("_T", Floats, Ranks)

# Larger tables are not searched for exchanged recordings: the matrix grows with the square.
_MAX_RECORDINGS = 3000
# A misalignment is considered from this correlation after its correction, and from this gain on.
_MIN_CORRELATION, _MIN_GAIN = 0.9, 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedTables:
    """Two tables with the same rows and columns."""

    first: Floats  # (R, K), finite
    second: Floats
    ids: RowIds  # in time order within each recording
    number: npt.NDArray[np.int64]  # (R,), the row's index in its recording
    classes: tuple[str, ...]
    row_s: int
    findings: tuple[Finding, ...]  # rows and classes that only one table has
    missing: tuple[str, ...]  # clauses about them: 'b lacks 1 of 8 recordings, 'x''

    def select(self, rows: Index, columns: Index) -> AlignedTables:
        """Return a part of both tables."""
        stems, recording = np.unique(self.ids.recording[rows], return_inverse=True)
        ids = RowIds(recording.astype(np.int64), tuple(self.ids.stems[k] for k in stems), self.ids.end_s[rows])
        part = np.ix_(rows, columns)
        classes = tuple(self.classes[k] for k in columns)
        number = self.number[rows]
        return replace(self, first=self.first[part], second=self.second[part], ids=ids, number=number, classes=classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Misalignment:
    """A possible misalignment of the second table, and its correction."""

    kind: str = "none"  # or 'shift', 'columns', 'row order', 'recordings', 'copies'
    correlation: float  # mean Spearman correlation over the classes after the correction
    gain: float = 0.0  # of the correlation of what is moved
    description: str = ""  # completes "the second table has ..."
    first_rows: Index  # these rows of the first table correspond to
    second_rows: Index  # these rows of the second
    first_columns: Index  # (K,), these classes of the first table correspond to
    columns: Index  # (K,), these of the second


def align(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> AlignedTables:
    """Select the common rows and columns of two tables, by name; DataError without a common row or class."""
    missing = [
        f"{name} has {int(table.index.duplicated().sum())} rows twice"
        for table, name in zip((first, second), names, strict=True)
        if table.index.duplicated().any()
    ]
    first, second = (t.loc[~t.index.duplicated(), ~t.columns.duplicated()] for t in (first, second))
    rows, columns = first.index[first.index.isin(second.index)], first.columns[first.columns.isin(second.columns)]
    findings = []
    for noun, plural, common, left, right in (
        ("row", "rows", rows, first.index, second.index),
        ("class", "classes", columns, first.columns, second.columns),
    ):
        if not len(common):
            raise DataError(
                f"{names[0]} and {names[1]} have no {noun} in common: the first are {left[0]!r} and {right[0]!r}."
            )
        for labels, name in ((left, names[0]), (right, names[1])):
            only = labels[~labels.isin(common)]
            if len(only):
                text = f"{len(only)} of {len(labels)} {plural} are only in {name}: {{some}}."
                findings.append(make_finding(f"other {plural}", ERROR, only, text))
                incomplete = names[0] if name == names[1] else names[1]
                missing.append(f"{incomplete} lacks {_describe_missing(labels, only, noun, plural)}")
    if len(columns) == len(first.columns) == len(second.columns) and list(first.columns) != list(second.columns):
        text = f"the columns of {names[0]} and {names[1]} have different orders; they are compared by name."
        findings.append(Finding(name="column order", severity=WARNING, sentence=text, count=len(columns)))
    ids = parse_row_ids(rows)
    rows = rows[np.lexsort((ids.end_s, ids.recording))]
    ids = parse_row_ids(rows)
    x, y = (numeric_values(table.loc[rows, columns]) for table in (first, second))
    finite = np.isfinite(x) & np.isfinite(y)
    usable = finite.any(0)
    complete = finite[:, usable].all(1) & usable.any()
    row_s = infer_row_s(ids) or 1
    return AlignedTables(
        first=x[np.ix_(complete, usable)],
        second=y[np.ix_(complete, usable)],
        ids=parse_row_ids(rows[complete]),
        number=ids.end_s[complete] // row_s - 1,
        classes=tuple(map(str, columns[usable])),
        row_s=row_s,
        findings=tuple(findings),
        missing=tuple(missing),
    )


def _describe_missing(labels: pd.Index[Any], only: pd.Index[Any], noun: str, plural: str) -> str:
    """Describe rows or classes that the other table lacks; whole recordings by name."""
    if noun == "row":
        ids, absent = parse_row_ids(labels), labels.isin(only)
        n_absent = np.bincount(ids.recording, weights=absent, minlength=len(ids.stems))
        complete = [ids.stems[k] for k in np.flatnonzero(n_absent == ids.n_rows)]
        if complete and n_absent.sum() == ids.n_rows[n_absent == ids.n_rows].sum():
            return f"{len(complete)} of {len(ids.stems)} recordings, {', '.join(map(repr, complete[:3]))}"
    return f"{len(only)} of {len(labels)} {plural}, {', '.join(map(repr, only[:3]))}"


def rank_columns(values: Floats) -> Ranks:
    """Return the ranks within each column, centred and of unit length; zeros for a constant column."""
    ranks = pd.DataFrame(values).rank().to_numpy(np.float64)
    ranks = ranks - ranks.mean(0)
    length = np.sqrt(np.square(ranks).sum(0))
    unit: Ranks = (ranks / np.where(length > 0, length, np.inf)).astype(np.float32)
    return unit


def correlate(first: Ranks, second: Ranks) -> Floats:
    """Return Pearson's correlation of each column, of ranks Spearman's; NaN for a constant one."""
    x, y = first - first.mean(0), second - second.mean(0)
    length = np.sqrt(np.square(x).sum(0, dtype=np.float64) * np.square(y).sum(0, dtype=np.float64))
    products = np.einsum("rk,rk->k", x, y, dtype=np.float64)
    correlations: Floats = np.divide(products, length, out=np.full(len(length), np.nan), where=length > 1e-12)
    return correlations


def finite_mean(values: Floats) -> float:
    """Return the mean of the finite values, 0 without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else 0.0


def find_misalignments(pair: AlignedTables, first: Ranks, second: Ranks) -> tuple[list[Misalignment], dict[int, float]]:
    """Return the misalignments whose correction makes the ranks agree, and the correlation at each shift of rows.

    The simplest come first: shifted rows, classes, rows within recordings, recordings in another order, copies.
    """
    rows, columns = np.arange(len(pair.first)), np.arange(len(pair.classes))
    correlation = finite_mean(correlate(first, second))
    none = Misalignment(
        correlation=correlation, first_rows=rows, second_rows=rows, first_columns=columns, columns=columns
    )
    shifted = {shift: _shift(pair, first, second, none, shift) for shift in range(-3, 4)}
    candidates = [
        max(shifted.values(), key=lambda candidate: (candidate.correlation, candidate.kind == "none")),
        _columns(pair, first, second, none),
        *_named_orders(pair, first, second, none),
        _row_order(pair, first, second, none),
        _recordings(pair, first, second, none),
    ]
    accepted = [c for c in candidates if c.kind != "none" and c.correlation >= _MIN_CORRELATION and c.gain > _MIN_GAIN]
    return [*accepted, *_copies(pair, none)], {shift: candidate.correlation for shift, candidate in shifted.items()}


def _shift(pair: AlignedTables, first: Ranks, second: Ranks, none: Misalignment, shift: int) -> Misalignment:
    """Move the second table's rows within their recordings."""
    span = int(pair.number.max()) + 10
    keys = pair.ids.recording * span + pair.number
    # Row `number` of the first table corresponds to row `number + shift` of the second, in the same recording.
    moved = pair.number + shift
    target = pair.ids.recording * span + moved
    index = np.minimum(np.searchsorted(keys, target), len(keys) - 1)
    exists = (keys[index] == target) & (moved >= 0)
    rows, other_rows = np.flatnonzero(exists), index[exists]
    correlation = finite_mean(correlate(first[rows], second[other_rows])) if len(rows) > 2 else 0.0
    n_rows = f"{abs(shift)} row{'s' * (abs(shift) > 1)} ({abs(shift) * pair.row_s} s)"
    return replace(
        none,
        kind="shift" if shift else "none",
        correlation=correlation,
        gain=correlation - none.correlation,
        description=f"its rows {n_rows} too {'late' if shift > 0 else 'early'}",
        first_rows=rows,
        second_rows=other_rows,
    )


def assign(matrix: npt.NDArray[np.floating]) -> tuple[Index, Index]:
    """Return each row's column for the largest sum (of equal ones the diagonal), and the rows off the diagonal."""
    from scipy.optimize import linear_sum_assignment

    biased = np.nan_to_num(matrix.astype(np.float64)) + 1e-5 * np.eye(len(matrix))
    assigned: Index = linear_sum_assignment(biased, maximize=True)[1]
    return assigned, np.flatnonzero(assigned != np.arange(len(assigned)))


def _assign_names(
    matrix: npt.NDArray[np.floating], names: tuple[str, ...], noun: str
) -> tuple[Index, float, str] | None:
    """Return the assignment of names, its mean gain and a description; None without a clear exchange.

    An exchange is clear if most of the moved names agree with their new partner, and much better than with the old.
    """
    assigned, moved = assign(matrix)
    gains = matrix[moved, assigned[moved]] - matrix[moved, moved]
    clear = (matrix[moved, assigned[moved]] > _MIN_CORRELATION) & (gains > _MIN_GAIN)
    if not len(moved) or clear.sum() < 0.8 * len(moved):
        return None
    some = ", ".join(f"{names[k]!r} under {names[assigned[k]]!r}" for k in moved[:3])
    return assigned, float(np.mean(gains)), f"{len(moved)} of {len(assigned)} {noun} under another name: {some}"


def _columns(pair: AlignedTables, first: Ranks, second: Ranks, none: Misalignment) -> Misalignment:
    """Search each class in the columns of the other table (Hungarian method)."""
    result = _assign_names(first.T @ second, pair.classes, "classes")
    if result is None:
        return none
    columns, gain, description = result
    # Two of 234 classes change the mean over all classes little: the gain is that of the moved classes.
    correlation = min(1.0, none.correlation + gain)
    return replace(none, kind="columns", correlation=correlation, gain=gain, description=description, columns=columns)


def _named_orders(pair: AlignedTables, first: Ranks, second: Ranks, none: Misalignment) -> Iterator[Misalignment]:
    """Yield the rows of each recording, of any length, reversed or sorted as text."""
    recording, end_s = pair.ids.recording, pair.ids.end_s
    by_time = np.lexsort((end_s, recording))
    as_text = np.lexsort((end_s.astype(str), recording))
    inverse = np.empty_like(as_text)
    inverse[as_text] = by_time
    for name, rows in (("reversed", np.lexsort((-end_s, recording))), ("sorted as text", as_text), ("", inverse)):
        order = np.empty_like(rows)
        order[by_time] = rows
        yield _reordered(first, second, none, order, f", {name or 'sorted as text'}")


def _reordered(first: Ranks, second: Ranks, none: Misalignment, rows: Index, how: str) -> Misalignment:
    """Return the misalignment of other rows of the second table."""
    correlation = finite_mean(correlate(first, second[rows]))
    return replace(
        none,
        kind="row order",
        correlation=correlation,
        gain=correlation - none.correlation,
        description=f"the rows of each recording in another order{how}",
        second_rows=rows,
    )


def _row_order(pair: AlignedTables, first: Ranks, second: Ranks, none: Misalignment) -> Misalignment:
    """Search each row number in the row numbers of the other table, the same in all recordings."""
    blocks = _blocks(pair, first, second)
    if blocks is None:
        return none
    matrix = np.einsum("nik,njk->ij", *blocks, optimize=True)
    assigned, moved = assign(matrix / max(float(np.abs(matrix).max()), 1e-30))
    if not len(moved):
        return none
    n = len(assigned)
    rows = (np.arange(len(blocks[0]))[:, None] * n + assigned[None]).reshape(-1)
    how = f": row {moved[0] + 1} at the position of row {assigned[moved[0]] + 1}"
    return _reordered(first, second, none, rows, how)


def _recordings(pair: AlignedTables, first: Ranks, second: Ranks, none: Misalignment) -> Misalignment:
    """Search each recording in the recordings of the other table."""
    blocks = _blocks(pair, first, second)
    if blocks is None or not 2 <= len(blocks[0]) <= _MAX_RECORDINGS:
        return none
    flat = [block.reshape(len(block), -1) for block in blocks]
    flat = [block / np.maximum(np.sqrt(np.square(block).sum(1, keepdims=True)), 1e-30) for block in flat]
    result = _assign_names(flat[0] @ flat[1].T, pair.ids.stems, "recordings")
    if result is None:
        return none
    assigned, gain, description = result
    n = blocks[0].shape[1]
    rows = (assigned[:, None] * n + np.arange(n)[None]).reshape(-1)
    correlation = finite_mean(correlate(first, second[rows]))
    return replace(
        none, kind="recordings", correlation=correlation, gain=gain, description=description, second_rows=rows
    )


def _copies(pair: AlignedTables, none: Misalignment) -> Iterator[Misalignment]:
    """Yield recordings or classes that contain the values of another, which may be used more than once."""
    blocks = _blocks(pair, pair.first, pair.second)
    for noun, values, names in (
        ("recordings", blocks, pair.ids.stems),
        ("classes", (pair.first.T, pair.second.T), pair.classes),
    ):
        if values is None or not 2 <= len(values[0]) <= _MAX_RECORDINGS:
            continue
        source = nearest(values[0], values[1], 0)
        moved = np.flatnonzero(source != np.arange(len(source)))
        if not len(moved):
            continue
        some = ", ".join(f"{names[k]!r} has those of {names[source[k]]!r}" for k in moved[:3])
        copied = replace(
            none, kind="copies", description=f"the scores of other {noun} in {len(moved)} of {len(source)}: {some}"
        )
        if noun == "classes":
            yield replace(copied, first_columns=source)
        else:
            n = values[0].shape[1]
            yield replace(copied, first_rows=(source[:, None] * n + np.arange(n)).reshape(-1))


def _blocks(pair: AlignedTables, first: _T, second: _T) -> tuple[_T, _T] | None:
    """Return both tables as (recordings, rows, K), or None if recordings differ in length."""
    n_rows = pair.ids.n_rows
    n = int(n_rows[0])
    if n < 2 or (n_rows != n).any() or (pair.number.reshape(-1, n) != np.arange(n)).any():
        return None
    return first.reshape(len(n_rows), n, -1), second.reshape(len(n_rows), n, -1)
