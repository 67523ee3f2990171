"""Row ids, and the checks of row ids and column names."""

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
    """Recording and end second of each of R rows."""

    recording: npt.NDArray[np.int64]  # (R,), index into `stems`
    stems: tuple[str, ...]  # in order of first appearance
    end_s: npt.NDArray[np.int64]  # (R,), -1 where the id is invalid

    @property
    def n_rows(self) -> npt.NDArray[np.int64]:
        """Rows of each recording."""
        return np.bincount(self.recording, minlength=len(self.stems)).astype(np.int64)


def split_row_id(row_id: object) -> tuple[str, int]:
    """Return the recording and the end second of a row id; of an invalid id, the id itself and -1.

    >>> split_row_id("H02_20230420_074000_5"), split_row_id("siteA/0001")
    (('H02_20230420_074000', 5), ('siteA/0001', -1))
    """
    text = str(row_id)
    stem, _, end = text.rpartition("_")
    return (stem, int(end)) if stem and end.isdecimal() and end.isascii() and len(end) < 10 else (text, -1)


def parse_row_ids(row_ids: Iterable[object]) -> RowIds:
    """Split row ids and number their recordings.

    >>> ids = parse_row_ids(["a_b_5", "a_b_10", "c"])
    >>> ids.stems, ids.recording.tolist(), ids.end_s.tolist()
    (('a_b', 'c'), [0, 0, 1], [5, 10, -1])
    """
    pairs = [split_row_id(row_id) for row_id in row_ids]
    codes, stems = pd.factorize(np.array([stem for stem, _ in pairs], object))
    return RowIds(codes.astype(np.int64), tuple(map(str, stems)), np.array([end for _, end in pairs], np.int64))


def infer_row_s(ids: RowIds) -> int | None:
    """Return the most frequent number of seconds per row; None if no id is valid."""
    valid = ids.end_s > 0
    order = np.lexsort((ids.end_s[valid], ids.recording[valid]))
    recording, end_s = ids.recording[valid][order], ids.end_s[valid][order]
    steps = np.diff(end_s)[(np.diff(recording) == 0) & (np.diff(end_s) > 0)]
    lengths = steps if steps.size else end_s
    return int(Counter(lengths.tolist()).most_common(1)[0][0]) if lengths.size else None


def check_columns(names: list[str], classes: Sequence[str] | None) -> list[Finding]:
    """Check the column names, and their order if the classes are given."""
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    unnamed = [f"number {number}" for number, name in enumerate(names, 1) if not name]
    problems = [
        ("duplicate classes", duplicates, "{n class} with several columns: {some}."),
        ("unnamed columns", unnamed, "{n column} without a name, such as the index that pandas writes: {some}."),
    ]
    if classes is not None:
        missing, unknown = [c for c in classes if c not in set(names)], [c for c in names if c not in set(classes)]
        problems.append(("missing classes", missing, "{n class} of the competition missing: {some}."))
        problems.append(("unknown classes", unknown, "{n column} for no class of the competition: {some}."))
    findings = [make_finding(name, ERROR, items, sentence) for name, items, sentence in problems if items]
    if classes is not None and not findings and names != list(classes):
        moved = [f"{left} for {right}" for left, right in zip(names, classes, strict=True) if left != right]
        sentence = "{n column} not in the competition's order: {some}."
        findings.append(make_finding("column order", ERROR, moved, sentence))
    return findings


def check_ids(
    index: pd.Index[Any], ids: RowIds, durations_s: Mapping[str, Fraction | float] | None, row_s: int | None
) -> list[Finding]:
    """Check that row ids are valid, unique, in order and complete, and match the recordings."""
    invalid = [str(name) for name in index[ids.end_s < 0]]
    if invalid:
        sentence = "{n id} not of the form <recording>_<end second>: {some}."
        return [make_finding("row ids", ERROR, invalid, sentence)]
    duplicates = [str(name) for name in index[index.duplicated()]]
    sentence = "{n duplicate} of other rows: {some}."
    findings = [make_finding("duplicate rows", ERROR, duplicates, sentence)] if duplicates else []
    row_s = row_s or infer_row_s(ids)
    if row_s is not None:
        findings += [*_check_order(ids), *_check_grid(ids, row_s), *_check_durations(ids, row_s, durations_s)]
    return findings


