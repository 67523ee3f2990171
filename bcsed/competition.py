"""A year is data: where its files are, what its classes are called, how its rows are named.

Conventions
-----------
A label is text, always: ``1139490`` is a taxon number and ``024`` is not ``24``. The class list comes from
the files that say what a submission must hold, never from the folders that happen to exist (28 classes of
2026 have no recording); only the layout for one's own recordings, `FOLDERS`, may name its classes by
folders. Paths in the tables are as given by the caller, joined to the data folder.
"""

from __future__ import annotations

import ast
import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from .errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Competition:
    """What differs between years, as plain values; file names are relative to the data folder.

    Parameters
    ----------
    name : str
        Its key in `COMPETITIONS`.
    marks : tuple of str
        `detect` takes a folder for this competition if any of these is there.
    row_s, recording_s : int
        Seconds of a row, and of a test recording.
    audio_dir, soundscapes_dir, test_dir : str
        Labelled clips, recordings to pseudolabel, recordings to score.
    train_csv, label_column : str
        The clips' labels, and the column of the label (in `taxonomy_csv` too).
    sample_submission_csv, classes_txt, taxonomy_csv : str
        Class lists: a header after ``row_id``, one class a line, or a column beside which ``class_name``
        (Aves, Amphibia, ...) may stand. '' for none.
    soundscape_labels_csv : str
        Labels of soundscape rows; '' for none.
    recording_pattern : str
        How a clip's stem begins with the id of its original recording, see `read_train`.
    name_pattern : str
        The stem of a soundscape, with groups ``site``, ``date`` (YYYYMMDD) and ``time`` (HHMMSS).
    utc_offset_h : int
        Hours from the clock in these names to local time: -4 where it shows UTC in the Pantanal, 0 where it
        is taken to be local already.
    row_id : str
        Form of a row's id, from ``stem`` and ``end`` (whole seconds).
    classes_from_clips : bool
        Whether, without a class list, the clips' labels or folders may stand for one.
    """

    name: str
    marks: tuple[str, ...]
    row_s: int = 5
    recording_s: int = 60
    audio_dir: str = "train_audio"
    soundscapes_dir: str = "train_soundscapes"
    test_dir: str = "test_soundscapes"
    train_csv: str = "train.csv"
    label_column: str = "primary_label"
    sample_submission_csv: str = "sample_submission.csv"
    classes_txt: str = ""
    taxonomy_csv: str = "taxonomy.csv"
    soundscape_labels_csv: str = ""
    recording_pattern: str = r"(?:XC|iNat|CSA)\d+"
    name_pattern: str = r"(?:(?P<site>.+)_)?(?P<date>\d{8})_(?P<time>\d{6})"
    utc_offset_h: int = 0
    row_id: str = "{stem}_{end}"
    classes_from_clips: bool = False


BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    marks=("train_soundscapes_labels.csv",),
    soundscape_labels_csv="train_soundscapes_labels.csv",
    name_pattern=r"BC2026_(?:Train|Test)_\d+_(?P<site>S\d+)_(?P<date>\d{8})_(?P<time>\d{6})",
    utc_offset_h=-4,
)
BIRDCLEF_2025 = Competition(
    name="birdclef-2025",
    marks=("train.csv", "taxonomy.csv", "sample_submission.csv"),
    name_pattern=r"(?P<site>[^_]+)_(?P<date>\d{8})_(?P<time>\d{6})",
)
# One's own recordings: audio/<class>/..., or audio/ and a labels.csv of filename,label[,secondary_labels]
# [,author][,recording]; classes.txt or classes.csv where the class list should not follow from these.
FOLDERS = Competition(
    name="folders",
    marks=("labels.csv", "audio"),
    audio_dir="audio",
    soundscapes_dir="soundscapes",
    test_dir="test",
    train_csv="labels.csv",
    label_column="label",
    sample_submission_csv="",
    classes_txt="classes.txt",
    taxonomy_csv="classes.csv",
    classes_from_clips=True,
)
COMPETITIONS: Mapping[str, Competition] = {
    value.name: value for value in (BIRDCLEF_2026, BIRDCLEF_2025, FOLDERS)
}


def detect(folder: str | Path) -> Competition:
    """Return the competition whose files are in a folder: the first of `COMPETITIONS` that fits.

    Raises
    ------
    DataError
        If the folder does not exist, or no competition fits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    for competition in COMPETITIONS.values():
        if any((folder / mark).exists() for mark in competition.marks):
            return competition
    found = sorted(path.name for path in folder.iterdir())
    wanted = "; ".join(f"{' or '.join(c.marks)} for {c.name}" for c in COMPETITIONS.values())
    raise DataError(f"{folder}: no competition fits what is there ({_some(found)}); needed: {wanted}.")


class RecordingName(NamedTuple):
    """What a soundscape's name tells: its site ('' unknown), and its beginning in local time, zone-free."""

    site: str
    time: datetime | None


