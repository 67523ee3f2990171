"""Batches of clips and excerpts, decoded by threads ahead of the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ...audio.decode import Wave
from ...config.recipe import Data, Injection
from ..augment import Excerpts, WaveBatch, set_level
from .clips import Clip, ClipReader
from .events import Events, Piece, mark_steps, window_targets
from .excerpts import NO_EMBEDDING, ExcerptSampler, join_labels
from .teacher import Teacher

# Batches that are being decoded at once.
_AHEAD = 3
# A sample and its excerpt that is being decoded.
_Excerpt = tuple[int, Future[Clip | None]]


@dataclass(frozen=True)
class BatchInputs:
    """The sources of batches: N clips, and soundscapes."""

    clips: ClipReader
    targets: npt.NDArray[np.float32]  # (N, K)
    weights: npt.NDArray[np.float32]  # (N, K)
    # Of each clip, for substitutes of the same class, -1 for negatives, (N,).
    class_index: npt.NDArray[np.int64] | None = None
    labelled: ExcerptSampler | None = None  # row N + j of an epoch is a window around its row j
    injectors: tuple[tuple[ExcerptSampler, Injection], ...] = ()
    teacher: Teacher | None = None
    partners: npt.NDArray[np.float64] | None = None  # cumulated chances of clips that short clips are joined with, (N,)
    level: str = "raw"  # of both clips that are joined
    events: tuple[Events | None, ...] = ()  # of each clip, None where nobody marked any; empty without strong labels
    steps: int = 0  # time steps of a window that are marked; 0 without strong labels

    def read(self, row: int, crop: str, rng: np.random.Generator) -> Clip:
        """Return the clip of a row of an epoch."""
        unknown = NO_EMBEDDING if self.teacher is None else self.teacher.unknown
        if row >= len(self.targets):
            assert self.labelled is not None
            return self.labelled.window_around(row - len(self.targets), rng, self.steps)
        if self.partners is not None and self.clips.is_short(row):
            return self._join_short(row, rng)._replace(embedding=unknown)
        events, frontend, n = self._events(row), self.clips.frontend, self.clips.length(row)
        room = -(-n // frontend.hop_length) - frontend.n_frames
        if events is not None and room > 0 and crop in ("random", "marked"):
            first = events.draw_first(room, frontend, rng)
        else:
            first = self.clips.first_frame(row, crop, rng)
        begin_s = first * frontend.hop_length / frontend.sample_rate
        embedding = unknown if self.teacher is None else self.teacher.between(row, begin_s, begin_s + frontend.window_s)
        begin = first * frontend.hop_length - frontend.n_fft // 2
        period = n if self.clips.data.pad != "zeros" and self.clips.is_short(row) else 0
        return self._labelled(self.clips.window(row, first), [Piece(events, begin, period=period)], row, embedding)

    def _events(self, row: int) -> Events | None:
        return self.events[row] if self.events else None

    def _labelled(
        self,
        wave: Wave,
        pieces: Sequence[Piece],
        row: int,
        embedding: npt.NDArray[np.float32],
        other: int | None = None,
    ) -> Clip:
        """Return a window of a clip, or of a clip and another, with the labels."""
        labels = self.targets[row], self.weights[row]
        if other is not None:
            labels = join_labels(labels, (self.targets[other], self.weights[other]))
        marks = mark_steps(pieces, self.steps, self.targets.shape[1], self.clips.frontend)
        labels = window_targets(marks, *labels, self.clips.data.label_target)
        return Clip(wave, *labels, marks, embedding)

    def _join_short(self, row: int, rng: np.random.Generator) -> Clip:
        """Return a short clip followed by another clip, repeated to a window, with the labels of both."""
        assert self.partners is not None
        other = int(np.searchsorted(self.partners, rng.random() * self.partners[-1], side="right"))
        n = room = self.clips.frontend.clip_samples
        parts, sources = [], []
        for index in (row, other):
            length = self.clips.length(index)
            begin = int(rng.integers(0, max(0, length - room), endpoint=True))
            sources.append((self._events(index), begin))
            wave = torch.from_numpy(self.clips.samples(index, begin, begin + min(length, room), pad="zeros"))
            parts.append(set_level(wave[None], self.level)[0].numpy())
            room -= len(wave)
        edges = np.cumsum([0, *map(len, parts)])
        pieces = [
            Piece(events, first, int(begin + shift), int(end + shift))
            for shift in range(0, n, int(edges[-1]))
            for (events, first), begin, end in zip(sources, edges[:-1], edges[1:], strict=True)
        ]
        return self._labelled(np.resize(np.concatenate(parts), n), pieces, row, NO_EMBEDDING, other)

    def class_of(self, row: int) -> int:
        """Return the class of a row of an epoch, -1 for negatives, labelled soundscapes and without `class_index`."""
        return int(self.class_index[row]) if self.class_index is not None and row < len(self.class_index) else -1


class Batch(NamedTuple):
    """The clips of a training step, and the excerpts of each injector."""

    clips: WaveBatch
    excerpts: tuple[Excerpts, ...]


def epoch_order(
    rows: npt.NDArray[np.int64],
    seed: int,
    epoch: int,
    *,
    class_index: npt.NDArray[np.int64] | None = None,
    data: Data | None = None,
) -> npt.NDArray[np.int64]:
    """Return the training rows of an epoch in random order; every epoch has the same length.

    `class_index` (N,) is the class of each clip, for `data.sampling` and `data.max_per_class`; negatives (-1) count as
    a class. Rows from N on are
    labelled soundscapes; every epoch has all of them.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    if data is None or class_index is None or (data.sampling == "uniform" and not data.max_per_class):
        return rng.permutation(rows)
    clips, soundscapes = rows[rows < len(class_index)], rows[rows >= len(class_index)]
    if data.max_per_class:
        shuffled = rng.permutation(clips)
        classes = class_index[shuffled]
        # The number of clips of the same class before each clip.
        order = np.argsort(classes, kind="stable")
        first = np.searchsorted(classes[order], classes[order])
        before = np.empty(len(order), np.int64)
        before[order] = np.arange(len(order)) - first
        clips = shuffled[before < data.max_per_class]
    if data.sampling != "uniform":
        _, inverse, counts = np.unique(class_index[clips], return_inverse=True, return_counts=True)
        chance = counts[inverse] ** (-1.0 if data.sampling == "balanced" else -0.5)
        clips = rng.choice(clips, len(clips), p=chance / chance.sum())
    return rng.permutation(np.concatenate([clips, soundscapes]))


