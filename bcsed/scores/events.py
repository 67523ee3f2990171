"""Event-based evaluation of scores by sed_scores_eval: collar-based and intersection-based F1, and PSDS."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from ..data.annotations import read_annotations
from ..data.competitions import negative_labels
from ..errors import ConfigError, DataError
from ..files import quote_list, read_errors
from .checks.ids import infer_row_s, parse_row_ids
from .table import read_parquet

_TIMES = ["recording", "start_s", "end_s"]
# As in DCASE: the offset may differ by this share of the event, if it is more than the collar.
_OFFSET_SHARE = 0.2
_HALF = {"dtc_threshold": 0.5, "gtc_threshold": 0.5}
# The two scenarios of DCASE: the onset matters; classes must not be confused.
_PSDS: Mapping[str, Mapping[str, float]] = {
    "psds1": {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_st": 1.0},
    "psds2": {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}
_CROSS = ("cttc_threshold", "alpha_ct")  # of detections in events of other classes


class _Writable(pd.DataFrame):
    """A table whose arrays can be written: sed_scores_eval 0.0.4 needs that, and those of pandas 3 are read-only."""

    @property
    def _constructor(self) -> type[_Writable]:
        return _Writable

    def to_numpy(self, *args: Any, **options: Any) -> Any:
        return super().to_numpy(*args, **{**options, "copy": True})


@dataclass(frozen=True, kw_only=True)
class EventScores:
    """Event-based figures of the classes that have an event."""

    #: One line per class: ``class``, ``events``, ``collar_f1`` and ``intersection_f1`` at the threshold, both at the
    #: best threshold of the class (``best_collar_f1``, ``best_intersection_f1``), ``psds1`` and ``psds2``.
    per_class: pd.DataFrame
    psds: Mapping[str, float]  # PSDS of all classes in the scenarios 1 and 2 of DCASE, up to 100 false alarms per hour
    collar_s: float
    n_recordings: int
    n_classes: int  # of the scores

    def macro(self, name: str) -> float:
        """Return the mean over classes of a column of `per_class`."""
        return float(self.per_class[name].mean())


def rows_of_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a score table with the columns recording, start_s, end_s and a column per class.

    DataError if a row id has no end second.
    """
    ids = parse_row_ids(table.index)
    row_s = infer_row_s(ids)
    if row_s is None or (ids.end_s < 0).any():
        raise DataError(f"row {table.index[0]!r} has no end second, so its time is not known.")
    times = pd.DataFrame({"recording": np.array(ids.stems, object)[ids.recording], "end_s": ids.end_s.astype(float)})
    times.insert(1, "start_s", times["end_s"] - row_s)
    rows: pd.DataFrame = pd.concat([times, table.reset_index(drop=True)], axis=1)
    return rows