def _check_order(ids: RowIds) -> list[Finding]:
    findings = []
    same = np.diff(ids.recording) == 0
    descending = ids.recording[1:][same & (np.diff(ids.end_s) < 0)]
    if descending.size:
        names = [ids.stems[k] for k in np.unique(descending)]
        ends = ids.end_s[ids.recording == descending[0]].tolist()
        cause = " (sorted as text: 10 before 5)" if ends == sorted(ends, key=str) else ""
        sentence = f"rows not in order of time{cause} in {{n recording}}: {{some}}; they must be matched by id."
        findings.append(make_finding("row order", WARNING, names, sentence))
    first_rows = np.flatnonzero(np.concatenate(([True], ~same)))
    if len(first_rows) > len(ids.stems):
        runs = Counter(ids.recording[first_rows].tolist())
        split = [ids.stems[k] for k, count in sorted(runs.items()) if count > 1]
        findings.append(make_finding("split recordings", WARNING, split, "{n recording} in several parts: {some}."))
    return findings


def _last_row(ids: RowIds, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the largest row number of each recording."""
    last = np.zeros(len(ids.stems), np.int64)
    np.maximum.at(last, ids.recording, rows)
    return last


def _check_grid(ids: RowIds, row_s: int) -> list[Finding]:
    off_grid = np.flatnonzero((ids.end_s % row_s != 0) | (ids.end_s == 0))
    if off_grid.size:
        names = [f"{ids.stems[ids.recording[k]]}_{ids.end_s[k]}" for k in off_grid]
        return [make_finding("row ids", ERROR, names, f"{{n row}} not ending at a multiple of {row_s} s: {{some}}.")]
    rows = ids.end_s // row_s
    last = _last_row(ids, rows)
    present = np.bincount(np.unique(np.stack((ids.recording, rows), 1), axis=0)[:, 0], minlength=len(ids.stems))
    gaps = [ids.stems[k] for k in np.flatnonzero(present < last)]
    if not gaps:
        return []
    n_missing = pluralize(int((last - present).sum()), "row")
    sentence = f"{n_missing} missing before a recording's last row, in {{n recording}}: {{some}}."
    return [make_finding("missing rows", ERROR, gaps, sentence)]


def _check_durations(ids: RowIds, row_s: int, durations_s: Mapping[str, Fraction | float] | None) -> list[Finding]:
    """Compare rows with durations; without durations, compare the numbers of rows of the recordings."""
    if durations_s is None:
        usual = Counter(ids.n_rows.tolist()).most_common(1)[0][0]
        other = [ids.stems[k] for k in np.flatnonzero(ids.n_rows != usual)]
        sentence = f"{{n recording}} of {len(ids.stems)} without {usual} rows: {{some}}; compare with the durations."
        return [make_finding("row counts", WARNING, other, sentence)] if other else []
    last = _last_row(ids, -(-ids.end_s // row_s))
    expected = {stem: math.ceil(durations_s[stem] / row_s) for stem in ids.stems if stem in durations_s}
    unknown = [stem for stem in ids.stems if stem not in durations_s]
    missing = [stem for stem in durations_s if stem not in set(ids.stems)]
    differing = [
        f"{stem} ({n} for {expected[stem]})"
        for stem, n in zip(ids.stems, last.tolist(), strict=True)
        if stem in expected and n != expected[stem]
    ]
    problems = (
        ("unknown recordings", unknown, "{n recording} of the table not among the recordings: {some}."),
        ("missing recordings", missing, "{n recording} without rows in the table: {some}."),
        ("durations", differing, "{n recording} with a number of rows that differs from the duration: {some}."),
    )
    return [make_finding(name, ERROR, items, sentence) for name, items, sentence in problems if items]
