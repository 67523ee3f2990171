"""Augmentations of a training batch: frozen values that are functions.

Each draws random numbers from a ``torch.Generator`` on the device of its tensors and from nothing else, so the
same generator state gives the same result. The order is: set the level of each clip (`set_level`), add noise
(`Noise`), mix clips (`Sumix`, `Mixup`, `CutMix`), inject excerpts of soundscapes (`Injector`), mask the spectrogram
(`Masks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..config.recipe import Augment, Injection

# Coarse dropout divides the window into a grid of this many cells a side.
_GRID = 8
# Root mean square of clips with level rms: -20 dB of full scale, as speech and song are usually recorded.
_RMS = 0.1


class WaveBatch(NamedTuple):
    """The waves of a batch and their labels."""

    waves: torch.Tensor  # (B, n)
    targets: torch.Tensor  # (B, K), in [0, 1]
    weights: torch.Tensor  # (B, K), the weight of each element in the loss
    marks: torch.Tensor  # (B, t, K), strong labels of time steps: 1, 0, or -1 where unknown; t is 0 without them
    embeddings: torch.Tensor  # (B, D), a teacher's, of length 1, zeros if unknown; D is 0 without distillation


class Excerpts(NamedTuple):
    """Excerpts of soundscapes for m samples of a batch."""

    sample_index: torch.Tensor  # int64, (m,), each sample at most once
    waves: torch.Tensor  # (m, n)
    targets: torch.Tensor  # (m, K)
    weights: torch.Tensor  # (m, K)
    marks: torch.Tensor  # (m, t, K)
    embeddings: torch.Tensor  # (m, D), as of `WaveBatch`


Mix = Callable[[WaveBatch, torch.Generator], WaveBatch]


def unmixed(batch: WaveBatch, generator: torch.Generator) -> WaveBatch:  # noqa: ARG001
    """Return the batch unchanged."""
    return batch


def set_level(waves: torch.Tensor, level: str) -> torch.Tensor:
    """Return waves (B, n) divided by their peak ('peak'), scaled to one root mean square ('rms') or unchanged ('raw').

    Silence stays silence. The root mean square is that of the samples that are not exactly 0, so that the padding of a
    short clip does not make its call louder than that of a long clip.
    """
    if level == "peak":
        return waves / waves.abs().amax(1, keepdim=True).clamp_min(1e-8)
    if level == "rms":
        return waves * (_RMS / _rms(waves).clamp_min(1e-8))
    return waves


@dataclass(frozen=True)
class Sumix:
    """Sum each clip with another clip of its batch, in one or several passes.

    Both gains of a pair are drawn from U(m, 1); the sum has the classes of both clips, and the level of the clips
    (its peak is 1 if they are raw).
    """

    draw: tuple[int, ...] = (0, 1, 1, 2)  # the number of passes is drawn from these
    min_gain: tuple[float, ...] = (0.3, 0.5)  # m for a single pass, and for each of several
    level: str = "peak"

    def __call__(self, batch: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        passes = self.draw[int(torch.randint(len(self.draw), (1,), generator=generator, device=generator.device))]
        lowest = self.min_gain[0] if passes == 1 else self.min_gain[1]
        for _ in range(passes):
            B, device = len(batch.waves), batch.waves.device
            other = torch.randperm(B, generator=generator, device=device)
            gains = lowest + (1.0 - lowest) * torch.rand(2, B, 1, generator=generator, device=device)
            mixed = gains[0] * batch.waves + gains[1] * batch.waves[other]
            mixed = set_level(mixed, "peak" if self.level == "raw" else self.level)
            batch = _join(batch, other, mixed, gains[0], gains[1])
        return batch


@dataclass(frozen=True)
class Mixup:
    """Mix half of a clip with half of another, with probability `p` per clip; labels by maximum (Zhang et al. 2018)."""

    p: float = 0.5
    level: str = "peak"

    def __call__(self, batch: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        B, device = len(batch.waves), batch.waves.device
        other = torch.randperm(B, generator=generator, device=device)
        selected = torch.rand(B, 1, generator=generator, device=device) < self.p
        half = torch.full((B, 1), 0.5, device=device)
        waves = set_level(0.5 * batch.waves + 0.5 * batch.waves[other], self.level)
        return _where(selected, _join(batch, other, waves, half, half), batch)


@dataclass(frozen=True)
class CutMix:
    """Replace a stretch of time by the same stretch of another clip, with probability `p` per clip.

    CutMix (Yun et al. 2019): the length is uniform from 0 to all, targets are averaged by the shares of time.
    """

    p: float = 0.5
    level: str = "peak"

    def __call__(self, batch: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        (B, n), device = batch.waves.shape, batch.waves.device
        other = torch.randperm(B, generator=generator, device=device)
        draw = torch.rand(3, B, 1, generator=generator, device=device)
        length = (draw[1] * n).floor()
        start = (draw[2] * (n - length + 1)).floor()
        sample = torch.arange(n, device=device)[None]
        replaced = (sample >= start) & (sample < start + length)
        share = length / n
        waves = set_level(torch.where(replaced, batch.waves[other], batch.waves), self.level)
        mixed = _join(batch, other, waves, 1.0 - share, share)
        targets = (1.0 - share) * batch.targets + share * batch.targets[other]
        # The mean of two targets says nothing if the class is unknown in one of the clips.
        unknown = (batch.targets <= 0) & (batch.weights <= 0)
        weights = mixed.weights * ~(unknown | unknown[other])
        marks = _cut_marks(batch.marks, batch.marks[other], replaced)
        return _where(draw[0] < self.p, mixed._replace(targets=targets, weights=weights, marks=marks), batch)


def _join(
    batch: WaveBatch, other: torch.Tensor, waves: torch.Tensor, gains: torch.Tensor, other_gains: torch.Tensor
) -> WaveBatch:
    """Return mixed waves with the labels and embeddings of both clips of each pair."""
    labels = join_labels(batch.targets, batch.weights, batch.targets[other], batch.weights[other])
    absent = (batch.targets <= 0) & (batch.weights > 0)
    marks = join_marks(batch.marks, absent, batch.marks[other], absent[other])
    embeddings = join_embeddings(batch.embeddings, batch.embeddings[other], gains, other_gains)
    return WaveBatch(waves, *labels, marks, embeddings)


def join_labels(
    targets: torch.Tensor, weights: torch.Tensor, others: torch.Tensor, other_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return targets and loss weights of the sum of two clips, (B, K) each.

    The target is the higher one. The weight is that of the positive clip; the higher weight if both are positive,
    because a pseudolabel that agrees with a human label does not make it doubtful; the lower weight if both are
    negative, so that a class that is unknown in one clip stays unknown. For the same reason, a positive clip counts
    only as much as its target where the class is unknown in the other: soft labels are never exactly 0.
    """
    both = (targets > 0) & (others > 0)
    neither = (targets <= 0) & (others <= 0)
    unknown = ((targets <= 0) & (weights <= 0)) | ((others <= 0) & (other_weights <= 0))
    joined = torch.where(targets > 0, weights, other_weights)
    joined = torch.where(unknown, joined * torch.maximum(targets, others), joined)
    joined = torch.where(both, torch.maximum(weights, other_weights), joined)
    joined = torch.where(neither, torch.minimum(weights, other_weights), joined)
    return torch.maximum(targets, others), joined


