"""Clips -> batches, decoded by threads ahead of the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from .clips import Clips, Wave


@dataclass(frozen=True)
class Batch:
    """One training step's clips.

    Parameters
    ----------
    step : int
        Its place in the epoch.
    waves : Tensor of float32, shape (B, signal.clip_samples)
    targets, weights : Tensor of float32, shape (B, K)
    """

    step: int
    waves: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def epoch_order(rows: npt.NDArray[np.int64], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return an epoch's rows in their random order."""
    return np.random.default_rng([seed, epoch, 1]).permutation(rows)


def batches(
    clips: Clips,
    rows: npt.NDArray[np.int64],
    targets: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    *,
    batch_size: int,
    crop: str,
    seed: int,
    epoch: int,
    first_step: int = 0,
    keep_last: bool = False,
    jobs: int = 2,
) -> Iterator[Batch]:
    """Yield an epoch's batches, in order, from `first_step` on.

    Parameters
    ----------
    rows : ndarray of int64
        Rows of `targets`, `weights` and of the clips' recordings; each is one clip.
    keep_last : bool
        Whether a last batch of fewer clips counts; BatchNorm wants full ones in training.
    jobs : int
        Threads that decode.

    Raises
    ------
    DataError
        If a recording cannot be decoded.
    """
    n_steps = -(-len(rows) // batch_size) if keep_last else max(1, len(rows) // batch_size)
    waiting: deque[tuple[int, npt.NDArray[np.int64], list[Future[Wave]]]] = deque()
    executor = ThreadPoolExecutor(max(1, jobs), thread_name_prefix="bcsed-clip")
    try:
        for step in chain(range(first_step, n_steps), (None,) * 3):
            if step is not None:
                chosen = rows[step * batch_size : (step + 1) * batch_size]
                futures = []
                for offset, row in enumerate(chosen):
                    rng = np.random.default_rng([seed, epoch, 2, step * batch_size + offset])
                    futures.append(executor.submit(clips.wave, int(row), crop, rng))
                waiting.append((step, chosen, futures))
                if len(waiting) < 3:
                    continue
            if not waiting:
                return
            number, chosen, futures = waiting.popleft()
            yield Batch(
                number,
                torch.from_numpy(np.stack([future.result() for future in futures])),
                torch.from_numpy(targets[chosen]),
                torch.from_numpy(weights[chosen]),
            )
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
