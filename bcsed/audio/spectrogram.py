"""Log-mel spectrograms of waves, on the device of the waves.

Frame ``k`` is centred on sample ``k * hop_length`` of the recording, not of the clip, and only the recording's ends are
padded with zeros. So a clip's spectrogram is a slice of its recording's, bit-identical in one precision on a CPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..config.contract import Frontend
from .windows import cut_excerpt

# Frames per block on a CPU: the power spectra of a block stay in the cache, and because all products have this one
# width, the value of a frame does not depend on the number of frames.
BLOCK = 128
# Mel bands per group on a CPU: each group is summed only over its own bins, because a band covers few of them.
BANDS = 24
# Slaney's mel scale: linear up to 1 kHz, then 27 mels per factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ = 200.0 / 3, 1000.0
_KNEE_MEL, _LOG_STEP = _KNEE_HZ / _HZ_PER_MEL, float(np.log(6.4)) / 27.0
# Lower limit of the power: -100 dB.
FLOOR_POWER = 1e-10


class LogMel(torch.nn.Module):
    """Log-mel spectrogram (dB) of a batch of waves.

    Equals ``librosa.feature.melspectrogram(y, center=False, htk=False, norm='slaney', power=2)`` followed by
    ``librosa.power_to_db(ref=1, amin=1e-10, top_db=None)``, to 1e-3 dB.
    """

    window: torch.Tensor
    mel: torch.Tensor

    def __init__(self, frontend: Frontend) -> None:
        super().__init__()
        self.frontend = frontend
        if frontend.is_wave:
            return
        self.register_buffer("window", torch.hann_window(frontend.n_fft, periodic=True), persistent=False)
        mel = mel_bands(frontend)
        # Bins outside all bands are not used.
        bins = _nonzero_bins(mel)
        self.first_bin, self.last_bin = bins.start, bins.stop
        mel = mel[:, bins].copy()
        self.register_buffer("mel", torch.from_numpy(mel), persistent=False)
        groups = [slice(first, first + BANDS) for first in range(0, len(mel), BANDS)]
        self._bands = [(bands, _nonzero_bins(mel[bands])) for bands in groups]

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        """Transform waves that include the samples on both sides that the outer frames cover.

        The first frame of waves (B, n) is centred on sample ``n_fft / 2``. The result (B, F, T), with
        ``T = (n - n_fft) // hop_length + 1``, is in dB, at least -100.
        """
        n_fft, hop_length = self.frontend.n_fft, self.frontend.hop_length
        if self.frontend.is_wave:
            return waves.float().unfold(-1, n_fft, hop_length).mT
        # Half precision would overflow in the power.
        with torch.autocast(waves.device.type, enabled=False):
            frames = waves.float().unfold(-1, n_fft, hop_length)
            if waves.is_cuda:
                return self._transform(frames)
            items = [self._transform_in_blocks(item) for item in frames]
            return items[0][None] if len(items) == 1 else torch.stack(items)

    def _transform(self, frames: torch.Tensor) -> torch.Tensor:
        """(..., T, n_fft) -> (..., F, T)."""
        spectrum = torch.fft.rfft(frames * self.window)[..., self.first_bin : self.last_bin]
        squares = torch.view_as_real(spectrum).square()
        power = (squares[..., 0] + squares[..., 1]).mT
        if frames.is_cuda:
            mel = self.mel @ power
        else:
            mel = torch.cat([self.mel[bands, bins] @ power[..., bins, :] for bands, bins in self._bands], -2)
        return 10.0 * torch.log10(mel.clamp_min(FLOOR_POWER))

    def _transform_in_blocks(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, n_fft) -> (F, T), `BLOCK` frames at a time."""
        n_frames = len(frames)
        out = frames.new_empty(self.mel.shape[0], n_frames)
        for start in range(0, n_frames, BLOCK):
            # The last block overlaps the previous block, so that all blocks have the same width.
            begin = max(0, min(start, n_frames - BLOCK))
            block = frames[begin : begin + BLOCK]
            if len(block) < BLOCK:
                block = torch.nn.functional.pad(block, (0, 0, 0, BLOCK - len(block)))
            out[:, begin : begin + BLOCK] = self._transform(block)[:, : n_frames - begin]
        return out

    def compute(self, wave: npt.NDArray[np.float32], first: int, last: int, offset: int = 0) -> npt.NDArray[np.float32]:
        """Return frames ``first`` to ``last`` of a recording in dB, (F, last - first), also beyond its ends.

        `wave` is the recording, or the part of it that these frames cover, and starts at its sample `offset`; samples
        before and after `wave` count as zero.
        """
        excerpt = torch.from_numpy(cut_excerpt(wave, *self.frontend.reach(first, last), offset))
        with torch.inference_mode():
            db: npt.NDArray[np.float32] = self.forward(excerpt[None])[0].numpy()
        return db


def mel_bands(frontend: Frontend) -> npt.NDArray[np.float32]:
    """Return the weights of the mel bands of a front end, shape (F, n_fft / 2 + 1).

    Bit-identical to ``librosa.filters.mel(htk=False, norm='slaney', dtype=float32)`` (Slaney's Auditory Toolbox).
    Importing librosa would cost prediction 120 MB and a second.
    """
    low, high = (_hz_to_mel(np.array(hz, np.float64)) for hz in (frontend.fmin_hz, frontend.fmax_hz))
    mels = np.linspace(low, high, frontend.n_mels + 2)
    edges = np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL)))
    bins = np.fft.rfftfreq(frontend.n_fft, 1.0 / frontend.sample_rate)
    ramps, width = edges[:, None] - bins, np.diff(edges)[:, None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / width[:-1], ramps[2:] / width[1:]))
    mel: npt.NDArray[np.float32] = triangles.astype("f4")
    mel *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return mel


def _hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        above = _KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP
    return np.where(hz < _KNEE_HZ, hz / _HZ_PER_MEL, above)


def _nonzero_bins(mel: npt.NDArray[np.float32]) -> slice:
    """Return the range of bins that the bands cover, at least one bin."""
    used = np.flatnonzero(mel.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
