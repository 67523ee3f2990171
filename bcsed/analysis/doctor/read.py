"""Read score tables without validation, so that broken ones can be diagnosed; durations and silence of recordings."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from ...audio.decode import find_recordings, read_audio, read_info
from ...errors import DataError
from ...files import read_errors, require_file
from ...scores.table import read_parquet

_TIMES = ("filename", "start", "end")


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table without validation: logits, NaN, text and duplicate columns are preserved.

    Parameters
    ----------
    path : str or Path
        CSV or Parquet: ``row_id`` (or a first column of another name that contains text) and a column per class; or
        ``filename, start, end`` in seconds and a column per class, as in tables of pseudolabels.

    Returns
    -------
    DataFrame
        Indexed by ``row_id``, in the order of the file.

    Raises
    ------
    DataError
        If the file does not exist or is not a table.
    """
    path = Path(path)
    require_file(path)
    table: pd.DataFrame = read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    names = list(map(str, table.columns))
    if not names:
        raise DataError(f"{path}: the table has no columns.")
    if "row_id" not in names and set(_TIMES) <= set(names):
        stems = table["filename"].astype(str).map(lambda name: Path(name).stem)
        row_ids = stems + "_" + table["end"].astype(str).str.removesuffix(".0")
        table = table.drop(columns=list(_TIMES))
    else:
        column = names.index("row_id") if "row_id" in names else 0
        row_ids = table.iloc[:, column].astype(str)
        table = table.iloc[:, [k for k in range(len(names)) if k != column]]
    table.index = pd.Index(row_ids.to_numpy(object), dtype=object, name="row_id")
    table.columns = pd.Index(list(map(str, table.columns)), dtype=object)
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    with read_errors(path, "CSV"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
        if not header:
            raise DataError(f"{path}: the file is empty.")
        texts = {k: str for k, name in enumerate(header) if name in ("row_id", "filename")} or {0: str}
        try:
            # header=None, as pandas would rename duplicate columns.
            table: pd.DataFrame = pd.read_csv(
                path, header=None, skiprows=1, dtype=texts, encoding="utf-8-sig", low_memory=False
            )
        except pd.errors.EmptyDataError:
            table = pd.DataFrame(columns=range(len(header)))
    if table.shape[1] != len(header):
        raise DataError(f"{path}: its header names {len(header)} columns, its lines have {table.shape[1]}.")
    table.columns = pd.Index(header, dtype=object)
    return table


def read_durations(recordings: Sequence[str | Path]) -> dict[str, Fraction]:
    """Return the exact seconds of each readable recording, by stem.

    Raises
    ------
    DataError
        If a file or folder does not exist, or two recordings share a stem.
    """
    durations: dict[str, Fraction] = {}
    for path in find_recordings(recordings):
        if path.stem in durations:
            raise DataError(f"two recordings are called {path.stem!r}; rename one, as their rows have the same ids.")
        try:
            info = read_info(path)
        except DataError:
            continue  # prediction has already reported it
        durations[path.stem] = Fraction(info.n_samples, info.sample_rate)
    return durations


def silent_recordings(recordings: Sequence[str | Path], stems: Iterable[str]) -> list[str]:
    """Return those stems whose recording contains only digital silence."""
    candidates, silent = set(stems), []
    for path in find_recordings(recordings):
        if path.stem not in candidates:
            continue
        try:
            info = read_info(path)
            wave, _ = read_audio(info, info.sample_rate)
        except DataError:
            continue
        if not np.any(wave):
            silent.append(path.stem)
    return silent
