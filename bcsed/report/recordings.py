"""Recordings to look at and listen to: which ones, and what is shown of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import plot
from ..audio.decode import AudioInfo, read_info
from ..config.contract import WIDE_384, Frontend
from ..errors import DataError
from ..models.ensemble import Ensemble
from ..plot.style import figure as new_figure
from ..plot.style import legend
from ..scores import detections
from ..scores.checks.ids import split_row_id
from ..scores.detections.detect import DetectionSettings
from ..scores.detections.taxonomy import ClassName
from ..scores.table import make_table, row_ids
from .evaluation import recording_auc, shown_name
from .excerpt import Excerpt, n_rows, ogg, part_of, score_excerpt, spectrogram_excerpt
from .page import Figure, Item, Section, Sound, Table, Text
from .svg import span, svg

_log = logging.getLogger(__name__)

# Classes that have a lane of attention.
_MOST_LANES = 8


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording that was scored.

    Parameters
    ----------
    name : str
    path : Path or None
        None where it is not known where it lies.
    scores : ndarray, shape (R, K)
        Of its rows in their order, or of the one clip.
    truth : ndarray, shape (R, K), optional
        NaN where nothing is known.
    whole : bool
        Whether a score is of the whole clip, and not of a row.
    """

    name: str
    path: Path | None
    scores: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32] | None = None
    whole: bool = False

    @property
    def auc(self) -> float:
        """How well what is true is ranked above what is not; NaN where that cannot be said."""
        if self.truth is None:
            return float("nan")
        known = np.isfinite(self.truth)
        return recording_auc(self.truth[known], self.scores[known]) if known.any() else float("nan")

    @property
    def highest(self) -> float:
        """The highest score of any class."""
        return float(self.scores.max(initial=0.0))

    @property
    def middle(self) -> int:
        """The row to look at: where scores and truth part most, or the highest score."""
        by_row = self.scores.max(1)
        if self.truth is not None and np.isfinite(self.truth).any():
            by_row = np.nan_to_num(np.abs(self.truth - self.scores), nan=0.0).max(1)
        return int(np.argmax(by_row))


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """How recordings are shown.

    Parameters
    ----------
    classes : tuple of str
    names : mapping of str to Name
    ensemble : Ensemble, optional
        The network to ask for its attention; it answers all of `classes`, in whatever order.
    row_s : int
    detection : DetectionSettings
    n_shown : int
        Recordings from either end.
    progress : callable
    """

    classes: tuple[str, ...]
    names: Mapping[str, ClassName] = field(default_factory=dict)
    ensemble: Ensemble | None = None
    row_s: int = 5
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    n_shown: int = 3
    progress: Callable[[str], None] = lambda _: None

    @property
    def frontend(self) -> Frontend:
        """What pictures are drawn with."""
        return WIDE_384 if self.ensemble is None else self.ensemble.members[0].contract.frontend

    def section(self, recordings: Sequence[Recording], told: Sequence[str] = ()) -> Section:
        """Return the section of recordings: a table of all, and the worst and the best to look at."""
        judged = [one for one in recordings if np.isfinite(one.auc)]
        by_truth = bool(judged)
        order = sorted(judged, key=lambda one: one.auc) if by_truth else sorted(recordings, key=lambda one: one.highest)
        there = [one for one in order if one.path is not None and one.path.is_file()]
        n = self.n_shown
        low, high = there[:n], there[max(n, len(there) - n) :][::-1]
        items: list[Item] = [Text(sentence) for sentence in told]
        if not there:
            items.append(
                Text("The recordings are not where they were; name them with --recordings to see and hear them.")
            )
        elif by_truth:
            items.append(
                Text(
                    "A recording's ROC-AUC says how well its true rows and classes are ranked above all others "
                    "of it: 1 is best, .5 is chance."
                )
            )
        if there and self.ensemble is None:
            items.append(Text("Without a network at hand (--bundle) there is no attention to show."))
        items.append(_table(recordings, self, by_truth))
        ends = ("Worst", "Best") if by_truth else ("Least sure", "Surest")
        shown = [self._recording(one, end) for end, part in zip(ends, (low, high), strict=True) for one in part]
        return Section("Recordings", items, shown)

    def _recording(self, one: Recording, end: str) -> Section:
        """Return what is shown of a recording."""
        self.progress(one.name)
        told = f"ROC-AUC {one.auc:.3f}" if np.isfinite(one.auc) else f"highest score {one.highest:.3f}"
        section = Section(f"{end}: {one.name} ({told})", recording=True)
        try:
            assert one.path is not None
            found = read_info(one.path)
            total = n_rows(found, self.row_s)
            block = part_of(total, self.row_s, 0 if one.whole else one.middle)
            heard = self._heard(found, block)
            start_s, end_s = block[0] * self.row_s, min(block[1] * self.row_s, found.duration_s)
            section.items += self._items(one, found, heard, block, (start_s, end_s))
            if block[1] - block[0] < total:
                section.items.append(Text(f"Shown are {start_s:g} to {end_s:g} s of {found.duration_s:.0f} s."))
        except DataError as error:
            _log.warning("%s", error)
            section.items.append(Text(f"It cannot be shown: {error}"))
        return section

    def _heard(self, found: AudioInfo, block: tuple[int, int]) -> Excerpt:
        if self.ensemble is None:
            return spectrogram_excerpt(found, self.frontend, self.row_s, block)
        answered = self.ensemble.members[0].contract.classes
        return score_excerpt(self.ensemble, found, self.row_s, block).of(answered, self.classes)

    def _items(
        self, one: Recording, found: AudioInfo, heard: Excerpt, block: tuple[int, int], at_s: tuple[float, float]
    ) -> list[Item]:
        lines = self._found(one, found, heard, block)
        truth = self._true(one, found)
        drawn = _stack(heard, lines, truth, self, at_s)
        return [
            drawn,
            Sound(
                uri=ogg(found, *at_s), caption=f"Listen to {one.name}, {at_s[0]:g} to {at_s[1]:.1f} s", start_s=at_s[0]
            ),
            Text(_said(lines, truth, self.names, at_s)),
        ]

    def _found(self, one: Recording, found: AudioInfo, heard: Excerpt, block: tuple[int, int]) -> pd.DataFrame:
        """Return what was found in the part that is shown; of a clip, by the network now."""
        scores, first = (heard.rows, block[0]) if one.whole else (one.scores, 0)
        if not scores.size:
            scores, first = np.repeat(one.scores[:1], block[1] - block[0], 0), block[0]
        table = make_table(row_ids("x", len(scores), self.row_s, first_row=first), self.classes, scores)
        known = detections.Recording(
            path=str(found.path), name="x", n_samples=found.n_samples, sample_rate=found.sample_rate
        )
        lines = detections.detect(table, [known], self.detection, row_s=self.row_s)
        chosen: pd.DataFrame = lines[
            (lines["end_s"] > block[0] * self.row_s) & (lines["start_s"] < block[1] * self.row_s)
        ]
        return chosen

    def _true(self, one: Recording, found: AudioInfo) -> pd.DataFrame | None:
        """Return who calls when, as far as that is known."""
        if one.truth is None:
            return None
        lines = []
        for k, name in enumerate(self.classes):
            rows = np.flatnonzero(one.truth[:, k] > 0)
            if one.whole and len(rows):
                lines.append((0.0, found.duration_s, name))
                continue
            for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else ():
                end_s = min((run[-1] + 1) * self.row_s, found.duration_s)
                lines.append((float(run[0] * self.row_s), float(end_s), name))
        table: pd.DataFrame = pd.DataFrame(lines, columns=["start_s", "end_s", "label"])
        return table