def join_marks(
    marks: torch.Tensor, absent: torch.Tensor, others: torch.Tensor, other_absent: torch.Tensor
) -> torch.Tensor:
    """Return the marks (B, t, K) of the sum of two clips, of which `absent` (B, K) are the negative classes.

    A step is positive if it is in one of them, negative if it is in both, else unknown. A class that is marked in one
    clip and negative in the other, which nobody marked, keeps its marks.
    """
    own = torch.where((marks < 0) & (others >= 0) & absent[:, None], torch.zeros_like(marks), marks)
    other = torch.where((others < 0) & (marks >= 0) & other_absent[:, None], torch.zeros_like(marks), others)
    highest = torch.maximum(own, other)
    return torch.where(highest > 0, highest, torch.minimum(own, other))


def _cut_marks(marks: torch.Tensor, others: torch.Tensor, replaced: torch.Tensor) -> torch.Tensor:
    """Return the marks of clips of which samples are `replaced` (B, n); at the edges, what both clips agree on."""
    if not marks.shape[1]:
        return marks
    share = torch.nn.functional.adaptive_avg_pool1d(replaced[:, None].float(), marks.shape[1]).transpose(1, 2)
    edge = torch.where(marks == others, marks, torch.full_like(marks, -1.0))
    return torch.where(share <= 0, marks, torch.where(share >= 1, others, edge))


def join_embeddings(
    embeddings: torch.Tensor, others: torch.Tensor, gains: torch.Tensor, other_gains: torch.Tensor
) -> torch.Tensor:
    """Return the embeddings (B, D) of two clips' sum: their sum by gains, zeros if one of them is unknown."""
    known = embeddings.any(1, keepdim=True) & others.any(1, keepdim=True)
    joined = gains * embeddings + other_gains * others
    return torch.where(known, joined, torch.zeros_like(joined))


