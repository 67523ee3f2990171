"""Write detections as one long table, in CSV and Parquet, or in several formats at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import ConfigError, DataError
from ...files import as_path, atomic_write, read_errors, require_file
from ...recordings import printable
from ..table import read_parquet
from .detect import COLUMNS, Recording, exact_times, format_times
from .raven_audacity import Writer, write_audacity, write_raven
from .taxonomy import ClassName

FORMATS = ("raven", "audacity", "csv", "parquet")
_NAMES = ("scientific_name", "common_name")
# Lines per row group, so that a table of many recordings has few groups.
_GROUP = 50_000


@contextmanager
def write_csv(path: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Yield a function that adds a `Recording` and its detections to one CSV, which is written atomically.

    Without detections the file has a header only. `names` adds the columns ``scientific_name`` and ``common_name``
    after ``label``. Raises DataError if detections belong to another recording, or the file cannot be written.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_columns(names))

        def add(recording: Recording, lines: pd.DataFrame) -> None:
            if lines.empty:
                return
            times = [format_times(*pair) for pair in zip(*exact_times(recording, lines), strict=True)]
            starts, ends = ([time.rstrip("0").rstrip(".") for time in column] for column in zip(*times, strict=True))
            columns = {**_long_table(lines, names), "start_s": starts, "end_s": ends}
            columns["score"] = [f"{score:.6g}" for score in lines["score"]]
            writer.writerows(zip(*columns.values(), strict=True))

        yield add


@contextmanager
def write_parquet(path: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Yield a function that adds detections to one Parquet file; see `write_csv`. Values are not rounded."""
    import pyarrow as pa
    import pyarrow.parquet

    types = {object: pa.string(), np.float64: pa.float64(), np.float32: pa.float32()}
    schema = pa.schema([(name, types[COLUMNS.get(name, object)]) for name in _columns(names)])
    waiting: dict[str, list[Any]] = {name: [] for name in schema.names}
    with atomic_write(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pydict(waiting, schema))
            for values in waiting.values():
                values.clear()

        def add(recording: Recording, lines: pd.DataFrame) -> None:
            exact_times(recording, lines)  # refuses detections of another recording
            for name, values in _long_table(lines, names).items():
                # Parquet rejects paths with bytes that are not UTF-8.
                waiting[name] += [printable(value) if isinstance(value, str) else value for value in values]
            if len(waiting["label"]) >= _GROUP:
                flush()

        yield add
        flush()


@contextmanager
def write(
    out: str | Path,
    formats: Sequence[str],
    *,
    fmin_hz: float,
    fmax_hz: float,
    names: Mapping[str, ClassName] | None = None,
) -> Iterator[Writer]:
    """Yield a function that writes a `Recording` and its detections in several of `FORMATS`.

    `out` is the folder for ``raven/``, ``audacity/``, ``detections.csv`` and ``detections.parquet``. The other
    parameters and the errors are those of `write_raven`; ConfigError if `formats` is empty or has an unknown format.
    """
    out = as_path(out)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats are {', '.join(FORMATS)}; got {repr(unknown[0]) if unknown else 'none'}.")
    writers = {
        "raven": lambda: write_raven(out / "raven", fmin_hz=fmin_hz, fmax_hz=fmax_hz, names=names),
        "audacity": lambda: write_audacity(out / "audacity", names=names),
        "csv": lambda: write_csv(out / "detections.csv", names=names),
        "parquet": lambda: write_parquet(out / "detections.parquet", names=names),
    }
    with ExitStack() as stack:
        adds = [stack.enter_context(writers[name]()) for name in dict.fromkeys(formats)]

        def add(recording: Recording, lines: pd.DataFrame) -> None:
            for each in adds:
                each(recording, lines)

        yield add


def read_detections(path: str | Path) -> pd.DataFrame:
    """Read a table of `write_csv` or `write_parquet`, as of `detect`, with names if written; DataError if none."""
    path = Path(path)
    require_file(path)
    texts = [name for name, dtype in COLUMNS.items() if dtype is object] + list(_NAMES)
    with read_errors(path, "a table of detections"):
        if path.suffix == ".parquet":
            table = read_parquet(path, "a table of detections")
        else:
            table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, encoding="utf-8")
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise DataError(f"{path}: no column {missing[0]!r}, so it is not a table of detections.")
        typed: pd.DataFrame = table.astype({name: COLUMNS.get(str(name), object) for name in table.columns})
    return typed


def _columns(names: Mapping[str, ClassName] | None) -> list[str]:
    columns = list(COLUMNS)
    after = columns.index("label") + 1
    return [*columns[:after], *(_NAMES if names is not None else ()), *columns[after:]]


def _long_table(lines: pd.DataFrame, names: Mapping[str, ClassName] | None) -> dict[str, Any]:
    """Return the columns of a long table, in order."""
    columns: dict[str, Any] = {name: lines[name].tolist() for name in COLUMNS}
    if names is not None:
        known = [names.get(label, ClassName("", "", "")) for label in columns["label"]]
        columns["scientific_name"] = [name.scientific for name in known]
        columns["common_name"] = [name.common for name in known]
    return {name: columns[name] for name in _columns(names)}
