"""The learning rate over the epochs."""

from __future__ import annotations

import math

from ..config.recipe import Fit


def learning_rate(fit: Fit, progress: float) -> float:
    """Return the learning rate after `progress` epochs.

    Linear from `lr_start` to `lr` during the warm-up; then cosine cycles of `cycle_epochs` from a peak to
    zero, each peak half the previous one (SGDR, Loshchilov and Hutter 2017, with a decaying peak).

    Examples
    --------
    >>> fit = Fit(lr=1e-3, lr_start=1e-4, warmup_epochs=2, cycle_epochs=8)
    >>> [round(learning_rate(fit, epoch), 6) for epoch in (0, 2, 6, 10, 18)]
    [0.0001, 0.001, 0.0005, 0.0005, 0.00025]
    """
    if progress < fit.warmup_epochs:
        return fit.lr_start + (fit.lr - fit.lr_start) * progress / fit.warmup_epochs
    cycle, position = divmod(progress - fit.warmup_epochs, fit.cycle_epochs)
    peak = fit.lr * math.pow(0.5, cycle)
    return peak * 0.5 * (1.0 + math.cos(math.pi * position / fit.cycle_epochs))
