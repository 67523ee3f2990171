"""A year: where its files are, what its classes are called, how its recordings are named."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..errors import DataError
from ..files import read_csv, shorten_list


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


COMPETITIONS: Mapping[str, Competition] = {value.name: value for value in (BIRDCLEF_2026, BIRDCLEF_2025, FOLDERS)}


def detect_competition(folder: str | Path) -> Competition:
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
    raise DataError(f"{folder}: no competition fits what is there ({shorten_list(found)}); needed: {wanted}.")


class RecordingName(NamedTuple):
    """What a soundscape's name tells: its site ('' unknown), and its beginning in local time, zone-free."""

    site: str
    time: datetime | None


def parse_recording_name(name: str | Path, competition: Competition) -> RecordingName:
    """Read site and local time from a soundscape's file name; a name of another form tells neither.

    Examples
    --------
    >>> parse_recording_name("BC2026_Train_0039_S22_20211231_021500.ogg", BIRDCLEF_2026)
    RecordingName(site='S22', time=datetime.datetime(2021, 12, 30, 22, 15))
    >>> parse_recording_name("soundscape_8358733.ogg", BIRDCLEF_2025)
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


def read_class_list(folder: str | Path, competition: Competition) -> tuple[str, ...]:
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
            told = "; ".join(f"only in {where}: {shorten_list(extra)}" for where, extra in only.items())
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
            raise DataError(f"{path}: the first column must be row_id, got {shorten_list(header[:1])}.")
        sources[str(path)] = header[1:]
    path = folder / competition.classes_txt
    if competition.classes_txt and path.is_file():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        sources[str(path)] = [line.strip() for line in lines if line.strip()]
    path = folder / competition.taxonomy_csv
    if path.is_file():
        sources[str(path)] = list(read_csv(path, [competition.label_column])[competition.label_column])
    if not sources and competition.classes_from_clips:
        clips = list_clips(folder, competition)
        sources[str(folder)] = sorted(set(clips[competition.label_column]))
    return sources


def read_taxa(folder: str | Path, competition: Competition) -> dict[str, str]:
    """Return the taxonomic class (Aves, Amphibia, ...) of each class, '' where the data do not say."""
    known: dict[str, str] = {}
    path = Path(folder) / competition.taxonomy_csv
    if path.is_file():
        table = read_csv(path, [competition.label_column])
        groups = table.get("class_name", [""] * len(table))
        known = dict(zip(table[competition.label_column], groups, strict=True))
    return {name: known.get(name, "") for name in read_class_list(folder, competition)}


AUDIO_SUFFIXES = (".ogg", ".wav", ".flac", ".mp3", ".oga", ".opus", ".aif", ".aiff")


def list_clips(folder: Path, competition: Competition) -> pd.DataFrame:
    """Return the clips that a layout lists, or that its folders hold: file name and label."""
    column = competition.label_column
    if not competition.classes_from_clips or (folder / competition.train_csv).is_file():
        return read_csv(folder / competition.train_csv, ["filename", column])
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
