"""Compute detections from the rows of a score table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ..postprocess.stages import rows_by_recording
from ..table import check_table

# The columns of a table of detections, with their types in memory.
COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("recording", "name", "begin_time"), object),
    **dict.fromkeys(("start_s", "end_s"), np.float64),
    "label": object,
    "score": np.float32,
}
_CLOCK = re.compile(r"(?<!\d)(\d{8})[_T-]?(\d{6})(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The name and length of a recording; a DataError if it is empty, or its name could leave the output folder."""

    path: str  # as given by the user
    name: str  # the beginning of its row ids; with folders, separated by ``/``, where stems alone are ambiguous
    n_samples: int  # per channel at `sample_rate`; of a truncated file, the samples that are present
    sample_rate: int  # as stored, Hz

    def __post_init__(self) -> None:
        if self.n_samples < 1 or self.sample_rate < 1:
            raise DataError(f"{self.path}: a recording cannot have {self.n_samples} samples at {self.sample_rate} Hz.")
        if any(part in ("", ".", "..") for part in self.name.split("/")):
            raise DataError(
                f"{self.path}: {self.name!r} is not a valid name of a recording; it names files in a folder."
            )

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sample_rate


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """Thresholds and rules for merging rows; a ConfigError if a value is out of range."""

    threshold: float = 0.5  # the least score of a row that is a detection, in (0, 1]
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of single classes, instead of `threshold`
    merge: bool = True  # merge consecutive rows of one class into one detection
    gap_rows: int = 0  # the largest number of rows below the threshold within a merged detection
    min_rows: int = 1  # the least number of rows of a merged detection, gaps included

    def __post_init__(self) -> None:
        for name, value in {"the threshold": self.threshold, **self.thresholds}.items():
            if not 0 < value <= 1:
                raise ConfigError(f"{name}: a threshold must be in (0, 1], got {value:g}.")
        if self.gap_rows < 0 or self.min_rows < 1:
            raise ConfigError(
                f"gap_rows must be at least 0 and min_rows at least 1, got {self.gap_rows} and {self.min_rows}."
            )
        if not self.merge and (self.gap_rows or self.min_rows > 1):
            raise ConfigError("gap_rows and min_rows apply to merged rows; leave them out, or merge.")


