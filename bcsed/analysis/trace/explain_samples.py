"""Explain different samples: compute what common mistakes would make of ours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr

from ...audio.headers import open_audio, read_info
from ...errors import DataError
from ..explained import Candidate, Floats, describe
from .context import StageContext
from .stages import Array

# Samples that are searched for a delay or a filter, and for another rate; the least that must overlap; the edge of an
# excerpt that a resampler's filter changes.
_DELAY_SAMPLES, _RATE_SAMPLES, _MIN_OVERLAP, _EDGE_SAMPLES = 1 << 19, 1 << 17, 1 << 12, 1 << 10
# Common sample rates of recordings.
RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# Share of the samples that silence must replace.
_MIN_SILENT = 0.01


def explain_samples(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return another length, and the cause of different waves."""
    shape = "" if len(x) == len(y) else f"{len(y)} samples instead of {len(x)}"
    return shape, describe(_causes(context, x.astype(np.float64), y.astype(np.float64)), context.tolerance)


def _causes(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    if len(x) == len(y):
        yield from _values(x, y)
        yield from _silence(context, x, y)
    if np.ptp(x) and np.ptp(y):
        yield from _delay(context, x, y)
        if context.frontend is not None:
            rate = context.frontend.sample_rate
            yield from _rates(rate, x, y)
            yield from _twice(rate, x, y)
            yield from _channels(context, rate, y)


def _values(x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield functions of the samples: gain, offset, clipping, overflow, rounding, and the reversed wave."""
    power = float(np.square(x).sum())
    factor = float((x * y).sum()) / power if power else 0.0
    known = {32768.0: ", 16-bit integers", 32767.0: ", 16-bit integers", -1.0: ", inverted polarity"}
    reason = next((text for value, text in known.items() if abs(factor / value - 1) < 1e-3), "")
    if not reason and abs(np.abs(y).max() - 1) < 1e-3:
        reason = ", scaled to its peak"
    if factor:
        yield Candidate(f"the wave is multiplied by {factor:.5g}{reason}", factor * x, y, x)
    offset = float((y - x).mean())
    yield Candidate(f"the wave is shifted by a constant of {offset:+.3g}", x + offset, y, x)
    yield Candidate(f"the wave is clipped at {np.abs(y).max():.3g}", np.clip(x, y.min(), y.max()), y, x)
    for gain in (1, 2, 3, 4, 5, 8, 10):
        cause = f"{f'multiplied by {gain}, ' if gain > 1 else ''}values beyond 1 wrap around, as in 16-bit integers"
        yield Candidate(cause, (gain * x + 1) % 2 - 1, y, x)
    if not np.abs(y * 128 - np.round(y * 128)).max():
        yield Candidate("the wave has 8 bits", np.clip(np.round(x * 128) / 128, -1, 127 / 128), y, x)
    yield Candidate("the wave is reversed in time", x[::-1], y, x)


def _silence(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    silent = (y == 0) & (x != 0)
    if silent.mean() < _MIN_SILENT:
        return
    rate = context.frontend.sample_rate if context.frontend is not None else 1
    first, last = int(np.argmax(silent)), len(y) - int(np.argmax(silent[::-1]))
    cause = f"{silent.mean():.0%} of it is digital silence instead of sound, from {first / rate:.2f} s on"
    cause += "" if y[first:].any() and y[:last].any() else ": padded"
    yield Candidate(cause, np.where(silent, 0.0, x), y, x)


def _delay(context: StageContext, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield the wave moved by the lag of the largest correlation; also for an excerpt."""
    a, b = x[:_DELAY_SAMPLES], y[:_DELAY_SAMPLES]
    n = 2 * max(len(a), len(b))
    correlation = np.fft.irfft(np.fft.rfft(b, n) * np.conj(np.fft.rfft(a, n)), n)
    lag = int(np.argmax(correlation))
    lag -= n if lag > n // 2 else 0
    first, second = max(0, -lag), max(0, lag)
    length = min(len(x) - first, len(y) - second)
    if length < min(_MIN_OVERLAP, len(x) // 2):
        return
    seconds = f" ({abs(lag) / context.frontend.sample_rate:.4f} s)" if context.frontend is not None else ""
    cause = f"the wave is {abs(lag)} samples{seconds} too {'late' if lag > 0 else 'early'}"
    if lag == 0:
        cause = f"it ends {abs(len(x) - len(y))} samples too {'early' if len(y) < len(x) else 'late'}"
    if lag or len(x) != len(y):
        moved, same = x[first : first + length], y[second : second + length]
        before = None if lag == 0 else x[second : second + length]
        yield Candidate(cause, moved, same, before if before is not None and len(before) == length else None)


def _rates(rate: int, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield waves of another sample rate that were read as of ours, or the reverse."""
    pairs = {rate / other: (other, rate) for other in RATES}
    pairs |= {read / written: (written, read) for written in RATES for read in RATES if read / written not in pairs}
    for ratio, (written, read) in pairs.items():
        if written == read:
            continue
        cause = f"audio of {written:,} Hz was read as {read:,} Hz, so that it is {1 / ratio:.3g} times as long"
        # Both are compared at the lower of the two rates, because one of them may have less bandwidth.
        length = min(len(y), _RATE_SAMPLES, int(len(x) / ratio))
        if length < _MIN_OVERLAP or len(y) > 1.01 * len(x) / ratio + 1:
            continue
        restored = soxr.resample(y[:length], 1.0, ratio) if ratio < 1 else y[:length]
        ours = x if ratio < 1 else soxr.resample(x[: int(length * ratio)], ratio, 1.0)
        n = min(len(restored), len(ours))
        # The ends of the excerpt have the edge of the resampler's filter.
        inner = slice(0, max(1, n - 512))
        yield Candidate(cause, ours[inner], restored[inner], (y if ratio < 1 else x)[:n][inner])


def _twice(rate: int, x: Floats, y: Floats) -> Iterator[Candidate]:
    """Yield waves that have lost the highest frequencies."""
    n = min(len(x), len(y), _DELAY_SAMPLES)
    a, b = x[:n], y[:n]
    for via in RATES:
        if via < rate:
            cause = f"nothing is left above {via / 2:,.0f} Hz: resampled twice via {via:,} Hz"
            again = np.resize(soxr.resample(soxr.resample(a, rate, via), via, rate), n)
            inner = slice(0, max(1, n - _EDGE_SAMPLES))
            yield Candidate(cause, again[inner], b[inner], a[inner])
    spectrum, power = np.fft.rfft(a), np.square(np.abs(np.fft.rfft(b)))
    last = int(np.argmax(np.cumsum(power) >= 0.9999 * power.sum())) + 1
    cause = f"nothing is left above {last * rate / n:,.0f} Hz: filtered"
    spectrum[last:] = 0
    yield Candidate(cause, np.fft.irfft(spectrum, n), b, a)


def _channels(context: StageContext, rate: int, y: Floats) -> Iterator[Candidate]:
    """Yield the single channels of the recording, if its file is still there."""
    facts, x = context.ours.facts, context.ours.arrays["samples"]
    if facts.get("channels", 1) < 2 or facts.get("first_sample", 0):
        return
    n = min(len(x), len(y), 16 * _DELAY_SAMPLES // facts["channels"])
    try:
        info = read_info(facts["file"])
        with open_audio(info.path, info.raw) as file:
            audio = file.read((n + _EDGE_SAMPLES) * info.sample_rate // rate, dtype="float32", always_2d=True)
    except (DataError, OSError, RuntimeError, MemoryError):
        return
    for number, channel in enumerate(audio.T, 1):
        wave = channel if info.sample_rate == rate else soxr.resample(channel, info.sample_rate, rate)
        n = min(n, len(wave))
        cause = f"channel {number} of {audio.shape[1]} instead of the mean of the channels"
        yield Candidate(cause, wave[:n], y[:n], x[:n])
