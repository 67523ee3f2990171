"""Answers, targets and weights -> one number to descend."""

from __future__ import annotations

import torch

from .config import Fit
from .model import pool

# float32 knows no number between 1 - 6e-8 and 1; the logarithm stays finite.
_EDGE = 1e-6


def bce(p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy per element, for probabilities and targets in [0, 1]."""
    p = p.clamp(_EDGE, 1.0 - _EDGE)
    return -(target * p.log() + (1.0 - target) * torch.log1p(-p))


def focal(p: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    """Focal binary cross-entropy per element (Lin et al. 2017), for probabilities.

    Equals ``torchvision.ops.sigmoid_focal_loss(logit(p), target, alpha, gamma)`` to 1e-5 where p lies in
    [1e-6, 1 - 1e-6], targets between 0 and 1 included.
    """
    correct = p * target + (1.0 - p) * (1.0 - target)
    side = alpha * target + (1.0 - alpha) * (1.0 - target)
    return side * (1.0 - correct).pow(gamma) * bce(p, target)


def criterion(
    what: torch.Tensor,
    when: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    *,
    fit: Fit,
    kind: str,
) -> torch.Tensor:
    """Return the training loss of a batch.

    Parameters
    ----------
    what, when : Tensor, shape (B, t, K)
        The network's answers.
    target, weight : Tensor of float32, shape (B, K)
        Targets in [0, 1], and what each element counts in the loss.
    fit : Fit
        Its `loss`, `two_way`, `focal_gamma` and `focal_alpha`.
    kind : {'prob', 'logit'}
        The pooling of the clip answer.

    Returns
    -------
    Tensor, shape ()
        Mean over all B * K elements of weight times loss: of the clip answer, plus that of the time-mean
        of the frame logits if `two_way`.
    """
    what, when = what.float(), when.float()
    answers = [pool(what, when, kind)]
    if fit.two_way:
        answers.append(what.mean(1).sigmoid())
    losses = [
        focal(p, target, fit.focal_gamma, fit.focal_alpha) if fit.loss == "focal" else bce(p, target) for p in answers
    ]
    return torch.stack([(weight * loss).mean() for loss in losses]).sum()
