r"""Raven selection tables and Audacity labels.

Sources: the columns of Raven Pro's own selection tables (tab-separated, UTF-8; for a sequence of files ``Begin
Time (s)`` runs over the whole sequence, and ``Begin Path`` with ``File Offset (s)`` say where that is); the Audacity
manual, "Importing and Exporting Labels": ``start<TAB>end<TAB>text`` in seconds. Its optional second line
(``\<TAB>low<TAB>high``) is left out: a detection is about the whole band of the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TextIO, TypeAlias

import numpy as np
import pandas as pd

from ...errors import ConfigError, DataError
from ...files import as_path, atomic_write
from .detect import Recording, decimals, spans
from .taxonomy import ClassName, display_name

# Takes one recording after the other, with its detections.
Writer: TypeAlias = Callable[[Recording, pd.DataFrame], None]

RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin File", "File Offset (s)", "Begin Path", "Species", "Score"),
)
RAVEN_FILE = "{}.bcsed.selections.txt"
RAVEN_COMBINED = "bcsed.selections.txt"
AUDACITY_FILE = "{}.bcsed.data.labels.txt"


@contextmanager
def write_raven(
    folder: str | Path, *, fmin_hz: float, fmax_hz: float, names: Mapping[str, ClassName] | None = None
) -> Iterator[Writer]:
    """Write a Raven selection table for each recording, and one of all of them.

    Parameters
    ----------
    folder : str or Path
        Gets ``<name>.bcsed.selections.txt``, each when its recording is added, and ``bcsed.selections.txt``
        when the block ends well. In that one times run over all recordings that were added, in their order, those
        without detections included: open the same sequence of files in Raven.
    fmin_hz, fmax_hz : float
        The band that was listened to; capped at half the sample rate of each recording.
    names : mapping of str to Name, optional
        What ``Species`` shows instead of labels: common names, else scientific ones.

    Yields
    ------
    callable
        Takes a `Recording` and its detections, as from `detect`; in the order of the sequence.

    Raises
    ------
    ConfigError
        If the band is none.
    DataError
        If detections are of another recording, or the disk refuses.
    """
    folder = as_path(folder)
    if not 0 <= fmin_hz < fmax_hz:
        raise ConfigError(f"the band must have 0 <= fmin_hz < fmax_hz, got {fmin_hz:g} and {fmax_hz:g} Hz.")
    header = "\t".join(RAVEN) + "\n"
    before, n_before = Fraction(0), 0
    with atomic_write(folder / RAVEN_COMBINED) as combined, _opened(combined) as stream:
        stream.write(header)

        def add(recording: Recording, found: pd.DataFrame) -> None:
            nonlocal before, n_before
            band = _band(recording, fmin_hz, fmax_hz)
            with atomic_write(folder / RAVEN_FILE.format(recording.name)) as own, _opened(own) as table:
                table.write(header)
                for number, (start, end, species, score) in enumerate(_told(recording, found, names), 1):
                    where = _plain(PurePath(recording.path).name), decimals(start, end)[0], _plain(recording.path)
                    for out, first, offset in ((table, number, Fraction(0)), (stream, n_before + number, before)):
                        times = decimals(offset + start, offset + end)
                        cells = (str(first), "Spectrogram 1", "1", *times, *band, *where, species, score)
                        out.write("\t".join(cells) + "\n")
            before += Fraction(recording.n_samples, recording.sample_rate)
            n_before += len(found)

        yield add


@contextmanager
def write_audacity(folder: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Write an Audacity label file for each recording.

    Parameters
    ----------
    folder : str or Path
        Gets ``<name>.bcsed.data.labels.txt``, each when its recording is added; empty where nothing was detected.
    names : mapping of str to Name, optional
        What the text shows instead of labels, as in `write_raven`. Behind it stands the score, ``jay;0.8731``, as
        BriteKit and HawkEars write it.

    Yields
    ------
    callable
        Takes a `Recording` and its detections, as from `detect`.

    Raises
    ------
    DataError
        As `write_raven`.
    """
    folder = as_path(folder)

    def add(recording: Recording, found: pd.DataFrame) -> None:
        with atomic_write(folder / AUDACITY_FILE.format(recording.name)) as own, _opened(own) as labels:
            for start, end, species, score in _told(recording, found, names):
                labels.write("\t".join([*decimals(start, end), f"{species};{score}"]) + "\n")

    yield add


