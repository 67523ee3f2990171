"""What the names of rows and columns show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .finding import ERROR, WARNING, Finding, make_finding, pluralize


@dataclass(frozen=True, eq=False)
class RowIds:
    """Where the rows of a table belong, as their ids say.

    Parameters
    ----------
    recording : ndarray of int64, shape (R,)
        The place in `stems` of each row's recording.
    stems : tuple of str
        In order of appearance.
    end_s : ndarray of int64, shape (R,)
        Second at which the row ends; -1 where the id does not say.
    """

    recording: npt.NDArray[np.int64]
    stems: tuple[str, ...]
    end_s: npt.NDArray[np.int64]

    @property
    def n_rows(self) -> npt.NDArray[np.int64]:
        """Rows of each recording."""
        return np.bincount(self.recording, minlength=len(self.stems)).astype(np.int64)


def parse_row_ids(ids: Iterable[object]) -> RowIds:
    """Read row ids.

    Examples
    --------
    >>> found = parse_row_ids(["a_b_5", "a_b_10", "c"])
    >>> found.stems, found.recording.tolist(), found.end_s.tolist()
    (('a_b', 'c'), [0, 0, 1], [5, 10, -1])
    """
    split = [str(name).rpartition("_") for name in ids]
    told = [(stem, int(end)) if stem and end.isdecimal() and end.isascii() else (stem + mark + end, -1)
            for stem, mark, end in split]  # fmt: skip
    codes, names = pd.factorize(np.array([stem for stem, _ in told], object))
    return RowIds(codes.astype(np.int64), tuple(map(str, names)), np.array([end for _, end in told], np.int64))


def infer_row_s(where: RowIds) -> int | None:
    """Return the seconds per row that most ids speak of, or None where they do not say."""
    known = where.end_s > 0
    order = np.lexsort((where.end_s[known], where.recording[known]))
    recording, end = where.recording[known][order], where.end_s[known][order]
    steps = np.diff(end)[(np.diff(recording) == 0) & (np.diff(end) > 0)]
    told = steps if steps.size else end
    return int(Counter(told.tolist()).most_common(1)[0][0]) if told.size else None


def check_columns(names: list[str], classes: Sequence[str] | None) -> list[Finding]:
    """Look at the names of the columns, and at their order if the competition's is known."""
    doubled = [name for name, times in Counter(names).items() if times > 1]
    found = (
        [make_finding("doubled classes", ERROR, doubled, "{n class} with several columns: {some}.")] if doubled else []
    )
    if classes is None:
        return found
    missing, extra = [c for c in classes if c not in set(names)], [c for c in names if c not in set(classes)]
    if missing:
        found.append(make_finding("missing classes", ERROR, missing, "{n class} of the competition missing: {some}."))
    if extra:
        found.append(
            make_finding("foreign classes", ERROR, extra, "{n column} of no class of the competition: {some}.")
        )
    if not (missing or extra or doubled) and names != list(classes):
        moved = [f"{left} for {right}" for left, right in zip(names, classes, strict=True) if left != right]
        sentence = "columns in another order than the competition's, {n column} out of place: {some}."
        found.append(make_finding("column order", ERROR, moved, sentence))
    return found


def check_ids(
    index: pd.Index[Any], where: RowIds, durations_s: Mapping[str, Fraction | float] | None, row_s: int | None
) -> list[Finding]:
    """Look at the ids of the rows: readable, each once, in order, whole, and of recordings that are there."""
    odd = [str(name) for name in index[where.end_s < 0]]
    if odd:
        told = "{n id} without a second at the end, as in <recording>_<second>: {some}."
        return [make_finding("row ids", ERROR, odd, told)]
    found = []
    doubled = [str(name) for name in index[index.duplicated()]]
    if doubled:
        found.append(make_finding("doubled rows", ERROR, doubled, "{n row} that the table already has: {some}."))
    row_s = row_s or infer_row_s(where)
    if row_s is None:
        return found
    return [*found, *_order(where), *_grid(where, row_s), *_durations(where, row_s, durations_s)]


