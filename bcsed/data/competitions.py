"""File layout, class list and recording names of each competition."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ..config.contract import check_class_names
from ..errors import ConfigError, DataError
from ..files import os_errors, quote_list, read_columns, read_csv, shorten_list
from ..recordings import AUDIO_SUFFIXES, is_hidden, printable, search_folder

# Labels of a clip or row without any of the classes, unless they are in the class list.
NEGATIVE_LABELS = ("", "nocall", "noise", "background", "silence")

_log = logging.getLogger(__name__)


def negative_labels(classes: Collection[str]) -> set[str]:
    """Return the labels of clips, rows and events without any of the classes, one of which may have such a name."""
    return set(NEGATIVE_LABELS).difference(classes)


@dataclass(frozen=True, kw_only=True)
class Competition:
    """The differences between competitions; file names are relative to the data folder, '' where there is no file."""

    name: str  # the key in `COMPETITIONS`
    marks: tuple[str, ...]  # files, any of which identifies the competition
    row_s: int = 5
    recording_s: int = 60  # of a test recording
    audio_dir: str = "train_audio"  # labelled clips
    class_folders: bool = False  # the label file names clips without the folder of their class
    soundscapes_dir: str = "train_soundscapes"  # recordings to pseudolabel
    test_dir: str = "test_soundscapes"  # recordings to score
    noise_dir: str = "noise"  # recordings without any of the classes, which need no label
    train_csv: str = "train.csv"  # labels of the clips
    label_column: str = "primary_label"  # of `train_csv` and `taxonomy_csv`
    sample_submission_csv: str = "sample_submission.csv"  # its header contains the classes after ``row_id``
    classes_txt: str = ""  # one class per line
    taxonomy_csv: str = "taxonomy.csv"  # classes, optionally with the taxonomic class in ``class_name``
    soundscape_labels_csv: str = ""
    recording_pattern: str = r"(?:XC|iNat|CSA)\d+"  # the recording's id at the start of a clip's stem, see `read_train`
    name_pattern: str = r"(?:(?P<site>.+)_)?\d{8}_\d{6}"  # the stem of a soundscape: site, date and time
    row_id: str = "{stem}_{end}"  # with the end in whole seconds
    classes_from_clips: bool = False  # without a class list, use the labels or folders of the clips


BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    marks=("train_soundscapes_labels.csv",),
    soundscape_labels_csv="train_soundscapes_labels.csv",
    name_pattern=r"BC2026_(?:Train|Test)_\d+_(?P<site>S\d+)_\d{8}_\d{6}",
)
BIRDCLEF_2025 = Competition(
    name="birdclef-2025",
    marks=("train.csv", "taxonomy.csv", "sample_submission.csv"),
    name_pattern=r"(?P<site>[^_]+)_\d{8}_\d{6}",
)
# The four years before name their label file differently. The sample submissions of 2021 and 2022 have no classes.
BIRDCLEF_2023 = Competition(
    name="birdclef-2023",
    marks=("train_metadata.csv",),
    train_csv="train_metadata.csv",
    taxonomy_csv="",
    recording_s=600,
)
BIRDCLEF_2024 = replace(
    BIRDCLEF_2023,
    name="birdclef-2024",
    marks=("unlabeled_soundscapes",),
    soundscapes_dir="unlabeled_soundscapes",
    recording_s=240,
)
BIRDCLEF_2022 = replace(
    BIRDCLEF_2023,
    name="birdclef-2022",
    marks=("scored_birds.json",),
    sample_submission_csv="",
    classes_from_clips=True,
    recording_s=60,
)
BIRDCLEF_2021 = replace(
    BIRDCLEF_2022,
    name="birdclef-2021",
    marks=("train_short_audio",),
    audio_dir="train_short_audio",
    class_folders=True,
    recording_s=600,
)
# Other recordings: audio/<class>/..., or audio/ and a labels.csv of filename,label[,secondary_labels][,author]
# [,recording]; classes.txt or classes.csv if the class list should not be taken from these. Labelled soundscapes are
# in soundscapes/, and their labels in soundscape_labels.csv, as `bcsed label` writes them.
FOLDERS = Competition(
    name="folders",
    marks=("labels.csv", "audio"),
    audio_dir="audio",
    soundscapes_dir="soundscapes",
    soundscape_labels_csv="soundscape_labels.csv",
    test_dir="test",
    train_csv="labels.csv",
    label_column="label",
    sample_submission_csv="",
    classes_txt="classes.txt",
    taxonomy_csv="classes.csv",
    classes_from_clips=True,
)
# Folders of several competitions beside each other, to pretrain on: the clips of all, with one class list.
SEVERAL = Competition(
    name="several",
    marks=(),
    audio_dir="",
    # The folder of all of them has no soundscapes of its own; "" would be the folder itself, with all clips.
    soundscapes_dir="train_soundscapes",
    test_dir="",
    noise_dir="",
    train_csv="",
    sample_submission_csv="",
    taxonomy_csv="",
)
# In this order they are looked for: the special marks first.
_YEARS = (BIRDCLEF_2026, BIRDCLEF_2021, BIRDCLEF_2022, BIRDCLEF_2024, BIRDCLEF_2023, BIRDCLEF_2025)
COMPETITIONS: Mapping[str, Competition] = {value.name: value for value in (*_YEARS, FOLDERS)}


def detect_competition(folder: str | Path) -> Competition:
    """Return the first of `COMPETITIONS` whose files are in a folder, `SEVERAL` if at least two are in its folders.

    DataError if there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    competition = _match(folder)
    if competition is not None:
        return competition
    inner = [path.name for path, _ in competitions_in(folder)]
    if len(inner) > 1:
        return SEVERAL
    present = shorten_list(sorted(path.name for path in folder.iterdir()))
    needed = "; ".join(f"{' or '.join(c.marks)} for {c.name}" for c in COMPETITIONS.values())
    advice = f" Its folder {inner[0]!r} is of a competition: name that." if inner else ""
    raise DataError(f"{folder}: no competition matches its files ({present}); needed: {needed}.{advice}")


