r"""Raven selection tables and Audacity labels.

Sources: the columns of Raven Pro's own selection tables (tab-separated, UTF-8; for a sequence of files, ``Begin Time
(s)`` counts from the start of the sequence, ``Begin Path`` and ``File Offset (s)`` give the position in the file); the
Audacity manual, "Importing and Exporting Labels": ``start<TAB>end<TAB>text`` in seconds. The optional second line
(``\<TAB>low<TAB>high``) is not written, because a detection covers the network's full band. `bcsed.data.annotations`
reads both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TextIO, TypeAlias

import pandas as pd

from ...errors import ConfigError
from ...files import as_path, atomic_write
from .detect import Recording, exact_times, format_times
from .taxonomy import ClassName, display_name

# Writes a recording and its detections, as returned by `detect`.
Writer: TypeAlias = Callable[[Recording, pd.DataFrame], None]

RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin File", "File Offset (s)", "Begin Path", "Species", "Score"),
)
RAVEN_FILE = "{}.bcsed.selections.txt"
RAVEN_COMBINED = "bcsed.selections.txt"
AUDACITY_FILE = "{}.bcsed.data.labels.txt"
# Bytes of a recording's name in the names of its files.
_LONGEST = 180


@contextmanager
def write_raven(
    folder: str | Path, *, fmin_hz: float, fmax_hz: float, names: Mapping[str, ClassName] | None = None
) -> Iterator[Writer]:
    """Yield a function that writes a Raven selection table for a `Recording` and adds it to a combined table.

    The files are ``<name>.bcsed.selections.txt`` (names beyond 180 bytes are cut and get a hash), and the combined
    ``bcsed.selections.txt``, which is written at the end of the block. Its times count over all added recordings, in
    order and including those without detections: open the same sequence of files in Raven. `fmin_hz` and `fmax_hz` are
    the band of the network (ConfigError if invalid); at most half the sample rate is written. `names` gives the
    ``Species`` common or scientific names, instead of labels. Raises DataError if detections belong to another
    recording, or a file cannot be written.
    """
    folder = as_path(folder)
    if not 0 <= fmin_hz < fmax_hz:
        raise ConfigError(f"the band must have 0 <= fmin_hz < fmax_hz, got {fmin_hz:g} and {fmax_hz:g} Hz.")
    header = "\t".join(RAVEN) + "\n"
    elapsed, n_before = Fraction(0), 0
    with atomic_write(folder / RAVEN_COMBINED) as combined, _open_text(combined) as sequence:
        sequence.write(header)

        def add(recording: Recording, lines: pd.DataFrame) -> None:
            nonlocal elapsed, n_before
            high_hz = min(fmax_hz, recording.sample_rate / 2)
            band = f"{fmin_hz if fmin_hz < high_hz else 0:.1f}", f"{high_hz:.1f}"
            path = _one_line(recording.path)
            with atomic_write(folder / _file_name(RAVEN_FILE, recording.name)) as part, _open_text(part) as single:
                single.write(header)
                for number, (start, end, species, score) in enumerate(_format_lines(recording, lines, names), 1):
                    file = _one_line(PurePath(recording.path).name), format_times(start, end)[0], path
                    for out, first, offset in ((single, number, Fraction(0)), (sequence, n_before + number, elapsed)):
                        times = format_times(offset + start, offset + end)
                        cells = (str(first), "Spectrogram 1", "1", *times, *band, *file, species, score)
                        out.write("\t".join(cells) + "\n")
            elapsed += Fraction(recording.n_samples, recording.sample_rate)
            n_before += len(lines)

        yield add


@contextmanager
def write_audacity(folder: str | Path, *, names: Mapping[str, ClassName] | None = None) -> Iterator[Writer]:
    """Yield a function that writes an Audacity label file ``<name>.bcsed.data.labels.txt`` for a `Recording`.

    Parameters and errors are those of `write_raven`. The score follows the class, ``jay;0.8731``, as in BriteKit and
    HawkEars. Without detections the file is empty.
    """
    folder = as_path(folder)

    def add(recording: Recording, lines: pd.DataFrame) -> None:
        with atomic_write(folder / _file_name(AUDACITY_FILE, recording.name)) as part, _open_text(part) as labels:
            for start, end, species, score in _format_lines(recording, lines, names):
                labels.write("\t".join([*format_times(start, end), f"{species};{score}"]) + "\n")

    yield add


def _format_lines(
    recording: Recording, lines: pd.DataFrame, names: Mapping[str, ClassName] | None
) -> Iterator[tuple[Fraction, Fraction, str, str]]:
    """Yield exact start and end, displayed name, and score as text."""
    for start, end, label, score in zip(*exact_times(recording, lines), lines["label"], lines["score"], strict=True):
        yield start, end, _one_line(display_name(label, names)), f"{score:.4f}"


def _file_name(form: str, name: str) -> str:
    """Return the file of a recording. A long name is cut and gets a hash, as file systems allow 255 bytes."""
    folder, slash, stem = name.rpartition("/")
    content = stem.encode()
    if len(content) > _LONGEST:
        stem = f"{content[:_LONGEST].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:8]}"
    return folder + slash + form.format(stem)


def _open_text(path: Path) -> TextIO:
    # Paths may contain bytes that are not UTF-8; line ends are the same on all systems.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _one_line(text: str) -> str:
    # Both formats lack quoting, so a tab in a file name would start a new column.
    return re.sub(r"[\t\r\n]+", " ", text)
