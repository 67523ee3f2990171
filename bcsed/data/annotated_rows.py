"""Convert events to labels of rows of soundscapes, and to training clips around events."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..files import atomic_write
from .competitions import negative_labels

# With this, the rows of BirdCLEF's labels and of our own follow from the events.
MIN_OVERLAP_S = 0.1
_FIELDS = ("filename", "start", "end", "primary_label")


class EventClip(NamedTuple):
    """A training clip of a recording."""

    recording: str
    start_s: float
    end_s: float
    label: str
    secondary: tuple[str, ...]  # other labels of events in the clip
    centres: tuple[float, ...]  # of the label's events, seconds from the start of the clip


def label_rows(
    events: pd.DataFrame,
    lengths: Mapping[str, float],
    *,
    row_s: int = 5,
    min_overlap_s: float = MIN_OVERLAP_S,
    complete: bool = True,
    classes: Collection[str] = (),
) -> pd.DataFrame:
    """Return the labels of rows of annotated recordings in the form of `bcsed.data.read_soundscape_labels`.

    `events` are of `read_annotations`, and `lengths` the names of all annotated recordings and their durations (s). A
    row has the label of an event that overlaps it by at least `min_overlap_s`; the row with the largest overlap always
    has it. Events with one of `NEGATIVE_LABELS`, unless it is one of the `classes`, label no row. If the annotation is
    not `complete`, rows without an event are left out, because nothing is known about them. ConfigError if a length is
    not positive.
    """
    if row_s < 1 or not 0 < min_overlap_s <= row_s:
        raise ConfigError(f"need 0 < overlap <= row length in whole seconds, got {min_overlap_s:g} and {row_s} s.")
    negative = negative_labels(classes)
    labels: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    columns = (events[name] for name in ("recording", "start_s", "end_s", "label"))
    for name, start_s, end_s, label in zip(*columns, strict=True):
        if label in negative:
            continue
        first, last = int(start_s // row_s), math.ceil(end_s / row_s)
        overlaps = [min(end_s, (k + 1) * row_s) - max(start_s, k * row_s) for k in range(first, last)]
        # A microsecond of tolerance, as sums of decimal numbers are not exact.
        least = min(min_overlap_s, max(overlaps)) - 1e-6
        for k, overlap in enumerate(overlaps, first):
            if overlap >= least:
                labels[name, k].add(label)
    rows = [
        (name, k * row_s, min((k + 1) * row_s, math.ceil(seconds)), tuple(sorted(labels.get((name, k), ()))))
        for name, seconds in lengths.items()
        for k in range(math.ceil(seconds / row_s))
        if complete or (name, k) in labels
    ]
    table = pd.DataFrame(rows, columns=["filename", "start_s", "end_s", "labels"])
    typed: pd.DataFrame = table.astype({"filename": object, "start_s": np.int64, "end_s": np.int64})
    return typed


def write_rows(path: str | Path, rows: pd.DataFrame) -> None:
    """Write labels of rows as CSV for `bcsed.data.read_soundscape_labels`; DataError if a label cannot be written."""
    invalid = sorted({name for names in rows["labels"] for name in names if ";" in name or name.startswith("[")})
    if invalid:
        raise DataError(f"the label {invalid[0]!r} has a ; or begins with [, which separate labels; rename it.")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_FIELDS)
        columns = (rows[name] for name in ("filename", "start_s", "end_s", "labels"))
        for name, start_s, end_s, labels in zip(*columns, strict=True):
            writer.writerow((name, _clock(start_s), _clock(end_s), ";".join(labels)))


def is_annotation_table(path: Path) -> bool:
    """Return True for a file that has neither ``row_id`` nor the columns of `write_rows` in its first line."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        header = stream.readline().decode("utf-8-sig", "replace")
    return "row_id" not in header and not set(_FIELDS) <= {name.strip().strip('"') for name in header.split(",")}


def plan_clips(
    events: pd.DataFrame, lengths: Mapping[str, float], clip_s: float, classes: Collection[str] = ()
) -> list[EventClip]:
    """Return training clips that contain all events of `label_rows`, ordered by recording, label and time.

    A clip is `clip_s` long, around the centre of the first event of its label that no earlier clip contains, and moved
    inside its recording; it is longer only if this event is. ConfigError if `clip_s` is not positive.
    """
    if not clip_s > 0:
        raise ConfigError(f"the length of a clip must be positive, got {clip_s:g} s.")
    clips: list[EventClip] = []
    negative = negative_labels(classes)
    events = events[~events["label"].isin(negative)].sort_values(["start_s", "end_s"], kind="stable")
    for name, label in sorted(set(zip(events["recording"], events["label"], strict=True))):
        own = events[(events["recording"] == name) & (events["label"] == label)]
        others = events[(events["recording"] == name) & (events["label"] != label)]
        spans: list[tuple[float, float, list[float]]] = []
        for start_s, end_s in zip(own["start_s"], own["end_s"], strict=True):
            if not spans or end_s > spans[-1][1]:
                length = min(max(clip_s, end_s - start_s), lengths[name])
                begin = min(max((start_s + end_s - length) / 2, 0.0), lengths[name] - length)
                spans.append((begin, begin + length, []))
            spans[-1][2].append((start_s + end_s) / 2 - spans[-1][0])
        for begin, end, centres in spans:
            overlap = np.minimum(others["end_s"], end) - np.maximum(others["start_s"], begin)
            # Shorter events are audible if they are inside; times in decimals are not exact.
            enough = np.minimum(MIN_OVERLAP_S, others["end_s"] - others["start_s"]) - 1e-6
            secondary = tuple(sorted(set(others["label"][(overlap >= enough) & (overlap > 0)])))
            clips.append(EventClip(name, begin, end, label, secondary, tuple(centres)))
    return clips


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
