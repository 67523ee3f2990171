"""Soundscapes with labelled rows -> excerpts with labels, for injection and for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...audio.decode import AudioInfo
from ...config.contract import Frontend
from ...config.recipe import Data, Injection
from ...errors import DataError
from .clips import Clip, ClipReader

Labels = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class ExcerptSampler:
    """Recordings of a place, and what calls in which of their rows.

    Parameters
    ----------
    recordings : sequence of audio.AudioInfo
    file : ndarray of int64, shape (R,)
        The recording of each row.
    start_s, end_s : ndarray of int64, shape (R,)
        Where a row begins and ends, in seconds.
    values : ndarray, shape (R, K)
        Labels in [0, 1]: human ones 0 or 1, pseudolabels probabilities, 0 where not selected.
    signal : Frontend
    data : Data
        The label knobs.
    pseudo : bool
        Whether the labels are pseudolabels.
    cache_gb : float
        Memory for decoded recordings.

    Raises
    ------
    DataError
        If there are no rows.
    """

    def __init__(
        self,
        recordings: Sequence[AudioInfo],
        file: npt.NDArray[np.int64],
        start_s: npt.NDArray[np.int64],
        end_s: npt.NDArray[np.int64],
        values: npt.NDArray[np.floating],
        *,
        frontend: Frontend,
        data: Data,
        pseudo: bool,
        cache_gb: float = 0.0,
    ) -> None:
        if not len(file):
            raise DataError("no soundscape has a row that could be used.")
        self.clips = ClipReader(recordings, frontend, data, cache_gb)
        self.frontend, self.data, self.pseudo = frontend, data, pseudo
        order = np.lexsort((start_s, file))
        self.file, self.values = file[order], np.asarray(values)[order]
        self.begin, self.end = (np.asarray(x)[order] * frontend.sample_rate for x in (start_s, end_s))
        # The rows of each recording are a run.
        self._first = np.searchsorted(self.file, np.arange(len(recordings) + 1))
        self._cumulated: dict[object, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.file)

    def draw(self, inject: Injection, own: int, rng: np.random.Generator) -> Clip | None:
        """Return an excerpt as `inject` asks for, as long as a window.

        Parameters
        ----------
        inject : Injection
            Its `mode`, `excerpt` and `draw`.
        own : int
            The sample's class, which a pseudolabelled substitute must hold; -1 for any.
        rng : Generator

        Returns
        -------
        Clip or None
            None where no row holds the class.
        """
        n = self.frontend.clip_samples
        lengths = (n,) if inject.excerpt == "whole" else (n // 2, n - n // 2)
        waves, targets, weights = [], None, None
        for length in lengths:
            chosen = self._choose(inject, own, rng)
            if chosen is None:
                return None
            file, row = chosen
            begin = self._begin(file, row, length, rng)
            waves.append(self.clips.samples(file, begin, begin + length))
            mine = self._labels(file, begin, begin + length)
            targets, weights = mine if targets is None or weights is None else _join(targets, weights, *mine)
        assert targets is not None
        assert weights is not None
        return Clip(np.concatenate(waves), targets, weights, np.zeros(0, np.float32))

    def around(self, row: int, rng: np.random.Generator) -> Clip:
        """Return a window that holds a row, placed at random, with its labels."""
        file, n = int(self.file[row]), self.frontend.clip_samples
        begin = self._begin(file, row, n, rng)
        return Clip(self.clips.samples(file, begin, begin + n), *self._labels(file, begin, begin + n), _NONE)

    def maxima(self) -> npt.NDArray[np.float64]:
        """Return for each recording the sum over classes of the highest label, (files,)."""
        total = np.zeros(len(self.clips.recordings))
        for file in np.unique(self.file):
            total[file] = self.values[self._first[file] : self._first[file + 1]].max(0).astype(np.float64).sum()
        return total

    def _choose(self, inject: Injection, own: int, rng: np.random.Generator) -> tuple[int, int | None] | None:
        """Draw a recording, and a row of it unless any place will do."""
        if inject.mode == "substitute" and self.pseudo and own >= 0:
            row = self._draw(("class", own), lambda: self.values[:, own].astype(np.float64), rng)
            return None if row is None else (int(self.file[row]), row)
        if inject.draw == "confidence":
            file = self._draw("confidence", self.maxima, rng)
            return None if file is None else (file, None)
        # Of pseudolabelled rows those that hold something; where a person heard nothing, there is nothing.
        row = self._draw("rows", lambda: (self.values > 0).any(1) if self.pseudo else np.ones(len(self)), rng)
        return None if row is None else (int(self.file[row]), row)

    def _draw(self, key: object, weights: object, rng: np.random.Generator) -> int | None:
        """Draw an index in proportion to weights, whose running sum is kept."""
        if key not in self._cumulated:
            self._cumulated[key] = np.cumsum(np.asarray(weights(), np.float64))  # type: ignore[operator]
        total = self._cumulated[key]
        place = rng.random() * total[-1]
        return int(np.searchsorted(total, place, side="right")) if total[-1] > 0 else None

    def _begin(self, file: int, row: int | None, length: int, rng: np.random.Generator) -> int:
        """Draw where an excerpt begins: anywhere, or so that it holds a row or lies in it."""
        frontend = self.frontend
        n = self.clips.recordings[file].length(frontend.sample_rate)
        margin = frontend.n_fft // 2
        # An excerpt of the frame grid begins half a spectrum before its first frame.
        last = max(0, n - length + 2 * margin)
        low, high = 0, last
        if row is not None:
            edges = sorted((int(self.begin[row]), int(self.end[row]) - length + 2 * margin))
            low, high = (min(max(edge, 0), last) for edge in edges)
        first = int(rng.integers(low, high, endpoint=True)) // frontend.hop_length
        return first * frontend.hop_length - margin

    def _labels(self, file: int, begin: int, end: int) -> Labels:
        """Return targets and weights of an excerpt: the maximum over the rows of which half is heard."""
        rows = slice(self._first[file], self._first[file + 1])
        row_begin, row_end = self.begin[rows], self.end[rows]
        overlap = np.minimum(row_end, end) - np.maximum(row_begin, begin)
        heard = 2 * overlap >= row_end - row_begin
        # An excerpt shorter than a row has the labels of the row that it shares most with.
        heard |= (overlap == overlap.max()) & (overlap > 0)
        K, data = self.values.shape[1], self.data
        value = self.values[rows][heard].max(0).astype(np.float32) if heard.any() else np.zeros(K, np.float32)
        weight = np.ones(K, np.float32)
        if self.pseudo:
            weight[value > 0] = data.pseudo_loss_weight
            value = value * data.pseudo_target if data.pseudo_soft else (value > 0) * data.pseudo_target
        else:
            value = value * data.label_target
            if self._has_gap(overlap, file, begin, end):
                # What calls in the part that nobody labelled is not known.
                weight[value == 0] = 0.0
        return value.astype(np.float32), weight

    def _has_gap(self, overlap: npt.NDArray[np.int64], file: int, begin: int, end: int) -> bool:
        n = self.clips.recordings[file].length(self.frontend.sample_rate)
        inside = min(end, n) - max(begin, 0)
        return bool(inside - overlap.clip(0).sum() > self.frontend.sample_rate)


_NONE = np.zeros(0, np.float32)


def _join(
    targets: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    others: npt.NDArray[np.float32],
    other_weights: npt.NDArray[np.float32],
) -> Labels:
    """Join the labels of two excerpts of one source: the higher target, and with it its weight."""
    joined = np.where(targets > others, weights, other_weights)
    # Unknown in one of them, and not heard in the other, is unknown.
    silent = (targets == 0) & (others == 0)
    joined = np.where(silent, np.minimum(weights, other_weights), joined)
    return np.maximum(targets, others), joined.astype(np.float32)


def online_labels(
    recordings: Sequence[AudioInfo], n_classes: int, *, frontend: Frontend, data: Data, cache_gb: float = 0.0
) -> ExcerptSampler:
    """Return unlabelled recordings as a source: every place equally likely, labels left to the network."""
    file = np.arange(len(recordings))
    ends = np.array([max(1, int(found.duration_s)) for found in recordings])
    values = np.ones((len(recordings), n_classes), np.float16)
    return ExcerptSampler(
        recordings, file, 0 * file, ends, values, frontend=frontend, data=data, pseudo=True, cache_gb=cache_gb
    )
