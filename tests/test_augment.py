from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.config.recipe import Augment, Injection
from bcsed.train.augment import (
    CutMix,
    Excerpts,
    Injector,
    Masks,
    Mixup,
    Noise,
    Sumix,
    WaveBatch,
    coloured_noise,
    join_embeddings,
    join_labels,
    make_augmentations,
    set_level,
    unmixed,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unmarked(B: int, K: int) -> torch.Tensor:
    return torch.zeros(B, 0, K)


def batch(B: int = 8, n: int = 400, K: int = 5):
    g = generator(9)
    embeddings = torch.nn.functional.normalize(torch.randn(B, 3, generator=g))
    return WaveBatch(
        torch.randn(B, n, generator=g),
        torch.rand(B, K, generator=g).round(),
        torch.ones(B, K),
        unmarked(B, K),
        embeddings,
    )


@pytest.mark.parametrize("level", ["peak", "rms", "raw"])
@pytest.mark.parametrize("mode", ["substitute", "mix", "background"])
def test_an_excerpt_in_a_silent_sample_is_heard(level, mode):
    """Its labels are those of the sample then; a silent excerpt stays silent."""
    samples = batch()
    samples.waves[0] = 0
    loud, silent = 0.5 * torch.randn(2, 400, generator=generator(3)) * torch.tensor([[1.0], [0.0]])
    waves, labels = torch.stack([loud, silent]), torch.ones(2, 5)
    excerpts = Excerpts(torch.tensor([0, 1]), waves, labels, labels, unmarked(2, 5), torch.zeros(2, 3))
    mixed = Injector(Injection(share=1.0, mode=mode, level=level))(samples, excerpts, generator())
    assert mixed.waves[0].abs().max() > 0
    if mode == "substitute":
        torch.testing.assert_close(mixed.waves[0], loud)
        assert not mixed.waves[1].any()


def test_no_pass_is_the_identity():
    for mine, before in zip(Sumix((0,))(batch(), generator()), batch(), strict=True):
        assert torch.equal(mine, before)


@pytest.mark.parametrize(("draw", "lowest"), [((1,), 0.3), ((2,), 0.5)])
def test_sumix_is_a_sum_with_bounded_gains(draw, lowest):
    """Clips that never overlap in time show their gains; the peak is 1 after mixing."""
    B = 6
    waves = torch.zeros(B, B * 10)
    for index in range(B):
        waves[index, index * 10 : index * 10 + 10] = 1.0
    original = WaveBatch(waves, torch.eye(B), torch.ones(B, B), unmarked(B, B), torch.zeros(B, 0))
    mixed, targets, *_ = Sumix(draw, (0.3, 0.5))(original, generator(3))
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
    # The second class is unknown in one clip and negative in the other, so it is unknown in the sum. The third is
    # human-labelled in one and pseudolabelled in the other: it has full weight.
    assert torch.equal(weights, torch.tensor([[1.0, 0.0, 1.0, 0.1]]))


def test_a_class_unknown_in_one_clip_counts_as_much_as_the_other_is_sure():
    targets, weights = join_labels(
        torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[0.001, 0.5, 1.0]]), torch.ones(1, 3)
    )
    assert torch.equal(targets, torch.tensor([[0.001, 0.5, 1.0]])) and torch.equal(weights, targets)


