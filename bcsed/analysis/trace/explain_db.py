"""Explain different dB spectrograms: compute them from our samples with other settings, or change ours."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soxr

from ...audio.spectrogram import FLOOR_POWER
from ...audio.windows import cut_excerpt
from ...config.contract import Frontend
from ..explained import Candidate, Floats, changes, describe
from .context import StageContext, describe_shapes
from .explain_samples import RATES
from .stages import Array

# Frames that are computed with other settings, those before and after the largest difference.
_FRAMES = 400
# Largest shift in frames that is searched.
_MAX_SHIFT = 64
# Frames that libraries have more at the end, or fewer.
_EXTRA = 4
# Bands that are weaker by more than this are lost (dB).
_LOST_DB = 12.0
_EDGES_HZ = (0.0, 20.0, 40.0, 50.0, 60.0, 100.0, 125.0, 150.0, 200.0, 300.0)
_TOPS_HZ = (8000.0, 10_000.0, 11_025.0, 12_000.0, 14_000.0, 15_000.0, 16_000.0)
# Added to the power before a logarithm.
_OFFSETS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1.0)


def explain_db(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return another shape or the part, and the cause of different dB, of a recording (F, T) or windows (W, F, T)."""
    names = ("windows", "mel bands", "frames")[-x.ndim :]
    part = _outer_frames(context, x, y) if x.shape == y.shape else describe_shapes(names, x.shape, y.shape)
    x, y = x.astype(np.float64), y.astype(np.float64)
    return part, describe(_causes(context, x, y), context.tolerance)


def _outer_frames(context: StageContext, x: Array, y: Array) -> str:
    differs = np.asarray((np.abs(y - x) > context.tolerance).any(tuple(range(x.ndim - 1))))
    outer = len(differs) >= 16 and not differs[4:-4].any()
    return "only the outermost frames differ" if outer else ""


