"""What is done to a training batch: frozen values that are functions.

Each takes a ``torch.Generator`` on the device of its tensors, and draws from nothing else: the same
generator state gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .config import Augment

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# Coarse dropout cuts the window into a grid of this many cells a side.
_GRID = 8


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

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Mix waves (B, n), targets (B, K) and loss weights (B, K)."""
        passes = self.draw[_index(len(self.draw), generator)]
        lowest = self.min_gain[0] if passes == 1 else self.min_gain[1]
        for _ in range(passes):
            batch = self._once(batch, lowest, generator)
        return batch

    @staticmethod
    def _once(batch: Batch, lowest: float, generator: torch.Generator) -> Batch:
        waves, targets, weights = batch
        B, device = len(waves), waves.device
        other = torch.randperm(B, generator=generator, device=device)
        gains = lowest + (1.0 - lowest) * torch.rand(2, B, 1, generator=generator, device=device)
        mixed = gains[0] * waves + gains[1] * waves[other]
        # Silence stays silence.
        mixed = mixed / mixed.abs().amax(1, keepdim=True).clamp_min(1e-8)
        return mixed, *join_labels(targets, weights, targets[other], weights[other])


def join_labels(
    targets: torch.Tensor, weights: torch.Tensor, others: torch.Tensor, other_weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return targets and loss weights of two clips heard together, (B, K) each.

    The higher target holds, with its weight; where both are equal, the lower weight, so that what is
    unknown of one clip stays unknown.
    """
    joined = torch.where(targets > others, weights, other_weights)
    joined = torch.where(targets == others, torch.minimum(weights, other_weights), joined)
    return torch.maximum(targets, others), joined


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


def from_config(augment: Augment, top_db: float, epoch: int) -> tuple[Sumix, Noise, Masks]:
    """Return the functions that an `Augment` stands for in an epoch, counted from 0."""
    phase = sum(epoch >= start for start in augment.noise_epochs)
    return (
        Sumix(augment.sumix_draw, augment.sumix_min_gain),
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
