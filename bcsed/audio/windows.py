"""Windows of a recording and their pooling to rows, in integers only.

Conventions
-----------
A recording of ``n_samples`` has ``ceil(n_samples / hop_length)`` frames; frame ``k`` stands for samples
``k * hop_length`` to ``(k + 1) * hop_length``. A window is a run of ``n_frames`` frames, for which the network computes
``steps`` equal time steps. A row is ``row_s`` seconds of the recording; the last row may be shorter. Start positions
are products, never sums, so that no error accumulates in a long recording.
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
    """Windows of some rows, and how their time steps are pooled.

    Cells are positions on the time axis of the recording; time steps of overlapping windows at the same position share
    a cell and are averaged.
    """

    starts: npt.NDArray[np.int64]  # (W,): first frame of each window, which may end after the recording
    cell: npt.NDArray[np.int64]  # (W, t): cell of each time step
    n_cells: int
    index: npt.NDArray[np.int64]  # (R, m): cells of each row
    weight: npt.NDArray[np.int64]  # (R, m): overlap of these cells with the row, in samples; 0 for padding


def count_rows(n_samples: int, sample_rate: int, row_s: int) -> int:
    """Return the number of rows of a recording: its duration over `row_s`, rounded up.

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
    """Plan the windows of a range of rows, and their pooling.

    `n_samples` is the length of the recording at the sample rate of the front end; `steps`, the time steps per window,
    divide ``frontend.n_frames``. The rows from `first_row` to before `last_row` are planned, all by default.

    Windows of the kind 'centred' are one per row, centred on it and moved inside the recording at its ends; `shift_s`
    moves them to later times, rounded to frames. A row that is longer than a window gets as many as cover it, evenly
    distributed from its begin to its end. 'sliding' windows are one per `stride_s`, rounded to time steps and by
    default half a window, averaged on the time axis of the recording. Those of a network with one time step are one per
    `stride_s`, rounded to frames and by default a window; a row averages them by their overlap with it. ConfigError if
    a stride is not in (0, window], or a window would not contain its row.
    """
    if kind not in WINDOW_KINDS:
        raise ConfigError(f"windows must be one of {', '.join(WINDOW_KINDS)}; got {kind!r}.")
    if kind == "centred" and stride_s is not None:
        raise ConfigError(f"a stride of {stride_s:g} s is for sliding windows; centred windows have no stride.")
    if kind == "sliding" and shift_s:
        raise ConfigError(f"a shift of {shift_s:g} s is for centred windows; sliding windows overlap already.")
    last_row = count_rows(n_samples, frontend.sample_rate, row_s) if last_row is None else last_row
    rows = np.arange(first_row, last_row)
    per_step = frontend.n_frames // steps
    row_samples = row_s * frontend.sample_rate
    n_frames = -(-n_samples // frontend.hop_length)
    if kind == "centred":
        starts = _centred(rows, row_samples, n_frames, frontend, _shift(frontend, row_s, shift_s))
        cell = np.arange(starts.size * steps).reshape(-1, steps)
        first_frame = (starts[:, None] + np.arange(steps) * per_step).reshape(rows.size, -1)
        candidates = cell.reshape(rows.size, -1)
    else:
        stride = _stride(frontend, per_step, stride_s)
        grid = 1 if stride % per_step else per_step
        starts, first_cell, n_cells = _sliding(rows, row_samples, n_samples, frontend, grid, stride)
        if grid < per_step:  # windows of one time step that overlap in part: each has its own cell
            cell, n_cells, first_frame = np.arange(starts.size)[:, None], starts.size, starts[None]
        else:
            cell = starts[:, None] // per_step + np.arange(steps) - first_cell
            first_frame = (first_cell + np.arange(n_cells))[None] * per_step
        candidates = np.broadcast_to(np.arange(n_cells), (rows.size, n_cells))
    # Samples that each time step shares with each row, (R, candidates).
    row_begin = (rows * row_samples)[:, None]
    row_end = np.minimum(row_begin + row_samples, n_samples)
    begin, end = first_frame * frontend.hop_length, (first_frame + per_step) * frontend.hop_length
    overlap = np.maximum(np.minimum(end, row_end) - np.maximum(begin, row_begin), 0)
    # A stable sort by "no overlap" moves the cells of a row to the front without changing their order; shorter rows are
    # padded with weight 0.
    longest = int((overlap > 0).sum(axis=1).max())
    order = np.argsort(overlap == 0, axis=1, kind="stable")[:, :longest]
    index, weight = np.take_along_axis(candidates, order, 1), np.take_along_axis(overlap, order, 1)
    return WindowPlan(starts, cell, int(cell.max()) + 1, index, weight)


def windows_per_row(frontend: Frontend, row_s: int) -> int:
    """Return the number of centred windows of a row.

    >>> windows_per_row(Frontend(), 5), windows_per_row(Frontend(), 30)
    (1, 3)
    """
    return -(-row_s * frontend.sample_rate // (frontend.n_frames * frontend.hop_length))


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
    hop, latest = frontend.hop_length, max(0, n_frames - frontend.n_frames)
    gaps = -(-row_samples // (frontend.n_frames * hop)) - 1  # between the windows of a row
    if gaps:
        # The begin of each window in samples times `gaps` is an integer; adding half a frame rounds to the nearest.
        step = row_samples - frontend.n_frames * hop
        begin = (rows * row_samples * gaps)[:, None] + np.arange(gaps + 1) * step
        starts: npt.NDArray[np.int64] = (2 * begin + hop * gaps).reshape(-1) // (2 * hop * gaps)
        return np.clip(starts, 0, latest)
    # Twice the middle of a row is an integer in samples; adding half a frame rounds to the nearest frame.
    twice_middle = (2 * rows + 1) * row_samples
    middle = (twice_middle + hop) // (2 * hop)
    return np.clip(middle - frontend.n_frames // 2 + shift, 0, latest)


def _stride(frontend: Frontend, per_step: int, stride_s: float | None) -> int:
    """Return the stride in frames, a multiple of a time step, so that all windows share one grid of cells.

    A stated stride of a network with one time step is rounded to frames instead.
    """
    wanted = frontend.window_s / 2 if stride_s is None else stride_s
    if not 0 < wanted <= frontend.window_s:
        raise ConfigError(
            f"the stride of sliding windows must be in (0, {frontend.window_s:g}] s, at most a window; got {wanted:g}."
        )
    unit = 1 if per_step == frontend.n_frames and stride_s is not None else per_step
    unit_s = unit * frontend.hop_length / frontend.sample_rate
    return max(1, math.floor(wanted / unit_s + 0.5)) * unit


def _sliding(
    rows: npt.NDArray[np.int64], row_samples: int, n_samples: int, frontend: Frontend, grid: int, stride: int
) -> tuple[npt.NDArray[np.int64], int, int]:
    """Return the starts of the windows that touch the rows, the first cell and the number of cells of a grid."""
    n_frames = -(-n_samples // frontend.hop_length)
    # The last window ends at the first multiple of the grid at or after the end of the recording.
    final = max(0, -(-(n_frames - frontend.n_frames) // grid) * grid)
    starts = np.unique(np.minimum(np.arange(0, final + stride, stride), final))
    begin = rows[0] * row_samples // frontend.hop_length
    end = -(-min((rows[-1] + 1) * row_samples, n_samples) // frontend.hop_length)
    overlapping = starts[(starts < end) & (starts + frontend.n_frames > begin)]
    first_cell = int(overlapping[0]) // grid
    n_cells = (int(overlapping[-1]) + frontend.n_frames) // grid - first_cell
    return overlapping, first_cell, n_cells


@dataclass(frozen=True)
class WaveFrames:
    """The samples of a recording as the frames of a network that receives waves; without torch, as `LogMel`."""

    frontend: Frontend

    def compute(self, wave: npt.NDArray[np.float32], first: int, last: int, offset: int = 0) -> npt.NDArray[np.float32]:
        """Return frames ``first`` to ``last`` as `LogMel.compute`: (samples of a frame, last - first)."""
        excerpt = cut_excerpt(wave, *self.frontend.reach(first, last), offset)
        frames: npt.NDArray[np.float32] = excerpt.reshape(-1, self.frontend.hop_length).T
        return frames


def cut_excerpt(wave: npt.NDArray[np.float32], begin: int, end: int, offset: int = 0) -> npt.NDArray[np.float32]:
    """Return samples ``begin`` to ``end`` of a recording, of which `wave` starts at sample `offset`.

    A view if `wave` contains the range, because copies of long recordings are large; otherwise a copy with zeros
    outside of `wave`.
    """
    if offset <= begin and end <= offset + len(wave):
        return wave[begin - offset : end - offset]
    out = np.zeros(end - begin, np.float32)
    left, right = max(begin, offset), min(end, offset + len(wave))
    if left < right:
        out[left - begin : right - begin] = wave[left - offset : right - offset]
    return out