def parse_name(name: str | Path, competition: Competition) -> RecordingName:
    """Read site and local time from a soundscape's file name; a name of another form tells neither.

    Examples
    --------
    >>> parse_name("BC2026_Train_0039_S22_20211231_021500.ogg", BIRDCLEF_2026)
    RecordingName(site='S22', time=datetime.datetime(2021, 12, 30, 22, 15))
    >>> parse_name("soundscape_8358733.ogg", BIRDCLEF_2025)
    RecordingName(site='', time=None)
    """
    match = re.fullmatch(competition.name_pattern, Path(name).stem)
    if not match:
        return RecordingName("", None)
    try:
        clock = datetime.strptime(match["date"] + match["time"], "%Y%m%d%H%M%S")
    except ValueError:  # digits that are no date, such as a serial number
        return RecordingName(match["site"] or "", None)
    return RecordingName(match["site"] or "", clock + timedelta(hours=competition.utc_offset_h))


def class_list(folder: str | Path, competition: Competition) -> tuple[str, ...]:
    """Return the classes, in the order of the submission's columns.

    The order is that of the sample submission (or `classes_txt`), else of the taxonomy; where both are
    there they must name the same classes. `FOLDERS` falls back on the sorted labels of its label file, and
    without one on the sorted names of the folders.

    Raises
    ------
    DataError
        If there is no source, one is empty or repeats a class, or two differ.
    """
    sources = _class_sources(Path(folder), competition)
    if not sources:
        places = (competition.sample_submission_csv, competition.classes_txt, competition.taxonomy_csv)
        raise DataError(f"{folder}: no class list; needed: {' or '.join(filter(None, places))}.")
    for where, names in sources.items():
        wrong = sorted({name for name in names if not name or names.count(name) > 1})
        if wrong or not names:
            found = f"{wrong[0]!r} is empty or stands more than once" if wrong else "there is none"
            raise DataError(f"{where}: the classes must be distinct names, but {found}.")
    (first, names), *others = sources.items()
    for other, theirs in others:
        only = {first: sorted(set(names) - set(theirs)), other: sorted(set(theirs) - set(names))}
        if any(only.values()):
            told = "; ".join(f"only in {where}: {_some(extra)}" for where, extra in only.items())
            raise DataError(f"two class lists differ; {told}.")
    return tuple(names)


def _class_sources(folder: Path, competition: Competition) -> dict[str, list[str]]:
    sources: dict[str, list[str]] = {}
    path = folder / competition.sample_submission_csv
    if competition.sample_submission_csv and path.is_file():
        # Not by pandas, which renames a column that stands twice.
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        if header[:1] != ["row_id"]:
            raise DataError(f"{path}: the first column must be row_id, got {_some(header[:1])}.")
        sources[str(path)] = header[1:]
    path = folder / competition.classes_txt
    if competition.classes_txt and path.is_file():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        sources[str(path)] = [line.strip() for line in lines if line.strip()]
    path = folder / competition.taxonomy_csv
    if path.is_file():
        sources[str(path)] = list(_read(path, [competition.label_column])[competition.label_column])
    if not sources and competition.classes_from_clips:
        clips = _list_clips(folder, competition)
        sources[str(folder)] = sorted(set(clips[competition.label_column]))
    return sources


def taxa(folder: str | Path, competition: Competition) -> dict[str, str]:
    """Return the taxonomic class (Aves, Amphibia, ...) of each class, '' where the data do not say."""
    known: dict[str, str] = {}
    path = Path(folder) / competition.taxonomy_csv
    if path.is_file():
        table = _read(path, [competition.label_column])
        groups = table.get("class_name", [""] * len(table))
        known = dict(zip(table[competition.label_column], groups, strict=True))
    return {name: known.get(name, "") for name in class_list(folder, competition)}


