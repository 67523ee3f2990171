"""Excerpts of soundscapes with labelled rows, for injection and for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ...audio.headers import AudioInfo
from ...config.contract import Frontend
from ...config.recipe import Data, Injection
from ...errors import DataError
from .. import augment
from .clips import Clip, ClipReader
from .events import Events, Piece, mark_steps
from .teacher import Teacher

Labels = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

NO_EMBEDDING = np.zeros(0, np.float32)


class ExcerptSampler:
    """Draw excerpts of soundscapes and label them from their R rows."""

    def __init__(
        self,
        recordings: Sequence[AudioInfo],
        file: npt.NDArray[np.int64],  # the recording of each row, (R,)
        start_s: npt.NDArray[np.integer | np.floating],
        end_s: npt.NDArray[np.integer | np.floating],
        # Human labels 0, 1, or NaN where unknown; pseudolabels in [0, 1], 0 if not selected, (R, K).
        values: npt.NDArray[np.floating],
        *,
        frontend: Frontend,
        data: Data,
        pseudo: bool,
        cache_gb: float = 0.0,
        events: Sequence[Events | None] = (),  # of each recording; empty without strong labels
        teacher: Teacher | None = None,  # of the same recordings
    ) -> None:
        if not len(file):
            raise DataError("no soundscape has a row that could be used.")
        self.clips = ClipReader(recordings, frontend, data, cache_gb)
        self.frontend, self.data, self.pseudo, self.events = frontend, data, pseudo, events
        self.teacher = teacher
        order = np.lexsort((start_s, file))
        ordered = np.asarray(values)[order]
        self.file, self.values, self.known = file[order], np.nan_to_num(ordered), ~np.isnan(ordered)
        self.begin, self.end = (
            np.rint(np.asarray(x)[order] * frontend.sample_rate).astype(np.int64) for x in (start_s, end_s)
        )
        # The last row of a recording ends with it.
        length = np.array([each.length(frontend.sample_rate) for each in recordings], np.int64)[self.file]
        self.end = np.where(self.begin < length, np.minimum(self.end, length), self.end)
        # The rows of recording k are self._first[k] to self._first[k + 1].
        self._first = np.searchsorted(self.file, np.arange(len(recordings) + 1))
        self._cumulated: dict[object, npt.NDArray[np.float64]] = {}

    @property
    def has_labels(self) -> bool:
        """Whether a label of a row is known."""
        return self.pseudo or bool(self.known.any())

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.file)

    def sample(self, inject: Injection, class_index: int, rng: np.random.Generator, steps: int = 0) -> Clip | None:
        """Return a random excerpt of a window's length, None if no row has the class.

        `class_index` is the class that a pseudolabelled substitute must have; -1 for any. `steps` is the number of time
        steps of a window that are marked.
        """
        n = self.frontend.clip_samples
        waves: list[npt.NDArray[np.float32]] = []
        pieces: list[Piece] = []
        labels: Labels | None = None
        embeddings = []
        for length in (n,) if inject.excerpt == "whole" else (n // 2, n - n // 2):
            source = self._draw_source(inject, class_index, rng)
            if source is None:
                return None
            file, row = source
            begin = self._draw_begin(file, row, length, rng)
            pieces.append(self._piece(file, begin, length, sum(map(len, waves))))
            waves.append(self.clips.samples(file, begin, begin + length))
            part = self._labels(file, begin, begin + length)
            labels = part if labels is None else join_labels(labels, part)
            embeddings.append(self._embedding(file, begin, length))
        assert labels is not None
        # Of a half without an embedding nothing is known, so nothing is known of both.
        embedding = np.mean(embeddings, 0) * all(part.any() for part in embeddings)
        return Clip(np.concatenate(waves), *labels, self._marks(pieces, steps), embedding)

    def window_around(self, row: int, rng: np.random.Generator, steps: int = 0) -> Clip:
        """Return a window that contains a row at a random position, with its labels."""
        file, n = int(self.file[row]), self.frontend.clip_samples
        begin = self._draw_begin(file, row, n, rng)
        wave, labels = self.clips.samples(file, begin, begin + n), self._labels(file, begin, begin + n)
        marks = self._marks([self._piece(file, begin, n)], steps)
        return Clip(wave, *labels, marks, self._embedding(file, begin, n))

    def _piece(self, file: int, first: int, length: int, begin: int = 0) -> Piece:
        repeated = self.data.pad != "zeros" and self.clips.is_short(file)
        period = self.clips.recordings[file].length(self.frontend.sample_rate) if repeated else 0
        return Piece(self.events[file] if self.events else None, first, begin, begin + length, period)

    def _marks(self, pieces: Sequence[Piece], steps: int) -> npt.NDArray[np.float32]:
        return mark_steps(pieces, steps, self.values.shape[1], self.frontend)

    def maxima(self) -> npt.NDArray[np.float64]:
        """Return for each recording the sum over classes of the highest label, (files,)."""
        total = np.zeros(len(self.clips.recordings))
        for file in np.unique(self.file):
            total[file] = self.values[self._first[file] : self._first[file + 1]].max(0).astype(np.float64).sum()
        return total

    def _draw_source(
        self, inject: Injection, class_index: int, rng: np.random.Generator
    ) -> tuple[int, int | None] | None:
        """Draw a recording, and a row of it unless the excerpt may be anywhere in it."""
        if inject.mode == "substitute" and self.pseudo and class_index >= 0:
            row = self._draw(("class", class_index), lambda: self.values[:, class_index], rng)
        elif inject.draw == "confidence":
            # Without any label, all recordings are equally likely.
            rows = np.bincount(self.file, minlength=len(self.clips.recordings)) > 0
            file = self._draw("confidence", lambda: m if (m := self.maxima()).any() else rows, rng)
            return None if file is None else (file, None)
        else:
            # A pseudolabelled row without a label may contain anything; a human-labelled one is known to be empty.
            row = self._draw("rows", lambda: (self.values > 0).any(1) if self.pseudo else np.ones(len(self)), rng)
        return None if row is None else (int(self.file[row]), row)

    def _draw(self, key: object, weights: Callable[[], npt.ArrayLike], rng: np.random.Generator) -> int | None:
        """Draw an index in proportion to weights, whose cumulated sum is cached under a key."""
        if key not in self._cumulated:
            self._cumulated[key] = np.cumsum(np.asarray(weights(), np.float64))
        total = self._cumulated[key]
        threshold = rng.random() * total[-1]
        return int(np.searchsorted(total, threshold, side="right")) if total[-1] > 0 else None

    def _draw_begin(self, file: int, row: int | None, length: int, rng: np.random.Generator) -> int:
        """Draw the first sample of an excerpt: anywhere, or so that it contains a row or is inside it."""
        frontend = self.frontend
        n = self.clips.recordings[file].length(frontend.sample_rate)
        # An excerpt on the frame grid begins half a spectrum before its first frame.
        margin = frontend.n_fft // 2
        last = max(0, n - length + 2 * margin)
        low, high = 0, last
        if row is not None:
            edges = sorted((int(self.begin[row]), int(self.end[row]) - length + 2 * margin))
            low, high = (min(max(edge, 0), last) for edge in edges)
        first = int(rng.integers(low, high, endpoint=True)) // frontend.hop_length
        return first * frontend.hop_length - margin

    def _embedding(self, file: int, begin: int, length: int) -> npt.NDArray[np.float32]:
        if self.teacher is None:
            return NO_EMBEDDING
        rate = self.frontend.sample_rate
        return self.teacher.between(file, begin / rate, (begin + length) / rate)

    def _labels(self, file: int, begin: int, end: int) -> Labels:
        """Return targets and weights of an excerpt: the maximum over the rows inside it, see `data.excerpt_rows`."""
        rows = slice(self._first[file], self._first[file + 1])
        row_begin, row_end = self.begin[rows], self.end[rows]
        overlap = np.minimum(row_end, end) - np.maximum(row_begin, begin)
        if self.data.excerpt_rows == "half":
            used = 2 * overlap >= row_end - row_begin
        else:
            # A spectrum's length less is inside: windows of the length of a row begin on the grid of frames.
            used = overlap >= row_end - row_begin - self.frontend.n_fft
        # An excerpt shorter than a row has the labels of the row with the largest overlap.
        used = (used | (overlap == overlap.max())) & (overlap > 0)
        K, data = self.values.shape[1], self.data
        value = self.values[rows][used].max(0).astype(np.float32) if used.any() else np.zeros(K, np.float32)
        weight = np.ones(K, np.float32)
        partly = (overlap > 0) & ~used
        doubtful = np.zeros(K, bool)
        if self.data.excerpt_rows == "whole" and partly.any():
            # A class that is only in rows partly inside may be audible or not; soft labels are never exactly 0.
            doubtful = self.values[rows][partly].max(0) > np.maximum(2.0 * value, 0.1)
        if self.pseudo:
            weight[value > 0] = data.pseudo_loss_weight
            value = value * data.pseudo_target if data.pseudo_soft else (value > 0) * data.pseudo_target
        else:
            value = value * data.label_target
            n = self.clips.recordings[file].length(self.frontend.sample_rate)
            unlabelled = min(end, n) - max(begin, 0) - overlap.clip(0) @ self.known[rows]
            # Negatives are unknown if more than a second of the excerpt, or half of it, is without labels of the class.
            limit = min(self.frontend.sample_rate, (min(end, n) - max(begin, 0)) / 2)
            weight[(value == 0) & (unlabelled > limit)] = 0.0
        weight[doubtful] = 0.0
        return value.astype(np.float32), weight


def join_labels(first: Labels, second: Labels) -> Labels:
    """Join targets and weights (K,) of two pieces of a window, as those of two clips that are mixed."""
    targets, weights = augment.join_labels(*map(torch.from_numpy, (*first, *second)))
    return targets.numpy(), weights.numpy()
