"""Answers, targets and weights -> one number to descend.

Every loss is a sum over elements (clip, class), each times its weight, so that an element of weight w
contributes exactly w times what it would alone.
"""

from __future__ import annotations

import torch

from ..config.recipe import Fit
from ..models.network import pool

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


def cross_entropy(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the classes on multi-hot targets, mean over clips (BirdCLEF 2025, 1st place).

    Equals ``torch.nn.functional.cross_entropy(logit(p), target)`` where all weights are 1; targets are not
    made to sum to 1.

    Parameters
    ----------
    p, target, weight : Tensor, shape (B, K)

    Returns
    -------
    Tensor, shape ()
    """
    told = torch.log_softmax(_logit(p), 1)
    return -(weight * target * told).sum(1).mean()


def soft_auc(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Soft area under the ROC curve: how far each positive stays above each negative of its class.

    ``Σ_ij t_i (1 - t_j) w_i w_j softplus(z_j - z_i) / Σ_ij t_i (1 - t_j)`` with logits z, for each class;
    the mean over classes that have such a pair in the batch (BirdCLEF 2025, 4th place).

    Parameters
    ----------
    p, target, weight : Tensor, shape (B, K)

    Returns
    -------
    Tensor, shape ()
        0 where no class has a pair.
    """
    z = _logit(p)
    apart = torch.nn.functional.softplus(z[None] - z[:, None])  # (positive, negative, K)
    pairs = target[:, None] * (1.0 - target[None])
    # A clip is no pair with itself, however soft its target.
    pairs = pairs * (1.0 - torch.eye(len(z), device=z.device))[..., None]
    n_pairs = pairs.sum((0, 1))
    lost = (pairs * weight[:, None] * weight[None] * apart).sum((0, 1)) / n_pairs.clamp_min(1e-6)
    counted = n_pairs > 0
    return torch.where(counted, lost, torch.zeros_like(lost)).sum() / counted.sum().clamp_min(1)


def criterion(
    logits: torch.Tensor,
    attention: torch.Tensor,
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
        Its `loss`, `two_way`, `focal_gamma`, `focal_alpha` and `auc_bce`.
    kind : {'prob', 'logit'}
        The pooling of the clip answer.

    Returns
    -------
    Tensor, shape ()
        The loss of the clip answer, plus that of the time-mean of the frame logits if `two_way`.
    """
    logits, attention = logits.float(), attention.float()
    answers = [pool(logits, attention, kind)]
    if fit.two_way:
        answers.append(logits.mean(1).sigmoid())
    return torch.stack([_loss(p, target, weight, fit) for p in answers]).sum()


def _loss(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, fit: Fit) -> torch.Tensor:
    if fit.loss == "focal":
        return (weight * focal(p, target, fit.focal_gamma, fit.focal_alpha)).mean()
    if fit.loss == "ce":
        return cross_entropy(p, target, weight)
    plain = (weight * bce(p, target)).mean()
    if fit.loss == "auc":
        return soft_auc(p, target, weight) + fit.auc_bce * plain
    return plain


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - cos between embeddings (B, D), mean over the clips that have a teacher's; 0 if none has."""
    known = teacher.any(1)
    distance = 1.0 - torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=1)
    return torch.where(known, distance, torch.zeros_like(distance)).sum() / known.sum().clamp_min(1)


def _logit(p: torch.Tensor) -> torch.Tensor:
    p = p.clamp(_EDGE, 1.0 - _EDGE)
    return p.log() - torch.log1p(-p)