def read_raven(path: str | Path) -> pd.DataFrame:
    """Read a table of `write_raven`.

    Returns
    -------
    DataFrame
        ``recording`` (path), ``start_s``, ``end_s`` (in the recording, whether the table is of one or of a
        sequence), ``low_hz``, ``high_hz``, ``label`` (what ``Species`` shows) and ``score``.

    Raises
    ------
    DataError
        If there is no such file, or it is no such table.
    """
    table = _read(Path(path), RAVEN)
    numbers = {name: _numbers(table[name], path) for name in (*RAVEN[3:7], "File Offset (s)", "Score")}
    start = numbers["File Offset (s)"]
    columns = {
        "recording": table["Begin Path"],
        "start_s": start,
        # The sum of two rounded numbers is not as round as they are.
        "end_s": (start + numbers["End Time (s)"] - numbers["Begin Time (s)"]).round(6),
        "low_hz": numbers["Low Freq (Hz)"],
        "high_hz": numbers["High Freq (Hz)"],
        "label": table["Species"],
        "score": numbers["Score"],
    }
    read: pd.DataFrame = pd.DataFrame(columns)
    return read


def read_audacity(path: str | Path) -> pd.DataFrame:
    """Read a file of `write_audacity`, or another one of Audacity's labels.

    Returns
    -------
    DataFrame
        ``start_s``, ``end_s``, ``label`` and ``score``; NaN where the text does not end with ``;`` and a number.
        Lines of frequencies are left out.

    Raises
    ------
    DataError
        If there is no such file, or it is no such table.
    """
    table = _read(Path(path), ())
    table = table[table[0] != "\\"].reset_index(drop=True)
    texts = table[2].str.extract(r"^(?P<label>.*?)(?:;(?P<score>\d*\.?\d+))?$")
    columns = {
        "start_s": _numbers(table[0], path),
        "end_s": _numbers(table[1], path),
        "label": texts["label"].fillna(""),
        "score": texts["score"].astype(np.float64),
    }
    read: pd.DataFrame = pd.DataFrame(columns)
    return read


def _told(
    recording: Recording, found: pd.DataFrame, names: Mapping[str, ClassName] | None
) -> Iterator[tuple[Fraction, Fraction, str, str]]:
    """Yield exact begin and end, what to show of the class, and the score as text."""
    for start, end, label, score in zip(*spans(recording, found), found["label"], found["score"], strict=True):
        yield start, end, _plain(display_name(label, names)), f"{score:.4f}"


def _band(recording: Recording, fmin_hz: float, fmax_hz: float) -> tuple[str, str]:
    high = min(fmax_hz, recording.sample_rate / 2)
    return f"{fmin_hz if fmin_hz < high else 0:.1f}", f"{high:.1f}"


def _opened(path: Path) -> TextIO:
    # A path may hold bytes that are no text; the same line ends on every system.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _plain(text: str) -> str:
    # Neither format can quote; a tab in a file's name would begin a column.
    return re.sub(r"[\t\r\n]+", " ", text)


def _read(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return a tab-separated file as text, with `needed` among its columns, or with three and no header."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").split("\n") if line]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not readable as UTF-8 text ({error.reason}).") from error
    header = lines.pop(0) if needed and lines else []
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; its columns are {', '.join(header) or 'none'}.")
    width = len(header) or 3
    for number, line in enumerate(lines, 1 + bool(header)):
        if len(line) != width:
            raise DataError(f"{path}: line {number} has {len(line)} columns where {width} belong.")
    read: pd.DataFrame = pd.DataFrame(lines, columns=header or range(width), dtype=object)
    return read


def _numbers(column: pd.Series[str], path: str | Path) -> pd.Series[float]:
    try:
        return column.astype(np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a time or score is no number ({error}).") from error
