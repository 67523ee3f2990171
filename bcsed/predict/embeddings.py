"""Read tables of embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError
from ..files import read_errors

Array = npt.NDArray[np.float32]


def read_embeddings(path: str | Path) -> tuple[pd.DataFrame, Array, dict[str, Any]]:
    """Read embeddings from a Parquet or npz file: their file name and start (s), the vectors (N, E), and metadata.

    Parquet has the columns ``filename`` (or ``clip``), ``start_s`` and ``vector`` (lists of equal length), and the
    metadata that `embed` writes, or none; npz the arrays ``clip`` (N,), ``start_s`` (N,) and ``vector`` (N, E). Pickled
    values are not read. DataError if it is no such file, or a window is listed twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of embeddings.")
    metadata: Any = {}
    with read_errors(path, "a table of embeddings, with filename, start_s and vector, in Parquet or npz"):
        if path.suffix == ".npz":
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                names, start_s, vectors = stored["clip"], stored["start_s"], stored["vector"]
        else:
            names, start_s, vectors, metadata = _read_parquet(path)
        if not len(names) == len(start_s) == len(vectors) or vectors.ndim != 2:
            raise ValueError(
                f"{len(names)} clips, {len(start_s)} starts and {len(vectors)} vectors of shape {vectors.shape}"
            )
        frame = pd.DataFrame({"filename": names.astype(str), "start_s": start_s.astype(np.float64)})
    if not vectors.size or not np.isfinite(vectors).all():
        raise DataError(f"{path}: vectors must be finite numbers of shape (windows, E), got {vectors.shape}.")
    twice = frame.duplicated()
    if twice.any():
        name, start = frame[twice].iloc[0]
        raise DataError(f"{path}: the window of {name!r} at {start:g} s is listed twice.")
    return frame, vectors.astype(np.float32), metadata if isinstance(metadata, dict) else {}


def _read_parquet(path: Path) -> tuple[Any, Any, Any, Any]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    column = table["vector"].combine_chunks()
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1 or None in lengths:
        raise ValueError("vectors of several lengths")
    names = table["filename" if "filename" in table.column_names else "clip"].to_numpy()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1 if len(table) else 0)
    metadata = json.loads((table.schema.metadata or {}).get(b"bcsed", b"{}"))
    return names, table["start_s"].to_numpy(), vectors, metadata
