"""What is heard where, from the rows of a score table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..postprocess.stages import recordings as rows_of_recordings
from ..table import check_table

# Of the columns of a table of detections, their types in memory.
COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("recording", "name", "begin_time"), object),
    **dict.fromkeys(("start_s", "end_s"), np.float64),
    "label": object,
    "score": np.float32,
}
_CLOCK = re.compile(r"(?<!\d)(\d{8})[_T-]?(\d{6})(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a detection needs to know of its recording.

    Parameters
    ----------
    path : str
        As the user gave it.
    name : str
        What its row ids begin with; parts between ``/`` where stems alone would not tell recordings apart.
    n_samples : int >= 1
        Per channel, at `sample_rate`: of a file that is cut off, those that are there.
    sample_rate : int >= 1
        Hz, as stored.

    Raises
    ------
    DataError
        If it has no samples or no rate, or the name could lead out of a folder.
    """

    path: str
    name: str
    n_samples: int
    sample_rate: int

    def __post_init__(self) -> None:
        if self.n_samples < 1 or self.sample_rate < 1:
            raise DataError(f"{self.path}: {self.n_samples} samples at {self.sample_rate} Hz are no recording.")
        parts = self.name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise DataError(f"{self.path}: {self.name!r} is no name of a recording; it names files in a folder.")

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sample_rate


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """When a score is a detection.

    Parameters
    ----------
    threshold : float in (0, 1]
        A row of at least this score.
    thresholds : mapping of str to float
        Exceptions, by class.
    merge : bool
        Whether rows of one class that follow one another are one detection.
    gap_rows : int >= 0
        Rows below the threshold that a merged detection bridges at most, between two that are not.
    min_rows : int >= 1
        Rows, from its first to its last, that a merged detection has at least.

    Raises
    ------
    ConfigError
        If these are out of range, or `gap_rows` or `min_rows` is given and nothing is merged.
    """

    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    merge: bool = True
    gap_rows: int = 0
    min_rows: int = 1

    def __post_init__(self) -> None:
        for name, value in {"the threshold": self.threshold, **self.thresholds}.items():
            if not 0 < value <= 1:
                raise ConfigError(f"{name}: a threshold must be in (0, 1], got {value:g}.")
        if self.gap_rows < 0 or self.min_rows < 1:
            raise ConfigError(
                f"gap_rows must be at least 0 and min_rows at least 1, got {self.gap_rows} and {self.min_rows}."
            )
        if not self.merge and (self.gap_rows or self.min_rows > 1):
            raise ConfigError("gap_rows and min_rows are about merged rows; leave them out, or merge.")


