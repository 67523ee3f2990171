"""Labels of recordings from annotation tables: rows, events, training clips, and what cannot be used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..audio.decode import read_audio
from ..audio.headers import AudioInfo, read_info
from ..audio.windows import count_rows
from ..data.annotated_rows import MIN_OVERLAP_S, label_rows, plan_clips
from ..data.annotation_tables import read_events, table_stem
from ..data.annotations import join_events, match_recordings
from ..data.competitions import NEGATIVE_LABELS
from ..errors import DataError
from ..files import as_path, atomic_write, is_occupied, os_errors, require_file
from ..recordings import find_recordings, printable
from .detections.taxonomy import ClassName


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labels of recordings; their names are paths below the folders that were searched."""

    paths: Mapping[str, Path]  # of all recordings that can be read
    lengths: Mapping[str, float]  # durations (s) of the annotated recordings
    events: pd.DataFrame  # see `bcsed.data.annotations.COLUMNS`; without unknown labels
    rows: pd.DataFrame  # see `bcsed.data.read_soundscape_labels`
    unknown: Mapping[str, int]  # labels that are no class, and the number of their events
    unannotated: Sequence[str]
    unreadable: Mapping[str, str]  # path -> reason
    classes: Collection[str]  # as far as they are known


def label_recordings(
    tables: Sequence[str | Path],
    recordings: Sequence[str | Path],
    *,
    label_column: str | None = None,
    files: str | Path | None = None,
    taxonomy: Mapping[str, ClassName] | None = None,
    complete: bool = True,
    row_s: int = 5,
    min_overlap_s: float = MIN_OVERLAP_S,
    classes: Collection[str] = (),
) -> Labelled:
    """Read annotation tables and label the rows of their recordings.

    `recordings` are files and folders. A recording is annotated if a table has an event of it, if a table without
    events has its name, or if it is listed in `files`, a text of one name per line. With a `taxonomy`, labels are
    converted to its classes, also by scientific and common names; others are counted as unknown. `classes` are those of
    the taxonomy by default. Other parameters are those of `bcsed.data.annotated_rows.label_rows`. Errors as of
    `read_annotations`; DataError if two recordings have one name below the folders, two annotated ones have one stem,
    so that their rows have the same ids, or no label is known.
    """
    named = list(_named(recordings))
    paths = dict(named)
    for name, path in named:
        if paths[name] != path:
            raise DataError(f"{path} and {paths[name]} are both named {name!r}; name a folder that contains both.")
    lengths, unreadable = _read_lengths(paths)
    events_of = {path: read_events(path, label_column) for path in map(as_path, tables)}
    events = join_events((event for of_table in events_of.values() for event in of_table), lengths)
    listed = {} if files is None else _read_list(Path(files))
    listed |= {table_stem(path): f"{path}: without events" for path, of_table in events_of.items() if not of_table}
    annotated = {*events["recording"], *match_recordings(listed, lengths).values()}
    if not annotated:
        raise DataError("no recording is annotated: the tables contain no event, and no file is listed.")
    _check_stems(sorted(annotated))
    unknown = Counter[str]()
    if taxonomy is not None:
        names = events["label"].map({label: _class_of(label, taxonomy) for label in events["label"].unique()})
        unknown.update(events["label"][names == ""])
        events = events.assign(label=names.astype(object))[names != ""].reset_index(drop=True)
        if unknown and events.empty:
            raise DataError(f"none of the labels is in the taxonomy: {next(iter(unknown))!r} first; correct the names.")
    classes = classes or tuple(taxonomy or ())
    kept = {name: seconds for name, seconds in lengths.items() if name in annotated}
    return Labelled(
        paths=paths,
        lengths=kept,
        events=events,
        rows=label_rows(events, kept, row_s=row_s, min_overlap_s=min_overlap_s, complete=complete, classes=classes),
        unknown=unknown,
        unannotated=[name for name in lengths if name not in annotated],
        unreadable=unreadable,
        classes=classes,
    )


