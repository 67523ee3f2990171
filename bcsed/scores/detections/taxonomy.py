"""What classes are called, from a taxonomy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError
from ...files import read_csv, shorten_list

_LABELS = ("primary_label", "label")


class ClassName(NamedTuple):
    """What a class is called; '' where it is not known.

    Parameters
    ----------
    scientific, common : str
    taxon : str
        The taxonomic class, such as Aves.
    """

    scientific: str
    common: str
    taxon: str


def read_taxonomy(path: str | Path) -> dict[str, ClassName]:
    """Read ``taxonomy.csv`` of a competition, or a table like it.

    Parameters
    ----------
    path : str or Path
        A CSV with a column ``primary_label`` or ``label``, and any of ``scientific_name``, ``common_name`` and
        ``class_name`` (the taxon).

    Returns
    -------
    dict of str to Name
        By class.

    Raises
    ------
    DataError
        If there is no such file or column, or a class stands twice.
    """
    file = Path(path)
    table = read_csv(file, [])
    column = next((name for name in _LABELS if name in table), None)
    if column is None:
        raise DataError(f"{file}: no column {' or '.join(_LABELS)}; its columns are {shorten_list(table.columns, 20)}.")
    doubled = table[column][table[column].duplicated()]
    if len(doubled):
        raise DataError(f"{file}: the class {doubled.iloc[0]!r} stands more than once.")
    told = [
        table[name] if name in table else [""] * len(table) for name in ("scientific_name", "common_name", "class_name")
    ]
    return {label: ClassName(*map(str, names)) for label, *names in zip(table[column], *told, strict=True)}


def display_name(label: str, names: Mapping[str, ClassName] | None) -> str:
    """Return what to show of a class: its common name, else its scientific one, else its label."""
    name = (names or {}).get(label)
    return (name.common or name.scientific or label) if name else label
