"""Two tables of the same rows and classes, bound by name, and what a change of rows or columns makes of them.

Every column is ranked once; all that is asked later (shifts, columns in another order, rows or recordings in
another order) is a correlation of these ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...scores.checks.finding import ERROR, WARNING, Finding
from ...scores.checks.ids import RowIds, infer_row_s, parse_row_ids
from ...scores.checks.values import numeric_values

Floats = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

# How far rows are moved in search of a shift.
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)
# A table of more recordings is not asked whether they were mixed up: the matrix grows with the square.
_MOST_RECORDINGS = 3000
# What a change must reach to be believed: the correlation afterwards, and its gain over leaving things as they are.
_BELIEVED, _GAIN = 0.9, 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedTables:
    """Two tables with the same rows and columns.

    Parameters
    ----------
    first, second : ndarray of float64, shape (R, K)
        Finite throughout; no rows where there is none in which both hold numbers.
    where : RowIds
        Of the rows, in time order within each recording.
    number : ndarray of int64, shape (R,)
        The row's place in its recording, from 0.
    classes : tuple of str
    row_s : int
    findings : tuple of Finding
        What one table has and the other lacks.
    """

    first: Floats
    second: Floats
    where: RowIds
    number: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    row_s: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Misalignment:
    """Something that may have been done to the second table, and how to undo it.

    Parameters
    ----------
    kind : {'none', 'shift', 'columns', 'row order', 'recordings'}
    agreement : float
        Mean Spearman correlation over the classes once it is undone.
    gain : float
        How much better what is moved agrees then.
    told : str
        The evidence, to stand behind "the second table has ...".
    first_rows, second_rows : ndarray of int
        The rows that then stand side by side.
    columns : ndarray of int, shape (K,)
        The column of the second table that holds each class.
    """

    kind: str
    agreement: float
    gain: float
    told: str
    first_rows: Index
    second_rows: Index
    columns: Index


def align(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> AlignedTables:
    """Bring two tables to the same rows and columns, by name.

    Raises
    ------
    DataError
        If they have no row, or no class, in common.
    """
    first, second = (t.loc[~t.index.duplicated(), ~t.columns.duplicated()] for t in (first, second))
    rows, columns = first.index[first.index.isin(second.index)], [c for c in first.columns if c in set(second.columns)]
    for what, common, left, right in (
        ("row", rows, first.index, second.index),
        ("class", columns, first.columns, second.columns),
    ):
        if not len(common):
            raise DataError(
                f"{names[0]} and {names[1]} have no {what} in common: {left[0]!r} is first here, {right[0]!r} there."
            )
    findings = [*_lacking(first, second, names)]
    if set(first.columns) == set(second.columns) and list(first.columns) != list(second.columns):
        told = f"{names[0]} and {names[1]} name their columns in different orders; they are compared by name."
        findings.append(Finding(name="column order", severity=WARNING, sentence=told, count=len(columns)))
    where = parse_row_ids(rows)
    order = np.lexsort((where.end_s, where.recording))
    rows, where = rows[order], parse_row_ids(rows[order])
    ours, theirs = (numeric_values(table.loc[rows, columns]) for table in (first, second))
    finite = np.isfinite(ours) & np.isfinite(theirs)
    usable = finite.any(0)
    kept = finite[:, usable].all(1) & usable.any()
    row_s = infer_row_s(where) or 1
    return AlignedTables(
        first=ours[np.ix_(kept, usable)],
        second=theirs[np.ix_(kept, usable)],
        where=parse_row_ids(rows[kept]),
        number=where.end_s[kept] // row_s - 1,
        classes=tuple(str(columns[k]) for k in np.flatnonzero(usable)),
        row_s=row_s,
        findings=tuple(findings),
    )


def _lacking(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> Iterator[Finding]:
    for what, left, right in (("rows", first.index, second.index), ("classes", first.columns, second.columns)):
        for mine, other, name in ((left, right, names[0]), (right, left, names[1])):
            only = mine[~mine.isin(other)]
            if len(only):
                shown = tuple(map(str, only[:3]))
                told = f"{len(only)} of {len(mine)} {what} are only in {name}: {', '.join(map(repr, shown))}."
                yield Finding(name=f"other {what}", severity=ERROR, sentence=told, count=len(only), examples=shown)


def ranked(values: Floats) -> Ranks:
    """Return the ranks within each column, centred and of unit length; zeros where a column is constant."""
    ranks = pd.DataFrame(values).rank().to_numpy(np.float64)
    ranks = ranks - ranks.mean(0)
    length = np.sqrt(np.square(ranks).sum(0))
    unit: Ranks = (ranks / np.where(length > 0, length, np.inf)).astype(np.float32)
    return unit


def spearman(first: Ranks, second: Ranks) -> Floats:
    """Return the rank correlation of each class; NaN where a column is constant."""
    found: Floats = np.einsum("rk,rk->k", first, second, dtype=np.float64)
    dead = ~(first.any(0) & second.any(0))
    return np.where(dead, np.nan, found)


def mean(values: Floats) -> float:
    """Return the mean of what is a number, 0 where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0


