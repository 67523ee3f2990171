"""Why window pictures differ: what is commonly done to them otherwise, computed and compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...models.network import ToImage, delta, fold
from .context import StageContext
from .explain_audio import not_finite
from .stages import Array

Floats = npt.NDArray[np.float32]


def picture(sides: StageContext, x: Array, y: Array) -> str:
    """Say why two pictures (W, C, H, W') of the same windows differ."""
    if told := not_finite(y):
        return told
    if x.shape != y.shape:
        names = ("windows", "channels", "rows", "columns")
        told = ", ".join(f"{b} {n} instead of {a}" for n, a, b in zip(names, x.shape, y.shape, strict=True) if a != b)
        return told + (": the network was made for another picture" if x.shape[2:] != y.shape[2:] else "")
    differing = np.asarray((np.abs(x - y) > sides.tolerance).any((1, 2, 3)))
    told = _known(sides, y, differing) or _standardised(x[differing], y[differing]) or _coarser(x, y)
    among = f"in {int(differing.sum())} of {len(differing)} windows, and the others are the same: "
    return (among if not differing.all() else "") + (told or "the picture is made otherwise")


def _known(sides: StageContext, y: Array, differing: npt.NDArray[np.bool_]) -> str:
    """Try what others do with the dB windows."""
    windows = sides.ours.arrays.get("windows")
    frontend = sides.frontend
    if windows is None or frontend is None or windows.shape[0] != len(y):
        return ""
    db = torch.from_numpy(np.asarray(windows, np.float32))
    for told, made in _ways(sides, db):
        if made.shape == y.shape and np.abs(made.numpy() - y)[differing].max() <= 5 * sides.tolerance * _span(y):
            return told
    return ""


def _span(y: Array) -> float:
    return max(1.0, float(np.abs(y).max()))


def _ways(sides: StageContext, db: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield common other ways from dB windows (W, F, T) to the picture, and what they are."""
    frontend = sides.frontend
    if frontend is None:
        return
    high, all_high = db.amax((1, 2), keepdim=True), db.amax()

    def channels(x: torch.Tensor) -> torch.Tensor:
        if frontend.channels == "mono":
            return fold(x[:, None], frontend.time_folds)
        slope = delta(x)
        stacked = (x, slope, delta(slope)) if frontend.channels == "deltas" else (x, x, x)
        return fold(torch.stack(stacked, 1), frontend.time_folds)

    floored, floored_all = torch.maximum(db, high - frontend.top_db), torch.maximum(db, all_high - frontend.top_db)

    def scaled(x: torch.Tensor, *, whole: bool = False) -> torch.Tensor:
        low, top = (x.amin(), x.amax()) if whole else (x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True))
        return (x - low) / (top - low).clamp_min(1e-6)

    yield (
        "the maximum in dB is the batch's, not each window's, and so is the scale",
        channels(scaled(floored_all, whole=True)),
    )
    yield "the floor in dB is below the batch's maximum, not each window's", channels(scaled(floored_all))
    yield "minimum and maximum are the batch's, not each window's", channels(scaled(floored, whole=True))
    low = floored.amin((1, 2), keepdim=True)
    for made in (floored, floored - low, floored - high, db, db - high):
        yield "normalisation was skipped: the values are still in dB", channels(made)
    yield "normalised by 80 dB instead of the window's own range", channels((floored - high) / frontend.top_db + 1)
    yield "scaled to 0 to 255 instead of 0 to 1", 255 * channels(scaled(floored))
    yield "there is no floor 80 dB below the maximum", channels(scaled(db))
    mean, deviation = floored.mean((1, 2), keepdim=True), floored.std((1, 2), keepdim=True)
    yield "scaled by mean and deviation instead of minimum and maximum", channels((floored - mean) / deviation)
    folded = fold(scaled(floored)[:, None], frontend.time_folds)[:, 0]
    if frontend.channels == "deltas":
        slope = delta(folded)
        late = torch.stack((folded, slope, delta(slope)), 1)
        yield "slopes were taken after the fold: there is an edge at the seam", late
        yield "three equal channels instead of slopes", torch.stack((folded, folded, folded), 1)
    unfolded = ToImage(frontend)(db)
    yield "the halves of the fold are swapped", unfolded.roll(frontend.n_mels, 2)
    yield "the picture stands on its head: low bands last", unfolded.flip(2)


def _standardised(x: Array, y: Array) -> str:
    """Say so if each channel is the other's, scaled: as by ImageNet's mean and deviation."""
    found = []
    for channel in range(x.shape[1]):
        a, b = x[:, channel].reshape(-1).astype(np.float64), y[:, channel].reshape(-1).astype(np.float64)
        if np.ptp(a) == 0:
            return ""
        slope, base = np.polyfit(a, b, 1)
        if slope <= 0 or (np.abs(slope * a + base - b) > 0.01 * max(np.ptp(b), 1e-9)).mean() > 0.01:
            return ""
        found.append((slope, base))
    if all(abs(slope - 1) < 1e-2 and abs(base) < 1e-2 for slope, base in found):
        return ""
    told = ", ".join(f"{slope:.3g} times and {base:+.3g}" for slope, base in found)
    return f"each channel is scaled once more: {told}, as by ImageNet's mean and deviation"


def _coarser(x: Array, y: Array) -> str:
    """Say so if the second has no fine detail: it was stretched from a smaller picture."""
    told = []
    for axis, name in ((2, "rows"), (3, "columns")):
        n = x.shape[axis]
        spectra = [np.square(np.abs(np.fft.rfft(v[:, 0], axis=axis - 1))).mean((0, 4 - axis)) for v in (x, y)]
        ours, theirs = (np.maximum(np.cumsum(s[::-1])[::-1], 1e-12) for s in spectra)
        weaker = ours / ours[1] > 1e-4
        lost = (theirs / theirs[1] < 0.25 * ours / ours[1]) & weaker
        if lost[n // 2 - n // 16 - 1] or lost[3 * n // 8]:
            kept = int(np.argmax(np.cumsum(spectra[1][1:]) >= 0.999 * spectra[1][1:].sum())) + 1
            told.append(f"{name} finer than about {max(2 * kept, 2)}")
    return (
        f"it has no detail in {' and '.join(told)} of {x.shape[2]}x{x.shape[3]}: stretched from a smaller picture"
        if told
        else ""
    )