def read_train(folder: str | Path, competition: Competition, classes: Sequence[str]) -> pd.DataFrame:
    """Read the labelled clips.

    Returns
    -------
    DataFrame
        One row per clip, in the file's order: ``path`` (str, joined to `folder`), ``filename``, ``label``,
        ``secondary`` (tuple of str, without the label itself), ``recording`` and ``author`` ('' unknown).
        ``recording`` says which clips are cuts of one recording, and must stay in one fold: a column of that
        name where the file has one, else the beginning of the stem that matches `recording_pattern`
        (``XC123_0`` and ``XC123-1`` are both XC123, under whatever label), else the whole stem. Other names
        say nothing about cuts, so ``a_0`` and ``a_1`` stay two recordings unless the column says otherwise.

    Raises
    ------
    DataError
        If a column is missing, the table is empty, a file stands twice, or a label is not among the classes.
        Secondary labels outside the classes are common in BirdCLEF: they are dropped, and counted in the log.
    """
    folder = Path(folder)
    raw, where = _list_clips(folder, competition), folder / competition.train_csv
    doubled = raw["filename"][raw["filename"].duplicated()]
    if len(doubled):
        raise DataError(f"{where}: {doubled.iloc[0]!r} stands more than once ({len(doubled)} such rows).")
    label = raw[competition.label_column]
    _check_known(label, classes, where)
    empty = pd.Series([""] * len(raw), index=raw.index, dtype=object)
    cells = raw.get("secondary_labels", empty)
    stems = [PurePosixPath(name).stem for name in raw["filename"]]
    begins = [re.match(competition.recording_pattern, stem) for stem in stems]
    ids = [begin.group() if begin else stem for begin, stem in zip(begins, stems, strict=True)]
    table: pd.DataFrame = pd.DataFrame(
        {
            "path": [str(folder / competition.audio_dir / name) for name in raw["filename"]],
            "filename": raw["filename"],
            "label": label,
            "secondary": _known_secondary(cells, label, classes, where),
            "recording": [given or own for given, own in zip(raw.get("recording", empty), ids, strict=True)],
            "author": raw.get("author", empty).str.strip(),
        }
    )
    return table


def parse_labels(cell: str) -> tuple[str, ...]:
    """Read a cell of labels: a written Python list, or labels between semicolons.

    Raises
    ------
    DataError
        If it opens a list and is none, lacks commas, or has items other than text and whole numbers.

    Examples
    --------
    >>> parse_labels("['']"), parse_labels("['grekis', 'whtdov']"), parse_labels("22961;024")
    ((), ('grekis', 'whtdov'), ('22961', '024'))
    """
    if not cell.strip().startswith("["):
        return tuple(part.strip() for part in cell.split(";") if part.strip())
    try:
        items = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError):
        items = [None]
    # NumPy writes lists without commas, and Python would join such neighbours into one label.
    joined = re.search(r"""['"]\s+['"]""", cell)
    if joined or not all(isinstance(item, (str, int)) for item in items):
        raise DataError(f"{cell!r} is no list of labels; write ['a', 'b'] or a;b.")
    return tuple(str(item).strip() for item in items if str(item).strip())


def check_files(table: pd.DataFrame) -> None:
    """Refuse (DataError) a table of clips if a ``path`` of it is not there, with the number of these."""
    gone = [path for path in table["path"] if not Path(path).is_file()]
    if gone:
        raise DataError(f"{len(gone)} of {len(table)} recordings are missing: {_some(gone, 3)}.")


