"""What is done to a training batch: frozen values that are functions.

Each takes a ``torch.Generator`` on the device of its tensors, and draws from nothing else: the same
generator state gives the same result. Clips are mixed with clips first (`Sumix`, `Mixup`, `CutMix`), then
excerpts of soundscapes come in (`Injector`), then noise, then masks over the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..config.recipe import Augment, Injection

# Coarse dropout cuts the window into a grid of this many cells a side.
_GRID = 8


class WaveBatch(NamedTuple):
    """What the clips of a batch sound like, and what is known of them.

    Parameters
    ----------
    waves : Tensor, shape (B, n)
    targets, weights : Tensor, shape (B, K)
        Targets in [0, 1], and what each element counts in the loss.
    vectors : Tensor, shape (B, D)
        A teacher's embeddings, of length 1; zeros where there is none. D is 0 where nothing is distilled.
    """

    waves: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    vectors: torch.Tensor


class Excerpts(NamedTuple):
    """Excerpts of soundscapes for some samples of a batch.

    Parameters
    ----------
    places : Tensor of int64, shape (m,)
        The samples that they are for, each at most once.
    waves : Tensor, shape (m, n)
    targets, weights : Tensor, shape (m, K)
    """

    places: torch.Tensor
    waves: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


Mix = Callable[[WaveBatch, torch.Generator], WaveBatch]


def unmixed(heard: WaveBatch, generator: torch.Generator) -> WaveBatch:  # noqa: ARG001
    """Return the batch as it is."""
    return heard


@dataclass(frozen=True)
class Sumix:
    """Sum each clip with another of its batch, once or several times.

    Gains are drawn from U(m, 1) independently for both clips of every pair; the sum is divided by its
    peak; a class is in the sum if it is in either.

    Parameters
    ----------
    draw : tuple of int
        The number of passes over a batch is drawn from these.
    min_gain : tuple of 2 float
        m for a single pass, and for each of several.
    """

    draw: tuple[int, ...] = (0, 1, 1, 2)
    min_gain: tuple[float, ...] = (0.3, 0.5)

    def __call__(self, heard: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        passes = self.draw[_index(len(self.draw), generator)]
        lowest = self.min_gain[0] if passes == 1 else self.min_gain[1]
        for _ in range(passes):
            heard = self._once(heard, lowest, generator)
        return heard

    @staticmethod
    def _once(heard: WaveBatch, lowest: float, generator: torch.Generator) -> WaveBatch:
        B, device = len(heard.waves), heard.waves.device
        other = _partners(B, generator, device)
        gains = lowest + (1.0 - lowest) * torch.rand(2, B, 1, generator=generator, device=device)
        mixed = gains[0] * heard.waves + gains[1] * heard.waves[other]
        # Silence stays silence.
        mixed = mixed / mixed.abs().amax(1, keepdim=True).clamp_min(1e-8)
        labels = join_labels(heard.targets, heard.weights, heard.targets[other], heard.weights[other])
        return WaveBatch(mixed, *labels, join_vectors(heard.vectors, heard.vectors[other], gains[0], gains[1]))


@dataclass(frozen=True)
class Mixup:
    """Half of a clip and half of another (mixup with a constant .5; Zhang et al. 2018), labels by maximum.

    Parameters
    ----------
    p : float
        Probability per clip.
    """

    p: float = 0.5

    def __call__(self, heard: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        B, device = len(heard.waves), heard.waves.device
        other = _partners(B, generator, device)
        chosen = torch.rand(B, 1, generator=generator, device=device) < self.p
        half = torch.full((B, 1), 0.5, device=device)
        targets, weights = join_labels(heard.targets, heard.weights, heard.targets[other], heard.weights[other])
        vectors = join_vectors(heard.vectors, heard.vectors[other], half, half)
        mixed = WaveBatch(0.5 * heard.waves + 0.5 * heard.waves[other], targets, weights, vectors)
        return _where(chosen, mixed, heard)


@dataclass(frozen=True)
class CutMix:
    """A stretch of time of a clip replaced by the same stretch of another (CutMix; Yun et al. 2019).

    The length is uniform from nothing to all; targets are averaged by the shares of time, as in the paper.

    Parameters
    ----------
    p : float
        Probability per clip.
    """

    p: float = 0.5

    def __call__(self, heard: WaveBatch, generator: torch.Generator) -> WaveBatch:
        """Mix a batch."""
        (B, n), device = heard.waves.shape, heard.waves.device
        other = _partners(B, generator, device)
        draw = torch.rand(3, B, 1, generator=generator, device=device)
        length = (draw[1] * n).floor()
        start = (draw[2] * (n - length + 1)).floor()
        place = torch.arange(n, device=device)[None]
        theirs = (place >= start) & (place < start + length)
        waves = torch.where(theirs, heard.waves[other], heard.waves)
        share = length / n
        targets = (1.0 - share) * heard.targets + share * heard.targets[other]
        _, weights = join_labels(heard.targets, heard.weights, heard.targets[other], heard.weights[other])
        vectors = join_vectors(heard.vectors, heard.vectors[other], 1.0 - share, share)
        return _where(draw[0] < self.p, WaveBatch(waves, targets, weights, vectors), heard)


def join_labels(
    targets: torch.Tensor, weights: torch.Tensor, others: torch.Tensor, other_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return targets and loss weights of two clips heard together, (B, K) each.

    The higher target holds. Where one clip is positive, its weight holds; where both are, the higher weight,
    since what a person has heard is not made doubtful by a pseudolabel that agrees; where neither is, the
    lower one, so that what is unknown of one clip stays unknown.
    """
    one = torch.where(targets > 0, weights, other_weights)
    both = (targets > 0) & (others > 0)
    none = (targets <= 0) & (others <= 0)
    joined = torch.where(both, torch.maximum(weights, other_weights), one)
    joined = torch.where(none, torch.minimum(weights, other_weights), joined)
    return torch.maximum(targets, others), joined


