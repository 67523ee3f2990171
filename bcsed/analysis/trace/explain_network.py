"""Explain different images of the same windows: compute common other conversions and compare them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...config.contract import Frontend
from ...models.network import ToImage, delta, fold
from .context import StageContext, describe_non_finite, describe_shapes
from .stages import Array


def explain_image(context: StageContext, x: Array, y: Array) -> str:
    """Explain different images (W, C, H, W')."""
    if not np.isfinite(y).all():
        return describe_non_finite(y)
    if x.shape != y.shape:
        shapes = describe_shapes(("windows", "channels", "rows", "columns"), x.shape, y.shape)
        return shapes + (": the network needs another image shape" if x.shape[2:] != y.shape[2:] else "")
    differs = np.asarray((np.abs(x - y) > context.tolerance).any((1, 2, 3)))
    cause = _explain_conversion(context, y, differs) or _explain_scale(x[differs], y[differs]) or _explain_blur(x, y)
    subset = f"in {int(differs.sum())} of {len(differs)} windows, and the others are the same: "
    return (subset if not differs.all() else "") + (cause or "the image is computed differently")


def _explain_conversion(context: StageContext, y: Array, differs: npt.NDArray[np.bool_]) -> str:
    """Try common conversions of the dB windows."""
    windows, frontend = context.ours.arrays.get("windows"), context.frontend
    if windows is None or frontend is None or windows.shape[0] != len(y):
        return ""
    allowed = 5 * context.tolerance * max(1.0, float(np.abs(y).max()))
    for cause, image in _conversions(frontend, torch.from_numpy(np.asarray(windows, np.float32))):
        if image.shape == y.shape and np.abs(image.numpy() - y)[differs].max() <= allowed:
            return cause
    return ""


def _conversions(frontend: Frontend, db: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield common other conversions of dB windows (W, F, T) to images, with descriptions."""

    def to_channels(x: torch.Tensor) -> torch.Tensor:
        if frontend.channels == "mono":
            return fold(x[:, None], frontend.time_folds)
        slope = delta(x)
        stacked = (x, slope, delta(slope)) if frontend.channels == "deltas" else (x, x, x)
        return fold(torch.stack(stacked, 1), frontend.time_folds)

    def scale(x: torch.Tensor, *, batch: bool = False) -> torch.Tensor:
        low, high = (x.amin(), x.amax()) if batch else (x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True))
        return (x - low) / (high - low).clamp_min(1e-6)

    high = db.amax((1, 2), keepdim=True)
    floored = torch.maximum(db, high - frontend.top_db)
    batch_floored = torch.maximum(db, db.amax() - frontend.top_db)
    cause = "the maximum in dB is over the batch, not over each window, and so is the scale"
    yield cause, to_channels(scale(batch_floored, batch=True))
    yield "the floor in dB is below the batch's maximum, not each window's", to_channels(scale(batch_floored))
    yield "minimum and maximum are the batch's, not each window's", to_channels(scale(floored, batch=True))
    low = floored.amin((1, 2), keepdim=True)
    for unscaled in (floored, floored - low, floored - high, db, db - high):
        yield "normalisation was skipped: the values are still in dB", to_channels(unscaled)
    cause = "normalised by 80 dB instead of the window's range"
    yield cause, to_channels((floored - high) / frontend.top_db + 1)
    yield "scaled to 0 to 255 instead of 0 to 1", 255 * to_channels(scale(floored))
    yield "there is no floor 80 dB below the maximum", to_channels(scale(db))
    mean, deviation = floored.mean((1, 2), keepdim=True), floored.std((1, 2), keepdim=True)
    cause = "scaled by mean and standard deviation instead of minimum and maximum"
    yield cause, to_channels((floored - mean) / deviation)
    if frontend.channels == "deltas":
        folded = fold(scale(floored)[:, None], frontend.time_folds)[:, 0]
        slope = delta(folded)
        cause = "deltas were computed after the fold: there is an edge at the seam"
        yield cause, torch.stack((folded, slope, delta(slope)), 1)
        yield "three equal channels instead of deltas", torch.stack((folded, folded, folded), 1)
    image = ToImage(frontend)(db)
    yield "the halves of the fold are swapped", image.roll(frontend.n_mels, 2)
    yield "the image is upside down: low bands last", image.flip(2)


def _explain_scale(x: Array, y: Array) -> str:
    """Detect channels that are scaled again, as by ImageNet's mean and standard deviation."""
    fits = []
    for channel in range(x.shape[1]):
        a, b = x[:, channel].reshape(-1).astype(np.float64), y[:, channel].reshape(-1).astype(np.float64)
        if np.ptp(a) == 0:
            return ""
        slope, base = np.polyfit(a, b, 1)
        if slope <= 0 or (np.abs(slope * a + base - b) > 0.01 * max(np.ptp(b), 1e-9)).mean() > 0.01:
            return ""
        fits.append((slope, base))
    if all(abs(slope - 1) < 1e-2 and abs(base) < 1e-2 for slope, base in fits):
        return ""
    text = ", ".join(f"times {slope:.3g} and {base:+.3g}" for slope, base in fits)
    return f"each channel is scaled again: {text}, as by ImageNet's mean and standard deviation"


def _explain_blur(x: Array, y: Array) -> str:
    """Detect missing fine detail, as after stretching a smaller image."""
    missing = []
    for axis, name in ((2, "rows"), (3, "columns")):
        n = x.shape[axis]
        spectra = [np.square(np.abs(np.fft.rfft(v[:, 0], axis=axis - 1))).mean((0, 4 - axis)) for v in (x, y)]
        # Power above each spatial frequency, relative to all power but the mean.
        above_x, above_y = (np.maximum(np.cumsum(s[::-1])[::-1], 1e-12) for s in spectra)
        above_x, above_y = above_x / above_x[1], above_y / above_y[1]
        lost = (above_y < 0.25 * above_x) & (above_x > 1e-4)
        if lost[n // 2 - n // 16 - 1] or lost[3 * n // 8]:
            limit = int(np.argmax(np.cumsum(spectra[1][1:]) >= 0.999 * spectra[1][1:].sum())) + 1
            missing.append(f"{name} finer than about {max(2 * limit, 2)}")
    size = f"{x.shape[2]}x{x.shape[3]}"
    return f"it has no detail in {' and '.join(missing)} of {size}: stretched from a smaller image" if missing else ""
