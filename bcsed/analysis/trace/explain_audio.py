"""Explain different samples or spectrograms: try common causes one after the other."""

from __future__ import annotations

import numpy as np

from ..doctor.align import Floats
from .context import StageContext, describe_shapes
from .stages import Array

# A cause is accepted if its correction leaves a smaller share of the wave as difference.
_MAX_REST = 0.05
# Samples that are searched for a delay, and the largest delay.
_DELAY_SAMPLES, _MAX_DELAY = 1 << 19, 1 << 15
# Everything above a band limit is weaker by more than this (dB).
_BAND_LIMIT_DB = 12.0
# Common sample rates of recordings.
_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# The share of mel bands that must correspond to another band for another mel scale.
_MIN_MOVED = 0.3


def explain_samples(context: StageContext, x: Array, y: Array) -> str:
    """Explain different waves."""
    n, ratio = min(len(x), len(y)), len(y) / len(x)
    if context.frontend is not None and n and abs(ratio - 1) > 0.02:
        rate = context.frontend.sample_rate * ratio
        return f"{len(y)} samples instead of {len(x)}: a sample rate of about {rate:,.0f} Hz, or another excerpt"
    x, y = x[:n].astype(np.float64), y[:n].astype(np.float64)
    return _gain(x, y) or _delay(x, y, context) or _padding(x, y, context) or _band_limit(x, y, context)


def _rest(x: Floats, y: Floats) -> float:
    """Return the difference relative to the wave."""
    return float(np.sqrt(np.square(x - y).sum() / max(float(np.square(x).sum()), 1e-300)))


def _gain(x: Floats, y: Floats) -> str:
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor == 0 or abs(factor - 1) < 1e-3 or _rest(x, y / factor) > _MAX_REST:
        return ""
    known = {32768.0: ", 16-bit integers", 32767.0: ", 16-bit integers", -1.0: ", inverted polarity"}
    reason = next((text for value, text in known.items() if abs(factor / value - 1) < 1e-3), "")
    if not reason and abs(np.abs(y).max() - 1) < 1e-3:
        reason = ", scaled to its peak"
    return f"the wave is multiplied by {factor:.5g}{reason}"


def _delay(x: Floats, y: Floats, context: StageContext) -> str:
    x, y = x[:_DELAY_SAMPLES], y[:_DELAY_SAMPLES]
    n = 2 * len(x)
    correlation = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)), n)
    reach = min(_MAX_DELAY, len(x) - 1)
    lags = np.concatenate((np.arange(reach + 1), np.arange(-reach, 0)))
    lag = int(lags[int(np.argmax(np.concatenate((correlation[: reach + 1], correlation[n - reach :]))))])
    if lag == 0:
        return ""
    shifted = (x[:-lag], y[lag:]) if lag > 0 else (x[-lag:], y[:lag])
    if _rest(*shifted) > _MAX_REST:
        return ""
    seconds = f" ({abs(lag) / context.frontend.sample_rate:.4f} s)" if context.frontend is not None else ""
    return f"the wave is {abs(lag)} samples{seconds} too {'late' if lag > 0 else 'early'}"


def _padding(x: Floats, y: Floats, context: StageContext) -> str:
    silent = (y == 0) & (x != 0)
    if silent.mean() < 0.01 or _rest(x[~silent], y[~silent]) > _MAX_REST:
        return ""
    rate = context.frontend.sample_rate if context.frontend is not None else 1
    start = int(np.argmax(silent)) / rate
    return f"{silent.mean():.0%} of it is digital silence instead of sound, from {start:.2f} s on: padded"


def _band_limit(x: Floats, y: Floats, context: StageContext) -> str:
    """Detect a frequency above which the second wave has lost its power."""
    n_bands = 64
    power = [np.square(np.abs(np.fft.rfft(wave))) for wave in (x, y)]
    edges = np.linspace(0, len(power[0]), n_bands + 1).astype(int)[:-1]
    power_x, power_y = (np.maximum(np.add.reduceat(p, edges), 1e-30) for p in power)
    first = _first_lost(10 * np.log10(power_x / power_y))
    if first in (0, n_bands) or _rest(x, y) < 1e-6:
        return ""
    if context.frontend is None:
        limit = first * 0.5 / n_bands
        return f"nothing is left above {limit:.2f} of the sample rate: resampled twice, or filtered"
    limit = first * context.frontend.sample_rate / 2 / n_bands
    # The resampler's filter ends a little below half of the rate.
    rate = next((rate for rate in _RATES if 0.88 * rate <= 2 * limit <= 1.01 * rate), None)
    via = f" via {rate:,} Hz" if rate else ""
    return f"nothing is left above {limit:,.0f} Hz: resampled twice{via}, or filtered"


def _first_lost(loss_db: Floats) -> int:
    """Return the first band of those at the top that have lost their power; the number of bands without any."""
    lost = loss_db > _BAND_LIMIT_DB
    return len(lost) - int(np.argmax(~lost[::-1])) if not lost.all() else 0


