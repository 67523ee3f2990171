"""What a score table itself shows of how it was made: what makes it wrong, and what is only odd."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import pandas as pd

from ...errors import DataError
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
    """Say what a score table shows, the worst first.

    Parameters
    ----------
    table : DataFrame
        Indexed by row id; its values may be anything.
    classes : sequence of str, optional
        The columns that it should have, in this order.
    durations_s : mapping of str to number, optional
        Seconds of each recording, by stem; a `Fraction` is exact.
    silent : collection of str
        Stems of recordings of digital silence, whose rows are rightly all the same.
    row_s : int, optional
        Seconds per row; by default what most ids say.

    Returns
    -------
    tuple of Finding
        Empty where nothing is to be said.
    """
    if not table.shape[0] or not table.shape[1]:
        what = "rows" if not table.shape[0] else "class columns"
        return (Finding(name="empty", severity=ERROR, sentence=f"the table has no {what}.", count=0),)
    where, values = parse_row_ids(table.index), numeric_values(table)
    found = [
        *check_columns(list(map(str, table.columns)), classes),
        *check_ids(table.index, where, durations_s, row_s),
        *check_cells(table, values),
        *check_scale(table, values),
        *check_constant(table, where, values, silent),
        *check_repeats(where, values, silent),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != ERROR))


# What no table that is to be scored may show; a dead class may be meant, a missing row may be a damaged file's.
FATAL = (
    "broadcast",
    "nan",
    "infinite",
    "words",
    "logits",
    "scale",
    "sigmoid twice",
    "doubled rows",
    "doubled classes",
)


def require_valid(
    table: pd.DataFrame,
    *,
    where: str = "the table",
    classes: Sequence[str] | None = None,
    silent: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Refuse a table that shows one of `LETHAL`, and return whatever else it shows.

    Parameters
    ----------
    table, classes, silent
        See `examine`.
    where : str
        What the message calls the table.

    Raises
    ------
    DataError
        With the first such finding's sentence.
    """
    found = check(table, classes=classes, silent=silent)
    for finding in found:
        if finding.severity == ERROR and finding.name in FATAL:
            raise DataError(f"{where}: {finding.sentence}")
    return found
