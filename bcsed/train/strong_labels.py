"""Read marked events for the training clips and labelled soundscapes that they are in."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..audio.headers import AudioInfo
from ..config.contract import Frontend
from ..data.annotations import read_annotations
from ..data.competitions import negative_labels
from ..errors import DataError
from ..files import quote_list, sha256
from ..recordings import find_recordings, printable
from .dataset.events import Events
from .soundscapes import SoundscapeSplit

_log = logging.getLogger(__name__)


def read_marked_events(
    paths: Sequence[str | Path],
    listed: Sequence[str],  # paths of all clips in the label file
    infos: Sequence[AudioInfo],  # of the clips that can be read
    split: SoundscapeSplit,
    frontend: Frontend,
) -> dict[str, Events]:
    """Return the events of annotation tables by path of the recording; empty without tables.

    DataError if a table is invalid, an event is in none of the clips and soundscapes or after the end of one, or its
    label is not a class.
    """
    if not paths:
        return {}
    soundscapes = find_recordings([split.folder]) if split.folder.is_dir() else []
    durations = dict.fromkeys([*map(printable, listed), *map(printable, soundscapes)], math.inf)
    durations |= {printable(info.path): info.duration_s for info in (*infos, *split.valid)}
    table = read_annotations(paths, recordings=durations)
    return to_events(table, split.classes, frontend.sample_rate)


def to_events(table: pd.DataFrame, classes: Sequence[str], sample_rate: int) -> dict[str, Events]:
    """Return the events of each recording of a table of `bcsed.data.annotations`; DataError for an unknown label."""
    table = table[~table["label"].isin(negative_labels(classes))]
    column = pd.Index(classes).get_indexer(pd.Index(table["label"]))
    unknown = sorted(set(table["label"][column < 0]))
    if unknown:
        raise DataError(
            f"the events have labels that are not among the {len(classes)} classes: {quote_list(unknown, 3)}; correct "
            "or remove them, or add them to the class list."
        )
    begin, end = (np.rint(table[name].to_numpy() * sample_rate).astype(np.int64) for name in ("start_s", "end_s"))
    end = np.maximum(end, begin + 1)
    rows = table.reset_index(drop=True).groupby("recording", sort=False).indices
    return {str(name): Events(begin[index], end[index], column[index]) for name, index in rows.items()}


def describe_events(
    paths: Sequence[str | Path],
    events: Mapping[str, Events],
    infos: Sequence[AudioInfo],
    rows: Sequence[int],  # training rows of an epoch; those of clips index `infos`
    split: SoundscapeSplit,
) -> dict[str, Any]:
    """Return ``events``: the tables' SHA-256 and counts of what trains, and log the other events; {} without tables.

    DataError if none of the events are in a training clip or soundscape.
    """
    if not paths:
        return {}
    clips = {printable(infos[row].path) for row in set(rows) if row < len(infos)}
    soundscapes = {printable(split.folder / name) for name in split.train["filename"].unique()}
    counts = {
        "clips": len(clips & events.keys()),
        "soundscapes": len(soundscapes & events.keys()),
        "events": sum(len(events[name].begin) for name in (clips | soundscapes) & events.keys()),
    }
    unused = sum(len(each.begin) for each in events.values()) - counts["events"]
    _log.info("%(events)d marked events are in %(clips)d clips and %(soundscapes)d soundscapes that train", counts)
    if unused:
        _log.warning("%d marked events are in recordings that are held out, unlabelled or left out", unused)
    if not counts["events"]:
        raise DataError(f"none of the {unused} marked events are in a clip or labelled soundscape that trains.")
    return {"events": {"sha256": [sha256(Path(path)) for path in paths], **counts}}
