"""Which frames feed which rows: integers only.

Conventions
-----------
A recording of ``n_samples`` has ``ceil(n_samples / hop_length)`` frames; frame ``k`` stands for samples
``k * hop_length`` to ``(k + 1) * hop_length``. A window is a run of ``n_frames`` frames; the network answers
it in ``steps`` equal steps. A row is ``row_s`` seconds of the recording, the last one possibly shorter.
Starts are products, never sums, so nothing drifts in a long recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config.contract import Frontend
from ..errors import ConfigError

WINDOW_KINDS = ("centred", "sliding")


@dataclass(frozen=True)
class WindowPlan:
    """How the answers for some windows become the answers for some rows.

    Parameters
    ----------
    starts : ndarray of int64, shape (W,)
        First frame of each window; a window may reach beyond the end of the recording.
    cell : ndarray of int64, shape (W, t)
        The place on the recording's time line that each step answers for; steps of overlapping windows
        that answer for the same place share a cell and are averaged.
    n_cells : int
    index : ndarray of int64, shape (R, m)
        The cells that each row pools.
    weight : ndarray of int64, shape (R, m)
        The overlap of each of these cells with its row, in samples; 0 pads rows that touch fewer cells.
    """

    starts: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]
    n_cells: int
    index: npt.NDArray[np.int64]
    weight: npt.NDArray[np.int64]


def count_rows(n_samples: int, sample_rate: int, row_s: int) -> int:
    """Return the number of rows of a recording: its duration over `row_s`, rounded up.

    Examples
    --------
    >>> count_rows(32_000 * 60, 32_000, 5), count_rows(3_200, 32_000, 5), count_rows(32_000 * 5 + 1, 32_000, 5)
    (12, 1, 2)
    """
    return -(-n_samples // (row_s * sample_rate))


def plan_windows(
    n_samples: int,
    frontend: Frontend,
    steps: int,
    row_s: int,
    *,
    kind: str = "centred",
    stride_s: float | None = None,
    shift_s: float = 0.0,
    first_row: int = 0,
    last_row: int | None = None,
) -> WindowPlan:
    """Say which windows to look at for a run of rows, and how to pool them.

    Parameters
    ----------
    n_samples : int
        Length of the recording at the signal's sample rate.
    signal : Frontend
    steps : int
        Steps in which the network answers a window; divides ``signal.n_frames``.
    row_s : int
        Seconds per row.
    kind : {'centred', 'sliding'}
        One window per row with the row in its middle, moved inside the recording at its ends; or windows
        at every `stride_s`, averaged on the recording's own time line.
    stride_s : float
        For sliding windows; rounded to whole steps. Half a window by default.
    shift_s : float
        For centred windows: how much later each looks, rounded to whole frames; a row is never left out of its
        window.
    first_row, last_row : int
        Half-open range of rows; all of them by default.

    Raises
    ------
    ConfigError
        If `kind` is unknown, the stride is not in (0, window], or a shifted window would miss part of its row.
    """
    if kind not in WINDOW_KINDS:
        raise ConfigError(f"windows must be one of {', '.join(WINDOW_KINDS)}; got {kind!r}.")
    if kind == "centred" and stride_s is not None:
        raise ConfigError(f"a stride of {stride_s:g} s goes with sliding windows; centred ones have none.")
    if kind == "sliding" and shift_s:
        raise ConfigError(f"a shift of {shift_s:g} s goes with centred windows; sliding ones overlap already.")
    last_row = count_rows(n_samples, frontend.sample_rate, row_s) if last_row is None else last_row
    rows = np.arange(first_row, last_row)
    per_step = frontend.n_frames // steps
    row_samples = row_s * frontend.sample_rate
    n_frames = -(-n_samples // frontend.hop_length)
    if kind == "centred":
        starts = _centred(rows, row_samples, n_frames, frontend, _shift(frontend, row_s, shift_s))
        cell = np.arange(starts.size * steps).reshape(-1, steps)
        first_frame = starts[:, None] + np.arange(steps) * per_step
        candidates = cell
    else:
        stride = _stride(frontend, per_step, stride_s)
        grid = _sliding(rows, row_samples, n_samples, n_frames, frontend, per_step, stride)
        starts, first_cell, n_cells = grid
        cell = starts[:, None] // per_step + np.arange(steps) - first_cell
        first_frame = (first_cell + np.arange(n_cells))[None] * per_step
        candidates = np.broadcast_to(np.arange(n_cells), (rows.size, n_cells))
    overlap = _overlap(first_frame, per_step, rows, row_samples, n_samples, frontend.hop_length)
    index, weight = _touching(candidates, overlap)
    return WindowPlan(starts, cell, int(cell.max()) + 1, index, weight)


def _shift(frontend: Frontend, row_s: int, shift_s: float) -> int:
    """Return a shift in frames."""
    room_s = max(0.0, (frontend.window_s - row_s) / 2)
    if not abs(shift_s) <= room_s:
        raise ConfigError(
            f"windows of {frontend.window_s:g} s can be shifted by at most {room_s:g} s without missing part of a row "
            f"of {row_s} s; got {shift_s:g}."
        )
    return round(shift_s * frontend.sample_rate / frontend.hop_length)


def _centred(
    rows: npt.NDArray[np.int64], row_samples: int, n_frames: int, frontend: Frontend, shift: int
) -> npt.NDArray[np.int64]:
    # Twice the row's middle in samples stays an integer; half a frame up rounds to the nearest.
    twice_middle = (2 * rows + 1) * row_samples
    middle = (twice_middle + frontend.hop_length) // (2 * frontend.hop_length)
    return np.clip(middle - frontend.n_frames // 2 + shift, 0, max(0, n_frames - frontend.n_frames))


def _stride(frontend: Frontend, per_step: int, stride_s: float | None) -> int:
    """Return the stride in frames, a whole number of steps, so that windows share one grid of cells."""
    wanted = frontend.window_s / 2 if stride_s is None else stride_s
    if not 0 < wanted <= frontend.window_s:
        raise ConfigError(
            f"the stride of sliding windows must be in (0, {frontend.window_s:g}] s, the window's length; got {wanted:g}."
        )
    step_s = per_step * frontend.hop_length / frontend.sample_rate
    return max(1, math.floor(wanted / step_s + 0.5)) * per_step


def _sliding(
    rows: npt.NDArray[np.int64],
    row_samples: int,
    n_samples: int,
    n_frames: int,
    frontend: Frontend,
    per_step: int,
    stride: int,
) -> tuple[npt.NDArray[np.int64], int, int]:
    """Return the starts of the windows that touch the rows, the first cell and the number of cells."""
    # The last window ends on the first grid line at or after the recording's end.
    final = max(0, -(-(n_frames - frontend.n_frames) // per_step) * per_step)
    starts = np.minimum(np.arange(0, final + stride, stride), final)
    starts = np.unique(starts)
    begin = rows[0] * row_samples // frontend.hop_length
    end = -(-min((rows[-1] + 1) * row_samples, n_samples) // frontend.hop_length)
    touching = starts[(starts < end) & (starts + frontend.n_frames > begin)]
    first_cell = int(touching[0]) // per_step
    n_cells = (int(touching[-1]) + frontend.n_frames) // per_step - first_cell
    return touching, first_cell, n_cells


def _overlap(
    first_frame: npt.NDArray[np.int64],
    per_step: int,
    rows: npt.NDArray[np.int64],
    row_samples: int,
    n_samples: int,
    hop_length: int,
) -> npt.NDArray[np.int64]:
    """Return how many samples each step shares with each row, (R, candidates)."""
    row_begin = (rows * row_samples)[:, None]
    row_end = np.minimum(row_begin + row_samples, n_samples)
    begin, end = first_frame * hop_length, (first_frame + per_step) * hop_length
    overlap: npt.NDArray[np.int64] = np.maximum(np.minimum(end, row_end) - np.maximum(begin, row_begin), 0)
    return overlap


def _touching(
    candidates: npt.NDArray[np.int64], overlap: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep of each row the cells that it touches, padded to the longest row with weight 0."""
    longest = int((overlap > 0).sum(axis=1).max())
    # A stable sort on "does not touch" moves the touching cells to the front, in order.
    order = np.argsort(overlap == 0, axis=1, kind="stable")[:, :longest]
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(overlap, order, 1)
