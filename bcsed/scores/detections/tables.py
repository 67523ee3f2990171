"""Detections as one long table: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import DataError
from ...files import atomic_write, read_errors
from ..table import read_parquet
from .detect import COLUMNS, Recording, decimals, spans
from .raven_audacity import Writer
from .taxonomy import ClassName

_NAMES = ("scientific_name", "common_name")
# Lines held before they are written, so that a table of many recordings has few groups of rows.
_GROUP = 50_000


@contextmanager
def write_csv(path: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Write all detections as one CSV.

    Parameters
    ----------
    path : str or Path
        Is there when the block ends well; a header and no lines where nothing was detected.
    names : mapping of str to Name, optional
        With it the table has ``scientific_name`` and ``common_name`` behind ``label``.

    Yields
    ------
    callable
        Takes a `Recording` and its detections, as from `detect`.

    Raises
    ------
    DataError
        If detections are of another recording, or the disk refuses.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_columns(names))

        def add(recording: Recording, found: pd.DataFrame) -> None:
            if found.empty:
                return
            times = [decimals(*span) for span in zip(*spans(recording, found), strict=True)]
            named = _named(found, names)
            named["start_s"], named["end_s"] = ([_short(time[place]) for time in times] for place in (0, 1))
            named["score"] = (f"{score:.6g}" for score in found["score"])
            writer.writerows(zip(*named.values(), strict=True))

        yield add


@contextmanager
def write_parquet(path: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Write all detections as one Parquet file; parameters and errors as `write_csv`, values not rounded."""
    import pyarrow as pa
    import pyarrow.parquet

    kinds = {object: pa.string(), np.float64: pa.float64(), np.float32: pa.float32()}
    schema = pa.schema([(name, kinds[COLUMNS.get(name, object)]) for name in _columns(names)])
    held: dict[str, list[Any]] = {name: [] for name in schema.names}
    with atomic_write(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pydict(held, schema))
            for values in held.values():
                values.clear()

        def add(recording: Recording, found: pd.DataFrame) -> None:
            spans(recording, found)  # refuses detections of another recording
            for name, values in _named(found, names).items():
                held[name] += [_text(value) if isinstance(value, str) else value for value in values]
            if len(held["label"]) >= _GROUP:
                flush()

        yield add
        flush()


def read_detections(path: str | Path) -> pd.DataFrame:
    """Read a table of `write_csv` or `write_parquet`, whichever its suffix says.

    Returns
    -------
    DataFrame
        As from `detect`, and with names if it was written with them; labels stay text.

    Raises
    ------
    DataError
        If there is no such file, or it is no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    texts = [name for name, kind in COLUMNS.items() if kind is object] + list(_NAMES)
    with read_errors(path, "a table of detections"):
        if path.suffix == ".parquet":
            table = read_parquet(path, "a table of detections")
        else:
            table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, encoding="utf-8")
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise DataError(f"{path}: no column {missing[0]!r}, so it is no table of detections.")
        kinds = {name: COLUMNS.get(str(name), object) for name in table.columns}
        read: pd.DataFrame = table.astype(kinds)
    return read


def _columns(names: Mapping[str, ClassName] | None) -> Sequence[str]:
    label = list(COLUMNS).index("label") + 1
    return [*list(COLUMNS)[:label], *(_NAMES if names is not None else ()), *list(COLUMNS)[label:]]


def _named(found: pd.DataFrame, names: Mapping[str, ClassName] | None) -> dict[str, Any]:
    """Return the columns of a long table, in order."""
    columns: dict[str, Any] = {name: found[name].tolist() for name in COLUMNS}
    if names is not None:
        known = [names.get(label, ClassName("", "", "")) for label in columns["label"]]
        columns["scientific_name"] = [name.scientific for name in known]
        columns["common_name"] = [name.common for name in known]
    return {name: columns[name] for name in _columns(names)}


def _short(decimal: str) -> str:
    return decimal.rstrip("0").rstrip(".")


def _text(value: str) -> str:
    # A path may hold bytes that are no text, which Parquet refuses.
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
