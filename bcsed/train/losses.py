"""Training losses on probabilities.

Every loss is a sum over elements (clip, class), each times its weight, so that an element of weight w
contributes exactly w times as much as with weight 1.
"""

from __future__ import annotations

import torch

from ..config.recipe import Fit
from ..models.network import pool

# float32 has no value between 1 - 6e-8 and 1; with this margin the logarithm stays finite.
_EDGE = 1e-6


def _inside(p: torch.Tensor) -> torch.Tensor:
    """Limit probabilities to [1e-6, 1 - 1e-6], with the gradient of p: a limited value has none, however wrong."""
    return p + (p.clamp(_EDGE, 1.0 - _EDGE) - p).detach()


def bce(p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy per element, for probabilities and targets in [0, 1]."""
    p = _inside(p)
    return -(target * p.log() + (1.0 - target) * torch.log1p(-p))


def focal(p: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    """Focal binary cross-entropy per element in the form of the write-up, for probabilities.

    ``(t·α·(1-p)^γ + (1-t)·p^γ)·bce``: negatives weigh 1, and a target of 0.8 has its minimum at p = 0.78, so that a
    softened label still lowers the output.
    """
    p = _inside(p)  # the derivative of a power below 1 is infinite at 0
    return (alpha * target * (1.0 - p).pow(gamma) + (1.0 - target) * p.pow(gamma)) * bce(p, target)


def focal_torchvision(p: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    """Focal binary cross-entropy per element (Lin et al. 2017) in the form of torchvision, for probabilities.

    Equals ``torchvision.ops.sigmoid_focal_loss(logit(p), target, alpha, gamma)`` to 1e-5 where p lies in
    [1e-6, 1 - 1e-6]. Negatives weigh 1 - α, and a target of 0.8 has its minimum at p = 0.95.
    """
    p = _inside(p)
    correct = p * target + (1.0 - p) * (1.0 - target)
    side = alpha * target + (1.0 - alpha) * (1.0 - target)
    return side * (1.0 - correct).pow(gamma) * bce(p, target)


_FOCAL = {"focal": focal, "focal_torchvision": focal_torchvision}


def cross_entropy(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the classes on multi-hot targets (B, K), mean over clips (BirdCLEF 2025, 1st place).

    Equals ``torch.nn.functional.cross_entropy(logit(p), target)`` if all weights are 1; targets are not
    normalised to a sum of 1. A class that is not present counts in the softmax as its weight says: not at all with 0.
    """
    share = torch.where(target > 0, torch.ones_like(weight), weight.clamp_min(1e-30))
    return -(weight * target * torch.log_softmax(_inside(p).logit() + share.log(), 1)).sum(1).mean()


def soft_auc(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Soft area under the ROC curve: a penalty for each negative above a positive of its class; inputs (B, K).

    ``Σ_ij t_i (1 - t_j) w_i w_j softplus(z_j - z_i) / Σ_ij t_i (1 - t_j)`` with logits z, for each class;
    the mean over classes that have such a pair in the batch (BirdCLEF 2025, 4th place), 0 if none has.
    """
    z = _inside(p).logit()
    margin = torch.nn.functional.softplus(z[None] - z[:, None])  # (positive, negative, K)
    pairs = target[:, None] * (1.0 - target[None])
    # A clip with a soft target is not a pair with itself.
    pairs = pairs * (1.0 - torch.eye(len(z), device=z.device))[..., None]
    n_pairs = pairs.sum((0, 1))
    lost = (pairs * weight[:, None] * weight[None] * margin).sum((0, 1)) / n_pairs.clamp_min(1e-6)
    counted = n_pairs > 0
    return torch.where(counted, lost, torch.zeros_like(lost)).sum() / counted.sum().clamp_min(1)


def soft_auc_batch(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Soft area under one ROC curve over all elements of the batch, inputs (B, K) (BirdCLEF 2026, 2nd place).

    Every element with a target above 0.5 is compared with every one below, of any class; a pair costs
    ``softplus(p_negative - p_positive)`` with probabilities p and counts ``|t - 0.5|`` of both, times their weights.
    0 if the batch has no pair.
    """
    share = (weight * (target - 0.5).abs()).flatten()
    flat, positive = p.flatten(), (target > 0.5).flatten() & (share > 0)
    negative = (target < 0.5).flatten() & (share > 0)
    margin = torch.nn.functional.softplus(flat[negative][None] - flat[positive][:, None])
    pairs = share[positive][:, None] * share[negative][None]
    return (pairs * margin).sum() / pairs.sum().clamp_min(1e-6)


def criterion(
    logits: torch.Tensor, attention: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, *, fit: Fit, kind: str
) -> torch.Tensor:
    """Return the loss of a batch: that of the clip probability, plus that of the mean logit over time if `two_way`.

    `logits` and `attention` have shape (B, t, K), `target` in [0, 1] and `weight`, of each element in the loss, (B, K);
    `kind` is the pooling of the clip probability, 'prob' or 'logit'.
    """
    logits, attention = logits.float(), attention.float()
    probabilities = [pool(logits, attention, kind)]
    if fit.two_way:
        probabilities.append(logits.mean(1).sigmoid())
    return torch.stack([_loss(p, target, weight, fit) for p in probabilities]).sum()


def strong_loss(logits: torch.Tensor, attention: torch.Tensor, marks: torch.Tensor, fit: Fit) -> torch.Tensor:
    """Return the loss of time steps with known marks; all inputs (B, t, K).

    It is the mean over all steps of the loss of the frame logits, 0 where marks are unknown, in the form of `fit.loss`
    (BCE for losses over several elements); plus the mean over clips and classes of -log of the share that positive
    steps have of the attention to known steps, 0 for a class without positive steps.
    """
    logits, attention, known = logits.float(), attention.float(), (marks >= 0).float()
    p, target = logits.sigmoid(), marks.clamp_min(0.0)
    if fit.loss in _FOCAL:
        frames = _FOCAL[fit.loss](p, target, fit.focal_gamma, fit.focal_alpha)
    else:
        frames = bce(p, target)
    share = attention.exp() * known
    positive, total = (share * target).sum(1), share.sum(1)
    # Both branches of `where` are differentiated, so the logarithm must be finite in both.
    ones = torch.ones_like(total)
    marked = positive > 0
    missed = -(torch.where(marked, positive, ones) / torch.where(marked, total, ones)).log()
    return (known * frames).mean() + missed.mean()


def _loss(p: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, fit: Fit) -> torch.Tensor:
    if fit.loss in _FOCAL:
        return (weight * _FOCAL[fit.loss](p, target, fit.focal_gamma, fit.focal_alpha)).mean()
    if fit.loss == "ce":
        return cross_entropy(p, target, weight)
    plain = (weight * bce(p, target)).mean()
    if fit.loss == "auc":
        return (soft_auc if fit.auc_pairs == "class" else soft_auc_batch)(p, target, weight) + fit.auc_bce * plain
    return plain


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - cos between embeddings (B, D), mean over the clips whose teacher embedding is known, else 0."""
    known = teacher.any(1)
    distance = 1.0 - torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=1)
    return torch.where(known, distance, torch.zeros_like(distance)).sum() / known.sum().clamp_min(1)
