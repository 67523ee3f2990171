"""Files -> tables, as they are: a physician does not send the ill away."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from ...audio.decode import find_recordings, read_audio, read_info
from ...errors import DataError
from ...scores.table import read_parquet

_TIMES = ("filename", "start", "end")


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table leniently: logits, NaN, words and doubled columns are kept as they are.

    Parameters
    ----------
    path : str or Path
        CSV or Parquet: ``row_id`` (or a first column of another name that holds text) and a column per class; or
        ``filename, start, end`` in seconds and a column per class, as tables of pseudolabels have.

    Returns
    -------
    DataFrame
        Indexed by ``row_id``, in the order of the file.

    Raises
    ------
    DataError
        If there is no such file, or it is no table at all.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    table: pd.DataFrame = read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    names = list(map(str, table.columns))
    if not names:
        raise DataError(f"{path}: the table has no columns.")
    if "row_id" not in names and set(_TIMES) <= set(names):
        stems = table["filename"].astype(str).map(lambda name: Path(name).stem)
        ids = stems + "_" + table["end"].astype(str).str.removesuffix(".0")
        table = table.drop(columns=list(_TIMES))
    else:
        place = names.index("row_id") if "row_id" in names else 0
        ids = table.iloc[:, place].astype(str)
        table = table.iloc[:, [k for k in range(len(names)) if k != place]]
    table.index = pd.Index(ids.to_numpy(object), dtype=object, name="row_id")
    table.columns = pd.Index(list(map(str, table.columns)), dtype=object)
    return table


def _csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
        if not header:
            raise DataError(f"{path}: the file is empty.")
        texts = {k: str for k, name in enumerate(header) if name in ("row_id", "filename")} or {0: str}
        # pandas would rename doubled columns.
        table: pd.DataFrame = pd.read_csv(
            path, header=None, skiprows=1, dtype=texts, encoding="utf-8-sig", low_memory=False
        )
    except DataError:
        raise
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=range(len(header)))
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    if table.shape[1] != len(header):
        raise DataError(f"{path}: its header names {len(header)} columns, its lines have {table.shape[1]}.")
    table.columns = pd.Index(header, dtype=object)
    return table


def template_classes(path: str | Path) -> list[str]:
    """Return the competition's columns, of a sample submission."""
    return list(read_scores(path).columns)


def read_durations(recordings: Sequence[str | Path]) -> dict[str, Fraction]:
    """Return the exact seconds of each recording that can be read, by stem.

    Raises
    ------
    DataError
        If there is no such file or folder, or two recordings share a stem.
    """
    found: dict[str, Fraction] = {}
    for path in find_recordings(recordings):
        if path.stem in found:
            raise DataError(f"two recordings are called {path.stem!r}; their rows cannot be told apart.")
        try:
            header = read_info(path)
        except DataError:
            continue  # it has no duration, and prediction has said so
        found[path.stem] = Fraction(header.n_samples, header.sample_rate)
    return found


def silent_recordings(recordings: Sequence[str | Path], stems: Iterable[str]) -> list[str]:
    """Return those of some recordings that hold nothing but digital silence."""
    wanted, found = set(stems), []
    for path in find_recordings(recordings):
        if path.stem not in wanted:
            continue
        try:
            header = read_info(path)
            wave, _ = read_audio(header, header.sample_rate)
        except DataError:
            continue
        if not np.any(wave):
            found.append(path.stem)
    return found