def join_vectors(
    vectors: torch.Tensor, others: torch.Tensor, gains: torch.Tensor, other_gains: torch.Tensor
) -> torch.Tensor:
    """Return the embeddings of two clips heard together, (B, D): their sum by gains, none where one has none."""
    known = vectors.any(1, keepdim=True) & others.any(1, keepdim=True)
    # A clip that is heard alone keeps its own.
    joined = gains * vectors + other_gains * others
    return torch.where(known, joined, torch.zeros_like(joined))


@dataclass(frozen=True)
class Injector:
    """Bring excerpts of soundscapes into samples, one into each at most.

    Parameters
    ----------
    inject : Injection
        Its `mode`, `gain`, `level` and `cap`; which excerpts come, and into which samples, is drawn before.
    union : bool
        Join labels as t + s * (1 - t), as in-situ pseudolabels are, rather than by maximum.
    """

    inject: Injection
    union: bool = False

    def __call__(self, heard: WaveBatch, excerpts: Excerpts, generator: torch.Generator) -> WaveBatch:
        """Return the batch with the excerpts in it; samples without one are as they were."""
        if not len(excerpts.places):
            return heard
        at, mode = excerpts.places, self.inject.mode
        waves, brought = heard.waves[at], excerpts.waves
        if self.inject.level == "rms":
            # A silent excerpt stays silent.
            brought = brought * (_rms(waves) / _rms(brought).clamp_min(1e-12))
        if mode == "background":
            low, high = self.inject.gain
            gains = low + (high - low) * torch.rand(len(at), 1, generator=generator, device=waves.device)
            mixed = waves + gains * brought
        elif mode == "mix":
            mixed = 0.5 * waves + 0.5 * brought
        else:
            mixed = brought
        targets, weights = self._labels(heard.targets[at], heard.weights[at], excerpts)
        vectors = heard.vectors
        if mode == "substitute":
            vectors = vectors.index_copy(0, at, torch.zeros_like(vectors[at]))
        return WaveBatch(
            heard.waves.index_copy(0, at, mixed.to(heard.waves.dtype)),
            heard.targets.index_copy(0, at, targets),
            heard.weights.index_copy(0, at, weights),
            vectors,
        )

    def _labels(
        self, targets: torch.Tensor, weights: torch.Tensor, excerpts: Excerpts
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the labels of samples with their excerpts, what they gain limited by the cap."""
        theirs, joined_weights = excerpts.targets, excerpts.weights
        if self.inject.mode != "substitute":
            union = targets + theirs * (1.0 - targets)
            theirs, joined = join_labels(targets, weights, theirs, joined_weights)
            theirs, joined_weights = (union, joined) if self.union else (theirs, joined)
        if self.inject.cap is None:
            return theirs, joined_weights
        gain = (theirs - targets).clamp_min(0.0)
        share = (self.inject.cap / gain.sum(1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
        return torch.where(gain > 0, targets + share * gain, theirs), joined_weights


@dataclass(frozen=True)
class Noise:
    """Add noise of one of four colours to some clips.

    Parameters
    ----------
    p : float
        Probability per clip.
    snr_db : tuple of 2 float
        Range of the ratio of the clip's power to the noise's.
    """

    p: float
    snr_db: tuple[float, ...] = (3.0, 30.0)

    def __call__(self, waves: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return waves (B, n), chosen clips with white (uniform), Gaussian, pink or brown noise."""
        B, n = waves.shape
        draw = torch.rand(3, B, generator=generator, device=waves.device)
        chosen = torch.nonzero(draw[0] < self.p)[:, 0].tolist()
        if not chosen:
            return waves
        waves = waves.clone()
        low, high = self.snr_db
        for item in chosen:
            noise = coloured(n, int(draw[1, item] * 4), generator, waves.device)
            level = waves[item].square().mean().sqrt() / noise.square().mean().sqrt().clamp_min(1e-12)
            gain = 10 ** (-(low + (high - low) * draw[2, item]) / 20)
            waves[item] += gain * level * noise
        return waves


def coloured(n: int, colour: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return n samples of noise: 0 uniform white, 1 Gaussian white, 2 pink (1/f power), 3 brown (1/f²)."""
    if colour == 0:
        return 2.0 * torch.rand(n, generator=generator, device=device) - 1.0
    white = torch.randn(n, generator=generator, device=device)
    if colour == 1:
        return white
    # A power of two: transforms of odd lengths take many times longer.
    size = 1 << (n - 1).bit_length()
    spectrum = torch.fft.rfft(white, n=size)
    bins = torch.arange(len(spectrum), device=device).clamp_min(1)
    shaped: torch.Tensor = torch.fft.irfft(spectrum * bins ** (-0.5 * (colour - 1)), n=size)[:n]
    return shaped


@dataclass(frozen=True)
class Masks:
    """Fill bands of time and frequency (SpecAugment, Park et al. 2019) and grid cells with the floor.

    Parameters
    ----------
    time_masks, freq_masks : int
        Bands of each kind.
    time_share, freq_share : float
        Longest band, as a share of the axis.
    p : float
        Probability that a window gets its bands.
    dropout_area : float
        Expected share of the window's area that is dropped in cells of an 8-by-8 grid.
    top_db : float
        The signal's, for the floor.
    """

    time_masks: int
    freq_masks: int
    time_share: float
    freq_share: float
    p: float
    dropout_area: float
    top_db: float

    def __call__(self, db: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return windows (B, F, T) in dB with masked places at their floor."""
        B, F, T = db.shape
        # The lowest value that the picture will show: filling below it would rescale the rest.
        high, low = db.amax((1, 2), keepdim=True), db.amin((1, 2), keepdim=True)
        floor = torch.maximum(low, high - self.top_db)
        masked = torch.zeros_like(db, dtype=torch.bool)
        for _ in range(self.time_masks):
            masked |= self._bands(B, T, self.time_share, generator, db.device)[:, None, :]
        for _ in range(self.freq_masks):
            masked |= self._bands(B, F, self.freq_share, generator, db.device)[:, :, None]
        masked &= torch.rand(B, 1, 1, generator=generator, device=db.device) < self.p
        if self.dropout_area:
            cells = torch.rand(B, _GRID, _GRID, generator=generator, device=db.device) < self.dropout_area
            rows = torch.arange(F, device=db.device) * _GRID // F
            columns = torch.arange(T, device=db.device) * _GRID // T
            masked |= cells[:, rows][:, :, columns]
        return torch.where(masked, floor, db)

    @staticmethod
    def _bands(B: int, length: int, share: float, generator: torch.Generator, device: torch.device) -> torch.Tensor:
        """Return one band per window, (B, length), its length uniform from 0 to share * length."""
        draw = torch.rand(2, B, 1, generator=generator, device=device)
        width = draw[0] * share * length
        start = draw[1] * (length - width)
        place = torch.arange(length, device=device)[None]
        return (place >= start) & (place < start + width)


def from_config(augment: Augment, top_db: float, epoch: int) -> tuple[Mix, Noise, Masks]:
    """Return the functions that an `Augment` stands for in an epoch, counted from 0."""
    phase = sum(epoch >= start for start in augment.noise_epochs)
    mixes: dict[str, Mix] = {
        "sumix": Sumix(augment.sumix_draw, augment.sumix_min_gain),
        "mixup": Mixup(augment.mix_p),
        "cutmix": CutMix(augment.mix_p),
        "off": unmixed,
    }
    return (
        mixes[augment.mix],
        Noise(augment.noise_p[phase], augment.noise_snr_db),
        Masks(
            augment.time_masks,
            augment.freq_masks,
            augment.time_mask_share,
            augment.freq_mask_share,
            augment.mask_p,
            augment.dropout_area,
            top_db,
        ),
    )


def _index(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (1,), generator=generator, device=generator.device))


def _partners(B: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    return torch.randperm(B, generator=generator, device=device)


def _where(chosen: torch.Tensor, first: WaveBatch, second: WaveBatch) -> WaveBatch:
    """Take each sample from the first batch where it is chosen, (B, 1), else from the second."""
    return WaveBatch(*(torch.where(chosen, a, b) for a, b in zip(first, second, strict=True)))


def _rms(waves: torch.Tensor) -> torch.Tensor:
    return waves.square().mean(1, keepdim=True).sqrt()
