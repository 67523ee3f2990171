"""Read a score table in blocks, so that a year of recordings needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...files import read_errors, require_file
from ..checks.ids import infer_row_s, parse_row_ids
from ..table import SCORES, SUBMISSION, check_table, read_table

# The score tables of a prediction folder, first the one that is read in blocks.
SCORE_TABLES = (SCORES, SUBMISSION)
# Rows of a block of a Parquet table: 8 MB of 30 classes.
_BLOCK = 1 << 16
_KEYS = ("row_id", "recording", "start_s", "end_s")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a score table: recording and start of each, and a function that yields their scores in blocks."""

    path: Path
    recordings: tuple[str, ...]
    recording: npt.NDArray[np.int32]  # (R,), index into `recordings`
    start_s: npt.NDArray[np.int32]  # (R,), from the start of the recording
    row_s: int
    classes: tuple[str, ...]
    blocks: Callable[[], Iterator[npt.NDArray[np.float32]]]  # (r, K) each, R rows in all

    def last_end_s(self) -> npt.NDArray[np.int64]:
        """Return the end of the last row of each recording."""
        last = pd.Series(self.start_s).groupby(self.recording).max()
        ends: npt.NDArray[np.int64] = last.reindex(range(len(self.recordings))).to_numpy(np.int64) + self.row_s
        return ends


def read_rows(path: str | Path) -> Rows:
    """Read ``scores.parquet`` of a prediction, or a score table (CSV).

    DataError if the file is not such a table, a row is repeated, or rows have different lengths; `Rows.blocks` raises
    it for a score that is not in [0, 1].
    """
    path = Path(path)
    require_file(path)
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if not len(rows.recording):
        raise DataError(f"{path} has no rows.")
    keys = rows.recording.astype(np.int64) * (int(rows.start_s.max()) + 1) + rows.start_s
    repeated = np.flatnonzero(pd.Series(keys).duplicated().to_numpy())
    if len(repeated):
        name, start_s = rows.recordings[rows.recording[repeated[0]]], rows.start_s[repeated[0]]
        raise DataError(f"{path} has the row of {name} at {start_s} s more than once ({len(repeated)} duplicates).")
    if rows.start_s.min() < 0:
        raise DataError(f"{path}: a row of {rows.recordings[rows.recording[rows.start_s.argmin()]]} starts before it.")
    return rows


def _read_csv(path: Path) -> Rows:
    table = read_table(path)
    check_table(table, where=str(path))
    ids = parse_row_ids(table.index)
    row_s = infer_row_s(ids)
    invalid = np.flatnonzero(ids.end_s < 0)
    if len(invalid) or row_s is None:
        raise DataError(f"{path}: the row id {table.index[invalid[0]]!r} is not of the form <recording>_<end second>.")
    if (other := ids.end_s % row_s != 0).any():
        first = table.index[int(other.argmax())]
        raise DataError(f"{path}: the row {first!r} does not end at a multiple of {row_s} s, the length of most rows.")
    values = table.to_numpy(np.float32)
    starts = (ids.end_s - row_s).astype(np.int32)
    classes = tuple(map(str, table.columns))
    return Rows(path, ids.stems, ids.recording.astype(np.int32), starts, row_s, classes, lambda: iter([values]))


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with read_errors(path, "Parquet"):
        names = pq.ParquetFile(path).schema_arrow.names
        missing = [name for name in _KEYS[1:] if name not in names]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; name scores.parquet of a prediction, or a CSV.")
        table = pq.read_table(path, columns=list(_KEYS[1:]), read_dictionary=["recording"])
        column: Any = table["recording"].combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        codes = column.indices.to_numpy(zero_copy_only=False)
        recordings = tuple(map(str, column.dictionary.to_pylist()))
        starts, ends = (table[name].to_numpy() for name in ("start_s", "end_s"))
    lengths = np.unique(ends - starts)
    if len(lengths) > 1 or not (lengths > 0).all():
        raise DataError(f"{path} has rows of {lengths[0]} and {lengths[-1]} s; they must have one length.")
    classes = tuple(name for name in names if name not in _KEYS)

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        with read_errors(path, "Parquet"):
            for batch in pq.ParquetFile(path).iter_batches(_BLOCK, columns=list(classes)):
                columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in classes]
                values = np.column_stack(columns).astype(np.float32, copy=False)
                if not (values.min() >= 0 and values.max() <= 1):  # false for NaN
                    raise DataError(f"{path} has a score that is not in [0, 1]; scores must be probabilities.")
                yield values

    row_s = int(lengths[0]) if len(lengths) else 1
    return Rows(path, recordings, codes.astype(np.int32), starts.astype(np.int32), row_s, classes, blocks)
