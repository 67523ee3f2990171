"""Read annotation tables of other programs as one table of events.

Raven selection tables (Raven Pro, Raven Lite, BirdNET), Audacity labels (also of BirdNET, HawkEars and bcsed), and
tables with a header of recording, start, end and label under common names (OpenSoundscape, BirdNET, HawkEars,
crowsetta's generic form, ``detections.csv`` of bcsed). Columns are recognised by their names, in any order; the
separator is a tab, comma or semicolon, decimals have a point or a comma, texts are UTF-8 or, with a mark, UTF-16.

crowsetta is not used: its readers of Raven and Audacity require fixed columns and the name of the label, take the label
NA as missing, do not know several files in one table, comma decimals, frequency lines, waveform views or UTF-16, and
end with errors of pandera.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import as_path, atomic_write, quote_list
from ..recordings import AUDIO_SUFFIXES, OTHER_SUFFIXES, printable
from .annotation_tables import path_parts, read_events

COLUMNS: Mapping[str, Any] = {
    "recording": object,  # as the table writes it, or the table's own name without its endings
    **dict.fromkeys(("start_s", "end_s"), np.float64),  # in the recording
    **dict.fromkeys(("low_hz", "high_hz"), np.float64),  # NaN where unknown
    "label": object,
    "score": np.float64,  # of a detection; NaN where there is none
}
# An event may end later than its recording by this much, because tables and headers round; it is cut to the end.
_TOLERANCE_S = 0.1


def read_annotations(
    paths: str | Path | Iterable[str | Path],
    *,
    label_column: str | None = None,
    recordings: Mapping[str, float] | Mapping[Path, float] | None = None,
) -> pd.DataFrame:
    """Read annotation tables; return one line per event, in the tables' order, with the columns of `COLUMNS`.

    A table without a column of files is about one recording, after which it is named. Times are exact to 1 µs. Times of
    Raven that count over several files are converted by ``File Offset (s)``. Of the lines of a selection in several
    views, that of the spectrogram is kept, and identical events are joined. Without `label_column`, the label is the
    first of label, annotation, species, scientific name, common name and code that the table has; a score behind an
    Audacity label (``jay;0.87``) is separated. With `recordings`, their paths and durations (s), the column
    ``recording`` contains the path that matches, see `match_recordings`.

    Raises DataError, with file, line and value, for a table that is empty, has another encoding or separator, lacks
    columns or has ambiguous ones; for times that are no numbers, negative or not in order, a line without a recording
    or label, times that may count over several files; and for recordings that do not match and events after their end.
    """
    listed = [paths] if isinstance(paths, (str, Path)) else paths
    return join_events((event for path in listed for event in read_events(as_path(path), label_column)), recordings)


def join_events(
    rows: Iterable[Mapping[str, Any]], recordings: Mapping[str, float] | Mapping[Path, float] | None = None
) -> pd.DataFrame:
    """Return the events of several tables of `bcsed.data.annotation_tables.read_events` as `read_annotations` does."""
    events = pd.DataFrame(list(rows), columns=[*COLUMNS, "source"])
    if recordings is not None:
        events = _locate(events, recordings)
    unique: pd.DataFrame = events[list(COLUMNS)].drop_duplicates(ignore_index=True).astype(COLUMNS)
    return unique


def write_annotations(path: str | Path, events: pd.DataFrame) -> None:
    """Write a table of events as CSV that `read_annotations` reads, with times to 1 µs."""
    names = [
        name for name in COLUMNS if name in ("recording", "start_s", "end_s", "label") or events[name].notna().any()
    ]
    times = {name: [f"{x:.6f}".rstrip("0").rstrip(".") for x in events[name]] for name in ("start_s", "end_s")}
    with atomic_write(path) as temporary:
        events[names].assign(**times).to_csv(temporary, index=False, lineterminator="\n", errors="backslashreplace")


def match_recordings(sources: Mapping[str, str], recordings: Iterable[str | Path]) -> dict[str, str]:
    r"""Return the recording of each name, by its path as far as it is the same, its file name, or its stem.

    `sources` are the names, each with the table and line that contains it, for errors. DataError if a name matches no
    recording or several, or names in different folders match one.

    >>> match_recordings({"D:\\b\\1.wav": "", "2": ""}, ["in/a/1.wav", "in/b/1.wav", "in/b/2.wav"])
    {'D:\\b\\1.wav': 'in/b/1.wav', '2': 'in/b/2.wav'}
    """
    known: defaultdict[str, list[str]] = defaultdict(list)
    for path in map(printable, recordings):
        name = path_parts(path)[0]
        for key in dict.fromkeys((name, _stem(name))):
            known[key].append(path)
    matches: dict[str, str] = {}
    folders: dict[str, tuple[str, str]] = {}  # of a recording: the folder in a name, and the name
    for name, source in sources.items():
        parts = path_parts(name)
        candidates = known.get(parts[0]) or known.get(_stem(parts[0]), [])
        same = [_count_same(parts[1:], path_parts(path)[1:]) for path in candidates]
        best = [path for path, n in zip(candidates, same, strict=True) if n == max(same)]
        if len(best) != 1:
            problem = f"matches {len(best)} recordings: {quote_list(best, 3)}; write more of its folders"
            if not best:
                problem = "matches none of the recordings by path, name or stem; correct it, or add the recording"
            raise DataError(f"{source}: the recording {name!r} {problem}.")
        matches[name] = best[0]
        folder, other = folders.setdefault(best[0], (parts[1], name)) if len(parts) > 1 else ("", "")
        if len(parts) > 1 and folder != parts[1]:
            problem = f"{name!r} and {other!r} both match {best[0]!r}; add the other recording, or correct the folders"
            raise DataError(f"{source}: {problem}.")
    return matches


def _locate(events: pd.DataFrame, recordings: Mapping[str, float] | Mapping[Path, float]) -> pd.DataFrame:
    """Replace names of recordings by their paths; cut events to the recordings' ends, or refuse them."""
    first = events.drop_duplicates("recording").set_index("recording")["source"]
    events = events.assign(recording=events["recording"].map(match_recordings(first.to_dict(), recordings)))
    durations = events["recording"].map({printable(path): seconds for path, seconds in recordings.items()})
    late = events[(events["end_s"] > durations + _TOLERANCE_S) | (events["start_s"] >= durations)]
    for _, event in late.iterrows():
        raise DataError(
            f"{event['source']}: the event from {event['start_s']:g} to {event['end_s']:g} s ends after "
            f"{event['recording']}, which has {durations[event.name]:g} s; correct its times, or the recording."
        )
    cut: pd.DataFrame = events.assign(end_s=events["end_s"].clip(upper=durations.astype(np.float64)))
    return cut


def _count_same(parts: Iterable[str], others: Iterable[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, others, strict=False)))


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and (dot + suffix).lower() in (*AUDIO_SUFFIXES, *OTHER_SUFFIXES) else name