def _stack(
    heard: Excerpt, lines: pd.DataFrame, truth: pd.DataFrame | None, viewer: Viewer, at_s: tuple[float, float]
) -> Figure:
    """Draw spectrogram, detections and attention over one line of time."""
    lanes = _lanes(heard, lines, truth, viewer.classes)
    listened = bool(len(heard.logits)) and bool(lanes)
    heights = [2.4, 0.6 + 0.22 * max(1, len(lanes)), *([0.5 + 0.36 * len(lanes)] if listened else [])]
    made = new_figure(11.0, 1.1 + sum(heights))
    grid = made.subplots(len(heights), 2, height_ratios=heights, width_ratios=(1, 0.014), squeeze=False)
    for row in grid[1:]:
        row[1].set_visible(False)
    panels = [row[0] for row in grid]
    called = {name: viewer.names[name].common or name for name in lanes if name in viewer.names}
    plot.spectrogram(
        heard.db,
        viewer.frontend,
        panels[0],
        first_frame=heard.first_frame,
        top_db=_reach(heard.db, viewer.frontend),
        colorbar=False,
    )
    made.colorbar(panels[0].images[-1], cax=grid[0][1], format="%+2.0f dB")
    title = f"Detections (scores from {viewer.detection.threshold:g} on)"
    plot.detections(lines, panels[1], truth=truth, classes=lanes, names=called, title=title)
    if listened:
        places = [viewer.classes.index(name) for name in lanes]
        answers = (heard.logits[:, places], heard.attention[:, places])
        plot.attention(*answers, lanes, heard.step_s, panels[2], start_s=heard.first_s, names=called)
    for panel in panels:
        panel.set_xlim(*at_s)
        panel.label_outer()
    legend(made, panels[1:])
    text, width = svg(panels[0])
    parts = "spectrogram, detections" + (" and attention" if listened else "")
    return Figure(
        svg=text,
        alt=f"{parts} over time; what was found and what is true is told below.".capitalize(),
        caption=f"Mel spectrogram (dB, Hz, s), {'truth and ' if truth is not None else ''}detections"
        + (", and for each class what is heard and when the network listens" if listened else "")
        + (f"; the first {_MOST_LANES} classes." if len(lanes) == _MOST_LANES else "."),
        width=width,
        span=span(panels[0]),
    )