def competitions_in(folder: str | Path) -> list[tuple[Path, Competition]]:
    """Return the folders of competitions in a folder, sorted by name."""
    inner = ((path, _match(path)) for path in sorted(Path(folder).glob("[!.]*")) if path.is_dir())
    return [(path, competition) for path, competition in inner if competition is not None]


def _match(folder: Path) -> Competition | None:
    matching = (c for c in COMPETITIONS.values() if any((folder / mark).exists() for mark in c.marks))
    return next(matching, None)


def site_of(name: str | Path, competition: Competition) -> str:
    """Return the site in a soundscape's file name; a recording without one is a site of its own.

    >>> site_of("BC2026_Train_0039_S22_20211231_021500.ogg", BIRDCLEF_2026), site_of("a.ogg", BIRDCLEF_2026)
    ('S22', 'a')
    """
    stem = Path(name).stem
    match = re.fullmatch(competition.name_pattern, stem)
    return (match and match["site"]) or stem


def read_class_list(folder: str | Path, competition: Competition) -> tuple[str, ...]:
    """Return the classes, in the order of the submission's columns.

    The order is that of the sample submission (or `classes_txt`), else of the taxonomy. `FOLDERS` falls back on the
    sorted labels of its label file, else of the folders; `SEVERAL` has the sorted classes of all its competitions.
    DataError if there is no class list, one is empty or repeats a class, or two differ.
    """
    if competition is SEVERAL:
        return tuple(sorted({name for inner in competitions_in(folder) for name in read_class_list(*inner)}))
    lists = _class_lists(Path(folder), competition)
    if not lists:
        files = (competition.sample_submission_csv, competition.classes_txt, competition.taxonomy_csv)
        raise DataError(f"{folder}: no class list; needed: {' or '.join(filter(None, files))}.")
    for source, names in lists.items():
        invalid = sorted(name for name, n in Counter(names).items() if not name or n > 1)
        if invalid or not names:
            problem = f"{invalid[0]!r} is empty or repeated" if invalid else "the list is empty"
            raise DataError(f"{source}: the classes must be distinct names, but {problem}.")
        _check_names(source, names)
    (first, classes), *others = lists.items()
    for source, names in others:
        only = {first: sorted(set(classes) - set(names)), source: sorted(set(names) - set(classes))}
        if any(only.values()):
            differences = "; ".join(f"only in {path}: {quote_list(extra)}" for path, extra in only.items())
            raise DataError(f"two class lists differ; {differences}.")
    return tuple(classes)


def _check_names(source: str, names: Sequence[str]) -> None:
    try:
        check_class_names(names)
    except ConfigError as error:
        raise DataError(f"{source}: {error}") from error