def batches(
    inputs: BatchInputs,
    rows: npt.NDArray[np.int64],
    *,
    batch_size: int,
    crop: str,
    seed: int,
    epoch: int,
    first_step: int = 0,
    keep_last: bool = False,
    jobs: int = 2,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield the batches of an epoch's `rows` in order, from `first_step` on.

    `part` (k, n) is the k-th of n equal parts of every batch, for the k-th of n processes; `batch_size` is over all
    parts. `keep_last` yields a last batch of fewer clips, which BatchNorm cannot use in training.
    """
    n_steps = -(-len(rows) // batch_size) if keep_last else max(1, len(rows) // batch_size)
    pending: deque[Future[Batch]] = deque()
    executor = ThreadPoolExecutor(max(1, jobs), thread_name_prefix="bcsed-clip")
    # Of its own thread, because it waits for the others.
    collector = ThreadPoolExecutor(1, thread_name_prefix="bcsed-batch")

    def start(step: int) -> Future[Batch]:
        """Start to decode this process's part; random numbers are derived from seed, epoch, step and sample."""
        chunk = rows[step * batch_size : (step + 1) * batch_size]
        low, high = (k * len(chunk) // part[1] for k in (part[0], part[0] + 1))
        clips = []
        for sample in range(low, high):
            rng = np.random.default_rng([seed, epoch, 2, step * batch_size + sample])
            clips.append(executor.submit(inputs.read, int(chunk[sample]), crop, rng))
        order = np.random.default_rng([seed, epoch, 4, step]).permutation(len(chunk))
        excerpts, share = [], 0.0
        for sampler, inject in inputs.injectors:
            # Consecutive parts of one permutation, so that a sample gets two excerpts only if all have one.
            begin, share = round(share * len(chunk)), share + inject.share
            futures = []
            for sample in map(int, np.take(order, np.arange(begin, round(share * len(chunk))), mode="wrap")):
                if low <= sample < high:
                    rng = np.random.default_rng([seed, epoch, 5, step * batch_size + sample])
                    class_index = inputs.class_of(int(chunk[sample])) if inject.same_class else -1
                    futures.append(
                        (sample - low, executor.submit(sampler.sample, inject, class_index, rng, inputs.steps))
                    )
            excerpts.append(futures)
        return collector.submit(_collect, clips, excerpts)

    try:
        for step in chain(range(first_step, n_steps), (None,) * _AHEAD):
            if step is not None:
                pending.append(start(step))
                if len(pending) < _AHEAD:
                    continue
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        collector.shutdown(wait=True, cancel_futures=True)


def _collect(clips: list[Future[Clip]], injected: list[list[_Excerpt]]) -> Batch:
    """Return a batch as soon as it is decoded."""

    def stack(arrays: Sequence[npt.NDArray[np.float32]]) -> torch.Tensor:
        tensor = torch.from_numpy(np.stack(arrays))
        # A GPU, if this process uses one, copies from pinned memory while it computes.
        return tensor.pin_memory() if torch.cuda.is_initialized() else tensor  # type: ignore[no-untyped-call]

    batch = WaveBatch(*map(stack, zip(*(future.result() for future in clips), strict=True)))
    excerpts = []
    for futures in injected:
        decoded = [(sample, clip) for sample, future in futures if (clip := future.result()) is not None]
        index = torch.tensor([sample for sample, _ in decoded], dtype=torch.int64)
        labelled = [part[:0] for part in batch]
        if decoded:
            labelled = [stack(parts) for parts in zip(*(clip for _, clip in decoded), strict=True)]
        excerpts.append(Excerpts(index, *labelled))
    return Batch(batch, tuple(excerpts))
