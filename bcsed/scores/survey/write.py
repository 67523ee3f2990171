"""Write the tables of a survey, also in the forms that R packages take, and read them for the report.

``history/CLASS.csv`` (1, 0, NA where there was no effort) and ``counts/CLASS.csv`` have a line per site and a column
per occasion, as ``unmarked`` and ``spOccupancy`` take them, with the hours of ``effort.csv`` as the covariate of
detection. ``records.csv`` and ``operation.csv`` are the record table and the camera operation matrix of ``camtrapR``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...files import atomic_write, check_schema, is_occupied, read_columns, read_json, write_json
from .history import Survey

MANIFEST, SCHEMA = "survey.json", 1
FILES = (
    *("deployments", "left_out", "notes", "effort", "history", "hourly", "daily", "species", "thresholds"),
    *("density", "review_next", "records", "operation"),
)
_MATRICES = ("effort", "operation")
# Lines of the record table that are written at once.
_PART = 100_000
_TEXTS = (
    *("site", "class", "recorder", "recording", "best_recording", "reason", "note", "start", "best_time"),
    *("occasion", "day", "source", "basis"),
)


def write_survey(result: Survey, folder: str | Path, facts: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Write a survey to a folder, and return its long tables by name; `facts` are kept in the manifest.

    DataError if the folder contains something else, or a file cannot be written.
    """
    folder = Path(folder)
    if is_occupied(folder) and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is already there, and is not a survey of bcsed; name another folder, or remove it.")
    names = _class_files(result.classes)
    _remove_tables(folder)
    tables = _tables(result)
    _write_records(folder / "records.csv", result.records)
    for name, table in tables.items():
        _write(folder / f"{name}.csv", table)
    counts, effort_h = result.occasions()
    dark, header = effort_h == 0, ["site", *result.occasion_days()]
    _write_matrix(folder / "effort.csv", effort_h.round(6), dark, result.sites, header)
    for k, name in enumerate(result.classes):
        for kind, values in (("history", (counts[:, :, k] > 0).astype(int)), ("counts", counts[:, :, k])):
            _write_matrix(folder / kind / names[name], values, dark, result.sites, header)
    # In camtrapR's operation matrix, gaps are 0, and NA are the days before the first and after the last recording.
    active = result.effort_h > 0
    begun, ended = np.maximum.accumulate(active, 1), np.maximum.accumulate(active[:, ::-1], 1)[:, ::-1]
    header = ["Station", *_days(result)]
    _write_matrix(folder / "operation.csv", active.astype(int), ~(begun & ended), result.sites, header)
    manifest = {
        "schema": SCHEMA,
        "settings": asdict(result.settings),
        "sites": list(result.sites),
        "classes": names,
        "first_day": str(result.first_day),
        "n_days": result.counts.shape[1],
        "hours": round(float(result.effort_h.sum()), 4),
        "n_recordings": len(result.deployments.table),
        "n_left_out": len(result.deployments.left_out),
        "n_detections": int(result.counts.sum()),
        **facts,
    }
    # The manifest comes last: without it, the folder is not complete.
    write_json(folder / MANIFEST, manifest)
    return tables


def _remove_tables(folder: Path) -> None:
    """Remove the tables of an earlier survey, so that none remains of a class or review that is no longer there."""
    for path in (
        *(folder / f"{name}.csv" for name in FILES),
        *folder.glob("history/*.csv"),
        *folder.glob("counts/*.csv"),
    ):
        path.unlink(missing_ok=True)


def _class_files(classes: tuple[str, ...]) -> dict[str, str]:
    """Return the file name of each class, without characters that file systems do not allow."""
    names: dict[str, str] = {}
    for name in classes:
        stem = re.sub(r"[^\w.-]", "_", name).strip(".") or "_"
        taken = {each.lower() for each in names.values()}
        numbers = ("", *(f"-{k}" for k in range(2, len(classes) + 1)))
        names[name] = next(f"{stem}{k}.csv" for k in numbers if f"{stem}{k}.csv".lower() not in taken)
    return names


def _write(path: Path, table: pd.DataFrame) -> None:
    import pyarrow as pa
    from pyarrow.csv import write_csv

    # Six decimals, as more are noise.
    rounded = table.round(dict.fromkeys(table.select_dtypes("float").columns, 6))
    with atomic_write(path) as temporary:
        write_csv(pa.Table.from_pandas(rounded, preserve_index=False), temporary)