def detect(
    table: pd.DataFrame, recordings: Iterable[Recording], settings: DetectionSettings | None = None, *, row_s: int = 5
) -> pd.DataFrame:
    """Return the detections of a score table.

    The table has all rows of one or more recordings, in any order; the result does not depend on how recordings are
    grouped. `recordings` are all of the table; others have no detections.

    There is one line per detection, ordered by recording, start and class: ``recording`` (path), ``name``,
    ``begin_time`` (ISO date and time of the start, from the recording's name, else ''), ``start_s``, ``end_s`` (seconds
    from the start of the recording, at most its duration), ``label`` and ``score`` (of merged rows, the maximum).

    Raises ConfigError for a threshold of an unknown class; DataError if the table is not a valid score table, has rows
    of another recording or beyond the end of one, or its rows are not `row_s` seconds apart.
    """
    settings = settings or DetectionSettings()
    classes = [str(name) for name in table.columns]
    unknown = sorted(set(settings.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes.")
    if len(table):
        check_table(table, where="the score table")
    rows_of = rows_by_recording(table.index)
    thresholds = np.array([settings.thresholds.get(name, settings.threshold) for name in classes], np.float32)
    values = table.to_numpy(np.float32)
    lines: list[tuple[object, ...]] = []
    for recording in recordings:
        if recording.name not in rows_of:
            continue
        ends, rows = rows_of.pop(recording.name)
        _check_rows(recording, ends, row_s)
        scores, first_row, begin_time = values[rows], int(ends[0]) // row_s - 1, parse_time(recording.name)
        for start, column, end in _find_runs(scores >= thresholds, settings):
            start_s = (first_row + start) * row_s
            end_s = min(float((first_row + end) * row_s), recording.duration_s)
            time = "" if begin_time is None else (begin_time + timedelta(seconds=start_s)).isoformat()
            score = scores[start:end, column].max()
            lines.append((recording.path, recording.name, time, start_s, end_s, classes[column], score))
    if rows_of:
        raise DataError(f"the table has rows of {next(iter(rows_of))!r}, which is not among the recordings.")
    return _make_table(lines) if lines else _empty_table().copy()


def _find_runs(above: npt.NDArray[np.bool_], settings: DetectionSettings) -> list[tuple[int, int, int]]:
    """Return the first row, class and end row (exclusive) of each detection, ordered by row and class."""
    runs = []
    for column in map(int, np.flatnonzero(above.any(axis=0))):
        hits = np.flatnonzero(above[:, column])
        if not settings.merge:
            runs += [(int(hit), column, int(hit) + 1) for hit in hits]
            continue
        for run in np.split(hits, np.flatnonzero(np.diff(hits) > settings.gap_rows + 1) + 1):
            if run[-1] - run[0] + 1 >= settings.min_rows:
                runs.append((int(run[0]), column, int(run[-1]) + 1))
    return sorted(runs)


def _make_table(lines: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    columns = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    # Column by column, because pandas' own string type rejects paths that are not valid UTF-8.
    cells = zip(COLUMNS.items(), columns, strict=True)
    table: pd.DataFrame = pd.DataFrame({name: pd.Series(list(values), dtype=dtype) for (name, dtype), values in cells})
    return table


@cache
def _empty_table() -> pd.DataFrame:
    # Cached, because most recordings have no detections and empty columns take as long to create as full ones.
    return _make_table([])


def parse_time(name: str) -> datetime | None:
    """Return the start of a recording from its name; None if the name has no valid date and time.

    The name contains ``YYYYMMDD_HHMMSS``, as written by recorders and competitions (AudioMoth, Song Meter, BirdCLEF);
    the last such time is used. It is the recorder's clock, without a time zone.

    >>> parse_time("siteA/BC2026_Test_0001_S05_20250227_010002.ogg")
    datetime.datetime(2025, 2, 27, 1, 0, 2)
    >>> parse_time("soundscape_8358733") is None
    True
    """
    for date, clock in reversed(_CLOCK.findall(PurePosixPath(name).name)):
        try:
            return datetime.strptime(date + clock, "%Y%m%d%H%M%S")
        except ValueError:  # other digits, such as a serial number
            continue
    return None


def exact_times(recording: Recording, lines: pd.DataFrame) -> tuple[list[Fraction], list[Fraction]]:
    """Return the exact starts and ends (s) of one recording's detections; refuse those of another recording."""
    other = lines["name"][(lines["name"] != recording.name) | (lines["recording"] != recording.path)]
    if len(other):
        raise DataError(f"a detection in {other.iloc[0]!r} was added to those in {recording.name!r}.")
    last = Fraction(recording.n_samples, recording.sample_rate)
    starts, ends = ([Fraction(round(time * 10**6), 10**6) for time in lines[name]] for name in ("start_s", "end_s"))
    closed = [last if time >= recording.duration_s else end for time, end in zip(lines["end_s"], ends, strict=True)]
    return starts, closed


def format_times(start: Fraction, end: Fraction) -> tuple[str, str]:
    """Return a start and an end with six decimals, rounded inwards by less than a sample of any recorder.

    A detection therefore stays within its recording, even in a sequence of recordings.

    >>> format_times(Fraction(1, 3), Fraction(2, 3))
    ('0.333334', '0.666666')
    """
    micros = math.ceil(start * 10**6), math.floor(end * 10**6)
    first, last = (f"{micro // 10**6}.{micro % 10**6:06d}" for micro in micros)
    return first, last


def _check_rows(recording: Recording, ends: npt.NDArray[np.int64], row_s: int) -> None:
    if (ends % row_s).any() or (np.diff(ends) != row_s).any():
        first = ", ".join(map(str, ends[:3]))
        raise DataError(f"rows of {recording.name!r} end at {first} ... s, which are not rows of {row_s} s.")
    last = int(ends[-1]) - row_s
    if last * recording.sample_rate >= recording.n_samples:
        raise DataError(
            f"row '{recording.name}_{ends[-1]}' begins at {last} s, but {recording.path} ends at "
            f"{recording.duration_s:g} s."
        )