def read_frames(folder: str | Path) -> pd.DataFrame:
    """Read the time steps that ``predict --format frames`` writes; the columns are those of `rows_of_table`."""
    parts = sorted(Path(folder).glob("*.parquet"))
    if not parts:
        raise DataError(f"{folder} contains no *.parquet; predict with --format frames to write time steps.")
    frames: pd.DataFrame = pd.concat([read_parquet(path) for path in parts], ignore_index=True)
    missing = [name for name in _TIMES if name not in frames]
    if missing:
        raise DataError(f"{parts[0]}: no column {missing[0]!r}, so it does not contain time steps of predict.")
    with read_errors(Path(folder), "time steps of predict"):
        values = frames.drop(columns="recording").to_numpy(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{folder}: {int((~np.isfinite(values)).any(1).sum())} time steps have values that are NaN.")
    return frames


def evaluate_events(
    scores: pd.DataFrame,
    paths: Iterable[str | Path],
    *,
    threshold: float = 0.5,
    collar_s: float | None = None,
) -> EventScores:
    """Evaluate scores of consecutive rows or time steps against the events of annotation tables.

    Parameters
    ----------
    scores : DataFrame
        The columns of `rows_of_table`. All recordings count; one without events has only negatives.
    paths : iterable of str or Path
        The tables, see `bcsed.data.annotations`. Events of one class that overlap or touch are joined.
    threshold : float
        Scores of at least this are detections, and consecutive ones are one detection.
    collar_s : float, optional
        Maximum difference of onsets, and of offsets if a fifth of the event is less; the length of a row by default.

    Raises ConfigError if sed_scores_eval is not installed or an argument is invalid; DataError if a table is invalid,
    an event is in none of the recordings or has a label that is not scored, there are no events, or rows are missing.
    """
    tool = _import_tool()
    if not 0 < threshold < 1 or (collar_s is not None and not collar_s > 0):
        raise ConfigError(
            f"the threshold must be in (0, 1) and the collar above 0 s, got {threshold:g} and {collar_s}."
        )
    classes = [name for name in map(str, scores.columns) if name not in _TIMES]
    by_recording = {str(name): _in_time(rows, str(name)) for name, rows in scores.groupby("recording", sort=False)}
    durations = {name: float(rows["end_s"].iloc[-1]) for name, rows in by_recording.items()}
    events = read_annotations(paths, recordings={**durations})
    events = events[~events["label"].isin(negative_labels(classes))]
    unknown = sorted(set(events["label"]).difference(classes))
    if unknown or events.empty:
        problem = f"labels that are not among the {len(classes)} scored classes: {quote_list(unknown, 3)}"
        raise DataError(f"the events have {problem}." if unknown else "there are no events to evaluate against.")
    # Only classes with events have a recall. Numbers, because the tool reserves some names.
    present = [name for name in classes if name in set(events["label"])]
    truth = _joined(events, durations, present)
    times = {"start_s": "onset", "end_s": "offset"}
    renamed = times | {name: str(k) for k, name in enumerate(present)}
    tables = {
        name: _Writable(rows[[*times, *present]].astype(np.float64).rename(columns=renamed))
        for name, rows in by_recording.items()
    }
    longest = float((scores["end_s"] - scores["start_s"]).max())
    collar = longest if collar_s is None else collar_s
    columns, psds = _measure(tool, tables, truth, durations, threshold=threshold, collar=collar)
    counts = [sum(k == str(column) for lines in truth.values() for *_, k in lines) for column in range(len(present))]
    return EventScores(
        per_class=pd.DataFrame({"class": present, "events": counts, **columns}),
        psds=psds,
        collar_s=collar,
        n_recordings=len(by_recording),
        n_classes=len(classes),
    )


def _measure(
    tool: Any,
    tables: Mapping[str, pd.DataFrame],
    truth: Mapping[str, Sequence[tuple[float, float, str]]],
    durations: Mapping[str, float],
    *,
    threshold: float,
    collar: float,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the figures of each class, and PSDS."""
    names = [str(k) for k in range(len({k for lines in truth.values() for *_, k in lines}))]
    # The tool detects scores above its threshold.
    below, columns, psds = (
        float(np.nextafter(np.float32(threshold), np.float32(0))),
        dict[str, list[float]](),
        dict[str, float](),
    )
    collars = {"onset_collar": collar, "offset_collar": collar, "offset_collar_rate": _OFFSET_SHARE}
    for kind, settings in (("collar", collars), ("intersection", _HALF)):
        module = getattr(tool, f"{kind}_based")
        at, best = (
            module.fscore(tables, truth, threshold=below, **settings),
            module.best_fscore(tables, truth, **settings),
        )
        columns[f"{kind}_f1"] = [float(at[0][name]) for name in names]
        columns[f"best_{kind}_f1"] = [float(best[0][name]) for name in names]
    for scenario, criteria in _PSDS.items():
        # A single class cannot be confused with others.
        used = {name: criteria[name] for name in criteria if len(names) > 1 or name not in _CROSS}
        psds[scenario], single, *_ = tool.intersection_based.psds(tables, truth, durations, **used)
        columns[scenario] = [float(single[name]) for name in names]
    return columns, {name: float(value) for name, value in psds.items()}


def _in_time(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a recording in order of time; DataError if they are not consecutive."""
    rows = rows.sort_values("start_s", kind="stable")
    gaps = np.flatnonzero(np.abs(rows["start_s"].to_numpy()[1:] - rows["end_s"].to_numpy()[:-1]) > 1e-6)
    if len(gaps):
        first = rows["end_s"].iloc[gaps[0]]
        raise DataError(f"the scores of {name!r} are not consecutive at {first:g} s; evaluate all of its rows.")
    return rows


def _joined(
    events: pd.DataFrame, recordings: Iterable[str], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, str]]]:
    """Return start, end and number of the class of the events of each recording; those of a class do not touch."""
    truth: dict[str, list[tuple[float, float, str]]] = {name: [] for name in recordings}
    number = {name: str(k) for k, name in enumerate(classes)}
    ordered = events.sort_values(["recording", "label", "start_s"], kind="stable")
    for name, start, end, label in ordered[["recording", "start_s", "end_s", "label"]].itertuples(index=False):
        lines = truth[name]
        if lines and lines[-1][2] == number[label] and start <= lines[-1][1]:
            lines[-1] = (lines[-1][0], max(lines[-1][1], float(end)), number[label])
        else:
            lines.append((float(start), float(end), number[label]))
    return truth


def _import_tool() -> Any:
    try:
        # Its dependencies import pkg_resources, which warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import sed_scores_eval
    except ImportError as error:
        raise ConfigError(
            f"event-based figures need sed_scores_eval: pip install 'bcsed[events]' ({error})."
        ) from error
    tool: ModuleType = sed_scores_eval
    return tool