def _write_matrix(
    path: Path, values: npt.NDArray[Any], dark: npt.NDArray[np.bool_], sites: tuple[str, ...], header: list[str]
) -> None:
    """Write a line per site and a column per day or occasion, NA where there was no effort."""
    cells = np.where(dark, "NA", values.astype(str))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([header, *([site, *line] for site, line in zip(sites, cells.tolist(), strict=True))])


def _tables(result: Survey) -> dict[str, pd.DataFrame]:
    """Return the tables by name; those that need reviewed rows only if there are some."""
    deployments, (counts, effort_h) = result.deployments, result.occasions()
    tables = {
        "deployments": deployments.table,
        "left_out": pd.DataFrame(deployments.left_out, columns=["recording", "reason"]),
        "notes": pd.DataFrame(deployments.notes, columns=["recording", "note"]),
        "history": _long(result, counts, effort_h, "occasion", result.occasion_days()),
        "hourly": _long(result, result.hourly_counts, result.hourly_effort_h, "hour", list(range(24))),
        "daily": _long(result, result.counts, result.effort_h, "day", _days(result)),
        "species": result.species,
        "thresholds": result.thresholds,
    }
    if result.density is not None and result.bins is not None:
        tables |= {"density": result.density, "review_next": result.bins}
    return tables


def _long(
    result: Survey, counts: npt.NDArray[Any], effort_h: npt.NDArray[np.float64], name: str, values: list[Any]
) -> pd.DataFrame:
    """Return a line per site, time with effort, and class with a detection anywhere."""
    kept = np.flatnonzero(counts.any((0, 1)))
    site, time = np.nonzero(effort_h)
    lines = np.repeat(np.arange(len(site)), len(kept))
    column, hours = np.tile(kept, len(site)), effort_h[site, time][lines]
    detections = counts[site[lines], time[lines], column]
    fields = {
        "site": np.array(result.sites, object)[site[lines]],
        name: np.array(values, object)[time[lines]],
        "class": np.array(result.classes, object)[column],
        "detections": detections,
        "hours": hours,
        "per_hour": detections / hours,
    }
    table: pd.DataFrame = pd.DataFrame(fields)
    return table


def _write_records(path: Path, records: pd.DataFrame) -> None:
    """Write camtrapR's record table, a line per uninterrupted detection; in parts, as there may be millions."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow.csv import CSVWriter

    names = ("Station", "Species", "DateTimeOriginal", "Date", "Time", "FileName", "start_s", "score")
    schema = pa.schema([*((name, pa.string()) for name in names[:6]), (names[6], pa.int32()), (names[7], pa.float32())])
    with atomic_write(path) as temporary, CSVWriter(temporary, schema) as writer:
        for start in range(0, len(records), _PART):
            part = pa.Table.from_pandas(records.iloc[start : start + _PART], preserve_index=False)
            site, name, recording = (part[each].cast(pa.string()) for each in ("site", "class", "recording"))
            time = part["time"].cast(pa.timestamp("s"))
            text = pc.strftime(time, "%Y-%m-%d %H:%M:%S")
            times = [text, pc.utf8_slice_codeunits(text, 0, 10), pc.utf8_slice_codeunits(text, 11)]
            writer.write_table(pa.table([site, name, *times, recording, part["start_s"], part["score"]], schema=schema))


def _days(result: Survey) -> list[str]:
    return [str(result.first_day + np.timedelta64(day, "D")) for day in range(result.counts.shape[1])]


def read_survey(folder: str | Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Read the manifest and the tables of a folder of `write_survey`; DataError if something is missing or damaged."""
    folder = Path(folder)
    fields = {"settings": dict, "sites": list, "classes": dict, "first_day": str, "n_days": int, "hours": int | float}
    manifest = read_json(folder / MANIFEST, fields=fields)
    check_schema(manifest, folder / MANIFEST, (SCHEMA,))
    optional = ("density", "review_next")
    present = [name for name in FILES if name not in optional or (folder / f"{name}.csv").is_file()]
    return manifest, {name: _read(folder / f"{name}.csv") for name in present if name not in (*_MATRICES, "records")}


def _read(path: Path) -> pd.DataFrame:
    # An empty cell is missing, and NA a name.
    table = read_columns(path, texts=_TEXTS, keep_default_na=False, na_values=[""])
    texts = [name for name in _TEXTS if name in table]
    filled: pd.DataFrame = table.assign(**{name: table[name].fillna("") for name in texts})
    return filled
