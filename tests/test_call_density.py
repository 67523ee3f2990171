"""Call density: bins of scores, intervals that cover the truth, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcsed.scores.review import choose_rows
from bcsed.scores.survey.density import N_CELLS, Bins, call_density, cell_score, make_bins, score_cells

WAYS = ("random", "bands", "uncertain")


def simulate(rng, way, *, n_rows=6000):
    """Return the true share of rows with a call, the estimate and its interval, of a random class and detector."""
    density, separation, budget = rng.uniform(0.02, 0.4), rng.uniform(1, 3.5), int(rng.integers(60, 200))
    call = rng.random(n_rows) < density
    scores = (1 / (1 + np.exp(3 - rng.normal(0, 1.5, n_rows) - separation * call))).astype(np.float32)
    table = pd.DataFrame({"x": scores}, index=[f"A_{5 * (k + 1)}" for k in range(n_rows)])
    picked = choose_rows(table, budget=budget, by=way, seed=int(rng.integers(1 << 30)))
    row = (picked["start_s"] // 5).to_numpy()
    weight = 1 / picked["probability"].to_numpy()
    bins = make_bins(np.bincount(score_cells(scores), minlength=N_CELLS), score_cells(scores[row]), call[row], weight)
    assert isinstance(bins, Bins), bins
    return call.mean(), *call_density(bins, [bins.share], rng)[0]


def coverage(ways, n):
    rng = np.random.default_rng(0)
    results = np.array([simulate(rng, ways[k % len(ways)]) for k in range(n)])
    truth, estimate, low, high = results.T
    return np.mean((low <= truth) & (truth <= high)), np.mean(estimate / truth), np.mean(high - low)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    share, ratio, width = coverage(WAYS, 60)
    assert 0.8 <= share <= 0.98
    assert 0.9 <= ratio <= 1.1
    assert width < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("ways", [WAYS, *((way,) for way in WAYS)])
def test_90_percent_intervals_cover_the_truth_in_200_simulations(ways):
    share, ratio, _ = coverage(ways, 200)
    print(f"{' '.join(ways)}: {share:.3f}, mean ratio {ratio:.3f}")
    assert 0.85 <= share <= 0.95
    assert 0.93 <= ratio <= 1.07


def test_cells_increase_with_the_score():
    scores = np.sort(np.random.default_rng(0).random(1000, np.float32))
    cells = score_cells(np.array([0, *scores, 1], np.float32))
    assert (np.diff(cells) >= 0).all()
    assert (cells[0], cells[-1]) == (0, N_CELLS - 1)
    assert all(cell_score(int(cell)) <= score for cell, score in zip(cells[1:-1], scores, strict=True))


def test_bins_have_all_rows_and_enough_reviewed():
    rng = np.random.default_rng(0)
    scores = rng.random(5000, np.float32)
    row = rng.permutation(5000)[:100]
    counts = np.bincount(score_cells(scores), minlength=N_CELLS)
    bins = make_bins(counts, score_cells(scores[row]), scores[row] > 0.5, np.full(100, 50.0))
    assert bins.share.sum() == pytest.approx(1)
    assert bins.n_reviewed.sum() == 100
    assert bins.n_reviewed.min() >= 5
    assert bins.n_effective == pytest.approx(bins.n_reviewed)
    assert bins.positive[0] < 0.1 < 0.9 < bins.positive[-1]
    ((density, low, high),) = call_density(bins, [bins.share], rng)
    assert low < density < high
    assert density == pytest.approx(0.5, abs=0.1)


def test_weights_undo_unequal_sampling():
    # Of 900 rows with a score of .3, 10 are reviewed; of 100 with .3 too, but calls, 10.
    scores = np.full(1000, 0.3, np.float32)
    counts = np.bincount(score_cells(scores), minlength=N_CELLS)
    bins = make_bins(counts, score_cells(scores[:20]), np.arange(20) >= 10, np.repeat([90.0, 10.0], 10))
    assert bins.positive.tolist() == [pytest.approx(0.1)]
    assert bins.n_effective[0] < 20


def test_scores_without_reviewed_rows_give_no_density():
    scores = np.random.default_rng(0).random(5000, np.float32)
    counts = np.bincount(score_cells(scores), minlength=N_CELLS)
    top = np.sort(scores)[-200:][::4]
    assert "stand for few" in make_bins(counts, score_cells(top), top > 0.97, np.full(50, 4.0))
    assert make_bins(counts, score_cells(top[:4]), top[:4] > 0, np.full(4, 4.0)) == "4 reviewed rows, 5 needed"
