"""Checks of the values of a score table."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .finding import ERROR, MAX_EXAMPLES, WARNING, Finding, make_finding
from .ids import RowIds

_SATURATED = 0.05  # from this share on, values of exactly 0 or 1 are ties that lower the area under the curve
_TWICE = (0.5, 0.7310586)  # the sigmoid of a value in [0, 1] is between these
_COARSE_FROM, _COARSE = 10_000, 20  # with this many values, of which fewer than 1 in 20 differ, a table was rounded

Values = npt.NDArray[np.float64]


def numeric_values(table: pd.DataFrame) -> Values:
    """Return a table's values, NaN where a cell is not a number, (R, K)."""
    if all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
        return np.asarray(table.to_numpy(np.float64))
    columns = (table.iloc[:, k] for k in range(table.shape[1]))
    return np.stack([pd.to_numeric(column, errors="coerce").to_numpy(np.float64) for column in columns], 1)


def find_broadcast(ids: RowIds, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the recordings, as indices into ``ids.stems``, that have several rows, all identical."""
    _, first = np.unique(ids.recording, return_index=True)
    same = (values == values[first[ids.recording]]).all(axis=1)
    n_other = np.bincount(ids.recording, weights=~same, minlength=len(ids.stems))
    return np.flatnonzero((n_other == 0) & (ids.n_rows > 1))


def check_cells(table: pd.DataFrame, values: Values) -> list[Finding]:
    """Check that all cells are finite numbers."""
    text = [str(name) for name, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    sentence = "{n column} with values that are not numbers: {some}."
    findings = [make_finding("not numeric", ERROR, text, sentence)] if text else []
    for name, adjective, invalid in (("nan", "NaN", np.isnan(values)), ("infinite", "infinite", np.isinf(values))):
        if not invalid.any():
            continue
        rows, columns = np.asarray(invalid.any(1)), np.asarray(invalid.any(0))
        first = str(table.index[int(np.argmax(rows))]), str(table.columns[int(np.argmax(columns))])
        count = int(invalid.sum())
        sentence = (
            f"{count} values are {adjective}, in {int(rows.sum())} of {len(rows)} rows and {int(columns.sum())} of "
            f"{len(columns)} classes ({int(invalid.all(0).sum())} classes in all rows): first in row {first[0]!r}, "
            f"class {first[1]!r}."
        )
        findings.append(Finding(name=name, severity=ERROR, sentence=sentence, count=count, examples=first))
    return findings


def check_scale(table: pd.DataFrame, values: Values) -> list[Finding]:
    """Check that values are probabilities which are neither transformed twice nor rounded."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return []
    low, high = float(finite.min()), float(finite.max())
    outside = int(((finite < 0) | (finite > 1)).sum())
    if outside:
        kind = "logits without the sigmoid" if low < 0 else "percent" if high <= 100 else "not probabilities"
        sentence = (
            f"{outside} of {finite.size} values are outside [0, 1], from {low:.4g} to {high:.4g}: probably {kind}."
        )
        return [Finding(name="logits" if low < 0 else "scale", severity=ERROR, sentence=sentence, count=outside)]
    findings = []
    if _TWICE[0] <= low < high <= _TWICE[1]:
        sentence = f"all values are between {low:.3f} and {high:.3f}: the sigmoid was applied twice."
        findings.append(Finding(name="sigmoid twice", severity=ERROR, sentence=sentence, count=values.size))
    if values.shape[1] > 2 and low < high and np.allclose(values.sum(1), 1, atol=1e-3):
        sentence = "each row sums to 1: the scores are a softmax over the classes, which excludes simultaneous calls."
        findings.append(Finding(name="softmax", severity=WARNING, sentence=sentence, count=len(values)))
    findings += _check_saturation(table, values)
    n_distinct = len(np.unique(finite)) if finite.size >= _COARSE_FROM else finite.size
    if n_distinct * _COARSE <= finite.size:
        sentence = f"{finite.size} values have only {n_distinct} distinct values: they were rounded or quantised."
        findings.append(Finding(name="coarse", severity=WARNING, sentence=sentence, count=n_distinct))
    return findings


def _check_saturation(table: pd.DataFrame, values: Values) -> list[Finding]:
    extreme = (values == 0) | (values == 1)
    count = int(extreme.sum())
    if not count:
        return []
    share, shares = count / values.size, extreme.mean(0)
    worst = str(table.columns[int(np.argmax(shares))])
    sentence = (
        f"{count} of {values.size} values ({share:.1%}) are exactly 0 or 1, most in class {worst!r} "
        f"({shares.max():.0%}): a ranking cannot resolve these ties."
    )
    severity = ERROR if share >= _SATURATED else WARNING
    return [Finding(name="saturated", severity=severity, sentence=sentence, count=count, examples=(worst,))]


def check_constant(table: pd.DataFrame, ids: RowIds, values: Values, silent: Collection[str]) -> list[Finding]:
    """Check for classes with the same value in every row."""
    constant: npt.NDArray[np.bool_] = (values == values[0]).all(0)
    names = [str(name) for name in table.columns[constant]]
    if len(values) < 2 or not names:
        return []
    if len(names) < values.shape[1]:
        sentence = f"{{n class}} of {values.shape[1]} with one value in all rows: {{some}}; such a class scores 0.5."
        return [make_finding("constant classes", ERROR, names, sentence)]
    sentence = f"all {len(values)} rows are identical: a placeholder, or one prediction for everything."
    severity = WARNING if all(stem in silent for stem in ids.stems) else ERROR
    examples = tuple(names[:MAX_EXAMPLES])
    return [Finding(name="constant", severity=severity, sentence=sentence, count=len(names), examples=examples)]


def check_repeats(ids: RowIds, values: Values, silent: Collection[str]) -> list[Finding]:
    """Check for identical rows within a recording, and for recordings with the same scores."""
    same = find_broadcast(ids, values)
    names = [ids.stems[k] for k in same]
    of_silence, broadcast = [n for n in names if n in silent], [n for n in names if n not in silent]
    findings = []
    if broadcast:
        sentence = (
            f"all rows are identical in {{n recording}} of {int((ids.n_rows > 1).sum())}: {{some}}; the scores of one "
            "window, or a constant, were written to every row, unless this is digital silence."
        )
        findings.append(make_finding("broadcast", ERROR, broadcast, sentence))
    if of_silence:
        sentence = "all rows are identical in {n recording} of digital silence, as expected: {some}."
        findings.append(make_finding("silence", WARNING, of_silence, sentence))
    repeats = (values[1:] == values[:-1]).all(1) & (np.diff(ids.recording) == 0)
    repeats &= ~np.isin(ids.recording[1:], same)
    if repeats.any():
        rows = [f"{ids.stems[ids.recording[k]]}_{ids.end_s[k]}" for k in np.flatnonzero(repeats) + 1]
        sentence = "{n row} equal to the previous row: {some}; this is correct only for digital silence."
        findings.append(make_finding("repeats", WARNING, rows, sentence))
    return [*findings, *_check_copies(ids, values, {*same.tolist()})]


def _check_copies(ids: RowIds, values: Values, skipped: Collection[int]) -> list[Finding]:
    first_with: dict[bytes, str] = {}
    copies = []
    blocks = np.split(np.argsort(ids.recording, kind="stable"), np.cumsum(ids.n_rows)[:-1])
    for k, (stem, rows) in enumerate(zip(ids.stems, blocks, strict=True)):
        if k not in skipped and not np.isnan(values[rows]).any():
            original = first_with.setdefault(values[rows].tobytes(), stem)
            if original != stem:
                copies.append(f"{stem} as {original}")
    sentence = "{n recording} with the same scores as another: {some}; one file may have been read under several names."
    return [make_finding("copies", WARNING, copies, sentence)] if copies else []
