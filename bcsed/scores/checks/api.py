"""Check a score table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import pandas as pd

from ...errors import DataError
from .finding import ERROR, Finding
from .ids import check_columns, check_ids, parse_row_ids
from .values import check_cells, check_constant, check_repeats, check_scale, numeric_values

# Errors that make scores useless. A constant class may be intended, a missing row may be due to a damaged file.
FATAL = (
    *("broadcast", "nan", "infinite", "not numeric", "logits", "scale", "sigmoid twice"),
    *("duplicate rows", "duplicate classes"),
)


def check(
    table: pd.DataFrame,
    *,
    classes: Sequence[str] | None = None,
    durations_s: Mapping[str, Fraction | float] | None = None,
    silent: Collection[str] = (),
    row_s: int | None = None,
) -> tuple[Finding, ...]:
    """Return the problems of a score table, errors first.

    Parameters
    ----------
    table : DataFrame
        Indexed by row id; its values may be of any type.
    classes : sequence of str, optional
        The expected columns, in order.
    durations_s : mapping of str to number, optional
        Seconds of each recording, by stem; a `Fraction` is exact.
    silent : collection of str
        Stems of recordings of digital silence, whose rows may be identical.
    row_s : int, optional
        Seconds per row; by default the most frequent difference between ids.
    """
    if not table.shape[0] or not table.shape[1]:
        missing = "rows" if not table.shape[0] else "class columns"
        return (Finding(name="empty", severity=ERROR, sentence=f"the table has no {missing}.", count=0),)
    ids, values = parse_row_ids(table.index), numeric_values(table)
    findings = [
        *check_columns(list(map(str, table.columns)), classes),
        *check_ids(table.index, ids, durations_s, row_s),
        *check_cells(table, values),
        *check_scale(table, values),
        *check_constant(table, ids, values, silent),
        *check_repeats(ids, values, silent),
    ]
    return tuple(sorted(findings, key=lambda finding: finding.severity != ERROR))


def require_valid(
    table: pd.DataFrame,
    *,
    where: str = "the table",
    classes: Sequence[str] | None = None,
    silent: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Return the findings of `check`; raise a DataError, which names the table `where`, if one is in `FATAL`."""
    findings = check(table, classes=classes, silent=silent)
    for finding in findings:
        if finding.severity == ERROR and finding.name in FATAL:
            raise DataError(f"{where}: {finding.sentence}")
    return findings
