"""Clips and excerpts -> batches, decoded by threads ahead of the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from ...config.recipe import Data, Injection
from ..augment import Excerpts
from .clips import Clip, ClipReader
from .embeddings import Embeddings
from .excerpts import ExcerptSampler

# Batches that are being decoded at once.
_AHEAD = 3


@dataclass(frozen=True)
class BatchInputs:
    """Everything that batches are made of.

    Parameters
    ----------
    clips : ClipReader
        N recordings.
    targets, weights : ndarray of float32, shape (N, K)
    own : ndarray of int64, shape (N,), optional
        The class of each clip, for substitutes of the same class; -1 for none.
    labelled : Source, optional
        Labelled soundscapes: row ``N + j`` of an epoch is a window around its row j.
    injectors : tuple of (Source, Injection)
        Where excerpts come from, and how they enter.
    teacher : Embeddings, optional
        A teacher's embeddings of the clips.
    """

    clips: ClipReader
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    own: npt.NDArray[np.int64] | None = None
    labelled: ExcerptSampler | None = None
    injectors: tuple[tuple[ExcerptSampler, Injection], ...] = ()
    teacher: Embeddings | None = None


@dataclass(frozen=True)
class Batch:
    """One training step's clips.

    Parameters
    ----------
    step : int
        Its place in the epoch.
    waves : Tensor of float32, shape (B, frontend.clip_samples)
    targets, weights : Tensor of float32, shape (B, K)
    vectors : Tensor of float32, shape (B, D)
        A teacher's embeddings; D is 0 without a teacher.
    excerpts : tuple of Excerpts
        One per injector.
    """

    step: int
    waves: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    vectors: torch.Tensor
    excerpts: tuple[Excerpts, ...] = ()


def epoch_order(
    rows: npt.NDArray[np.int64],
    seed: int,
    epoch: int,
    *,
    own: npt.NDArray[np.int64] | None = None,
    data: Data | None = None,
) -> npt.NDArray[np.int64]:
    """Return an epoch's rows in their random order.

    Parameters
    ----------
    rows : ndarray of int64
        Rows to learn from.
    own : ndarray of int64, shape (N,), optional
        Class of each clip, for `data.sampling` and `data.max_per_class`. Rows from N on are labelled
        soundscapes; they are in every epoch, however clips are drawn.
    data : Data, optional

    Returns
    -------
    ndarray of int64
        Of the same length in every epoch.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    if data is None or own is None or (data.sampling == "uniform" and not data.max_per_class):
        return rng.permutation(rows)
    clips, others = rows[rows < len(own)], rows[rows >= len(own)]
    if data.max_per_class:
        shuffled = rng.permutation(clips)
        classes = own[shuffled]
        # How many of its class stand before each clip.
        order = np.argsort(classes, kind="stable")
        begins = np.searchsorted(classes[order], classes[order])
        before = np.empty(len(order), np.int64)
        before[order] = np.arange(len(order)) - begins
        clips = shuffled[before < data.max_per_class]
    if data.sampling != "uniform":
        _, inverse, counts = np.unique(own[clips], return_inverse=True, return_counts=True)
        chance = counts[inverse] ** (-1.0 if data.sampling == "balanced" else -0.5)
        clips = rng.choice(clips, len(clips), p=chance / chance.sum())
    return rng.permutation(np.concatenate([clips, others]))


def batches(
    feed: BatchInputs,
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
    """Yield an epoch's batches, in order, from `first_step` on.

    Parameters
    ----------
    feed : BatchInputs
    rows : ndarray of int64
        An epoch's rows; each is one clip.
    batch_size : int
        Of the whole batch, whichever part of it is asked for.
    keep_last : bool
        Whether a last batch of fewer clips counts; BatchNorm wants full ones in training.
    jobs : int
        Threads that decode.
    part : (int, int)
        The k-th of n equal parts of every batch, for the k-th of n processes.

    Raises
    ------
    DataError
        If a recording cannot be decoded.
    """
    n_steps = -(-len(rows) // batch_size) if keep_last else max(1, len(rows) // batch_size)
    waiting: deque[_PendingBatch] = deque()
    executor = ThreadPoolExecutor(max(1, jobs), thread_name_prefix="bcsed-clip")
    try:
        for step in chain(range(first_step, n_steps), (None,) * _AHEAD):
            if step is not None:
                chosen = rows[step * batch_size : (step + 1) * batch_size]
                waiting.append(_start(executor, feed, chosen, step, batch_size, crop, (seed, epoch), part))
                if len(waiting) < _AHEAD:
                    continue
            if not waiting:
                return
            yield waiting.popleft().batch()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _PendingBatch:
    """A batch being made: its clips, and for each injector the excerpts and the samples they are for."""

    step: int
    clips: list[Future[Clip]]
    excerpts: list[list[tuple[int, Future[Clip | None]]]]

    def batch(self) -> Batch:
        waves, targets, weights, vectors = (
            torch.from_numpy(np.stack(part)) for part in zip(*(future.result() for future in self.clips), strict=True)
        )
        brought = []
        for asked in self.excerpts:
            found = [(place, got) for place, future in asked if (got := future.result()) is not None]
            at = torch.tensor([place for place, _ in found], dtype=torch.int64)
            if found:
                parts = [torch.from_numpy(np.stack([got[k] for _, got in found])) for k in range(3)]
            else:
                parts = [waves[:0], targets[:0], weights[:0]]
            brought.append(Excerpts(at, *parts))
        return Batch(self.step, waves, targets, weights, vectors, tuple(brought))


def _start(
    executor: ThreadPoolExecutor,
    feed: BatchInputs,
    chosen: npt.NDArray[np.int64],
    step: int,
    batch_size: int,
    crop: str,
    key: tuple[int, int],
    part: tuple[int, int],
) -> _PendingBatch:
    """Begin to decode a process's part of a batch; all its randomness follows from key and place."""
    k, n = part
    low, high = k * len(chosen) // n, (k + 1) * len(chosen) // n
    clips = []
    for offset in range(low, high):
        rng = np.random.default_rng([*key, 2, step * batch_size + offset])
        clips.append(executor.submit(_clip, feed, int(chosen[offset]), crop, rng))
    places = np.random.default_rng([*key, 4, step]).permutation(len(chosen))
    excerpts, share = [], 0.0
    for source, inject in feed.injectors:
        # Consecutive runs of one permutation: no sample takes two.
        begin, share = round(share * len(chosen)), share + inject.share
        asked = []
        for offset in places[begin : round(share * len(chosen))]:
            if low <= offset < high:
                rng = np.random.default_rng([*key, 5, step * batch_size + int(offset)])
                row = int(chosen[offset])
                own = int(feed.own[row]) if feed.own is not None and row < len(feed.own) else -1
                asked.append((int(offset) - low, executor.submit(source.draw, inject, own, rng)))
        excerpts.append(asked)
    return _PendingBatch(step, clips, excerpts)


_NO_VECTOR = np.zeros(0, np.float32)


def _clip(feed: BatchInputs, row: int, crop: str, rng: np.random.Generator) -> Clip:
    """Return one clip of a batch."""
    n = len(feed.targets)
    nothing = _NO_VECTOR if feed.teacher is None else feed.teacher.none
    if row >= n:
        assert feed.labelled is not None
        return feed.labelled.around(row - n, rng)._replace(vector=nothing)
    first = feed.clips.first_frame(row, crop, rng)
    vector = nothing if feed.teacher is None else feed.teacher.vector(row, first)
    return Clip(feed.clips.window(row, first), feed.targets[row], feed.weights[row], vector)
