"""Marked events of recordings, and the marks of the time steps of a window (strong labels)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...config.contract import Frontend

# Marks of time steps: inside an event of the class, outside all of its events, and not known.
POSITIVE, NEGATIVE, UNKNOWN = 1.0, 0.0, -1.0


class Events(NamedTuple):
    """The M events of a recording, in samples; its annotated classes are those that have an event."""

    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]  # of the class

    def draw_first(self, room: int, frontend: Frontend, rng: np.random.Generator) -> int:
        """Draw the first frame, up to `room`, of a window that contains an event or is inside it."""
        event = int(rng.integers(len(self.begin)))
        edges = int(self.begin[event]) // frontend.hop_length, -(-int(self.end[event]) // frontend.hop_length)
        low, high = np.clip(sorted((edges[0], edges[1] - frontend.n_frames)), 0, room)
        return int(rng.integers(low, high, endpoint=True))


class Piece(NamedTuple):
    """A stretch of the samples of a window, and the events of the recording that it is from."""

    events: Events | None
    first: int  # sample of the recording at the begin of the piece
    begin: int = 0  # samples of the window
    end: int = 1 << 62
    period: int = 0  # samples after which the recording is repeated; 0: it is not


def mark_steps(pieces: Sequence[Piece], steps: int, n_classes: int, frontend: Frontend) -> npt.NDArray[np.float32]:
    """Return the marks of the time steps of a window that consists of pieces, (steps, n_classes).

    A step is `POSITIVE` if an event covers at least half of it, or at least half of an event is in it; `UNKNOWN` if an
    event covers less of it, or the class is not annotated in the recording. In a step that two pieces share, a positive
    mark comes before an unknown one, and this before a negative one.
    """
    marks = np.full((steps, n_classes), UNKNOWN, np.float32)
    if not steps or all(piece.events is None for piece in pieces):
        return marks
    width = frontend.n_frames // steps * frontend.hop_length
    # The first frame is centred on this sample of the window.
    begin = frontend.n_fft // 2 + width * np.arange(steps)
    lowest = np.full_like(marks, POSITIVE)
    for piece in pieces:
        inside = (begin < piece.end) & (begin + width > piece.begin)
        values = np.full_like(marks, UNKNOWN)
        if piece.events is not None:
            values[:, piece.events.column] = NEGATIVE
            for start, end, column in _events_in(piece, frontend.clip_samples):
                first, last = max(start, piece.begin), min(end, piece.end)
                overlap = np.minimum(begin + width, last) - np.maximum(begin, first)
                positive = (overlap > 0) & (2 * overlap >= min(width, end - start))
                touched = (overlap > 0) & (values[:, column] == NEGATIVE)
                values[:, column] = np.where(positive, POSITIVE, np.where(touched, UNKNOWN, values[:, column]))
        marks[inside] = np.maximum(marks, values)[inside]
        lowest[inside] = np.minimum(lowest, values)[inside]
    return np.where(marks == POSITIVE, marks, lowest)


def _events_in(piece: Piece, n_samples: int) -> list[tuple[int, int, int]]:
    """Return begin and end, in samples of the window, and column of the events of a piece, and of their repetitions."""
    assert piece.events is not None
    shifts = np.zeros(1, np.int64)
    if piece.period:
        last = piece.first + min(piece.end, n_samples) - piece.begin
        shifts = piece.period * np.arange(piece.first // piece.period, last // piece.period + 1)
    offsets = shifts[:, None] - piece.first + piece.begin
    columns = np.broadcast_to(piece.events.column, (len(shifts), len(piece.events.column)))
    begin, end = piece.events.begin + offsets, piece.events.end + offsets
    return list(zip(begin.ravel().tolist(), end.ravel().tolist(), columns.ravel().tolist(), strict=True))


def window_targets(
    marks: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], positive: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a window's targets and loss weights (K,) that agree with its marks (steps, K), which come first.

    A class with a positive mark has at least the target `positive`, a class with negative marks only has the target 0.
    """
    if not marks.size or not (marks != UNKNOWN).any():
        return targets, weights
    present, absent = (marks == POSITIVE).any(0), (marks == NEGATIVE).all(0)
    agreed = np.where(present, np.maximum(targets, positive), np.where(absent, 0, targets)).astype(np.float32)
    return agreed, np.where(present | absent, 1, weights).astype(np.float32)
