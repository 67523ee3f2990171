"""Scientific and common names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError
from ...files import read_csv, shorten_list

_LABELS = ("primary_label", "label")


class ClassName(NamedTuple):
    """The names of a class and its taxonomic class, such as Aves; '' where unknown."""

    scientific: str
    common: str
    taxon: str


def read_taxonomy(path: str | Path) -> dict[str, ClassName]:
    """Read a competition's ``taxonomy.csv`` or a similar table; DataError if it lacks labels or repeats a class.

    The columns are ``primary_label`` or ``label``, and optionally ``scientific_name``, ``common_name`` and
    ``class_name`` (the taxonomic class).
    """
    path = Path(path)
    table = read_csv(path, [])
    column = next((name for name in _LABELS if name in table), None)
    if column is None:
        raise DataError(f"{path}: no column {' or '.join(_LABELS)}; its columns are {shorten_list(table.columns, 20)}.")
    table = table.apply(lambda cells: cells.str.strip())  # blanks around labels and names
    labels = table[column]
    if labels.duplicated().any():
        raise DataError(f"{path}: the class {labels[labels.duplicated()].iloc[0]!r} is listed more than once.")
    names = table.reindex(columns=["scientific_name", "common_name", "class_name"], fill_value="")
    return {label: ClassName(*row) for label, row in zip(labels, names.itertuples(index=False), strict=True)}


def display_name(label: str, names: Mapping[str, ClassName] | None) -> str:
    """Return the common name of a class, else its scientific name, else its label."""
    name = (names or {}).get(label)
    return (name.common or name.scientific or label) if name else label