def write_clips(labelled: Labelled, folder: str | Path, clip_s: float) -> int:
    """Cut training clips around events into a new folder of the layout `FOLDERS`; return their number.

    The clips are FLAC files of 16 bits; ``labels.csv`` has the label of each, the other labels in it, its recording and
    the centres of its events, for ``data.crop=marked``. DataError if the folder is not empty or a recording unreadable.
    """
    import soundfile

    folder = Path(folder)
    with os_errors(folder):
        if is_occupied(folder):
            raise DataError(f"{folder} is not empty; name a new folder for the clips.")
    clips, lines = plan_clips(labelled.events, labelled.lengths, clip_s, labelled.classes), []
    infos: dict[Path, AudioInfo] = {}
    for number, clip in enumerate(clips):
        path = labelled.paths[clip.recording]
        info = infos[path] = infos.get(path) or read_info(path)
        start, stop = (round(seconds * info.sample_rate) for seconds in (clip.start_s, clip.end_s))
        name = f"{path.stem}_{round(1000 * clip.start_s):08d}_{number}.flac"
        with atomic_write(folder / "audio" / name) as temporary:
            soundfile.write(
                temporary, read_audio(info, info.sample_rate, start, stop)[0], info.sample_rate, format="FLAC"
            )
        centres = ";".join(f"{seconds:.6g}" for seconds in clip.centres)
        lines.append((name, clip.label, ";".join(clip.secondary), path.stem, centres))
    with atomic_write(folder / "labels.csv") as temporary:
        header = ["filename", "label", "secondary_labels", "recording", "centres"]
        pd.DataFrame(lines, columns=header).to_csv(temporary, index=False, lineterminator="\n")
    return len(clips)


def row_ids_of(recordings: Iterable[str | Path], row_s: int) -> Iterator[str]:
    """Yield the ids of all rows of the recordings in files and folders; their headers are read when needed."""
    for path in find_recordings(recordings):
        info = read_info(path)
        for row in range(count_rows(info.n_samples, info.sample_rate, row_s)):
            yield f"{printable(path.stem)}_{row_s * (row + 1)}"


def _named(recordings: Sequence[str | Path]) -> Iterable[tuple[str, Path]]:
    for root in map(as_path, recordings):
        for path in find_recordings([root]):
            yield printable(path.name if path == root else path.relative_to(root).as_posix()), path


def _read_lengths(paths: Mapping[str, Path]) -> tuple[dict[str, float], dict[str, str]]:
    lengths, unreadable = {}, {}
    for name, path in paths.items():
        try:
            lengths[name] = read_info(path).duration_s
        except DataError as error:
            unreadable[str(path)] = str(error)
    return lengths, unreadable


def _read_list(path: Path) -> dict[str, str]:
    """Return the names in a list of files, and the line of each."""
    require_file(path)
    with os_errors(path):
        lines = path.read_text(encoding="utf-8-sig", errors="backslashreplace").splitlines()
    return {line.strip(): f"{path}: line {number}" for number, line in enumerate(lines, 1) if line.strip()}


def _check_stems(names: Sequence[str]) -> None:
    stems: dict[str, str] = {}
    for name in names:
        other = stems.setdefault(Path(name).stem, name)
        if other != name:
            raise DataError(f"{other!r} and {name!r} have the same stem and so the same row ids; rename one of them.")


def _class_of(label: str, taxonomy: Mapping[str, ClassName]) -> str:
    """Return the class that a label, or its part before ``_``, names: '' if none or several."""
    if label in taxonomy or label in NEGATIVE_LABELS:
        return label
    for text in (label, re.split("_|, ", label)[0]):
        wanted = text.casefold().strip()
        matching = [
            name for name, names in taxonomy.items() if wanted in (names.scientific.casefold(), names.common.casefold())
        ]
        if len(matching) == 1:
            return matching[0]
    return ""
