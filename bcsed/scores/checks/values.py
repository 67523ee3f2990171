"""What the values of a table show."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .finding import ERROR, SHOWN, WARNING, Finding, make_finding
from .ids import RowIds

# From this share on, values that are exactly 0 or 1 are ties that cost area under the curve.
_SATURATED = 0.05
# The sigmoid of anything in [0, 1] lies between these.
_TWICE = (0.5, 0.7310586)
# A table of this many values with fewer than one in twenty different ones was rounded or quantised.
_COARSE_FROM, _COARSE = 10_000, 20

Values = npt.NDArray[np.float64]


def numeric_values(table: pd.DataFrame) -> Values:
    """Return a table's values, NaN where a cell is no number, (R, K)."""
    columns = [
        pd.to_numeric(table.iloc[:, k], errors="coerce").to_numpy(np.float64)
        if not pd.api.types.is_numeric_dtype(dtype)
        else None
        for k, dtype in enumerate(table.dtypes)
    ]
    if all(column is None for column in columns):
        return np.asarray(table.to_numpy(np.float64))
    filled = [table.iloc[:, k].to_numpy(np.float64) if c is None else c for k, c in enumerate(columns)]
    return np.stack(filled, 1)


def find_broadcast(where: RowIds, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the recordings with several rows that are all identical, as places in ``where.stems``."""
    _, first = np.unique(where.recording, return_index=True)
    same = (values == values[first[where.recording]]).all(axis=1)
    n_other = np.bincount(where.recording, weights=~same, minlength=len(where.stems))
    return np.flatnonzero((n_other == 0) & (where.n_rows > 1))


def check_cells(table: pd.DataFrame, values: Values) -> list[Finding]:
    """Cells that hold no finite number."""
    words = [str(name) for name, dtype in table.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    found = []
    if words:
        found.append(make_finding("words", ERROR, words, "{n column} with something else than numbers: {some}."))
    for name, wrong in (("nan", np.isnan(values)), ("infinite", np.isinf(values))):
        if not wrong.any():
            continue
        rows, columns = np.asarray(wrong.any(1)), np.asarray(wrong.any(0))
        whole = int(wrong.all(0).sum())
        first = str(table.columns[int(np.argmax(columns))]), str(table.index[int(np.argmax(rows))])
        what = {"nan": "NaN", "infinite": "infinite"}[name]
        sentence = (
            f"{int(wrong.sum())} values are {what}, in {int(rows.sum())} of {len(rows)} rows and {int(columns.sum())} "
            f"of {len(columns)} classes ({whole} classes throughout): row {first[1]!r} first, class {first[0]!r}."
        )
        found.append(
            Finding(name=name, severity=ERROR, sentence=sentence, count=int(wrong.sum()), examples=first[::-1])
        )
    return found


def check_scale(table: pd.DataFrame, values: Values) -> list[Finding]:
    """Values that are no probabilities, or hardly any longer."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return []
    low, high = float(finite.min()), float(finite.max())
    outside = int(((finite < 0) | (finite > 1)).sum())
    if outside:
        kind = "logits; the sigmoid was forgotten" if low < 0 else "percent" if high <= 100 else "no probabilities"
        range_told = f"from {low:.4g} to {high:.4g}"
        sentence = f"{outside} of {finite.size} values lie outside [0, 1], {range_told}: these look like {kind}."
        return [Finding(name="logits" if low < 0 else "scale", severity=ERROR, sentence=sentence, count=outside)]
    return [*_squeezed(values, low, high), *_saturated(table, values), *_coarse(finite)]


def _squeezed(values: Values, low: float, high: float) -> list[Finding]:
    found = []
    if _TWICE[0] <= low < high <= _TWICE[1]:
        told = f"all values lie between {low:.3f} and {high:.3f}: the sigmoid was taken twice."
        found.append(Finding(name="sigmoid twice", severity=ERROR, sentence=told, count=values.size))
    if values.shape[1] > 2 and low < high and np.allclose(values.sum(1), 1, atol=1e-3):
        told = "each row sums to 1: a softmax over the classes, in which they compete for a row."
        found.append(Finding(name="softmax", severity=WARNING, sentence=told, count=len(values)))
    return found


def _saturated(table: pd.DataFrame, values: Values) -> list[Finding]:
    extreme = (values == 0) | (values == 1)
    count = int(extreme.sum())
    if not count:
        return []
    share = count / values.size
    shares = extreme.mean(0)
    worst = str(table.columns[int(np.argmax(shares))])
    sentence = (
        f"{count} of {values.size} values ({share:.1%}) are exactly 0 or 1, most in class {worst!r} "
        f"({shares.max():.0%}): ties that no ranking can undo."
    )
    severity = ERROR if share >= _SATURATED else WARNING
    return [Finding(name="saturated", severity=severity, sentence=sentence, count=count, examples=(worst,))]


def _coarse(finite: Values) -> list[Finding]:
    if finite.size < _COARSE_FROM:
        return []
    n_different = len(np.unique(finite))
    if n_different * _COARSE > finite.size:
        return []
    told = f"{finite.size} values are only {n_different} different ones: rounded or quantised."
    return [Finding(name="coarse", severity=WARNING, sentence=told, count=n_different)]


def check_constant(table: pd.DataFrame, where: RowIds, values: Values, silent: Collection[str]) -> list[Finding]:
    """Find classes that are answered alike in every row."""
    if len(values) < 2:
        return []
    fixed: npt.NDArray[np.bool_] = (values == values[0]).all(0)
    names = [str(name) for name in table.columns[fixed]]
    if not names:
        return []
    if len(names) == values.shape[1]:
        told = f"all {len(values)} rows are the same: a placeholder, or one answer for everything."
        lawful = all(stem in silent for stem in where.stems)
        severity = WARNING if lawful else ERROR
        return [
            Finding(name="constant", severity=severity, sentence=told, count=len(names), examples=tuple(names[:SHOWN]))
        ]
    told = f"{{n class}} of {values.shape[1]} with one value in all rows: {{some}}; such a class scores .5."
    return [make_finding("constant classes", ERROR, names, told)]


def check_repeats(where: RowIds, values: Values, silent: Collection[str]) -> list[Finding]:
    """Find recordings whose rows are all the same, or another's; and rows that repeat the one before."""
    same = find_broadcast(where, values)
    names = [where.stems[place] for place in same]
    lawful, wrong = [n for n in names if n in silent], [n for n in names if n not in silent]
    found = []
    if wrong:
        n_several = int((where.n_rows > 1).sum())
        told = (
            f"all rows are identical in {{n recording}} of {n_several}: {{some}}; one window's answer was given to "
            "every row, unless this is digital silence."
        )
        found.append(make_finding("broadcast", ERROR, wrong, told))
    if lawful:
        told = "all rows are identical in {n recording} of digital silence, as they should be: {some}."
        found.append(make_finding("silence", WARNING, lawful, told))
    repeats = (values[1:] == values[:-1]).all(1) & (np.diff(where.recording) == 0)
    repeats &= ~np.isin(where.recording[1:], same)
    if repeats.any():
        rows = [f"{where.stems[where.recording[k]]}_{where.end_s[k]}" for k in np.flatnonzero(repeats) + 1]
        told = "{n row} equal to the one before: {some}; lawful where there is nothing but silence."
        found.append(make_finding("repeats", WARNING, rows, told))
    return [*found, *_copies(where, values, {*same.tolist()})]


def _copies(where: RowIds, values: Values, skipped: Collection[int]) -> list[Finding]:
    seen: dict[bytes, str] = {}
    copies = []
    order = np.argsort(where.recording, kind="stable")
    for place, rows in enumerate(np.split(order, np.cumsum(where.n_rows)[:-1])):
        if place in skipped or np.isnan(values[rows]).any():
            continue
        other = seen.setdefault(values[rows].tobytes(), where.stems[place])
        if other != where.stems[place]:
            copies.append(f"{where.stems[place]} as {other}")
    told = "{n recording} answered exactly as another: {some}; was one file read under several names?"
    return [make_finding("copies", WARNING, copies, told)] if copies else []