def _class_lists(folder: Path, competition: Competition) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    path = folder / competition.sample_submission_csv
    if competition.sample_submission_csv and path.is_file():
        header = list(read_columns(path, dtype=str).columns)
        if header[:1] != ["row_id"]:
            raise DataError(f"{path}: the first column must be row_id, got {shorten_list(header[:1])}.")
        lists[str(path)] = header[1:]
    path = folder / competition.classes_txt
    if competition.classes_txt and path.is_file():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        lists[str(path)] = [line.strip() for line in lines if line.strip()]
    path = folder / competition.taxonomy_csv
    if competition.taxonomy_csv and path.is_file():
        lists[str(path)] = list(read_csv(path, [competition.label_column])[competition.label_column].str.strip())
    if not lists and competition.classes_from_clips:
        labels = set(list_clips(folder, competition, quiet=True)[competition.label_column])
        lists[str(folder)] = sorted(labels.difference(NEGATIVE_LABELS))
    return lists


def read_taxa(folder: str | Path, competition: Competition) -> dict[str, str]:
    """Return the taxonomic class (Aves, Amphibia, ...) of each class, '' where unknown."""
    known: dict[str, str] = {}
    for inner in competitions_in(folder) if competition is SEVERAL else ():
        known |= {name: taxon for name, taxon in read_taxa(*inner).items() if taxon}
    path = Path(folder) / competition.taxonomy_csv
    if competition.taxonomy_csv and path.is_file():
        table = read_csv(path, [competition.label_column])
        table = table.apply(lambda cells: cells.str.strip())
        known = dict(zip(table[competition.label_column], table.get("class_name", [""] * len(table)), strict=True))
    return {name: known.get(name, "") for name in read_class_list(folder, competition)}


def _read_label_file(path: Path, column: str) -> pd.DataFrame:
    table = read_csv(path, ["filename", column])
    table[column] = table[column].str.strip()
    for number, label in enumerate(table[column], 2):
        if ";" in label or label.startswith("["):
            advice = "name one class there, and the others in a column secondary_labels"
            raise DataError(f"{path}: line {number} has several labels in the column {column}, {label!r}; {advice}.")
    return table


def list_clips(folder: Path, competition: Competition, *, quiet: bool = False) -> pd.DataFrame:
    """Return file name and label of all clips, from the label file or, for `FOLDERS` without one, from the folders.

    Unless `quiet`, what is skipped in the folders is logged.
    """
    column = competition.label_column
    if not competition.classes_from_clips or (folder / competition.train_csv).is_file():
        return _read_label_file(folder / competition.train_csv, column)
    audio = folder / competition.audio_dir
    recordings, skipped = _class_recordings(audio)
    for sentence in [] if quiet else skipped:
        _log.warning("%s", sentence)
    paths = [path.relative_to(audio) for path in recordings]
    if not paths:
        raise DataError(f"{audio}: no recordings; needed: {audio}/<class>/<recording>.wav, .ogg or .flac.")
    clips = {"filename": [path.as_posix() for path in paths], column: [path.parts[0] for path in paths]}
    table: pd.DataFrame = pd.DataFrame(clips)
    return table


def _class_recordings(audio: Path) -> tuple[list[Path], list[str]]:
    """Return the recordings in the folders of the classes, and sentences about what is skipped."""
    with os_errors(audio):
        items = sorted(audio.iterdir())
    recordings, sentences = [], []
    hidden = [item.name for item in items if is_hidden(item)]
    if hidden:
        sentences.append(f"{audio}: skipped {len(hidden)} hidden files or folders ({shorten_list(hidden, 3)})")
    for item in items:
        if is_hidden(item):
            continue
        if not item.is_dir():
            if item.suffix.lower() in AUDIO_SUFFIXES:
                raise DataError(f"{item} is not in a class folder; move it to {audio}/<class>/.")
            continue
        paths, skipped = search_folder(item)
        sentences += [f"{item}: {sentence}" for sentence in skipped]
        if not paths:
            sentences.append(f"{item}: the class has no recording and is left out")
        recordings += paths
    for path in recordings:
        if printable(path) != str(path):
            advice = "convmv -f latin1 -t utf8 -r --notest FOLDER"
            raise DataError(f"{path}: the name is not UTF-8; rename the file, as with {advice}.")
    return recordings, sentences