def explain_db(context: StageContext, x: Array, y: Array) -> str:
    """Explain different dB spectrograms, of a recording (F, T) or of windows (W, F, T)."""
    if x.shape != y.shape:
        return _explain_shape(context, x, y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if x.ndim == 2:
        x, y = x[None], y[None]
    causes = (_offset, _outer_frames, _silent_frames, _floor, _affine, _frame_shift, _mel_scale)
    return next(filter(None, (cause(context, x, y) for cause in causes)), "")


def _explain_shape(context: StageContext, x: Array, y: Array) -> str:
    shapes = describe_shapes(("windows", "mel bands", "frames")[-x.ndim :], x.shape, y.shape)
    if context.frontend is None or x.ndim == 3 or x.shape[1] == y.shape[1]:
        return shapes
    hop = context.frontend.hop_length
    return f"{shapes}: a hop of about {hop * x.shape[1] / y.shape[1]:,.0f} samples instead of {hop}"


def _offset(context: StageContext, x: Floats, y: Floats) -> str:
    offset, tolerance = float(np.median(y - x)), context.tolerance
    if abs(offset) <= tolerance or (np.abs(y - x - offset) > 5 * tolerance).mean() > 0.02:
        return ""
    return f"{offset:+.2f} dB everywhere: another reference, or another gain"


def _outer_frames(context: StageContext, x: Floats, y: Floats) -> str:
    frame_differs = np.asarray((np.abs(y - x) > context.tolerance).any((0, 1)))
    if len(frame_differs) < 16 or frame_differs[4:-4].any() or not frame_differs.any():
        return ""
    return "only the outermost frames differ: the STFT of each clip was computed separately, with padded ends"


def _silent_frames(context: StageContext, x: Floats, y: Floats) -> str:
    tolerance = context.tolerance
    low = y.min((1, 2), keepdims=True)
    silent = (y <= low + tolerance).all(1) & (x > low + 6).any(1)
    with_sound = ~silent[:, None, :] & np.ones_like(x, bool)
    if silent.mean() < 0.02 or (np.abs(y - x)[with_sound] > 5 * tolerance).mean() > 0.2:
        return ""
    window, frame = np.argwhere(silent)[0]
    in_window = context.stage == "windows"
    start = context.window_start(window) if in_window else context.facts.get("first_frame", 0)
    return (
        f"{silent.mean():.0%} of the frames are silent instead of sound, {silent[window].sum()} of "
        f"{len(silent[window])} in {f'window {window + 1}' if in_window else 'the recording'} from "
        f"{context.time(start + frame)} on: padded with silence"
    )


def _floor(context: StageContext, x: Floats, y: Floats) -> str:
    low = y.min((1, 2), keepdims=True)
    if (np.abs(np.maximum(x, low) - y) > 5 * context.tolerance).mean() > 0.01:
        return ""
    same = np.ptp(low) <= context.tolerance and len(low) > 1
    detail = f"at {low.min():.1f} dB in all windows: below a maximum over the batch" if same else "(top_db)"
    return f"values are cut off below a floor {detail}"


def _affine(_: StageContext, x: Floats, y: Floats) -> str:
    slope, base = np.polyfit(x.reshape(-1), y.reshape(-1), 1) if np.ptp(x) > 0 else (1.0, 0.0)
    if slope <= 0 or abs(slope - 1) < 1e-3 or (np.abs(slope * x + base - y) > 0.02 * np.ptp(y)).mean() > 0.02:
        return ""
    return f"it is {slope:.4g} times the dB and {base:+.4g}: already scaled, or another logarithm"


def _frame_shift(context: StageContext, x: Floats, y: Floats) -> str:
    for shift in (*range(1, 65), *range(-1, -65, -1)):
        if abs(shift) > x.shape[-1] // 2:
            continue
        shifted_x, shifted_y = (x[..., :-shift], y[..., shift:]) if shift > 0 else (x[..., -shift:], y[..., :shift])
        if (np.abs(shifted_x - shifted_y)[..., ::7] > 5 * context.tolerance).mean() < 0.02:
            seconds = f" ({context.time(abs(shift))})" if context.frontend is not None else ""
            return f"the sound is {abs(shift)} frames{seconds} too {'late' if shift > 0 else 'early'}"
    return ""


def _mel_scale(context: StageContext, x: Floats, y: Floats) -> str:
    """Detect bands that contain the sound of other bands, or have lost their power."""
    bands_x, bands_y = (np.moveaxis(v, 1, 0).reshape(v.shape[1], -1) for v in (x, y))
    n = len(bands_x)
    first = _first_lost(np.median(bands_x - bands_y, 1))
    if 0 < first < n:
        return f"nothing is left above {context.band(first)}: resampled, or filtered"
    rows = [v - v.mean(1, keepdims=True) for v in (bands_x, bands_y)]
    rows = [v / np.maximum(np.sqrt(np.square(v).sum(1, keepdims=True)), 1e-30) for v in rows]
    matrix = rows[1] @ rows[0].T
    nearest, k = matrix.argmax(1), np.arange(n)
    moved = (nearest != k) & (matrix.max(1) > matrix[k, k] + 1e-3)
    if moved.mean() < _MIN_MOVED:
        return ""
    farthest = int(np.argmax(np.where(moved, np.abs(nearest - k), 0)))
    return (
        f"{moved.sum()} of {n} bands contain the sound of other bands, {context.band(farthest)} that of "
        f"{context.band(int(nearest[farthest]))}: another mel scale, or other edges"
    )