def find_misalignments(pair: AlignedTables, first: Ranks, second: Ranks) -> tuple[Misalignment, dict[int, float]]:
    """Return the simplest change that explains why two tables differ, and the agreement at each shift of rows.

    Nothing is believed that does not bring the ranks together; where several do, the earlier of: none, rows shifted,
    columns, rows within recordings, whole recordings in another order.
    """
    everything, columns = np.arange(len(pair.first)), np.arange(len(pair.classes))
    plain = Misalignment(
        kind="none",
        agreement=mean(spearman(first, second)),
        gain=0.0,
        told="",
        first_rows=everything,
        second_rows=everything,
        columns=columns,
    )
    shifted = dict(zip(SHIFTS, _shifts(pair, first, second, plain), strict=True))
    agreements = {shift: change.agreement for shift, change in shifted.items()}
    tried = [
        max(shifted.values(), key=lambda change: (change.agreement, change.kind == "none")),
        _columns(pair, first, second, plain),
        _row_order(pair, first, second, plain),
        _recordings(pair, first, second, plain),
    ]
    best = max(change.agreement for change in tried)
    for change in tried:
        enough = change.agreement >= max(_BELIEVED, best - 0.02)
        if change.kind != "none" and enough and change.gain > _GAIN:
            return change, agreements
    return plain, agreements


def _shifts(pair: AlignedTables, first: Ranks, second: Ranks, plain: Misalignment) -> Iterator[Misalignment]:
    """Move the second table's rows within their recordings."""
    key = pair.where.recording * (int(pair.number.max()) + 10) + pair.number
    for shift in SHIFTS:
        # Row `number` of the first stands where row `number + shift` of the second is, in the same recording.
        moved = pair.number + shift
        wanted = pair.where.recording * (int(pair.number.max()) + 10) + moved
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        there = (key[place] == wanted) & (moved >= 0)
        ours, theirs = np.flatnonzero(there), place[there]
        agreement = mean(_correlation(first[ours], second[theirs])) if len(ours) > 2 else 0.0
        later = f"{abs(shift)} row{'s' * (abs(shift) > 1)} ({abs(shift) * pair.row_s} s)"
        told = f"its rows {later} {'later' if shift > 0 else 'earlier'} than they belong"
        kind = "shift" if shift else "none"
        gain = agreement - plain.agreement
        yield replace(plain, kind=kind, agreement=agreement, gain=gain, told=told, first_rows=ours, second_rows=theirs)


def _correlation(first: Ranks, second: Ranks) -> Floats:
    """Return Pearson's correlation of each column, NaN where one is constant."""
    x, y = first - first.mean(0), second - second.mean(0)
    length = np.sqrt(np.square(x).sum(0, dtype=np.float64) * np.square(y).sum(0, dtype=np.float64))
    found: Floats = np.einsum("rk,rk->k", x, y, dtype=np.float64)
    np.divide(found, length, out=found, where=length > 1e-12)
    found[length <= 1e-12] = np.nan
    return found


def _assign(matrix: npt.NDArray[np.floating]) -> Index:
    """Return the column that goes with each row so that the sum is largest; of equal ones, the diagonal."""
    from scipy.optimize import linear_sum_assignment

    nudged = np.nan_to_num(matrix.astype(np.float64)) + 1e-5 * np.eye(len(matrix))
    chosen: Index = linear_sum_assignment(nudged, maximize=True)[1]
    return chosen


def _believed(matrix: npt.NDArray[np.floating], chosen: Index, moved: Index) -> bool:
    """Say whether most of what moved agrees with where it stands now, and much better than with where it was."""
    good = [k for k in moved if matrix[k, chosen[k]] > max(_BELIEVED, matrix[k, k] + _GAIN)]
    return len(moved) > 0 and len(good) >= 0.8 * len(moved)


