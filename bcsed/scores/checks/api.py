"""Check a score table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import pandas as pd

from .finding import ERROR, Finding
from .ids import check_columns, check_ids, parse_row_ids
from .values import check_cells, check_constant, check_repeats, check_scale, numeric_values


def check(
    table: pd.DataFrame,
    *,
    classes: Sequence[str] | None = None,
    durations_s: Mapping[str, Fraction | float] | None = None,
    silent: Collection[str] = (),
    row_s: int | None = None,
) -> tuple[Finding, ...]:
    """Return the problems of a score table, errors first; its values may be of any type.

    `classes` are the expected columns, in order; `durations_s` the seconds of each recording, by stem; `silent` the
    stems of recordings of digital silence, whose rows may be identical; `row_s` the seconds per row, by default the
    most frequent difference between ids.
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