def test_cutmix_of_a_class_that_is_unknown_in_one_clip_has_no_weight():
    targets, weights = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    original = WaveBatch(torch.rand(2, 100), targets, weights, unmarked(2, 2), torch.zeros(2, 0))
    seeds = [seed for seed in range(20) if torch.randperm(2, generator=generator(seed))[0]]  # each with the other
    mixed = CutMix(1.0)(original, generator(seeds[0]))
    assert torch.equal(mixed.weights, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


def test_same_generator_same_result_and_silence_stays_silence():
    first, second = (Sumix()(batch(), generator(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    silent = WaveBatch(torch.zeros(3, 50), torch.zeros(3, 2), torch.ones(3, 2), unmarked(3, 2), torch.zeros(3, 0))
    waves = Sumix((2,))(silent, generator())[0]
    assert torch.equal(waves, torch.zeros(3, 50))


@given(
    gain=st.floats(1e-4, 1e3),
    silent=st.integers(0, 300),
    level=st.sampled_from(["peak", "rms", "raw"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_level_does_not_depend_on_gain_or_padding(gain, silent, level, seed):
    wave = torch.randn(1, 400, generator=generator(seed))
    padded = torch.nn.functional.pad(wave * gain, (silent, 300 - silent))
    out = set_level(padded, level)
    expected = set_level(wave, level) * (gain if level == "raw" else 1.0)
    torch.testing.assert_close(out[:, silent : silent + 400], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(out == 0, padded == 0)
    assert torch.equal(set_level(torch.zeros(2, 9), level), torch.zeros(2, 9))
    if level != "raw":
        torch.testing.assert_close(set_level(out, level), out, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", ["peak", "rms"])
@pytest.mark.parametrize("mix", [Sumix, Mixup, CutMix])
def test_a_mixture_does_not_depend_on_the_levels_of_its_clips(mix, level):
    """The same clips at other levels give the same mixture, labels and embeddings."""
    original = batch()._replace(waves=set_level(batch().waves, level))
    recorded = 10 ** (2 * torch.rand(8, 1, generator=generator(1)) - 1) * batch().waves
    again = original._replace(waves=set_level(recorded, level))
    first, second = (mix(level=level)(clips, generator(7)) for clips in (original, again))
    torch.testing.assert_close(second.waves, first.waves, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(second[1:], first[1:], strict=True))
    torch.testing.assert_close(set_level(first.waves, level), first.waves, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["peak", "rms", "raw"])
def test_gains_of_sumix_are_those_of_clips_of_equal_level(level):
    """Clips that never overlap in time: the ratio of the two parts of a sum is the ratio of the drawn gains."""
    B = 40
    waves = torch.zeros(B, B * 10)
    for index in range(B):
        waves[index, index * 10 : index * 10 + 10] = 10.0 ** (index % 4 - 2)
    clips = WaveBatch(set_level(waves, level), torch.eye(B), torch.ones(B, B), unmarked(B, B), torch.zeros(B, 0))
    parts = Sumix((1,), (0.3, 0.5), level)(clips, generator(2)).waves[:, ::10]
    ratios = [float(part[part > 0].min() / part.max()) for part in parts if (part > 0).sum() == 2]
    assert len(ratios) > B - 5
    assert (min(ratios) >= 0.3) == (level != "raw")


def test_noise_has_its_ratio_and_its_probability():
    waves = torch.randn(64, 4096, generator=generator(2))
    assert torch.equal(Noise(0.0)(waves, generator()), waves)
    noisy = Noise(0.5, (10.0, 10.0))(waves, generator(1))
    changed = (noisy != waves).any(1)
    assert 16 <= int(changed.sum()) <= 48
    added = (noisy - waves)[changed]
    ratio = 10 * torch.log10(waves[changed].square().mean(1) / added.square().mean(1))
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10.0), atol=0.01, rtol=0)
    noisy = Noise(1.0, (3.0, 3.0), "peak")(waves, generator(1))
    ratio = 20 * torch.log10(waves.abs().amax(1) / (noisy - waves).abs().amax(1))
    torch.testing.assert_close(ratio, torch.full_like(ratio, 3.0), atol=0.01, rtol=0)


@pytest.mark.parametrize(("colour", "slope_db"), [(0, 0.0), (1, 0.0), (2, -3.01), (3, -6.02)])
def test_colours_fall_by_their_decibels_per_octave(colour, slope_db):
    # The colours of the other items change nothing.
    noise = coloured_noise(1 << 17, (2, colour, 0, 3), generator(4), torch.device("cpu"))[1].numpy()
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(6, 16)]
    slope = np.polyfit(np.arange(10), 10 * np.log10(octaves), 1)[0]
    assert abs(slope - slope_db) < 0.5


def test_masks_fill_with_the_floor_and_spare_the_rest():
    db = torch.randn(16, 32, 64, generator=generator(8)) * 10 - 30
    bands = {
        "time_masks": (2,),
        "freq_masks": (2,),
        "time_mask_share": 0.2,
        "freq_mask_share": 0.3,
        "dropout_area": 0.0,
    }
    masks = Masks(Augment(**bands, mask_p=1.0), 80.0)
    out = masks(db, generator(1))
    changed = out != db
    assert changed.any((1, 2)).all()
    high, low = db.amax((1, 2), keepdim=True), db.amin((1, 2), keepdim=True)
    floors = torch.maximum(low, high - 80).expand_as(db)
    assert torch.equal(out[changed], floors[changed])
    assert torch.equal(Masks(Augment(**bands, mask_p=0.0), 80.0)(db, generator(1)), db)


def test_coarse_dropout_drops_its_area():
    db = torch.rand(200, 64, 96) + 1
    off = {"time_masks": (0,), "freq_masks": (0,)}
    out = Masks(Augment(**off, dropout_area=0.25), 80.0)(db, generator(0))
    share = (out != db).float().mean()
    assert abs(float(share) - 0.25) < 0.03
    some = Masks(Augment(**off, dropout_area=0.25, dropout_p=0.4), 80.0)(db, generator(0))
    assert 0.3 < float((some != db).any(1).any(1).float().mean()) < 0.5


def test_the_number_of_masks_is_drawn_for_each_clip():
    db = torch.rand(400, 64, 256) + 1
    augment = Augment(time_masks=(0, 1, 3), freq_masks=(0,), mask_p=1.0, time_mask_share=0.02)
    masked = Masks(augment, 80.0)(db, generator(0)) != db
    starts = (masked[:, 0, 1:] & ~masked[:, 0, :-1]).sum(1) + masked[:, 0, 0]
    # Bands may be empty or touch: the most frequent numbers are those that are drawn.
    assert 0.25 < float((starts == 0).float().mean()) < 0.6
    assert int(starts.max()) == 3
    assert not (starts > 3).any()


def test_masks_end_after_their_epochs():
    db = torch.rand(20, 64, 64) + 1
    augment = Augment(mask_p=1.0, mask_epochs=2)
    for epoch, changed in ((0, True), (1, True), (2, False), (9, False)):
        masks = make_augmentations(augment, 80.0, epoch)[2]
        assert bool((masks(db, generator(epoch)) != db).any()) == changed


def test_noise_becomes_rarer_with_the_epochs():
    chances = [make_augmentations(Augment(), 80.0, epoch)[0].p for epoch in (0, 9, 10, 15, 16, 23)]
    assert chances == [0.25, 0.25, 0.15, 0.15, 0.10, 0.10]


def same(first: WaveBatch, second: WaveBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "mix", [Sumix((0,)), Mixup(0.0), CutMix(0.0), unmixed], ids=["SUMIX", "mixup", "CutMix", "unmixed"]
)
def test_a_mix_of_probability_0_is_the_identity(mix):
    assert same(mix(batch(), generator()), batch())


@pytest.mark.parametrize("mix", [Sumix((2,)), Mixup(0.7), CutMix(0.7)], ids=str)
def test_the_same_generator_mixes_the_same(mix):
    assert same(mix(batch(), generator(3)), mix(batch(), generator(3)))
    assert not same(mix(batch(), generator(3)), mix(batch(), generator(4)))
    waves = mix(
        WaveBatch(torch.zeros(3, 50), torch.zeros(3, 2), torch.ones(3, 2), unmarked(3, 2), torch.zeros(3, 0)),
        generator(),
    )[0]
    assert torch.equal(waves, torch.zeros(3, 50))


def constant_batch(B: int = 12, n: int = 240) -> WaveBatch:
    """Clip k is a constant k + 1, its one label is k, and its embedding points to k."""
    waves = (torch.arange(B) + 1.0)[:, None].repeat(1, n)
    return WaveBatch(waves, torch.eye(B), torch.ones(B, B), unmarked(B, B), torch.eye(B))


def test_mixup_is_half_and_half_with_all_labels():
    original, out = constant_batch(), Mixup(1.0, "raw")(constant_batch(), generator(1))
    for clip in range(12):
        (other,) = {int(k) for k in torch.nonzero(out.targets[clip])[:, 0]} - {clip} or {clip}
        assert torch.equal(out.waves[clip], 0.5 * original.waves[clip] + 0.5 * original.waves[other])
        assert torch.equal(out.targets[clip], torch.maximum(original.targets[clip], original.targets[other]))
        assert torch.equal(out.embeddings[clip], 0.5 * original.embeddings[clip] + 0.5 * original.embeddings[other])
    rare = Mixup(0.25)(batch(400, 20), generator(2))
    assert 0.15 < float((rare.waves != batch(400, 20).waves).any(1).float().mean()) < 0.35


def test_cutmix_labels_are_the_shares_of_time():
    out = CutMix(1.0, "raw")(constant_batch(), generator(1))
    for clip in range(12):
        shares = torch.stack([(out.waves[clip] == k + 1).float().mean() for k in range(12)])
        torch.testing.assert_close(out.targets[clip], shares, atol=1e-6, rtol=0)
        torch.testing.assert_close(out.embeddings[clip], shares, atol=1e-6, rtol=0)
        # One stretch: its edges are two at most.
        assert int((out.waves[clip].diff() != 0).sum()) <= 2


def test_an_unknown_part_has_no_embedding():
    known, unknown, half = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), torch.full((1, 1), 0.5)
    assert torch.equal(join_embeddings(known, unknown, half, half), torch.zeros(1, 2))
    assert torch.equal(join_embeddings(known, known, half, half), known)


def excerpts(original: WaveBatch, at: list[int], *, weight: float = 0.5) -> Excerpts:
    g = generator(77)
    m, K = len(at), original.targets.shape[1]
    targets = (torch.rand(m, K, generator=g) * (torch.rand(m, K, generator=g) < 0.6)).round(decimals=2)
    weights = torch.where(targets > 0, weight, 1.0)
    embeddings = torch.nn.functional.normalize(torch.randn(m, 3, generator=g))
    waves = 0.3 * torch.randn(m, original.waves.shape[1], generator=g)
    return Excerpts(torch.tensor(at), waves, targets, weights, unmarked(m, K), embeddings)


@pytest.mark.parametrize("mode", ["background", "mix", "substitute"])
@pytest.mark.parametrize("level", ["raw", "rms"])
def test_injection_spares_other_samples_and_repeats_itself(mode, level):
    original = batch()
    injected, inject = excerpts(original, [1, 6]), Injector(Injection(mode=mode, level=level))
    out = inject(original, injected, generator(2))
    assert same(out, inject(original, injected, generator(2)))
    others = [0, 2, 3, 4, 5, 7]
    assert same(WaveBatch(*(x[others] for x in out)), WaveBatch(*(x[others] for x in original)))
    assert (out.waves[[1, 6]] != original.waves[[1, 6]]).any(1).all()
    no_excerpts = Excerpts(torch.zeros(0, dtype=torch.int64), *(x[:0] for x in injected[1:]))
    assert same(inject(original, no_excerpts, generator()), original)


@given(low=st.floats(0.1, 1.0), more=st.floats(0.0, 1.0), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_backgrounds_gain_stays_in_its_range(low, more, seed):
    original, high = batch(16), low + more
    injected = excerpts(original, list(range(16)))
    out = Injector(Injection(gain=(low, high)))(original, injected, generator(seed))
    gains = ((out.waves - original.waves) * injected.waves).sum(1) / injected.waves.square().sum(1)
    assert float(gains.min()) >= low - 1e-4
    assert float(gains.max()) <= high + 1e-4


def test_a_matched_background_has_the_samples_level():
    original = batch()
    original = original._replace(waves=original.waves * torch.logspace(-3, 0, 8)[:, None])
    injected = excerpts(original, list(range(8)))
    out = Injector(Injection(gain=(0.5, 0.5), level="rms"))(original, injected, generator())
    added = (out.waves - original.waves).square().mean(1).sqrt()
    torch.testing.assert_close(added, 0.5 * original.waves.square().mean(1).sqrt(), rtol=1e-3, atol=1e-6)
    silent = injected._replace(waves=torch.zeros_like(injected.waves))
    assert torch.equal(Injector(Injection(level="rms"))(original, silent, generator()).waves, original.waves)


def test_mix_is_half_and_half_and_substitute_is_the_excerpt():
    original = batch()
    injected = excerpts(original, [4])
    half = Injector(Injection(mode="mix"))(original, injected, generator())
    assert torch.equal(half.waves[4], 0.5 * original.waves[4] + 0.5 * injected.waves[0])
    assert torch.equal(half.targets[4], torch.maximum(original.targets[4], injected.targets[0]))
    assert torch.equal(half.embeddings[4], 0.5 * original.embeddings[4] + 0.5 * injected.embeddings[0])
    other = Injector(Injection(mode="substitute"))(original, injected, generator())
    assert torch.equal(other.waves[4], injected.waves[0])
    assert torch.equal(other.targets[4], injected.targets[0])
    assert torch.equal(other.weights[4], injected.weights[0])
    assert torch.equal(other.embeddings[4], injected.embeddings[0])
    assert torch.equal(other.embeddings[3], original.embeddings[3])
    unknown = injected._replace(embeddings=torch.zeros(1, 3))
    assert torch.equal(Injector(Injection(mode="mix"))(original, unknown, generator()).embeddings, original.embeddings)
    # The embedding of the clip belongs to what was replaced.
    assert not Injector(Injection(mode="substitute"))(original, unknown, generator()).embeddings[4].any()


@given(cap=st.floats(0.05, 3.0), mode=st.sampled_from(["background", "mix", "substitute"]), union=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_sample_gains_no_more_than_the_cap(cap, mode, union):
    original = batch(16)
    injected = excerpts(original, list(range(16)))
    free = Injector(Injection(mode=mode), union)(original, injected, generator())
    capped = Injector(Injection(mode=mode, cap=cap), union)(original, injected, generator())
    gain = (capped.targets - original.targets).clamp_min(0).sum(1)
    assert float(gain.max()) <= cap + 1e-4
    within = (free.targets - original.targets).clamp_min(0).sum(1) <= cap
    assert torch.allclose(capped.targets[within], free.targets[within])
    assert torch.equal(capped.waves, free.waves)
    assert ((capped.targets >= 0) & (capped.targets <= 1)).all()


def test_in_situ_labels_join_as_a_union():
    parts = torch.tensor([[0.8, 0.0]]), torch.ones(1, 2), unmarked(1, 2), torch.zeros(1, 0)
    original = WaveBatch(torch.zeros(1, 4), *parts)
    labels = torch.tensor([[0.5, 0.3]]), torch.tensor([[0.2, 0.2]]), unmarked(1, 2), torch.zeros(1, 0)
    injected = Excerpts(torch.tensor([0]), torch.zeros(1, 4), *labels)
    out = Injector(Injection(), union=True)(original, injected, generator())
    torch.testing.assert_close(out.targets, torch.tensor([[0.8 + 0.5 * 0.2, 0.3]]))
    assert torch.equal(out.weights, torch.tensor([[1.0, 0.2]]))


def test_the_mix_is_the_one_that_is_named():
    kinds = {mix: make_augmentations(Augment(mix=mix), 80.0, 0)[1] for mix in ("sumix", "mixup", "cutmix", "off")}
    assert [type(kinds[name]) for name in ("sumix", "mixup", "cutmix")] == [Sumix, Mixup, CutMix]
    assert kinds["off"] is unmixed
    assert make_augmentations(Augment(mix="mixup", mix_p=0.3), 80.0, 0)[1] == Mixup(0.3)
