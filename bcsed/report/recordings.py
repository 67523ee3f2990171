"""Recordings as examples: a table of all of them, and spectrogram, detections, attention and sound of some."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import plot
from ..audio.headers import AudioInfo, read_info
from ..audio.windows import count_rows
from ..config.contract import WIDE_384
from ..errors import DataError
from ..models.backends import Array, Backend
from ..models.bundle.bundle import Bundle
from ..plot import style
from ..scores import detections, metrics
from ..scores.checks.ids import parse_row_ids
from ..scores.detections.detect import DetectionSettings
from ..scores.detections.taxonomy import ClassName
from ..scores.table import make_table, row_ids
from .evaluation import full_name
from .excerpt import Excerpt, encode_ogg, excerpt_rows, score_excerpt, spectrogram_excerpt, spectrogram_frontend
from .page import Figure, Item, Section, Sound, Table, make_figure

_log = logging.getLogger(__name__)

# Classes with a lane in a figure.
_MAX_LANES = 8


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Options that hold for every path of the page; see `bcsed.report.report`."""

    recordings: tuple[str | Path, ...] = ()
    truth: str | Path | None = None
    bundle: Bundle | None = None
    names: Mapping[str, ClassName] = field(default_factory=dict)
    n_examples: int = 3
    jobs: int = 2
    progress: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The scores of a recording."""

    name: str
    path: Path | None  # None if the file was not found
    scores: Array  # (R, K), rows in order of time; (1, K) of a clip
    truth: Array | None = None  # (R, K), NaN where unknown
    is_clip: bool = False

    @property
    def auc(self) -> float:
        """ROC-AUC over all rows and classes together; NaN if it is not defined."""
        known = np.isfinite(self.truth) if self.truth is not None else np.zeros(0, bool)
        if self.truth is None or not known.any():
            return float("nan")
        truth, scores = self.truth[known].reshape(-1, 1), self.scores[known].reshape(-1, 1)
        return float(metrics.class_auc(truth, scores.astype(np.float64))[0])

    @property
    def highest(self) -> float:
        """The highest score of any class."""
        return float(self.scores.max(initial=0.0))

    @property
    def central_row(self) -> int:
        """The row where scores and truth differ most, or with the highest score."""
        by_row = self.scores.max(1)
        if self.truth is not None and np.isfinite(self.truth).any():
            by_row = np.nan_to_num(np.abs(self.truth - self.scores), nan=0.0).max(1)
        return 0 if self.is_clip else int(np.argmax(by_row))


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """How recordings are shown."""

    classes: tuple[str, ...]
    context: ReportContext = field(default_factory=ReportContext)
    member: Backend | None = None  # the network that computes the attention; it has all of `classes`
    row_s: int = 5
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    species: detections.SpeciesList | None = None  # other classes are not detected

    def section(self, recordings: Sequence[Recording], remarks: Sequence[str] = ()) -> Section:
        """Return a table of all recordings, and the worst and the best as examples."""
        scored = [recording for recording in recordings if np.isfinite(recording.auc)]
        order = sorted(scored, key=lambda item: item.auc) or sorted(recordings, key=lambda item: item.highest)
        files = [recording for recording in order if recording.path is not None and recording.path.is_file()]
        n = self.context.n_examples
        items: list[Item] = [*remarks]
        if not files:
            items.append("The recordings were not found; name their folder with --recordings to show them.")
        elif scored:
            items.append(
                "The ROC-AUC of a recording states how well its true rows and classes rank above its other rows and "
                "classes: 1 is best, 0.5 is chance."
            )
        if files and self.member is None:
            items.append("Attention is not shown, because no network was found; name one with --bundle.")
        rows = []
        for item in recordings:
            n_true = int((item.truth > 0).any(1).sum()) if scored and item.truth is not None else None
            highest = full_name(self.classes[int(item.scores.max(0).argmax())], self.context.names)
            rows.append((item.name, item.auc, n_true, len(item.scores), item.highest, highest))
        columns = ("recording", "ROC-AUC", "rows with a true class", "rows", "highest score", "of class")
        items.append(Table(caption="Recordings", columns=columns, rows=rows))
        ends = ("Worst", "Best") if scored else ("Lowest scores", "Highest scores")
        examples = zip(ends, (files[:n], files[max(n, len(files) - n) :][::-1]), strict=True)
        return Section("Recordings", items, [self._example(item, end) for end, part in examples for item in part])

    def _example(self, recording: Recording, end: str) -> Section:
        self.context.progress(recording.name)
        score = f"ROC-AUC {recording.auc:.3f}" if np.isfinite(recording.auc) else f"score {recording.highest:.3f}"
        section = Section(f"{end}: {recording.name} ({score})", recording=True)
        try:
            assert recording.path is not None
            section.items += self._excerpt(recording, read_info(recording.path))
        except DataError as error:
            _log.warning("%s", error)
            section.items.append(f"The recording cannot be shown: {error}")
        return section

    def _excerpt(self, recording: Recording, audio: AudioInfo) -> list[Item]:
        """Return figure, sound and text of a part of a recording."""
        n_rows = count_rows(audio.n_samples, audio.sample_rate, self.row_s)
        block = excerpt_rows(n_rows, self.row_s, recording.central_row)
        start_s, end_s = span_s = block[0] * self.row_s, min(block[1] * self.row_s, audio.duration_s)
        if self.member is None:
            excerpt = spectrogram_excerpt(audio, WIDE_384, self.row_s, block)
        else:
            excerpt = score_excerpt(self.member, audio, self.row_s, block, self.classes)
        scores, truth, first = recording.scores, recording.truth, 0
        if recording.is_clip:
            # The score of a clip is for all of its rows; the network gives one for each.
            n, first = block[1] - block[0], block[0]
            scores = excerpt.rows if excerpt.rows.size else np.repeat(scores, n, 0)
            truth = None if truth is None else np.repeat(truth, n, 0)
        detected, true_calls = self._calls(scores, first, audio, self.detection, span_s), None
        if self.species is not None:
            detected = detected[detected["label"].isin(self.species.classes_of(recording.path or recording.name))]
        text = f"Detections: {_list_calls(detected, self.context.names)}."
        if truth is not None:
            true_calls = self._calls(np.nan_to_num(truth), first, audio, DetectionSettings(), span_s)
            true_calls = true_calls.drop(columns="score")
            text += f" True: {_list_calls(true_calls, self.context.names)}."
        caption = f"Sound of {recording.name}, {start_s:g} to {end_s:.1f} s"
        sound = Sound(uri=encode_ogg(audio, *span_s), caption=caption, start_s=start_s)
        items: list[Item] = [_draw(excerpt, detected, true_calls, self, span_s), sound, text]
        if block[1] - block[0] < n_rows:
            items.append(f"This is {start_s:g} to {end_s:g} s of {audio.duration_s:.0f} s.")
        return items

    def _calls(
        self, scores: Array, first_row: int, audio: AudioInfo, settings: DetectionSettings, span_s: tuple[float, float]
    ) -> pd.DataFrame:
        """Return the detections inside a time span, from scores or from the truth."""
        table = make_table(row_ids("x", len(scores), self.row_s, first_row=first_row), self.classes, scores)
        length: dict[str, int] = {"n_samples": audio.n_samples, "sample_rate": audio.sample_rate}
        recording = detections.Recording(path=str(audio.path), name="x", **length)
        lines = detections.detect(table, [recording], settings, row_s=self.row_s)
        inside: pd.DataFrame = lines[(lines["end_s"] > span_s[0]) & (lines["start_s"] < span_s[1])]
        return inside


def _draw(
    excerpt: Excerpt, detected: pd.DataFrame, truth: pd.DataFrame | None, viewer: Viewer, span_s: tuple[float, float]
) -> Figure:
    """Draw spectrogram, detections and attention over one time axis."""
    # The classes with a lane: the true ones, then the detected ones by their score; or else the highest.
    by_score = detected.sort_values("score", ascending=False, kind="stable")["label"]
    lanes = list(dict.fromkeys([*([] if truth is None else truth["label"]), *by_score]))[:_MAX_LANES]
    if not lanes and excerpt.rows.size:
        lanes = [viewer.classes[int(excerpt.rows.max(0).argmax())]]
    with_attention = bool(len(excerpt.logits)) and bool(lanes)
    heights = [2.4, 0.6 + 0.22 * max(1, len(lanes)), *([0.5 + 0.36 * len(lanes)] if with_attention else [])]
    figure = style.figure(11.0, 1.1 + sum(heights))
    grid = figure.subplots(len(heights), 2, height_ratios=heights, width_ratios=(1, 0.014), squeeze=False)
    for row in grid[1:]:
        row[1].set_visible(False)
    panels = [row[0] for row in grid]
    names = {name: viewer.context.names[name].common or name for name in lanes if name in viewer.context.names}
    frontend = spectrogram_frontend(viewer.member)
    # Colours end at the quietest parts, so that calls stand out.
    top_db = float(np.clip(excerpt.db.max() - np.percentile(excerpt.db, 2), 20.0, frontend.top_db))
    options: dict[str, Any] = {"first_frame": excerpt.first_frame, "top_db": top_db, "colorbar": False}
    plot.spectrogram(excerpt.db, frontend, panels[0], **options)
    figure.colorbar(panels[0].images[-1], cax=grid[0][1], format="%+2.0f dB")
    title = f"Detections (scores of at least {viewer.detection.threshold:g})"
    plot.detections(detected, panels[1], truth=truth, classes=lanes, names=names, title=title)
    if with_attention:
        columns = [viewer.classes.index(name) for name in lanes]
        logits, attention = excerpt.logits[:, columns], excerpt.attention[:, columns]
        plot.attention(logits, attention, lanes, excerpt.step_s, panels[2], start_s=excerpt.first_s, names=names)
    for panel in panels:
        panel.set_xlim(*span_s)
        panel.label_outer()
    style.legend(figure, panels[1:])
    caption = "Mel spectrogram (dB, Hz, s), detections" + (", truth" if truth is not None else "")
    caption += ", probability and attention of each class" if with_attention else ""
    alt = f"{caption} over time; the text after it lists the detections."
    caption += f"; the first {_MAX_LANES} classes." if len(lanes) == _MAX_LANES else "."
    return make_figure(panels[0], alt=alt, caption=caption, with_time=True)


def _list_calls(table: pd.DataFrame, names: Mapping[str, ClassName]) -> str:
    """List the times of each class of a table of detections or of true calls."""
    texts = []
    for label, part in table.groupby("label", sort=False):
        times = ", ".join(f"{line['start_s']:g} to {line['end_s']:.4g} s" for line in part.head(4).to_dict("records"))
        times += f" and {len(part) - 4} more times" if len(part) > 4 else ""
        score = f" ({part['score'].max():.2f})" if "score" in part else ""
        texts.append(f"{full_name(str(label), names)}{score}: {times}")
    return "; ".join(texts[:8]) + (f"; and {len(texts) - 8} more classes" if len(texts) > 8 else "") or "none"


def group_recordings(
    names: Sequence[str],
    scores: Array,
    truth: npt.NDArray[Any] | None,
    row_index: npt.NDArray[np.int64] | None,
    find_path: Callable[[str], Path | None],
) -> list[Recording]:
    """Group N rows by the name of their recording.

    `row_index` is the index of each row in its recording, None for clips. Missing rows get score 0 and unknown truth.
    """
    recordings = []
    for name, positions in pd.Series(range(len(names))).groupby(list(names), sort=False):
        index = positions.to_numpy()
        rows = np.arange(len(index)) if row_index is None else row_index[index]
        path, in_order = find_path(str(name)), in_time(rows, scores[index], 0.0)
        known = None if truth is None else in_time(rows, truth[index], np.nan)
        recordings.append(Recording(name=str(name), path=path, scores=in_order, truth=known, is_clip=row_index is None))
    return recordings


def in_time(row_index: npt.NDArray[np.int64], values: npt.NDArray[Any], fill: float) -> Array:
    """Return rows in order of time, (R, K), with `fill` in missing rows."""
    rows = np.full((row_index.max() + 1, values.shape[1]), fill, np.float32)
    rows[row_index] = values
    return rows


def row_length(ids: Sequence[str]) -> int:
    """Return the seconds of a row: the greatest common divisor of the seconds at which rows end."""
    end_s = parse_row_ids(ids).end_s
    invalid = np.flatnonzero(end_s <= 0)
    if len(invalid):
        raise DataError(f"the row {ids[invalid[0]]!r} does not end with its end second, as in <recording>_<second>.")
    return int(np.gcd.reduce(end_s))
