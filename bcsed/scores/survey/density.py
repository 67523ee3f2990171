"""Estimate the share of rows that contain a call from reviewed rows, without a threshold (Navine et al. 2024).

The rows of a class are divided into bins of scores: the lowest half of all rows, the next quarter, and so on. The
share of rows with a call is the sum over bins of the share of rows in a bin times the share of these that contain a
call, which the reviewed rows estimate. Each reviewed row counts for the inverse of its inclusion probability.

Navine et al.: All thresholds barred: direct estimation of call density in bioacoustic data, 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.9
# Cells of scores: the upper 16 bits of a float32 in [0, 1], which increase with it; a cell is 0.4 to 0.8 % wide.
N_CELLS = (0x3F80_0000 >> 16) + 1
# Reviewed rows of a bin at least.
_PER_BIN = 5
_MAX_BINS = 8
# Bins whose reviewed rows stand for less than this share of their rows were not all within the reach of the review.
_LEAST_REACH = 0.25
_N_DRAWS = 4000
# Pseudo-counts of a bin with and without a call: small, as most bins of a rare class have none.
_PRIOR = (0.1, 0.1)


def score_cells(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Return the cell of each score."""
    # Adding 0 makes 0 of -0, whose bits are those of a negative number.
    cells: npt.NDArray[np.int32] = np.ascontiguousarray(scores + np.float32(0), np.float32).view(np.int32) >> 16
    return cells


def cell_score(cell: int) -> float:
    """Return the lowest score of a cell."""
    return float(np.array([cell << 16], np.int32).view(np.float32)[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """The bins of scores of a class, lowest first, and what the reviewed rows state about them."""

    first_cell: Ints  # (B,)
    n_reviewed: Ints  # (B,)
    share: Floats  # (B,), of all rows
    positive: Floats  # (B,), estimated share of a bin's rows that contain a call
    n_effective: Floats  # (B,), reviewed rows, less the loss by unequal probabilities

    def posterior(self) -> tuple[Floats, Floats]:
        """Return the parameters of the Beta distributions of `positive`."""
        return _PRIOR[0] + self.n_effective * self.positive, _PRIOR[1] + self.n_effective * (1 - self.positive)

    def variance(self) -> Floats:
        """Return the contribution of each bin to the variance of the share of rows with a call."""
        a, b = self.posterior()
        return self.share**2 * a * b / ((a + b) ** 2 * (a + b + 1))


def make_bins(
    counts: Ints, cells: npt.NDArray[np.int32], positive: npt.NDArray[np.bool_], weight: Floats
) -> Bins | str:
    """Return the bins of a class, or the reason why there are none.

    `counts` are the rows in each cell, (N_CELLS,); `cells`, `positive` and `weight` (the inverse of the inclusion
    probability) are those of the n reviewed rows.
    """
    if len(cells) < _PER_BIN:
        return f"{len(cells)} reviewed rows, {_PER_BIN} needed"
    total = int(counts.sum())
    from_top = counts[::-1].cumsum()[::-1]
    edges = [int(np.flatnonzero(from_top >= total / 2**k)[-1]) for k in range(_MAX_BINS - 1, 0, -1)]
    first, upper = list[int](), N_CELLS
    # From the top; a bin with few reviewed rows is joined with the next below.
    for edge in dict.fromkeys([*edges, 0]):
        if edge == 0 or ((cells >= edge) & (cells < upper)).sum() >= _PER_BIN:
            first.append(edge)
            upper = edge
    if len(first) > 1 and (cells < first[-2]).sum() < _PER_BIN:
        del first[-2]
    starts = np.array(first[::-1], np.int64)
    number = np.searchsorted(starts, cells, side="right") - 1
    sums = [np.bincount(number, weights=each, minlength=len(starts)) for each in (weight, weight * positive, weight**2)]
    n_rows = np.add.reduceat(counts, starts).astype(np.float64)
    if (sums[0] < _LEAST_REACH * n_rows).any():
        k = int(np.argmax(sums[0] < _LEAST_REACH * n_rows))
        high = 1.0 if k == len(starts) - 1 else cell_score(int(starts[k + 1]))
        low = cell_score(int(starts[k]))
        return f"the reviewed rows stand for few of those with scores of {low:.2g} to {high:.2g}; review some by bands"
    return Bins(
        first_cell=starts,
        n_reviewed=np.bincount(number, minlength=len(starts)).astype(np.int64),
        share=n_rows / total,
        positive=sums[1] / sums[0],
        n_effective=sums[0] ** 2 / sums[2],
    )


def call_density(
    bins: Bins, shares: Sequence[Floats], rng: np.random.Generator, confidence: float = CONFIDENCE
) -> list[tuple[float, float, float]]:
    """Return the share of rows with a call, and the ends of its interval, for each distribution of rows over bins."""
    draws = rng.beta(*bins.posterior(), size=(_N_DRAWS, len(bins.share)))
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    estimates = []
    for share in shares:
        low, high = np.quantile(draws @ share, tails)
        estimates.append((float(bins.positive @ share), float(low), float(high)))
    return estimates
