from __future__ import annotations

import numpy as np
import pytest
import torch

from bcsed.augment import Masks, Noise, Sumix, coloured, from_config, join_labels
from bcsed.config import Augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(B: int = 8, n: int = 400, K: int = 5):
    g = generator(9)
    return torch.randn(B, n, generator=g), torch.rand(B, K, generator=g).round(), torch.ones(B, K)


def test_no_pass_is_the_identity():
    for mine, given in zip(Sumix((0,))(batch(), generator()), batch(), strict=True):
        assert torch.equal(mine, given)


@pytest.mark.parametrize(("draw", "lowest"), [((1,), 0.3), ((2,), 0.5)])
def test_sumix_is_a_sum_with_bounded_gains(draw, lowest):
    """Clips that never overlap in time show their gains; the peak is 1 after mixing."""
    B = 6
    waves = torch.zeros(B, B * 10)
    for place in range(B):
        waves[place, place * 10 : place * 10 + 10] = 1.0
    mixed, targets, _ = Sumix(draw, (0.3, 0.5))((waves, torch.eye(B), torch.ones(B, B)), generator(3))
    torch.testing.assert_close(mixed.abs().amax(1), torch.ones(B))
    gains = mixed[:, ::10]
    assert torch.equal(gains > 0, targets > 0)
    # Relative to the loudest, a gain cannot be lower than the lowest gain of each pass.
    assert gains[gains > 0].min() >= lowest ** max(draw) - 1e-6


def test_labels_are_the_maximum_and_its_weight():
    targets, weights = join_labels(
        torch.tensor([[1.0, 0.0, 0.3, 0.0]]),
        torch.tensor([[1.0, 0.0, 1.0, 1.0]]),
        torch.tensor([[0.0, 0.0, 0.8, 1.0]]),
        torch.tensor([[0.5, 1.0, 0.6, 0.1]]),
    )
    assert torch.equal(targets, torch.tensor([[1.0, 0.0, 0.8, 1.0]]))
    # The second class is unknown of one clip and absent from the other: unknown of both together.
    assert torch.equal(weights, torch.tensor([[1.0, 0.0, 0.6, 0.1]]))


def test_same_generator_same_result_and_silence_stays_silence():
    first, second = (Sumix()(batch(), generator(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    waves = Sumix((2,))((torch.zeros(3, 50), torch.zeros(3, 2), torch.ones(3, 2)), generator())[0]
    assert torch.equal(waves, torch.zeros(3, 50))


def test_noise_has_its_ratio_and_its_probability():
    waves = torch.randn(64, 4096, generator=generator(2))
    assert torch.equal(Noise(0.0)(waves, generator()), waves)
    noisy = Noise(0.5, (10.0, 10.0))(waves, generator(1))
    changed = (noisy != waves).any(1)
    assert 16 <= int(changed.sum()) <= 48
    added = (noisy - waves)[changed]
    ratio = 10 * torch.log10(waves[changed].square().mean(1) / added.square().mean(1))
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10.0), atol=0.01, rtol=0)


@pytest.mark.parametrize(("colour", "slope_db"), [(0, 0.0), (1, 0.0), (2, -3.01), (3, -6.02)])
def test_colours_fall_by_their_decibels_per_octave(colour, slope_db):
    noise = coloured(1 << 17, colour, generator(4), torch.device("cpu")).numpy()
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(6, 16)]
    slope = np.polyfit(np.arange(10), 10 * np.log10(octaves), 1)[0]
    assert abs(slope - slope_db) < 0.5


def test_masks_fill_with_the_floor_and_spare_the_rest():
    db = torch.randn(16, 32, 64, generator=generator(8)) * 10 - 30
    masks = Masks(2, 2, 0.2, 0.3, 1.0, 0.0, 80.0)
    out = masks(db, generator(1))
    changed = out != db
    assert changed.any((1, 2)).all()
    high, low = db.amax((1, 2), keepdim=True), db.amin((1, 2), keepdim=True)
    floors = torch.maximum(low, high - 80).expand_as(db)
    assert torch.equal(out[changed], floors[changed])
    assert torch.equal(Masks(2, 2, 0.2, 0.3, 0.0, 0.0, 80.0)(db, generator(1)), db)


def test_coarse_dropout_drops_its_area():
    db = torch.rand(200, 64, 96) + 1
    out = Masks(0, 0, 0, 0, 0.0, 0.25, 80.0)(db, generator(0))
    share = (out != db).float().mean()
    assert abs(float(share) - 0.25) < 0.03


def test_noise_becomes_rarer_with_the_epochs():
    chances = [from_config(Augment(), 80.0, epoch)[1].p for epoch in (0, 9, 10, 15, 16, 23)]
    assert chances == [0.25, 0.25, 0.15, 0.15, 0.10, 0.10]
