"""Read the events of one annotation table: its text, its columns and its numbers."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import DataError
from ..files import os_errors, quote_list, read_errors, require_file
from ..recordings import printable
from .label_files import parse_labels

# The names of columns in lower case, without other characters than letters and digits. An earlier group is preferred;
# two columns of one group are ambiguous.
_NAMES: Mapping[str, Sequence[str]] = {
    "start": ("begintimes start starts starttime starttimes startsec startseconds onset onsets begins",),
    "end": ("endtimes end ends endtime endsec endseconds offset offsets stop stops",),
    "offset": ("fileoffsets",),
    "file": (
        "beginpath",
        "recording recordings recordingpath file filename filepath path audiofile audiofilename audiofilepath "
        "audiopath notatedpath soundfile soundfiles soundpath wavfile input",
        "beginfile",
    ),
    "end file": ("endpath", "endfile"),
    "low": ("lowfreqhz lowhz lowf lowfreq lowfrequency lowfrequencyhz minfreq minfreqhz freqlow fmin freqmin",),
    "high": ("highfreqhz highhz highf highfreq highfrequency highfrequencyhz maxfreq maxfreqhz freqhigh fmax freqmax",),
    "label": (
        "label labels primarylabel",
        "annotation annotations tag tags class classname",
        "species speciesname",
        *("scientificname", "commonname", "speciescode ebirdcode classcode", "name"),
    ),
    "score": ("score", "confidence", "probability"),
    "view": ("view",),
    "selection": ("selection",),
}
_TABLE_ENDINGS = re.compile(
    r"(\.Table\.\d+)?(\.bcsed)?\.selections$|\.bcsed\.data\.labels$|\.BirdNET\.(results|selection\.table)$"
    r"|_(HawkEars|Perch|scores)$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d{1,3})?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,6}):(\d{1,6}(?:[.,]\d+)?)")
_LARGEST = 10**9  # seconds, Hz
# bcsed writes empty files of this name for recordings without detections.
_EMPTY_LABELS = ".bcsed.data.labels.txt"


def read_events(path: Path, label_column: str | None) -> list[dict[str, Any]]:
    """Return the events of a table, and as ``source`` the path and line of each."""
    lines = re.split(r"\r\n|\r|\n", _read_text(path).rstrip("\r\n"))
    first = next((line for line in lines if line.strip()), "")
    reader = _Reader(path)
    if not first:
        if not path.name.endswith(_EMPTY_LABELS):
            raise DataError(f"{path}: the file is empty; leave it out, or write the header of a table without events.")
    elif all(_NUMBER.fullmatch(cell.strip()) for cell in f"{first}\t".split("\t")[:2]):
        reader.read_audacity(lines)
    else:
        reader.read_table(lines, first, label_column)
    return reader.events


def table_stem(path: Path) -> str:
    """Return the name of the recording after which a table is named.

    >>> table_stem(Path("a/S1_0630.Table.1.selections.txt")), table_stem(Path("S1_0630.BirdNET.results.csv"))
    ('S1_0630', 'S1_0630')
    """
    return printable(_TABLE_ENDINGS.sub("", path.stem))


def path_parts(path: str) -> list[str]:
    """Return the parts of a path of any system, the file name first."""
    return [part for part in re.split(r"[\\/]+", path) if part][::-1] or [path]


def _read_text(path: Path) -> str:
    require_file(path)
    with os_errors(path):
        content = path.read_bytes()
    coding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    try:
        text = content.decode(coding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, value = content[: error.start].count(b"\n") + 1, content[error.start : error.start + 1].hex()
        advice = "save the table as UTF-8, as with: iconv -f cp1252 -t utf-8"
        raise DataError(f"{path}: line {line} is not {coding} (byte 0x{value}); {advice}.") from error
    if "\0" in text:
        raise DataError(f"{path}: contains zero bytes, so it is not a text; save the table as UTF-8 text.")
    return text


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _split_tabs(line: str) -> list[str]:
    """Return the cells of a line with tabs; Raven and Audacity do not quote, Excel does."""
    cells = (cell.strip() for cell in line.split("\t"))
    return [cell[1:-1].replace('""', '"') if re.fullmatch(r'".*"', cell) else cell for cell in cells]


def _split_header(path: Path, line: str) -> tuple[str, list[str]]:
    """Return the separator of a table, by which most columns are recognised, and the names of its columns."""
    known = {name for groups in _NAMES.values() for group in groups for name in group.split()}
    with read_errors(path, "a table"):
        headers = {mark: [cell.strip() for cell in next(csv.reader([line], delimiter=mark), [])] for mark in ",;"}
    headers = {"\t": _split_tabs(line), **headers}
    separator = max(headers, key=lambda mark: (sum(_key(name) in known for name in headers[mark]), len(headers[mark])))
    if len(headers[separator]) < 2:
        problem = f"no tab, comma or semicolon separates the columns of {line[:80]!r}; save the table with one of these"
        raise DataError(f"{path}: line 1: {problem}.")
    return separator, headers[separator]


@dataclass
class _Reader:
    """The events of one table, and the decimal mark that it uses."""

    path: Path
    mark: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    def read_audacity(self, lines: Sequence[str]) -> None:
        """Read Audacity labels: start, end, label and perhaps a score; a line of frequencies may follow."""
        waits = False  # for the frequencies of the last label
        for number, line in enumerate(lines, 1):
            cells = line.split("\t")
            if not line.strip():
                continue
            if cells[0] == "\\":
                if not waits or len(cells) != 3:
                    self.refuse(number, f"the frequencies {line!r} do not follow a label, or are not two")
                # Audacity writes -1 where a frequency is not set.
                self.events[-1] |= self.band(number, *("" if cell.startswith("-") else cell for cell in cells[1:]))
                waits = False
                continue
            if len(cells) not in (2, 3, 4):
                self.refuse(number, f"{len(cells)} columns, expected start, end and label, separated by tabs")
            label, score = (*cells[2:], "", "")[:2]
            if match := re.fullmatch(rf"(.+);({_NUMBER.pattern})", label, re.IGNORECASE):
                label, score = match[1], match[2]
            self.add(number, {"start": cells[0], "end": cells[1], "label": label, "score": score})
            waits = True

    def read_table(self, lines: Sequence[str], first: str, label_column: str | None) -> None:
        """Read a table with a header."""
        separator, header = _split_header(self.path, first)
        rows = dict(self.split(lines, separator, len(header)))
        columns = self.find_columns(header, rows, label_column)
        table = {number: {role: row[k].strip() for role, k in columns.items()} for number, row in rows.items()}
        n_files = len({values.get("file") for values in table.values()})
        if n_files > 1 and "offset" not in columns and _key(header[columns["start"]]) == "begintimes":
            advice = "add the column File Offset (s) in Raven, or save one table per recording"
            self.refuse(1, f"{header[columns['start']]} may count over all {n_files} files; {advice}")
        shown = {_selection(each) for each in table.values() if each.get("view", "").lower().startswith("spectrogram")}
        several = _key(header[columns["label"]]) == "primarylabel"
        for number, values in table.items():
            if values.get("view", "").lower().startswith("waveform") and _selection(values) in shown:
                continue
            for label in parse_labels(values["label"]) if several else (values["label"],):
                self.add(number, {**values, "label": label})

    def split(self, lines: Sequence[str], separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the cells of each line after the header."""
        split: Iterator[tuple[int, list[str]]] = ((k, _split_tabs(line)) for k, line in enumerate(lines, 1))
        if separator != "\t":
            quoted = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
            split = ((quoted.line_num, row) for row in quoted)
        try:
            filled = ((number, row) for number, row in split if any(map(str.strip, row)))
            next(filled, None)
            for number, row in filled:
                if len(row) < width or any(map(str.strip, row[width:])):
                    problem = f"{len(row)} columns, but the header has {width}; complete the line, or quote its cells"
                    self.refuse(number, problem)
                yield number, row
        except csv.Error as error:
            self.refuse(quoted.line_num, f"not readable as a table ({error})")

    def find_columns(
        self, header: Sequence[str], rows: Mapping[int, list[str]], label_column: str | None
    ) -> dict[str, int]:
        """Return the index of the column of each role; refuse ambiguous and missing ones."""
        columns: dict[str, int] = {}
        for role, groups in _NAMES.items():
            named = ([k for k, name in enumerate(header) if _key(name) in group.split()] for group in groups)
            matching = next(filter(None, named), [])
            if role == "label" and label_column is not None:
                matching = [k for k, name in enumerate(header) if name == label_column.strip()]
            if any(row[k] != row[matching[0]] for row in rows.values() for k in matching[1:]):
                names = quote_list(header[k] for k in matching)
                self.refuse(1, f"the columns {names} could each be the {role}; keep one of them, or rename the others")
            if matching:
                columns[role] = matching[0]
        for role, advice in (("start", "start_s"), ("end", "end_s"), ("label", "label, or give it as label column")):
            if role not in columns:
                role = label_column or role if role == "label" else role
                problem = (
                    f"no column is {role!r}; its columns are {quote_list(header, 30)}: name the right one {advice}"
                )
                self.refuse(1, problem)
        return columns

    def add(self, number: int, values: Mapping[str, str]) -> None:
        """Add the event of a line; refuse it without recording or label, or with invalid times."""
        start, end = (self.number(number, role, values[role]) for role in ("start", "end"))
        if "offset" in values:
            offset = self.number(number, "file offset", values["offset"])
            start, end = offset, offset + end - start
        if not 0 <= start < end:
            problem = "is negative" if start < 0 else "is not before its end"
            self.refuse(number, f"the event from {start:f} to {end:f} s {problem}; correct its times, or remove it")
        file = values.get("file", table_stem(self.path))
        if not file:
            self.refuse(number, "the event has no recording; fill in its cell")
        last = values.get("end file") or file
        if path_parts(last)[0] != path_parts(file)[0]:
            self.refuse(number, f"the event begins in {file!r} and ends in {last!r}; split it at the file's end")
        label, score = values["label"].strip(), values.get("score", "").strip()
        if not label:
            self.refuse(number, "the event has no label; write one, or nocall where nothing calls")
        self.events.append(
            {
                "recording": file,
                "start_s": float(start),
                "end_s": float(end),
                **self.band(number, values.get("low", ""), values.get("high", "")),
                "label": label,
                "score": float(self.number(number, "score", score)) if score else np.nan,
                "source": f"{self.path}: line {number}",
            }
        )

    def band(self, number: int, low: str, high: str) -> dict[str, float]:
        """Return the frequencies of an event."""
        low_hz, high_hz = (float(self.number(number, "frequency", x)) if x.strip() else np.nan for x in (low, high))
        if low_hz < 0 or high_hz < max(low_hz, 0):
            self.refuse(number, f"the frequencies {low} to {high} Hz are negative or not in order; correct them")
        return {"low_hz": low_hz, "high_hz": high_hz}

    def number(self, number: int, role: str, cell: str) -> Decimal:
        """Return a number, or a time as ``HH:MM:SS``, exactly; refuse a table with two decimal marks."""
        text = cell.strip()
        clock = _CLOCK.fullmatch(text)
        if clock is None and not _NUMBER.fullmatch(text):
            self.refuse(number, f"the {role} {cell!r} is not a number; write seconds or Hz, such as 12.5")
        mark = next((mark for mark in ",." if mark in text), self.mark)
        if self.mark not in ("", mark):
            self.refuse(number, f"{cell!r} has another decimal mark than the numbers before it; use the same in all")
        self.mark = mark
        hours, minutes, seconds = clock.groups("0") if clock else ("0", "0", text)
        value = 3600 * int(hours) + 60 * int(minutes) + Decimal(seconds.replace(",", "."))
        if not abs(value) < _LARGEST:
            self.refuse(number, f"the {role} {cell!r} is too large; correct it")
        return value

    def refuse(self, number: int, problem: str) -> NoReturn:
        """Raise a DataError about a line."""
        raise DataError(f"{self.path}: line {number}: {problem}.")


def _selection(values: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(values.get(role) for role in ("selection", "start", "end", "file"))