def detect(
    table: pd.DataFrame, recordings: Iterable[Recording], detection: DetectionSettings | None = None, *, row_s: int = 5
) -> pd.DataFrame:
    """Return what is heard where.

    Parameters
    ----------
    table : DataFrame
        A score table with all rows of some recordings, in any order. One recording at a time gives the same
        lines as all at once.
    recordings : iterable of Recording
        Those that the table has rows of; others have no detections.
    detection : DetectionSettings, optional
        A score of at least .5, and neighbouring rows merged, by default.
    row_s : int
        Seconds of a row.

    Returns
    -------
    DataFrame
        A line for each detection, in the order of `recordings`, then by start, then in the order of the classes.
        ``recording`` (its path), ``name``, ``begin_time`` (ISO date and time at which the detection begins, by
        the clock of the recording's name; '' where that has none), ``start_s``, ``end_s`` (seconds from the
        beginning of the recording; the end is not beyond its own), ``label``, ``score`` (of merged rows, the
        highest).

    Raises
    ------
    ConfigError
        If a threshold is given for a class that the table has not.
    DataError
        If the table is none, has rows of a recording that is not given or beyond its end, or rows are not
        `row_s` seconds apart.
    """
    chosen = detection or DetectionSettings()
    classes = [str(name) for name in table.columns]
    unknown = sorted(set(chosen.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes.")
    if len(table):
        check_table(table, where="the score table")
    grouped = rows_of_recordings(table.index)
    least = np.array([chosen.thresholds.get(name, chosen.threshold) for name in classes], np.float32)
    values = table.to_numpy(np.float32)
    lines: list[tuple[object, ...]] = []
    for recording in recordings:
        if recording.name in grouped:
            ends, places = grouped.pop(recording.name)
            _check_rows(recording, ends, row_s)
            first = int(ends[0]) // row_s - 1
            lines += _lines(recording, values[places], first, classes, least, chosen, row_s)
    if grouped:
        raise DataError(f"the table has rows of {next(iter(grouped))!r}, which is not among the recordings.")
    return _table(lines) if lines else _nothing().copy()


def _table(lines: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    columns = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    # Column by column: pandas' own text cannot hold a path whose bytes are no text.
    made = {name: pd.Series(list(cells), dtype=COLUMNS[name]) for name, cells in zip(COLUMNS, columns, strict=True)}
    found: pd.DataFrame = pd.DataFrame(made)
    return found


@cache
def _nothing() -> pd.DataFrame:
    """Return a table without lines, which most recordings' is: seven empty columns cost as much as full ones."""
    return _table([])


def parse_time(name: str) -> datetime | None:
    """Return when a recording begins, by its name; None where the name does not say.

    Names are as recorders and competitions write them, with ``YYYYMMDD_HHMMSS`` in them (AudioMoth, Song Meter,
    BirdCLEF); of several the last counts. The clock is the recorder's: a name says nothing of its zone.

    Examples
    --------
    >>> parse_time("siteA/BC2026_Test_0001_S05_20250227_010002.ogg")
    datetime.datetime(2025, 2, 27, 1, 0, 2)
    >>> parse_time("soundscape_8358733") is None
    True
    """
    for date, clock in reversed(_CLOCK.findall(PurePosixPath(name).name)):
        try:
            return datetime.strptime(date + clock, "%Y%m%d%H%M%S")
        except ValueError:  # digits that are no date, such as a serial number
            continue
    return None


def spans(recording: Recording, found: pd.DataFrame) -> tuple[list[Fraction], list[Fraction]]:
    """Return the exact begins and ends, in seconds, of one recording's detections, for formats that write decimals.

    Raises
    ------
    DataError
        If one of them is of another recording.
    """
    strange = found["name"][(found["name"] != recording.name) | (found["recording"] != recording.path)]
    if len(strange):
        raise DataError(f"a detection in {strange.iloc[0]!r} was added to those in {recording.name!r}.")
    last = Fraction(recording.n_samples, recording.sample_rate)
    starts, ends = ([Fraction(round(time * 10**6), 10**6) for time in found[name]] for name in ("start_s", "end_s"))
    closed = [last if time >= recording.duration_s else end for time, end in zip(found["end_s"], ends, strict=True)]
    return starts, closed


def decimals(start: Fraction, end: Fraction) -> tuple[str, str]:
    """Return a begin and an end with six decimals, rounded inwards: less than a sample of any recorder.

    So a detection does not begin in the recording before, nor end beyond its own.

    Examples
    --------
    >>> decimals(Fraction(1, 3), Fraction(2, 3))
    ('0.333334', '0.666666')
    """
    micros = math.ceil(start * 10**6), math.floor(end * 10**6)
    first, last = (f"{micro // 10**6}.{micro % 10**6:06d}" for micro in micros)
    return first, last


def _check_rows(recording: Recording, ends: npt.NDArray[np.int64], row_s: int) -> None:
    if (ends % row_s).any() or (np.diff(ends) != row_s).any():
        shown = ", ".join(map(str, ends[:3]))
        raise DataError(f"rows of {recording.name!r} end at {shown} ... s, which are no rows of {row_s} s.")
    last = int(ends[-1]) - row_s
    if last * recording.sample_rate >= recording.n_samples:
        raise DataError(
            f"row '{recording.name}_{ends[-1]}' begins at {last} s, but {recording.path} ends at "
            f"{recording.duration_s:g} s."
        )


def _lines(
    recording: Recording,
    scores: npt.NDArray[np.float32],
    first: int,
    classes: list[str],
    least: npt.NDArray[np.float32],
    chosen: DetectionSettings,
    row_s: int,
) -> list[tuple[object, ...]]:
    """Return one recording's detections; `first` is the number of its first row here."""
    lines, began = [], parse_time(recording.name)
    above = scores >= least
    for column in np.flatnonzero(above.any(axis=0)):
        for begin, end in _runs(np.flatnonzero(above[:, column]), chosen):
            start_s = (first + begin) * row_s
            end_s = min(float((first + end) * row_s), recording.duration_s)
            score = scores[begin:end, column].max()
            clock = "" if began is None else (began + timedelta(seconds=start_s)).isoformat()
            lines.append((begin, column, clock, start_s, end_s, classes[column], score))
    lines.sort(key=lambda line: line[:2])
    return [(recording.path, recording.name, *line[2:]) for line in lines]


def _runs(hits: npt.NDArray[np.intp], chosen: DetectionSettings) -> Iterator[tuple[int, int]]:
    """Yield the first row of each detection and the row after its last."""
    if not chosen.merge:
        yield from ((int(hit), int(hit) + 1) for hit in hits)
        return
    for run in np.split(hits, np.flatnonzero(np.diff(hits) > chosen.gap_rows + 1) + 1):
        if run[-1] - run[0] + 1 >= chosen.min_rows:
            yield int(run[0]), int(run[-1]) + 1