def read_soundscape_labels(path: str | Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read which classes call in which part of which soundscape.

    The CSV has ``filename,start,end,primary_label``: times as ``HH:MM:SS`` or whole seconds, labels between
    semicolons, an empty cell where nothing calls.

    Returns
    -------
    DataFrame
        ``filename``, ``start_s``, ``end_s`` (int64) and ``labels`` (tuple, in class order); one row per part,
        in order of first appearance. Parts that stand more than once (all do in 2026) hold the union.

    Raises
    ------
    DataError
        If a column is missing, the table is empty, a time is not a whole second, a part does not end
        after it begins, or a label is not among the classes.
    """
    path = Path(path)
    raw = _read(path, ["filename", "start", "end", "primary_label"])
    starts = [_seconds(cell, path) for cell in raw["start"]]
    ends = [_seconds(cell, path) for cell in raw["end"]]
    merged: dict[tuple[str, int, int], set[str]] = {}
    for name, start_s, end_s, cell in zip(raw["filename"], starts, ends, raw["primary_label"], strict=True):
        if end_s <= start_s:
            raise DataError(f"{path}: a row of {name!r} begins at {start_s} s and ends at {end_s} s.")
        merged.setdefault((name, start_s, end_s), set()).update(parse_labels(cell))
    _check_known(set().union(*merged.values()), classes, path)
    place = {name: k for k, name in enumerate(classes)}
    table = pd.DataFrame(list(merged), columns=["filename", "start_s", "end_s"])
    table["labels"] = [tuple(sorted(labels, key=place.__getitem__)) for labels in merged.values()]
    typed: pd.DataFrame = table.astype({"start_s": np.int64, "end_s": np.int64})
    return typed


def truth_table(
    labels: pd.DataFrame, classes: Sequence[str], row_s: int = 5, row_id: str = "{stem}_{end}"
) -> pd.DataFrame:
    """Return the labels of soundscape rows in the form of a score table.

    Parameters
    ----------
    labels : DataFrame
        As from `read_soundscape_labels`; each line is one row of the grid (a recording's last may be short).
    classes : sequence of K str
    row_s, row_id
        Seconds of a row, and form of its id; see `Competition`.

    Returns
    -------
    DataFrame, shape (R, K)
        float32 of 0 and 1, index ``row_id``. Only rows that were labelled are there.

    Raises
    ------
    DataError
        If a line does not lie on the grid, two lines are the same row, or a label is not among the classes.
    """
    ids = []
    for filename, start_s, end_s in zip(labels["filename"], labels["start_s"], labels["end_s"], strict=True):
        if start_s % row_s or not 0 < end_s - start_s <= row_s:
            raise DataError(
                f"{filename!r} is labelled from {start_s} to {end_s} s, which is no row of {row_s} s; "
                "give the row length of the labels."
            )
        ids.append(row_id.format(stem=PurePosixPath(filename).stem, end=int(start_s) + row_s))
    index = pd.Index(ids, dtype=object, name="row_id")
    if index.has_duplicates:
        raise DataError(f"two lines of labels are row {index[index.duplicated()][0]!r}.")
    _check_known(set().union(*labels["labels"]), classes, "the soundscape labels")
    place = {name: k for k, name in enumerate(classes)}
    truth = np.zeros((len(ids), len(classes)), np.float32)
    for row, names in enumerate(labels["labels"]):
        truth[row, [place[name] for name in names]] = 1
    table: pd.DataFrame = pd.DataFrame(truth, index=index, columns=pd.Index(list(classes), dtype=object))
    return table


AUDIO_SUFFIXES = (".ogg", ".wav", ".flac", ".mp3", ".oga", ".opus", ".aif", ".aiff")


def _list_clips(folder: Path, competition: Competition) -> pd.DataFrame:
    column = competition.label_column
    if not competition.classes_from_clips or (folder / competition.train_csv).is_file():
        return _read(folder / competition.train_csv, ["filename", column])
    audio = folder / competition.audio_dir
    found = [path for path in audio.rglob("[!.]*") if path.suffix.lower() in AUDIO_SUFFIXES]
    paths = sorted(path.relative_to(audio) for path in found)
    if not paths:
        raise DataError(f"{audio}: no recordings; needed: {audio}/<class>/<recording>.wav, .ogg or .flac.")
    for path in paths:
        if len(path.parts) == 1:
            raise DataError(f"{audio / path} lies in no class folder; move it to {audio}/<class>/.")
    clips = {"filename": [path.as_posix() for path in paths], column: [path.parts[0] for path in paths]}
    table: pd.DataFrame = pd.DataFrame(clips)
    return table


def _read(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        # Everything is text: pandas would make 24 of the label 024, and nothing of the label NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; its columns are {_some(table.columns, 20)}.")
    if table.empty:
        raise DataError(f"{path}: the table is empty.")
    # A row that ends early leaves cells that are no text.
    filled: pd.DataFrame = table.fillna("")
    return filled


def _seconds(cell: str, path: Path) -> int:
    parts = cell.strip().split(":")
    try:
        value = sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        value = float("nan")
    if len(parts) > 3 or not value.is_integer() or value < 0:
        raise DataError(f"{path}: the time {cell!r} is no whole second; write HH:MM:SS or seconds.")
    return int(value)


def _known_secondary(
    cells: pd.Series[str], primary: Iterable[str], classes: Sequence[str], where: Path
) -> list[tuple[str, ...]]:
    # Few cells differ, so each spelling is parsed once.
    parsed = {cell: parse_labels(cell) for cell in cells.unique()}
    dropped = [name for cell in cells for name in parsed[cell] if name not in classes]
    if dropped:
        shown = _some(sorted(set(dropped)))
        log.warning("%s: dropped %d secondary labels outside the classes: %s", where, len(dropped), shown)
    known = {cell: dict.fromkeys(name for name in parsed[cell] if name in classes) for cell in parsed}
    return [
        tuple(name for name in known[cell] if name != own) for cell, own in zip(cells, primary, strict=True)
    ]


def _check_known(labels: Iterable[str], classes: Sequence[str], where: str | Path) -> None:
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(
            f"{where}: labels that are not among the {len(classes)} classes: {_some(map(repr, unknown))}; "
            "correct them, or add them to the class list."
        )


def _some(names: Iterable[str], n: int = 5) -> str:
    names = list(names)
    rest = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + rest if names else "nothing"
