"""The table of pseudolabels and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...files import atomic_write, check_fields, check_schema, read_errors, read_json, sha256, write_json
from ...plot.classes import pseudolabel_counts
from ...scores.checks.ids import RowIds, parse_row_ids
from ...scores.checks.values import find_broadcast
from ...scores.table import broadcast_recordings, read_parquet
from ...scores.table_member import MAX_BROADCAST

Half = npt.NDArray[np.float16]

# Of the JSON file. Schema 1 (files without a schema) has "rows" for "windowing".
SCHEMA = 2
_FIXED = ("filename", "start", "end")
_FIELDS = {
    **dict.fromkeys(("classes", "teachers"), list),
    **dict.fromkeys(("selection.kind", "sha256"), str),
}
_TEACHER = {"experiment": str | None, "fingerprint": str, "sha256": str, "weight": int | float}


@dataclass(frozen=True, kw_only=True)
class Pseudolabels:
    """A table of pseudolabels."""

    filename: npt.NDArray[np.object_]  #: (R,)
    start_s: npt.NDArray[np.integer | np.floating]  #: (R,), whole seconds, or the edges of time steps
    end_s: npt.NDArray[np.integer | np.floating]  #: (R,)
    values: Half  #: (R, K)
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]  #: teachers, selection, windowing, counts, date

    @property
    def soft(self) -> bool:
        """Whether the table contains all probabilities."""
        return bool(self.provenance["selection"]["kind"] == "soft")

    def columns(self, classes: Sequence[str]) -> Half:
        """Return the values with columns in the order of `classes`; DataError if the table has other classes."""
        differing = sorted(set(classes) ^ set(self.classes))
        if differing:
            only = "pseudolabels" if differing[0] in self.classes else "training data"
            count = f"({len(differing)} such classes)"
            raise DataError(f"class {differing[0]!r} is only in the {only} {count}; use a teacher of the same classes.")
        return self.values[:, [self.classes.index(name) for name in classes]]

    def per_class(self) -> dict[str, int]:
        """Return the number of rows with a label of each class."""
        counts = (self.values > 0).sum(0)
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def per_file(self) -> dict[str, int]:
        """Return the number of rows with a label of each recording."""
        labelled = pd.Series((self.values > 0).any(1), index=self.filename)
        return {str(name): int(count) for name, count in labelled.groupby(level=0, sort=False).sum().items()}


def check_broadcast(scores: pd.DataFrame, *, allowed: Sequence[str] = ()) -> None:
    """Refuse (DataError) a score table in which all rows of a recording are identical, but for allowed recordings."""
    same = [stem for stem in broadcast_recordings(scores) if stem not in allowed]
    if same:
        raise _broadcast_error(same, len(parse_row_ids(scores.index).stems))


def _broadcast_error(same: Sequence[str], n_files: int) -> DataError:
    return DataError(
        f"all rows of {len(same)} of {n_files} recordings are identical, {same[0]!r} first: the scores of one window "
        "were copied to every row, so most of these labels would be wrong."
    )


def write_pseudolabels(table: Pseudolabels, out: str | Path) -> None:
    """Write a table, its figure, and last its provenance; DataError if a file cannot be written."""
    import pyarrow
    import pyarrow.parquet

    out = Path(out)
    reserved = sorted(set(table.classes) & set(_FIXED))
    if reserved:
        raise DataError(f"a class is called {reserved[0]!r}, which is a column of every table of pseudolabels.")
    columns: dict[str, Any] = {
        "filename": pyarrow.array(list(table.filename), pyarrow.string()),
        "start": pyarrow.array(table.start_s),
        "end": pyarrow.array(table.end_s),
        **{name: pyarrow.array(table.values[:, k]) for k, name in enumerate(table.classes)},
    }
    with atomic_write(out) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
    per_class, per_file = table.per_class(), table.per_file()
    with atomic_write(out.with_suffix(".png")) as temporary:
        title = f"Pseudolabels: {out.parent.name}/{out.name}"
        pseudolabel_counts(per_class, list(per_file.values()), temporary, title=title)
    provenance = {
        "schema": SCHEMA,
        **table.provenance,
        "classes": list(table.classes),
        "n_rows": len(table.values),
        "rows_per_class": per_class,
        "rows_per_file": per_file,
        "sha256": sha256(out),
    }
    write_json(out.with_suffix(".json"), provenance)


def read_pseudolabels(path: str | Path) -> Pseudolabels:
    """Read a table that `write_pseudolabels` wrote.

    DataError if the table or its provenance is missing or damaged, they do not belong together, a value is not a
    probability, or all rows of a recording are identical.
    """
    path = Path(path)
    provenance = _read_provenance(path)
    if sha256(path) != provenance["sha256"]:
        raise DataError(f"{path} was changed after it was written: its JSON file describes another table.")
    classes = list(provenance["classes"])
    table = read_parquet(path)
    missing = [name for name in (*_FIXED, *classes) if name not in table]
    if missing or table.empty or not classes:
        raise DataError(f"{path}: " + (f"no column {missing[0]!r}." if missing else "the table is empty."))
    with read_errors(path, "a table of pseudolabels"):
        values = table[classes].to_numpy(np.float16)
        if not all(isinstance(name, str) for name in table["filename"]):
            raise ValueError("a filename is not a text")
        if not np.isfinite(table[["start", "end"]].to_numpy()).all():
            raise ValueError("start and end must be finite numbers")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise DataError(f"{path} holds values that are not probabilities.")
    result = Pseudolabels(
        filename=table["filename"].to_numpy(object),
        start_s=table["start"].to_numpy(),
        end_s=table["end"].to_numpy(),
        values=values,
        classes=tuple(classes),
        provenance=provenance,
    )
    recording, names = pd.factorize(result.filename)
    ids = RowIds(recording, tuple(names), np.arange(len(values)))
    same = find_broadcast(ids, values)
    # Values of 0 and 1 only may be identical, and those of a few short recordings are, by their rounding to float16.
    first = values[np.unique(recording, return_index=True)[1]]
    same = same[((first > 0) & (first < 1)).any(1)[same]]
    if len(same) > MAX_BROADCAST * (ids.n_rows > 1).sum():
        raise _broadcast_error([str(names[k]) for k in same], len(names))
    return result


def _read_provenance(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such table of pseudolabels; `bcsed pseudolabel` makes one.")
    file = path.with_suffix(".json")
    if not file.is_file():
        raise DataError(f"{path} has no {file.name}, which names its teachers and selection; make the table again.")
    provenance = read_json(file, fields=_FIELDS)
    check_schema(provenance, file, (1, SCHEMA))
    if not all(isinstance(name, str) for name in provenance["classes"]):
        raise DataError(f"{file} is damaged: classes must be a list of names.")
    for number, teacher in enumerate(provenance["teachers"], 1):
        check_fields(teacher, _TEACHER, f"{file}, teacher {number}")
    if "rows" in provenance:
        provenance["windowing"] = provenance.pop("rows")
    return {**provenance, "schema": SCHEMA}
