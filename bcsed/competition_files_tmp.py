"""Reading what lies in a competition's folder, and naming a few of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return a CSV file as text, refusing one that lacks a column that is needed."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        # Everything is text: pandas would make 24 of the label 024, and nothing of the label NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; its columns are {some(table.columns, 20)}.")
    if table.empty:
        raise DataError(f"{path}: the table is empty.")
    # A row that ends early leaves cells that are no text.
    filled: pd.DataFrame = table.fillna("")
    return filled


def some(names: Iterable[str], n: int = 5) -> str:
    """Spell the first of many names."""
    names = list(names)
    rest = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + rest if names else "nothing"
