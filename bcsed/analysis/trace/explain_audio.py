"""Why samples, or their dB pictures, differ: what is commonly done otherwise, tried one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .context import StageContext
from .stages import Array

Floats = npt.NDArray[np.float64]

# A cause is believed if, undone, it leaves less than this of what differed.
_LEFT = 0.05
# Samples looked at for a delay, and how far it may be.
_DELAY_OF, _DELAY_TO = 1 << 19, 1 << 15
# A band limit lies where everything above is weaker by so much.
_LOST_DB = 12.0
# Rates that recordings are commonly resampled to.
_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# Of two spectrograms' bands: how many must sound as another band for a scale to be another.
_MOVED = 0.3


def not_finite(y: Array) -> str:
    """Say so if there are values that are no numbers, infinite ones first."""
    infinite, nan = int(np.isinf(y).sum()), int(np.isnan(y).sum())
    if infinite:
        return f"{infinite} of {y.size} values are infinite there: an overflow, as in half precision"
    return f"{nan} of {y.size} values are NaN there: as after an overflow in half precision, or 0 / 0" if nan else ""


# ---- samples -------------------------------------------------------------------------------------------------


def samples(sides: StageContext, x: Array, y: Array) -> str:
    """Say why two waves differ."""
    if told := not_finite(y):
        return told
    n = min(len(x), len(y))
    ratio = len(y) / len(x)
    if sides.frontend is not None and n and abs(ratio - 1) > 0.02:
        rate = sides.frontend.sample_rate * ratio
        return f"{len(y)} samples where {len(x)} belong: a sample rate of about {rate:,.0f} Hz, or another excerpt"
    x, y = x[:n].astype(np.float64), y[:n].astype(np.float64)
    return _gain(x, y) or _delay(x, y, sides) or _padding(x, y, sides) or _band_limit(x, y, sides)


def _left(x: Floats, y: Floats) -> float:
    """Return how much of the wave is left of the difference, 1 being all of it."""
    return float(np.sqrt(np.square(x - y).sum() / max(float(np.square(x).sum()), 1e-300)))


def _gain(x: Floats, y: Floats) -> str:
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor == 0 or abs(factor - 1) < 1e-3 or _left(x, y / factor) > _LEFT:
        return ""
    known = {32768.0: ", 16-bit integers", 32767.0: ", 16-bit integers", -1.0: ", turned over"}
    near = next((told for value, told in known.items() if abs(factor / value - 1) < 1e-3), "")
    peak = ", scaled to its peak" if not near and abs(np.abs(y).max() - 1) < 1e-3 else ""
    return f"the wave is multiplied by {factor:.5g}{near}{peak}"


def _delay(x: Floats, y: Floats, sides: StageContext) -> str:
    x, y = x[:_DELAY_OF], y[:_DELAY_OF]
    n = 2 * len(x)
    crossed = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)), n)
    reach = min(_DELAY_TO, len(x) - 1)
    lags = np.concatenate((np.arange(reach + 1), np.arange(-reach, 0)))
    lag = int(lags[int(np.argmax(np.concatenate((crossed[: reach + 1], crossed[n - reach :]))))])
    if lag == 0:
        return ""
    ours, theirs = (x[:-lag], y[lag:]) if lag > 0 else (x[-lag:], y[:lag])
    if _left(ours, theirs) > _LEFT:
        return ""
    seconds = f" ({abs(lag) / sides.frontend.sample_rate:.4f} s)" if sides.frontend is not None else ""
    return f"the wave comes {abs(lag)} samples{seconds} {'later' if lag > 0 else 'earlier'}"


def _padding(x: Floats, y: Floats, sides: StageContext) -> str:
    silent = (y == 0) & (x != 0)
    if silent.mean() < 0.01 or _left(x[~silent], y[~silent]) > _LEFT:
        return ""
    rate = sides.frontend.sample_rate if sides.frontend is not None else 1
    first = int(np.argmax(silent)) / rate
    return f"{silent.mean():.0%} of it is digital silence where the other hears sound, from {first:.2f} s on: padded"


def _band_limit(x: Floats, y: Floats, sides: StageContext) -> str:
    """Say above which frequency the second wave has lost its sound."""
    bands = 64
    power = [np.square(np.abs(np.fft.rfft(wave))) for wave in (x, y)]
    edges = np.linspace(0, len(power[0]), bands + 1).astype(int)[:-1]
    ours, theirs = (np.maximum(np.add.reduceat(p, edges), 1e-30) for p in power)
    lost = 10 * np.log10(ours / theirs) > _LOST_DB
    first = bands - int(np.argmax(~lost[::-1])) if not lost.all() else 0
    if not lost[-1] or first == 0 or _left(x, y) < 1e-6:
        return ""
    nyquist = sides.frontend.sample_rate / 2 if sides.frontend is not None else 0.5
    limit = first * nyquist / bands
    if sides.frontend is None:
        return f"nothing is left above {limit:.2f} of the sample rate: resampled twice, or filtered"
    # The resampler's filter ends somewhat below half of the rate.
    rate = next((rate for rate in _RATES if 0.88 * rate <= 2 * limit <= 1.01 * rate), None)
    by_way = f", by way of {rate:,} Hz" if rate else ""
    return f"nothing is left above {limit:,.0f} Hz: resampled twice{by_way}, or filtered"


# ---- dB pictures ---------------------------------------------------------------------------------------------


def decibels(sides: StageContext, x: Array, y: Array) -> str:
    """Say why two dB pictures differ, of a recording (F, T) or of windows (W, F, T)."""
    if told := not_finite(y):
        return told
    if x.shape != y.shape:
        return _shapes(sides, x, y)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if x.ndim == 2:
        x, y = x[None], y[None]
    tolerance = sides.tolerance
    for cause in (_offset, _edges, _silence, _floor, _affine, _moved, _mel):
        if told := cause(sides, x, y, tolerance):
            return told
    return ""


def _shapes(sides: StageContext, x: Array, y: Array) -> str:
    told = []
    if x.shape[-2] != y.shape[-2]:
        told.append(f"{y.shape[-2]} mel bands instead of {x.shape[-2]}")
    if x.shape[-1] != y.shape[-1]:
        hop = ""
        if sides.frontend is not None and x.ndim == 2:
            hop = f": a hop of about {sides.frontend.hop_length * x.shape[-1] / y.shape[-1]:,.0f} samples instead of "
            hop += f"{sides.frontend.hop_length}"
        told.append(f"{y.shape[-1]} frames instead of {x.shape[-1]}{hop}")
    if x.ndim == 3 and x.shape[0] != y.shape[0]:
        told.append(f"{y.shape[0]} windows instead of {x.shape[0]}")
    return ", ".join(told)


def _offset(_: StageContext, x: Floats, y: Floats, tolerance: float) -> str:
    offset = float(np.median(y - x))
    if abs(offset) <= tolerance or (np.abs(y - x - offset) > 5 * tolerance).mean() > 0.02:
        return ""
    return f"{offset:+.2f} dB throughout: another reference, or another gain"


def _edges(_: StageContext, x: Floats, y: Floats, tolerance: float) -> str:
    """Say so if only the outer frames differ: each clip was transformed by itself."""
    of_frame = np.asarray((np.abs(y - x) > tolerance).any((0, 1)))
    T = len(of_frame)
    middle = of_frame[4 : T - 4]
    if T < 16 or middle.any() or not of_frame.any():
        return ""
    return "only the outermost frames differ: each clip was transformed by itself, padded at its ends"


def _silence(sides: StageContext, x: Floats, y: Floats, tolerance: float) -> str:
    """Say so if whole frames lie at the bottom where the other hears sound."""
    low = y.min((1, 2), keepdims=True)
    empty = (y <= low + tolerance).all(1) & (x > low + 6).any(1)
    heard = ~empty[:, None, :] & np.ones_like(x, bool)
    if empty.mean() < 0.02 or (np.abs(y - x)[heard] > 5 * tolerance).mean() > 0.2:
        return ""
    window, frame = np.argwhere(empty)[0]
    starts = sides.facts.get("starts", ()) if sides.stage == "windows" else ()
    begin = starts[window] if window < len(starts) else sides.facts.get("first_frame", 0)
    n = int(empty[window].sum())
    return (
        f"{empty.mean():.0%} of the frames are silent where the other hears sound, {n} of {len(empty[window])} in "
        f"{'window ' + str(window + 1) if sides.stage == 'windows' else 'the recording'} from "
        f"{sides.second(begin + frame)} on: padded with silence"
    )


def _floor(_: StageContext, x: Floats, y: Floats, tolerance: float) -> str:
    """Say so if the second is the first, cut off below."""
    low = y.min((1, 2), keepdims=True)
    if (np.abs(np.maximum(x, low) - y) > 5 * tolerance).mean() > 0.01:
        return ""
    same = np.ptp(low) <= tolerance and len(low) > 1
    where = (
        f"at {low.min():.1f} dB in all windows alike: below a maximum over the batch" if same else "of its own (top_db)"
    )
    return f"it is cut off below by a floor {where}"


def _affine(_: StageContext, x: Floats, y: Floats, _tolerance: float) -> str:
    slope, base = np.polyfit(x.reshape(-1), y.reshape(-1), 1) if np.ptp(x) > 0 else (1.0, 0.0)
    if slope <= 0 or abs(slope - 1) < 1e-3:
        return ""
    left = np.abs(slope * x + base - y)
    if (left > 0.02 * np.ptp(y)).mean() > 0.02:
        return ""
    return f"it is {slope:.4g} times the dB and {base:+.4g}: already scaled, or another logarithm"


def _moved(sides: StageContext, x: Floats, y: Floats, tolerance: float) -> str:
    T = x.shape[-1]
    for shift in (*range(1, 65), *range(-1, -65, -1)):
        if abs(shift) > T // 2:
            continue
        ours, theirs = (x[..., :-shift], y[..., shift:]) if shift > 0 else (x[..., -shift:], y[..., :shift])
        if (np.abs(ours - theirs)[..., ::7] > 5 * tolerance).mean() < 0.02:
            seconds = f" ({sides.second(abs(shift))})" if sides.frontend is not None else ""
            return f"the sound comes {abs(shift)} frames{seconds} {'later' if shift > 0 else 'earlier'}"
    return ""


def _mel(sides: StageContext, x: Floats, y: Floats, _tolerance: float) -> str:
    """Look for bands that sound as other bands should, or have lost their sound."""
    ours, theirs = (np.moveaxis(v, 1, 0).reshape(v.shape[1], -1) for v in (x, y))
    loss = np.median(ours - theirs, 1)
    lost = loss > _LOST_DB
    first = len(lost) - int(np.argmax(~lost[::-1])) if not lost.all() else 0
    if 0 < first < len(lost):
        return f"nothing is left above {sides.band(first)}: resampled, or filtered"
    rows = [v - v.mean(1, keepdims=True) for v in (ours, theirs)]
    rows = [v / np.maximum(np.sqrt(np.square(v).sum(1, keepdims=True)), 1e-30) for v in rows]
    matrix = rows[1] @ rows[0].T
    nearest = matrix.argmax(1)
    k = np.arange(len(nearest))
    moved = (nearest != k) & (matrix.max(1) > matrix[k, k] + 1e-3)
    if moved.mean() >= _MOVED:
        far = int(np.argmax(np.where(moved, np.abs(nearest - k), 0)))
        return (
            f"{moved.sum()} of {len(k)} bands hear what other bands should, {sides.band(far)} what belongs to "
            f"{sides.band(int(nearest[far]))}: another mel scale, or other edges"
        )
    return ""