def _causes(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    n = min(x.shape[-1], y.shape[-1])
    if x.shape != y.shape and abs(x.shape[-1] - y.shape[-1]) <= _EXTRA:
        x, y = x[..., :n], y[..., :n]
        if x.shape == y.shape:
            yield Candidate("the common frames are the same", x, y)
    if x.shape[:-1] == y.shape[:-1]:
        yield from _shifts(context, x, y)
    if x.shape == y.shape:
        a, b = (v.reshape(-1, *v.shape[-2:]) for v in (x, y))
        yield from _functions(context, a, b)
        yield from _silent_frames(context, a, b)
        yield from changes(a, b, {1: "mel bands", 2: "frames"} | ({0: "windows"} if x.ndim == 3 else {}))
    if "frontend" not in context.ours.facts or "samples" not in context.ours.arrays:
        return
    if x.ndim == 3:
        yield from _separate_windows(context, x, y)
        yield from _other_starts(context, x, y)
        return
    source = _Source.of(context, x, y)
    yield from _other_settings(source)
    if "samples" not in context.theirs.arrays:
        yield from _other_samples(source)
    if x.shape == y.shape:
        gain = np.median(y - x, 1, keepdims=True)
        cause = f"each band has another gain, from {gain.min():+.1f} to {gain.max():+.1f} dB"
        yield Candidate(cause, np.maximum(x + gain, y.min()), y, x)


def _functions(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield functions of the values of windows (W, F, T): reference, floor, scale, and a filter."""
    offset = float(np.median(y - x))
    reason = "samples of 16-bit integers" if abs(offset - 90.31) < 0.01 else "another reference, or another gain"
    yield Candidate(f"{offset:+.2f} dB everywhere: {reason}", x + offset, y, x)
    low = y.min((1, 2), keepdims=True)
    same = np.ptp(low) == 0 and len(low) > 1
    floor = f"at {low.min():.1f} dB in all windows: below a maximum over the batch" if same else "(top_db)"
    yield Candidate(f"values are cut off below a floor {floor}", np.maximum(x, low), y, x)
    offset = float(y.max() - x.max())
    cause = f"{offset:+.2f} dB, and cut off below {low.min():.1f} dB: another reference, and top_db"
    yield Candidate(cause, np.maximum(x + offset, low), y, x)
    peaks = y.max((1, 2), keepdims=True) - x.max((1, 2), keepdims=True)
    yield Candidate("in dB below the maximum of each window", np.maximum(x + peaks, low), y, x)
    if np.ptp(x):
        slope, base = map(float, np.polyfit(x.reshape(-1), y.reshape(-1), 1))
        reason = (
            "the natural logarithm" if abs(slope - np.log(10) / 10) < 2e-3 else "already scaled, or another logarithm"
        )
        yield Candidate(f"it is {slope:.4g} times the dB and {base:+.4g}: {reason}", slope * x + base, y, x)
        mean, deviation = (function((0, 2), keepdims=True) for function in (x.mean, x.std))
        yield Candidate("each band has its mean removed", x - mean, y, x)
        yield Candidate("each band is scaled by its mean and deviation", (x - mean) / np.maximum(deviation, 1e-9), y, x)
    loss = np.median(x - y, (0, 2))
    lost = np.logical_and.accumulate(loss[::-1] > _LOST_DB)[::-1]
    if lost.any():
        cause = f"nothing is left above {context.band(int(np.argmax(lost)))}: resampled, or filtered"
        yield Candidate(cause, np.where(lost[None, :, None], np.median(y, (0, 2))[None, :, None], x), y, x)


def _silent_frames(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    low = y.min((1, 2), keepdims=True)
    silent = (y <= low + context.tolerance).all(1) & (x > low + 6).any(1)
    if silent.mean() < 0.02:
        return
    window, frame = np.argwhere(silent)[0]
    in_window = context.stage == "windows"
    start = context.window_start(window) if in_window else context.facts.get("first_frame", 0)
    cause = (
        f"{silent.mean():.0%} of the frames are silent instead of sound, {silent[window].sum()} of "
        f"{len(silent[window])} in {f'window {window + 1}' if in_window else 'the recording'} from "
        f"{context.time(start + frame)} on"
    )
    # Silence that reaches an end of each window.
    inner = ~np.logical_and.accumulate(silent, 1) & ~np.logical_and.accumulate(silent[:, ::-1], 1)[:, ::-1]
    cause += "" if (silent & inner).any() else ": padded with silence"
    yield Candidate(cause, np.where(silent[:, None], low, x), y, x)


def _shifts(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    for shift in sorted(range(-_MAX_SHIFT, _MAX_SHIFT + 1), key=abs):
        n = min(x.shape[-1] - max(0, -shift), y.shape[-1] - max(0, shift))
        if n < x.shape[-1] // 2 or (not shift and x.shape == y.shape):
            continue
        first, second = x[..., max(0, -shift) :][..., :n], y[..., max(0, shift) :][..., :n]
        # A few frames suffice to reject a shift.
        if np.abs(first - second)[..., ::7].mean() > 0.25 * np.ptp(first):
            continue
        seconds = f" ({context.time(abs(shift))})" if context.frontend is not None else ""
        cause = f"the sound is {abs(shift)} frames{seconds} too {'late' if shift > 0 else 'early'}"
        before = x[..., max(0, shift) :][..., :n]
        same = before.shape == second.shape and shift
        yield Candidate(cause if shift else "the common frames are the same", first, second, before if same else None)


def _separate_windows(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield the spectrograms of windows whose samples were cut before the STFT."""
    front, facts = context.frontend, context.facts
    if front is None or len(facts.get("starts", ())) != len(y):
        return
    samples, hop = context.ours.arrays["samples"], front.hop_length
    cuts = [cut_excerpt(samples, s * hop, (s + front.n_frames) * hop, facts["first_sample"]) for s in facts["starts"]]
    for pad, name in (("reflect", "reflection"), ("constant", "silence"), ("edge", "repetition")):
        padded = [np.pad(cut, front.n_fft // 2, mode=pad) for cut in cuts]  # type: ignore[call-overload]
        settings = _Settings(front, first=0)
        windows = np.stack([settings.db(wave, -(front.n_fft // 2), front.n_frames) for wave in padded])
        cause = f"the STFT of each clip was computed separately, with ends padded by {name}"
        yield Candidate(cause, windows, y, x)


def _other_starts(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield the windows of our spectrogram that start where the first frame of each window is."""
    db, starts = context.ours.arrays.get("db"), context.facts.get("starts", ())
    n = y.shape[-1]
    if db is None or len(starts) != len(y) or db.shape[0] != y.shape[1] or db.shape[1] < n:
        return
    columns = db[:, : db.shape[1] - n + 1].astype(np.float64)
    starts_y = [int(np.abs(columns - window[:, :1]).sum(0).argmin()) for window in y]
    first = context.facts.get("first_frame", 0)
    gaps = [theirs + first - ours for theirs, ours in zip(starts_y, starts, strict=True)]
    gap, count = Counter(gap for gap in gaps if gap).most_common(1)[0] if any(gaps) else (0, 0)
    text = f"{count} of {len(y)} windows start {abs(gap)} frames {'later' if gap > 0 else 'earlier'}"
    yield Candidate(text, np.stack([db[:, start : start + n] for start in starts_y]), y, x)


@dataclass(frozen=True, eq=False)
class _Settings:
    """The computation of dB from samples, with one setting changed."""

    front: Frontend
    first: int  # frame
    window: Floats | None = None  # Hann if None
    centred: bool = True
    n_fft: int = 0  # the front end's if 0
    amplitude: bool = False

    def power(self, samples: npt.NDArray[np.floating], offset: int, n_frames: int) -> Floats:
        """Return the spectra (bins, frames) of samples that start at sample `offset` of the recording."""
        from scipy.signal import get_window

        n_fft, hop = self.n_fft or self.front.n_fft, self.front.hop_length
        begin = self.first * hop - (n_fft // 2 if self.centred else 0)
        wave = cut_excerpt(samples.astype(np.float32), begin, begin + (n_frames - 1) * hop + n_fft, offset)
        frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop]
        weights = get_window("hann", n_fft) if self.window is None else self.window
        spectrum = np.abs(np.fft.rfft(frames * weights)).T
        return np.asarray(spectrum if self.amplitude else np.square(spectrum), np.float64)

    def mel(self, *, n_mels: int, fmin: float, fmax: float, htk: bool = False, slaney: bool = True) -> Floats:
        """Return the weights of the mel bands."""
        import librosa

        rate, n_fft = self.front.sample_rate, self.n_fft or self.front.n_fft
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # empty bands
            bands = librosa.filters.mel(
                sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm="slaney" if slaney else None
            )
        return np.asarray(bands, np.float64)

    def db(self, samples: npt.NDArray[np.floating], offset: int, n_frames: int) -> Floats:
        """Return the spectrogram in dB."""
        front = self.front
        bands = self.mel(n_mels=front.n_mels, fmin=front.fmin_hz, fmax=front.fmax_hz)
        return to_db(bands @ self.power(samples, offset, n_frames))


def to_db(power: Floats) -> Floats:
    """Return 10 log10, at least -100 dB."""
    return 10 * np.log10(np.maximum(power, FLOOR_POWER))


@dataclass(frozen=True, eq=False)
class _Source:
    """Our samples, and the frames that are computed again."""

    front: Frontend
    samples: npt.NDArray[np.float32]
    offset: int  # first sample
    n_mels: int
    first: int  # frame
    y: Floats  # (F, n)
    x: Floats | None  # None if the shape differs
    other_hop: bool

    @classmethod
    def of(cls, context: StageContext, x: Floats, y: Floats) -> _Source:
        front, facts = context.frontend, context.ours.facts
        assert front is not None
        n = min(x.shape[1], y.shape[1])
        same = abs(x.shape[1] - y.shape[1]) <= _EXTRA
        middle = int(np.abs(x[:, :n] - y[:, :n]).max(0).argmax()) if same and len(x) == len(y) else 0
        begin = max(0, min(middle - _FRAMES // 2, n - _FRAMES))
        if not same:
            front = replace(
                front, hop_length=max(1, min(front.n_fft, round(front.hop_length * x.shape[1] / y.shape[1])))
            )
        span = slice(begin, begin + min(_FRAMES, n))
        known = x[:, span] if same and len(x) == len(y) else None
        first = facts.get("first_frame", 0) + begin
        offset = facts.get("first_sample", 0)
        return cls(front, context.ours.arrays["samples"], offset, len(y), first, y[:, span], known, not same)

    @property
    def hop_cause(self) -> str:
        """The hop length, if it is another."""
        return f"a hop of {self.front.hop_length:,} samples" if self.other_hop else "all other settings are the same"

    def candidate(self, cause: str, fitted: Floats) -> Candidate:
        """Return a candidate for these frames."""
        return Candidate(cause, fitted, self.y, self.x)

    def compute(self, cause: str, settings: _Settings, samples: npt.NDArray[np.floating] | None = None) -> Candidate:
        """Return the candidate of other settings."""
        bands = settings.mel(n_mels=self.n_mels, fmin=self.front.fmin_hz, fmax=self.front.fmax_hz)
        power = settings.power(self.samples if samples is None else samples, self.offset, self.y.shape[1])
        return self.candidate(cause, to_db(bands @ power))


def _other_settings(source: _Source) -> Iterator[Candidate]:
    """Yield our spectrogram with another setting."""
    from scipy.signal import get_window

    front, plain = source.front, _Settings(source.front, source.first)
    if source.x is None:
        yield source.compute(source.hop_cause, plain)
    yield source.compute("frames begin at multiples of the hop (center=False)", replace(plain, centred=False))
    names = {"boxcar": "no", "hamming": "a Hamming", "blackman": "a Blackman", "bartlett": "a triangular"}
    for kind, name in names.items():
        window = replace(plain, window=get_window(kind, front.n_fft))
        yield source.compute(f"{name} window instead of a Hann window", window)
    for n_fft in (256, 400, 512, 1024, 2048, 4096):
        if n_fft != front.n_fft:
            yield source.compute(f"an FFT of {n_fft:,} instead of {front.n_fft:,} samples", replace(plain, n_fft=n_fft))
        if n_fft < front.n_fft:
            short = replace(plain, window=np.pad(get_window("hann", n_fft), (front.n_fft - n_fft) // 2))
            yield source.compute(f"a window of {n_fft:,} instead of {front.n_fft:,} samples", short)
    wave = source.samples.astype(np.float64)
    emphasised = np.concatenate((wave[:1], wave[1:] - 0.97 * wave[:-1]))
    yield source.compute("a pre-emphasis of 0.97", plain, emphasised)
    half = front.n_fft // 2
    padded = replace(source, samples=np.pad(source.samples, (half, half), mode="reflect"), offset=source.offset - half)
    yield padded.compute("the ends of the recording are padded by reflection instead of silence", plain)
    yield from _other_bands(source, plain)


def _other_bands(source: _Source, plain: _Settings) -> Iterator[Candidate]:
    """Yield our power with other mel bands and other logarithms."""
    front, n_mels = source.front, source.n_mels
    power = plain.power(source.samples, source.offset, source.y.shape[1])
    ours = plain.mel(n_mels=n_mels, fmin=front.fmin_hz, fmax=front.fmax_hz)
    amplitude = np.maximum(ours @ np.sqrt(power), FLOOR_POWER)
    for factor in (10, 20):
        yield source.candidate("amplitude instead of power", factor * np.log10(amplitude))
    for base, name in ((np.e, "natural"), (10.0, "decimal")):
        for offset in _OFFSETS:
            log = np.log(ours @ power + offset) / np.log(base)
            yield source.candidate(f"the {name} logarithm of the power + {offset:g}", log)
            yield source.candidate(f"10 times the {name} logarithm of the power + {offset:g}", 10 * log)
    for htk in (False, True):
        for slaney in (True, False):
            for fmin in dict.fromkeys((front.fmin_hz, *_EDGES_HZ)):
                for fmax in dict.fromkeys((front.fmax_hz, *_TOPS_HZ)):
                    if fmin >= fmax or fmax > front.sample_rate / 2:
                        continue
                    parts = [f"bands from {fmin:g} Hz instead of {front.fmin_hz:g} Hz"] * (fmin != front.fmin_hz)
                    parts += [f"bands to {fmax:g} Hz instead of {front.fmax_hz:g} Hz"] * (fmax != front.fmax_hz)
                    parts += ["HTK's mel scale instead of Slaney's"] * htk + ["bands without a norm"] * (not slaney)
                    bands = plain.mel(n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, slaney=slaney)
                    # A few frames suffice to reject bands.
                    probe = to_db(bands @ power[:, ::16])
                    if np.median(np.abs(probe - source.y[:, ::16])) < 1 and parts:
                        yield source.candidate(", ".join(parts), to_db(bands @ power))


def _other_samples(source: _Source) -> Iterator[Candidate]:
    """Yield our spectrogram of waves that were read at another rate."""
    rate, wave = source.front.sample_rate, source.samples
    plain = _Settings(source.front, source.first)
    for other in RATES:
        if other == rate:
            continue
        cause = f"audio of {other:,} Hz was read as {rate:,} Hz"
        yield source.compute(cause, plain, soxr.resample(wave, rate, other))
        if other < rate:
            cause = f"nothing is left above {other / 2:,.0f} Hz: resampled via {other:,} Hz"
            yield source.compute(cause, plain, soxr.resample(soxr.resample(wave, rate, other), other, rate))