def _reach(db: npt.NDArray[np.float32], frontend: Frontend) -> float:
    """Return how far below its maximum a picture's colours reach: to its quietest parts, so that calls stand out."""
    return float(np.clip(db.max() - np.percentile(db, 2), 20.0, frontend.top_db))


def _lanes(heard: Excerpt, lines: pd.DataFrame, truth: pd.DataFrame | None, classes: Sequence[str]) -> list[str]:
    """Return the classes to show: those that are true, then those found with the highest scores."""
    true = [] if truth is None else list(dict.fromkeys(truth["label"]))
    found = list(dict.fromkeys(lines.sort_values("score", ascending=False, kind="stable")["label"]))
    lanes = list(dict.fromkeys([*true, *found]))[:_MOST_LANES]
    if not lanes and heard.rows.size:
        lanes = [classes[int(heard.rows.max(0).argmax())]]
    return lanes


def _said(
    lines: pd.DataFrame, truth: pd.DataFrame | None, names: Mapping[str, ClassName], at_s: tuple[float, float]
) -> str:
    """Say in words what a recording's figure shows."""

    def listed(table: pd.DataFrame, *, scores: bool) -> str:
        told = []
        for label, part in table.groupby("label", sort=False):
            shown = part.head(4).to_dict("records")
            times = ", ".join(f"{line['start_s']:g} to {line['end_s']:.4g} s" for line in shown)
            more = f" and {len(part) - 4} more times" if len(part) > 4 else ""
            told.append(
                f"{shown_name(str(label), names)}"
                + (f" ({part['score'].max():.2f})" if scores else "")
                + f": {times}{more}"
            )
        return "; ".join(told[:8]) + (f"; and {len(told) - 8} more classes" if len(told) > 8 else "") or "nothing"

    said = f"Found: {listed(lines, scores=True)}."
    if truth is not None:
        inside = truth[(truth["end_s"] > at_s[0]) & (truth["start_s"] < at_s[1])]
        said += f" True: {listed(inside, scores=False)}."
    return said


def _table(recordings: Sequence[Recording], viewer: Viewer, by_truth: bool) -> Table:
    lines = []
    for one in recordings:
        best = int(one.scores.max(0).argmax())
        n_true = int((one.truth > 0).any(1).sum()) if one.truth is not None else None
        line = (
            one.name,
            *((one.auc, n_true) if by_truth else ()),
            len(one.scores),
            one.highest,
            shown_name(viewer.classes[best], viewer.names),
        )
        lines.append(line)
    columns = (
        "recording",
        *(("ROC-AUC", "with a true class") if by_truth else ()),
        "rows",
        "highest score",
        "of class",
    )
    return Table(caption="Recordings", columns=columns, rows=lines)


def in_time(ids: Sequence[str], values: npt.NDArray[Any], row_s: int, fill: float) -> npt.NDArray[np.float32]:
    """Put rows where their time is, (R, K); `fill` stands in rows that are not there.

    Examples
    --------
    >>> in_time(["x_15", "x_5"], np.array([[0.3], [0.1]]), 5, np.nan)[:, 0].astype(float).round(1).tolist()
    [0.1, nan, 0.3]
    """
    row = np.array([split_row_id(name)[1] // row_s - 1 for name in ids])
    placed = np.full((row.max() + 1, values.shape[1]), fill, np.float32)
    placed[row] = values
    return placed


def row_length(ids: Sequence[str]) -> int:
    """Return how many seconds a row is, by the seconds at which rows end.

    Raises
    ------
    DataError
        If an id does not end with such a second.

    Examples
    --------
    >>> row_length(["H02_20230420_074000_15", "H02_20230420_074000_5"])
    5
    """
    ends = [split_row_id(name)[1] for name in ids]
    wrong = [name for name, end in zip(ids, ends, strict=True) if end < 1]
    if wrong:
        raise DataError(f"the row {wrong[0]!r} does not end with the second at which it ends, as <recording>_<second>.")
    return math.gcd(*ends)
