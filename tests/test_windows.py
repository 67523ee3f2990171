from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.audio.windows import count_rows, plan_windows
from bcsed.config.contract import FRONTENDS, TINY_128, WIDE_256, WIDE_384, wave_frontend
from bcsed.errors import ConfigError

STEPS = {"WIDE_384": 24, "WIDE_256": 16, "SHORT_256": 16, "TINY_128": 8}
durations = st.one_of(st.integers(1, 32_000 * 30), st.integers(32_000 * 30, 32_000 * 200))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(FRONTENDS)),
    durations,
    st.sampled_from(["centred", "sliding"]),
    st.sampled_from([2, 5, 7]),
)
def test_every_row_is_pooled_from_all_of_its_audio(name, n_samples, kind, row_s):
    frontend, steps = FRONTENDS[name], STEPS[name]
    plan = plan_windows(n_samples, frontend, steps, row_s, kind=kind)
    total = count_rows(n_samples, 32_000, row_s)
    assert plan.index.shape == plan.weight.shape
    assert len(plan.weight) == total == -(-n_samples // (row_s * 32_000))
    # The overlaps of a row's cells add up to the row: no audio is missing or counted twice.
    lengths = [min((row + 1) * row_s * 32_000, n_samples) - row * row_s * 32_000 for row in range(total)]
    assert plan.weight.sum(1).tolist() == lengths
    assert (plan.starts >= 0).all()
    n_frames = -(-n_samples // frontend.hop_length)
    if kind == "centred":
        assert len(plan.starts) == total
        assert (plan.starts <= max(0, n_frames - frontend.n_frames)).all()
    else:
        last = plan.starts[-1] + frontend.n_frames
        assert n_frames <= last < max(n_frames, frontend.n_frames) + frontend.n_frames // steps


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FRONTENDS)), durations, st.sampled_from(["centred", "sliding"]), st.integers(1, 30))
def test_blocks_use_the_same_windows_as_the_complete_recording(name, n_samples, kind, size):
    """Cutting a recording into blocks of rows changes neither windows nor weights."""
    frontend, steps = FRONTENDS[name], STEPS[name]
    complete = plan_windows(n_samples, frontend, steps, 5, kind=kind)
    step = frontend.n_frames // steps

    def used(plan, row):
        """Return {(first frame of a cell, starts of its windows): weight} of one row."""
        weights = {}
        for cell, weight in zip(plan.index[row], plan.weight[row], strict=True):
            if weight:
                window, step_index = np.nonzero(plan.cell == cell)
                frames = plan.starts[window] + step_index * step
                weights[frames[0], tuple(plan.starts[window])] = int(weight)
        return weights

    total = count_rows(n_samples, 32_000, 5)
    for first in range(0, total, size):
        last = min(first + size, total)
        block = plan_windows(n_samples, frontend, steps, 5, kind=kind, first_row=first, last_row=last)
        for row in range(first, last, 3):
            assert used(block, row - first) == used(complete, row)


def test_windows_are_centred_on_their_rows():
    plan = plan_windows(32_000 * 60, WIDE_384, 24, 5)
    assert plan.starts[5] == round(27.5 * 64) - 384
    assert plan.starts[0] == 0
    assert plan.starts[-1] == 60 * 64 - 768


def test_steps_that_do_not_divide_a_row_are_weighted():
    """WIDE_256 has time steps of 0.75 s; 5 s are 6.67 of these."""
    weights = plan_windows(32_000 * 60, WIDE_256, 16, 5, kind="sliding").weight[0]
    assert [int(weight) for weight in weights if weight] == [24_000] * 6 + [16_000]


def test_windows_of_one_time_step_overlap_in_part():
    """Each second of a row of 5 s is in three windows of 3 s per second, which reach beyond the row."""
    frontend = wave_frontend(32_000, 96_000)
    plan = plan_windows(32_000 * 20, frontend, 1, 5, kind="sliding", stride_s=1.0)
    assert (plan.starts * frontend.hop_length / 32_000).tolist() == list(range(18))
    assert plan.index[1].tolist() == list(range(3, 10))
    assert (plan.weight[1] / 32_000).tolist() == [1, 2, 3, 3, 3, 2, 1]
    whole = plan_windows(32_000 * 20, frontend, 1, 5, kind="sliding", stride_s=3.0)
    assert (whole.starts * frontend.hop_length / 32_000).tolist() == [0, 3, 6, 9, 12, 15, 18]


@settings(max_examples=60, deadline=None)
@given(durations, st.sampled_from([0.4, 1.0, 2.9]), st.integers(1, 9))
def test_overlapping_windows_of_one_time_step_do_not_depend_on_blocks(n_samples, stride_s, size):
    frontend = wave_frontend(32_000, 96_000)

    def used(first, last):
        options = {"kind": "sliding", "stride_s": stride_s, "first_row": first, "last_row": last}
        plan = plan_windows(n_samples, frontend, 1, 5, **options)
        n_frames = -(-n_samples // frontend.hop_length)
        assert (plan.starts <= max(0, n_frames - frontend.n_frames)).all()
        rows = zip(plan.starts[plan.index], plan.weight, strict=True)
        return [{int(s): int(w) for s, w in zip(*row, strict=True) if w} for row in rows]

    total = count_rows(n_samples, 32_000, 5)
    whole = used(0, total)
    assert all(sum(row.values()) >= min(5 * 32_000, n_samples - 5 * 32_000 * k) for k, row in enumerate(whole))
    assert [row for k in range(0, total, size) for row in used(k, min(k + size, total))] == whole


def test_windows_do_not_drift_in_a_day():
    rows = 24 * 720
    plan = plan_windows(32_000 * 86_400, WIDE_256, 16, 5, first_row=rows - 10, last_row=rows)
    expected = [((2 * row + 1) * 160_000 / 2 / 750) - 256 for row in range(rows - 10, rows)]
    inside = np.minimum(expected, 86_400 * 32_000 / 750 - 512)
    assert np.abs(plan.starts - inside).max() <= 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "sideways"}, "windows must be one of centred, sliding"),
        ({"kind": "sliding", "stride_s": 0.0}, r"must be in \(0, 8\] s"),
        ({"kind": "sliding", "stride_s": 9.0}, r"must be in \(0, 8\] s"),
        ({"kind": "centred", "stride_s": 2.0}, "is for sliding windows"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        plan_windows(32_000, TINY_128, 8, 5, **options)