def _columns(pair: AlignedTables, first: Ranks, second: Ranks, plain: Misalignment) -> Misalignment:
    """Look for each class among the other table's columns (Hungarian method)."""
    matrix = first.T @ second
    chosen = _assign(matrix)
    moved = np.flatnonzero(chosen != np.arange(len(chosen)))
    if not _believed(matrix, chosen, moved):
        return plain
    shown = ", ".join(f"{pair.classes[k]!r} under {pair.classes[chosen[k]]!r}" for k in moved[:3])
    told = f"{len(moved)} of {len(chosen)} classes under another's name: {shown}"
    # Two of 234 classes change the mean over all of them little: what counts is what those that moved have gained.
    gain = float(np.mean([matrix[k, chosen[k]] - matrix[k, k] for k in moved]))
    agreement = min(1.0, plain.agreement + gain)
    return replace(plain, kind="columns", agreement=agreement, gain=gain, told=told, columns=chosen)


def _row_order(pair: AlignedTables, first: Ranks, second: Ranks, plain: Misalignment) -> Misalignment:
    """Look for each place in a recording among the other table's places, the same in all recordings."""
    blocks = _blocks(pair, first, second)
    if blocks is None:
        return plain
    ours, theirs = blocks
    matrix = np.einsum("nik,njk->ij", ours, theirs, optimize=True)
    chosen = _assign(matrix / max(float(np.abs(matrix).max()), 1e-30))
    moved = np.flatnonzero(chosen != np.arange(len(chosen)))
    if not len(moved):
        return plain
    n = len(chosen)
    rows = (np.arange(len(ours))[:, None] * n + chosen[None]).reshape(-1)
    as_text = sorted(range(n), key=lambda k: str((k + 1) * pair.row_s))
    inverse = np.argsort(as_text)
    how = "as if sorted as text" if chosen.tolist() in (as_text, inverse.tolist()) else ""
    how = "backwards" if chosen.tolist() == list(range(n))[::-1] else how
    told = f"the rows of each recording in another order{', ' + how if how else ''}: row {moved[0] + 1}'s answer "
    told += f"stands in row {chosen[moved[0]] + 1}"
    agreement = mean(_correlation(first, second[rows]))
    gain = agreement - plain.agreement
    return replace(plain, kind="row order", agreement=agreement, gain=gain, told=told, second_rows=rows)


def _recordings(pair: AlignedTables, first: Ranks, second: Ranks, plain: Misalignment) -> Misalignment:
    """Look for each recording among the other table's."""
    blocks = _blocks(pair, first, second)
    if blocks is None or not 2 <= len(blocks[0]) <= _MOST_RECORDINGS:
        return plain
    flat = [block.reshape(len(block), -1) for block in blocks]
    flat = [block / np.maximum(np.sqrt(np.square(block).sum(1, keepdims=True)), 1e-30) for block in flat]
    matrix = flat[0] @ flat[1].T
    chosen = _assign(matrix)
    moved = np.flatnonzero(chosen != np.arange(len(chosen)))
    if not _believed(matrix, chosen, moved):
        return plain
    n = blocks[0].shape[1]
    rows = (chosen[:, None] * n + np.arange(n)[None]).reshape(-1)
    stems = pair.where.stems
    shown = ", ".join(f"{stems[k]!r} under {stems[chosen[k]]!r}" for k in moved[:3])
    told = f"{len(moved)} of {len(chosen)} recordings under another's name: {shown}"
    agreement = mean(_correlation(first, second[rows]))
    gain = float(np.mean([matrix[k, chosen[k]] - matrix[k, k] for k in moved]))
    return replace(plain, kind="recordings", agreement=agreement, gain=gain, told=told, second_rows=rows)


def _blocks(pair: AlignedTables, first: Ranks, second: Ranks) -> tuple[Ranks, Ranks] | None:
    """Return both tables as (recordings, rows, K), or None where recordings differ in length."""
    n_rows = pair.where.n_rows
    n = int(n_rows[0])
    if n < 2 or (n_rows != n).any() or (pair.number.reshape(-1, n) != np.arange(n)).any():
        return None
    return first.reshape(len(n_rows), n, -1), second.reshape(len(n_rows), n, -1)
