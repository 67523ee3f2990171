"""A table of pseudolabels: what it holds, and how it lies on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...files import atomic_write, read_errors, sha256
from ...plot.figures import pseudolabel_counts
from ...scores.checks.ids import parse_row_ids
from ...scores.table import broadcast_recordings

Half = npt.NDArray[np.float16]

_FIXED = ("filename", "start", "end")


@dataclass(frozen=True, kw_only=True)
class Pseudolabels:
    """A table of pseudolabels.

    Parameters
    ----------
    filename : ndarray of object, shape (R,)
    start_s, end_s : ndarray of int64, shape (R,)
    values : ndarray of float16, shape (R, K)
    classes : tuple of str
    provenance : mapping
        Teachers, selection, how rows were cut, counts, date.
    """

    filename: npt.NDArray[np.object_]
    start_s: npt.NDArray[np.int64]
    end_s: npt.NDArray[np.int64]
    values: Half
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def soft(self) -> bool:
        """Whether nothing was selected, so that every answer is there."""
        return bool(self.provenance["selection"]["kind"] == "soft")

    def columns(self, classes: Sequence[str]) -> Half:
        """Return the values with the columns of a class list, in its order, bound by name.

        Raises
        ------
        DataError
            If the two class lists do not hold the same names.
        """
        differing = sorted(set(classes) ^ set(self.classes))
        if differing:
            only = "pseudolabels" if differing[0] in self.classes else "training data"
            raise DataError(
                f"class {differing[0]!r} is only in the {only} ({len(differing)} such classes); pseudolabels must "
                "come from a teacher of the same classes."
            )
        place = {name: k for k, name in enumerate(self.classes)}
        return self.values[:, [place[name] for name in classes]]

    def per_class(self) -> dict[str, int]:
        """Return the rows kept of each class."""
        counts = (self.values > 0).sum(0)
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def per_file(self) -> dict[str, int]:
        """Return the rows of each recording that hold anything."""
        kept = pd.Series((self.values > 0).any(1), index=self.filename)
        return {str(name): int(count) for name, count in kept.groupby(level=0, sort=False).sum().items()}


def check_broadcast(scores: pd.DataFrame, *, allowed: Sequence[str] = ()) -> None:
    """Refuse scores in which all rows of a recording are identical.

    Raises
    ------
    DataError
        Naming the first such recording.
    """
    same = [stem for stem in broadcast_recordings(scores) if stem not in allowed]
    if same:
        raise _broadcast(same, len(parse_row_ids(scores.index).stems))


def _broadcast(same: Sequence[str], n_files: int) -> DataError:
    return DataError(
        f"all rows of {len(same)} of {n_files} recordings are identical, {same[0]!r} first: one window's answer was "
        "given to every row, which would make most of these labels wrong."
    )


def write_pseudolabels(table: Pseudolabels, out: str | Path) -> None:
    """Write a table, its provenance and its figure; the JSON file last.

    Raises
    ------
    DataError
        If the disk refuses.
    """
    import pyarrow
    import pyarrow.parquet

    out = Path(out)
    columns: dict[str, Any] = {
        "filename": pyarrow.array(list(table.filename), pyarrow.string()),
        "start": pyarrow.array(table.start_s),
        "end": pyarrow.array(table.end_s),
    }
    taken = sorted(set(table.classes) & set(_FIXED))
    if taken:
        raise DataError(f"a class is called {taken[0]!r}, which is a column of every table of pseudolabels.")
    columns |= {name: pyarrow.array(table.values[:, k]) for k, name in enumerate(table.classes)}
    with atomic_write(out) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
    per_class, per_file = table.per_class(), table.per_file()
    with atomic_write(out.with_suffix(".png")) as temporary:
        title = f"Pseudolabels: {out.parent.name}/{out.name}"
        pseudolabel_counts(per_class, list(per_file.values()), temporary, title=title)
    told = {
        **table.provenance,
        "classes": list(table.classes),
        "n_rows": len(table.values),
        "rows_per_class": per_class,
        "rows_per_file": per_file,
        "sha256": sha256(out),
    }
    with atomic_write(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_pseudolabels(path: str | Path) -> Pseudolabels:
    """Read a table that `write` wrote.

    Raises
    ------
    DataError
        If there is no such table, it or its provenance is missing, damaged or of another pair, a value is no
        probability, or all rows of a recording are identical.
    """
    path = Path(path)
    told = _read_json(path)
    if sha256(path) != told["sha256"]:
        raise DataError(f"{path} was changed after it was made: it is not the table that its JSON file tells of.")
    table = _read_parquet(path, told["classes"])
    values = np.stack([table[name].to_numpy() for name in told["classes"]], 1).astype(np.float16)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise DataError(f"{path} holds values that are no probabilities.")
    found = Pseudolabels(
        filename=table["filename"].to_numpy(zero_copy_only=False).astype(object),
        start_s=table["start"].to_numpy().astype(np.int64),
        end_s=table["end"].to_numpy().astype(np.int64),
        values=values,
        classes=tuple(told["classes"]),
        provenance=told,
    )
    _check_files(found)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such table of pseudolabels; `bcsed pseudolabel` makes one.")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise DataError(f"{path} has no {beside.name} beside it that says which teacher made it; make it again.")
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        lacking = [key for key in ("classes", "selection", "teachers", "sha256") if key not in told]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{beside} is damaged: not readable as JSON.") from error
    if lacking or not isinstance(told, dict):
        raise DataError(f"{beside} is damaged: it lacks {', '.join(lacking)}.")
    return told


def _read_parquet(path: Path, classes: Sequence[str]) -> Any:
    import pyarrow.parquet

    with read_errors(path, "Parquet"):
        table = pyarrow.parquet.read_table(path)
    lacking = [name for name in (*_FIXED, *classes) if name not in table.column_names]
    if lacking or not table.num_rows:
        raise DataError(f"{path}: " + (f"no column {lacking[0]!r}." if lacking else "the table is empty."))
    return table


def _check_files(table: Pseudolabels) -> None:
    """Refuse a table whose files repeat one row; values of 1 may honestly be all the same."""
    same = []
    groups = pd.Series(range(len(table.values))).groupby(table.filename, sort=False)
    for name, places in groups:
        block = table.values[places.to_numpy()]
        first = block[0]
        if len(block) > 1 and (block == first).all() and ((first > 0) & (first < 1)).any():
            same.append(str(name))
    if same:
        raise _broadcast(same, groups.ngroups)