def _order(where: RowIds) -> list[Finding]:
    """Rows that do not ascend within their recording, or recordings that are torn apart."""
    found = []
    same = np.diff(where.recording) == 0
    back = where.recording[1:][same & (np.diff(where.end_s) < 0)]
    if back.size:
        names = [where.stems[place] for place in np.unique(back)]
        mine = where.end_s[where.recording == back[0]]
        as_text = mine.tolist() == sorted(mine.tolist(), key=str)
        how = " (sorted as text: 10 before 5)" if as_text else ""
        told = f"rows out of order in time{how} in {{n recording}}: {{some}}; bound by position they would be wrong."
        found.append(make_finding("row order", WARNING, names, told))
    n_runs = int((~same).sum()) + 1
    if n_runs > len(where.stems):
        begins = where.recording[np.flatnonzero(np.concatenate(([True], ~same)))]
        torn = [where.stems[place] for place, times in sorted(Counter(begins.tolist()).items()) if times > 1]
        found.append(
            make_finding("torn recordings", WARNING, torn, "{n recording} whose rows do not stand together: {some}.")
        )
    return found


def _grid(where: RowIds, row_s: int) -> list[Finding]:
    """Ids off the grid of rows, and gaps between those on it."""
    off = np.flatnonzero((where.end_s % row_s != 0) | (where.end_s == 0))
    found = []
    if off.size:
        names = [f"{where.stems[where.recording[place]]}_{where.end_s[place]}" for place in off]
        found.append(
            make_finding("row ids", ERROR, names, f"{{n row}} ending off the multiples of {row_s} s: {{some}}.")
        )
    number = where.end_s // row_s
    last = np.zeros(len(where.stems), np.int64)
    np.maximum.at(last, where.recording, number)
    pairs = np.unique(np.stack((where.recording, number), 1), axis=0)
    present = np.bincount(pairs[:, 0], minlength=len(where.stems))
    gaps = [where.stems[place] for place in np.flatnonzero(present < last)]
    if gaps and not off.size:
        n_missing = int((last - present).sum())
        told = f"{pluralize(n_missing, 'row')} missing before a recording's last, in {{n recording}}: {{some}}."
        found.append(make_finding("missing rows", ERROR, gaps, told))
    return found


def _durations(where: RowIds, row_s: int, durations_s: Mapping[str, Fraction | float] | None) -> list[Finding]:
    """Rows against durations; without them, recordings that have other numbers of rows than most."""
    if durations_s is None:
        usual = Counter(where.n_rows.tolist()).most_common(1)[0][0]
        other = [where.stems[place] for place in np.flatnonzero(where.n_rows != usual)]
        told = f"{{n recording}} of {len(where.stems)} with other than {usual} rows: {{some}}; their durations decide."
        return [make_finding("row counts", WARNING, other, told)] if other else []
    found = []
    strange = [stem for stem in where.stems if stem not in durations_s]
    without = [stem for stem in durations_s if stem not in set(where.stems)]
    if strange:
        found.append(
            make_finding(
                "foreign recordings", ERROR, strange, "{n recording} of the table not among those given: {some}."
            )
        )
    if without:
        found.append(
            make_finding("missing recordings", ERROR, without, "{n recording} without rows in the table: {some}.")
        )
    last = np.zeros(len(where.stems), np.int64)
    np.maximum.at(last, where.recording, -(-where.end_s // row_s))
    known = {stem: math.ceil(durations_s[stem] / row_s) for stem in where.stems if stem in durations_s}
    differing = [
        f"{stem} ({last[place]} for {known[stem]})"
        for place, stem in enumerate(where.stems)
        if stem in known and last[place] != known[stem]
    ]
    if differing:
        told = "{n recording} with another number of rows than the duration says: {some}."
        found.append(make_finding("durations", ERROR, differing, told))
    return found