@dataclass(frozen=True)
class Injector:
    """Inject excerpts of soundscapes into samples, at most one into each; they are drawn beforehand."""

    inject: Injection
    union: bool = False  # join labels as t + s * (1 - t), for online pseudolabels, rather than by maximum

    def __call__(self, batch: WaveBatch, excerpts: Excerpts, generator: torch.Generator) -> WaveBatch:
        """Return the batch with the excerpts; samples without an excerpt are unchanged."""
        index, mode = excerpts.sample_index, self.inject.mode
        if not len(index):
            return batch
        waves, injected = batch.waves[index], excerpts.waves
        if self.inject.level != "raw":
            measure = _rms if self.inject.level == "rms" else _peak
            level = measure(waves)
            # Silent excerpts stay silent; in a silent sample, an excerpt is as loud as it was recorded.
            injected = injected * torch.where(level > 0, level / measure(injected).clamp_min(1e-8), 1.0)
        if mode == "background":
            low, high = self.inject.gain
            gains = low + (high - low) * torch.rand(len(index), 1, generator=generator, device=waves.device)
            shares = torch.ones_like(gains), gains
        else:
            share = 0.5 if mode == "mix" else 0.0
            shares = torch.full_like(waves[:, :1], share), torch.full_like(waves[:, :1], 1.0 - share)
        mixed = injected if mode == "substitute" else shares[0] * waves + shares[1] * injected
        targets, weights = self._labels(batch.targets[index], batch.weights[index], excerpts)
        embeddings, marks = excerpts.embeddings, excerpts.marks
        if mode != "substitute":
            absent, other = ((x.targets <= 0) & (x.weights > 0) for x in (batch, excerpts))
            marks = join_marks(batch.marks[index], absent[index], marks, other)
            # Of an unknown excerpt, the embedding is that of the clip.
            original = batch.embeddings[index]
            joined = join_embeddings(original, embeddings, *shares)
            embeddings = torch.where(embeddings.any(1, keepdim=True), joined, original)
        return WaveBatch(
            batch.waves.index_copy(0, index, mixed.to(batch.waves.dtype)),
            batch.targets.index_copy(0, index, targets),
            batch.weights.index_copy(0, index, weights),
            batch.marks.index_copy(0, index, marks),
            batch.embeddings.index_copy(0, index, embeddings),
        )

    def _labels(
        self, targets: torch.Tensor, weights: torch.Tensor, excerpts: Excerpts
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the labels of samples with their excerpts; the cap limits the sum of what a sample gains."""
        joined, joined_weights = excerpts.targets, excerpts.weights
        if self.inject.mode != "substitute":
            union = targets + joined * (1.0 - targets)
            highest, joined_weights = join_labels(targets, weights, joined, joined_weights)
            joined = union if self.union else highest
        if self.inject.cap is None:
            return joined, joined_weights
        gain = (joined - targets).clamp_min(0.0)
        share = (self.inject.cap / gain.sum(1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
        return torch.where(gain > 0, targets + share * gain, joined), joined_weights


@dataclass(frozen=True)
class Noise:
    """Add white (uniform or Gaussian), pink or brown noise to some clips."""

    p: float  # per clip
    snr_db: tuple[float, ...] = (3.0, 30.0)  # range of the signal-to-noise ratio
    measure: str = "rms"  # of signal and noise: 'rms' or 'peak'

    def __call__(self, waves: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return waves (B, n) with noise."""
        B, n = waves.shape
        draw = torch.rand(3, B, generator=generator, device=waves.device)
        # Read once: each read of a value waits for the GPU.
        chance, kind = draw[:2].tolist()
        selected = [item for item in range(B) if chance[item] < self.p]
        if not selected:
            return waves
        low, high = self.snr_db
        measure = _rms if self.measure == "rms" else _peak
        noise = coloured_noise(n, [int(kind[item] * 4) for item in selected], generator, waves.device)
        index = torch.tensor(selected, device=waves.device)
        level = measure(waves[index]) / measure(noise).clamp_min(1e-12)
        gain = 10 ** (-(low + (high - low) * draw[2, index, None]) / 20)
        return waves.index_add(0, index, gain * level * noise)


def coloured_noise(n: int, colours: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return noise, (items, n), of colours 0: white, uniform, 1: Gaussian, 2: pink (1/f power), 3: brown (1/f²)."""
    noise = torch.empty(len(colours), n, device=device)
    for row, colour in zip(noise, colours, strict=True):
        if colour:
            row.normal_(generator=generator)
        else:
            row.uniform_(-1.0, 1.0, generator=generator)
    shaped = [item for item, colour in enumerate(colours) if colour > 1]
    if shaped:
        # A power of two: transforms of odd lengths take many times longer.
        size = 1 << (n - 1).bit_length()
        spectrum = torch.fft.rfft(noise[shaped], n=size)
        bins = torch.arange(spectrum.shape[1], device=device).clamp_min(1)
        slopes = torch.tensor([[-0.5 * (colours[item] - 1)] for item in shaped], device=device)
        noise[shaped] = torch.fft.irfft(spectrum * bins**slopes, n=size)[:, :n]
    return noise


@dataclass(frozen=True)
class Masks:
    """Fill bands of time and frequency (SpecAugment, Park et al. 2019) and grid cells with the floor."""

    augment: Augment
    top_db: float  # of the front end, for the floor
    bands: bool = True  # whether the epoch has masks over time and frequency

    def __call__(self, db: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return windows (B, F, T) in dB with masks."""
        (B, F, T), augment, device = db.shape, self.augment, db.device
        # The lowest value of the image: a lower one would rescale the rest of it.
        high, low = db.amax((1, 2), keepdim=True), db.amin((1, 2), keepdim=True)
        floor = torch.maximum(low, high - self.top_db)
        masked = torch.zeros_like(db, dtype=torch.bool)
        if self.bands and augment.mask_p:
            over_time = self._bands(B, T, augment.time_masks, augment.time_mask_share, generator, device)
            over_bands = self._bands(B, F, augment.freq_masks, augment.freq_mask_share, generator, device)
            masked |= over_time[:, None, :] | over_bands[:, :, None]
            masked &= torch.rand(B, 1, 1, generator=generator, device=device) < augment.mask_p
        if augment.dropout_area:
            cells = torch.rand(B, _GRID, _GRID, generator=generator, device=device) < augment.dropout_area
            cells &= torch.rand(B, 1, 1, generator=generator, device=device) < augment.dropout_p
            rows = torch.arange(F, device=device) * _GRID // F
            columns = torch.arange(T, device=device) * _GRID // T
            masked |= cells[:, rows][:, :, columns]
        return torch.where(masked, floor, db)

    @staticmethod
    def _bands(
        B: int, length: int, numbers: tuple[int, ...], share: float, generator: torch.Generator, device: torch.device
    ) -> torch.Tensor:
        """Return the bands of each window, (B, length), each with a width uniform from 0 to share * length."""
        draw = torch.rand(2, max(numbers), B, 1, generator=generator, device=device)
        index = torch.randint(len(numbers), (B,), generator=generator, device=device)
        number = torch.tensor(numbers, device=device)[index]
        width = draw[0] * share * length
        start = draw[1] * (length - width)
        position = torch.arange(length, device=device)
        bands = (position >= start) & (position < start + width)
        bands &= (torch.arange(max(numbers), device=device)[:, None] < number)[..., None]
        return bands.any(0)


def make_augmentations(augment: Augment, top_db: float, epoch: int) -> tuple[Noise, Mix, Masks]:
    """Return the augmentations of an epoch, counted from 0."""
    phase = sum(epoch >= start for start in augment.noise_epochs)
    mixes: dict[str, Mix] = {
        "sumix": Sumix(augment.sumix_draw, augment.sumix_min_gain, augment.level),
        "mixup": Mixup(augment.mix_p, augment.level),
        "cutmix": CutMix(augment.mix_p, augment.level),
        "off": unmixed,
    }
    noise = Noise(augment.noise_p[phase], augment.noise_snr_db, augment.noise_measure)
    masks = Masks(augment, top_db, bands=not augment.mask_epochs or epoch < augment.mask_epochs)
    return noise, mixes[augment.mix], masks


def _where(selected: torch.Tensor, first: WaveBatch, second: WaveBatch) -> WaveBatch:
    """Take each sample from the first batch where it is selected, (B, 1), else from the second."""
    parts = zip(first, second, strict=True)
    return WaveBatch(*(torch.where(selected.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in parts))


def _rms(waves: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of the samples that are not 0, (B, 1)."""
    n = (waves != 0).sum(1, keepdim=True).clamp_min(1)
    return (waves.square().sum(1, keepdim=True) / n).sqrt()


def _peak(waves: torch.Tensor) -> torch.Tensor:
    return waves.abs().amax(1, keepdim=True)
