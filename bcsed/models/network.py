"""The network: dB window -> image -> logits and attention per time step; and the pooling of its outputs.

Shapes: B windows, F mel bands, T frames, C channels, K classes; f and t after the backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.contract import Frontend, Net, check_groups
from ..errors import ConfigError
from .backbone import build_backbone, drop_last_conv, feature_shape


def fold(x: torch.Tensor, folds: int) -> torch.Tensor:
    """Cut the time axis into equal parts and stack them, the first on top: (B, C, F, T) -> (B, C, F*n, T/n)."""
    B, C, F, T = x.shape
    return x.reshape(B, C, F, folds, T // folds).transpose(2, 3).reshape(B, C, F * folds, T // folds)


def unfold(x: torch.Tensor, folds: int) -> torch.Tensor:
    """Undo `fold`: (B, C, f*n, t) -> (B, C, f, t*n)."""
    B, C, f, t = x.shape
    return x.reshape(B, C, folds, f // folds, t).transpose(2, 3).reshape(B, C, f // folds, t * folds)


def delta(x: torch.Tensor) -> torch.Tensor:
    """Compute the slope along the last axis as ``librosa.feature.delta(x, width=5, mode='nearest')``, to rounding."""
    *_, T = x.shape
    padded = nn.functional.pad(x, (2, 2), mode="replicate")
    near = padded[..., 3 : T + 3] - padded[..., 1 : T + 1]
    far = padded[..., 4 : T + 4] - padded[..., 0:T]
    return (near + 2.0 * far) / 10.0


class ToImage(nn.Module):
    """Convert dB windows to images: floor, scale to [0, 1], slopes, fold. It has no parameters.

    Statistics are per window, never per batch. A window of equal values gives an all-zero image.
    """

    def __init__(self, frontend: Frontend) -> None:
        super().__init__()
        self.folds, self.channels, self.top_db = frontend.time_folds, frontend.channels, frontend.top_db
        self.is_wave = frontend.is_wave

    def forward(self, db: torch.Tensor) -> torch.Tensor:
        """(B, F, T) dB -> (B, C, F*folds, T/folds); the samples of a wave, (samples per frame, T), stay as they are."""
        if self.is_wave:
            return db[:, None]
        high = db.amax((1, 2), keepdim=True)
        x = torch.maximum(db, high - self.top_db)
        low = x.amin((1, 2), keepdim=True)
        # Where all values are equal the numerator is zero, so the minimum denominator has no effect.
        x = (x - low) / (high - low).clamp_min(1e-6)
        if self.channels == "deltas":
            slope = delta(x)
            x = torch.stack((x, slope, delta(slope)), 1)
        elif self.channels == "repeat":
            x = torch.stack((x, x, x), 1)
        else:
            x = x[:, None]
        # Slopes are computed before the fold: after it they would have an edge at the seam.
        return fold(x, self.folds)


class GeM(nn.Module):
    """Generalised mean over frequency with a learned exponent (Radenović et al. 2018); exponent 1 is the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, f, t) -> (B, C, t)."""
        return x.float().clamp_min(1e-6).pow(self.exponent).mean(2).pow(1.0 / self.exponent)


class Head(nn.Module):
    """Logits and attention per time step for a group of classes.

    `dropout` is between the two layers of `logits`, `logit_dropout` after them.
    """

    def __init__(self, n_features: int, n_classes: int, dropout: float = 0.0, logit_dropout: float = 0.0) -> None:
        super().__init__()
        C = n_features
        self.attention = nn.Conv1d(C, n_classes, kernel_size=3, padding=1)
        self.logits = nn.Sequential(nn.Linear(C, C // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(C // 2, n_classes))
        self.drop = nn.Dropout(logit_dropout)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, t, C) -> logits and attention scores, (B, t, classes of the group) each."""
        attention = torch.tanh(self.attention(x.transpose(1, 2))).transpose(1, 2)
        return self.drop(self.logits(x)), attention

    def start_as_mean(self) -> None:
        """Let attention start as the mean of the features, the same for all classes, as in the original."""
        with torch.no_grad():
            self.attention.weight.fill_(1.0 / self.attention.weight[0].numel())
            nn.init.zeros_(self.attention.bias)  # type: ignore[arg-type]


class SedNet(nn.Module):
    """A CNN over the folded image with logits and attention per time step, from one head or one per group of classes.

    `groups` is the head group of each class, as in `Contract`; empty for one head. The values of `dropout` are after
    the pooled features, before the heads, inside each head and, if there are four, of the logits. `pretrained` and
    `drop_path` are those of `build_backbone`. Raises ConfigError if the backbone is unknown or not a CNN, its feature
    map cannot be unfolded into time steps of equal length, it does not support the drop path, or the groups do not fit
    the classes.
    """

    class_order: torch.Tensor

    def __init__(
        self,
        frontend: Frontend,
        net: Net,
        n_classes: int,
        *,
        groups: Sequence[int] = (),
        dropout: Sequence[float] = (0.0, 0.0, 0.0),
        pretrained: bool | str | Path = False,
        drop_path: Sequence[float] = (),
    ) -> None:
        super().__init__()
        check_groups(groups, net.heads, n_classes)
        self.folds = frontend.time_folds
        self.to_image = ToImage(frontend)
        # Learns the statistics of the images; those of ImageNet describe photographs.
        self.norm = nn.BatchNorm2d(frontend.n_channels)
        self.backbone = build_backbone(net.backbone, frontend.n_channels, pretrained=pretrained, drop_path=drop_path)
        if not net.last_conv:
            drop_last_conv(self.backbone, net.backbone)
        C, height, width = feature_shape(self.backbone, frontend.n_channels, frontend.image_shape)
        # t, time steps per window, and C, channels of the encoded features.
        self.steps, self.n_features = width * self.folds, C
        if height % self.folds or frontend.n_frames % self.steps:
            raise ConfigError(
                f"the feature map of {net.backbone} is {height}x{width}, which does not fit {self.folds} time folds "
                f"and {frontend.n_frames} frames; choose another backbone or number of folds."
            )
        self.freq_pool = GeM() if net.freq_pool == "gem" else None
        self.features = nn.Sequential(nn.Dropout(dropout[0]), nn.Linear(C, C), nn.ReLU(), nn.Dropout(dropout[1]))
        of_head = [[k for k in range(n_classes) if not groups or groups[k] == g] for g in sorted({0, *groups})]
        self.heads = nn.ModuleList(Head(C, len(members), *dropout[2:]) for members in of_head)
        # The column of each class in the concatenated outputs of the heads; it follows from the contract.
        class_order = torch.tensor([k for members in of_head for k in members]).argsort()
        self.register_buffer("class_order", class_order, persistent=False)

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F, T) dB -> float32 logits and attention, (B, t, K) each.

        Attention is scores in (-1, 1), before the softmax over the time steps that are pooled.
        """
        return self.apply_heads(self.encode(db))

    def encode(self, db: torch.Tensor) -> torch.Tensor:
        """Return the backbone's features per time step, pooled over frequency: (B, F, T) dB -> (B, C, t)."""
        # Half precision has too few digits for dB differences along time.
        with torch.autocast(db.device.type, enabled=False):
            image = self.to_image(db.float())
        x = self.backbone.forward_features(self.norm(image))  # type: ignore[operator]
        x = unfold(x, self.folds)
        return x.mean(2) if self.freq_pool is None else self.freq_pool(x)

    def apply_heads(self, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `logits` and `attention` of `forward`, (B, t, K) each, from the features (B, C, t) of `encode`."""
        x = self.features(encoded.transpose(1, 2))  # (B, t, C)
        outputs = [head(x) for head in self.heads]
        if len(outputs) == 1:
            logits, attention = outputs[0]
        else:
            logits, attention = (torch.cat(parts, 2)[..., self.class_order] for parts in zip(*outputs, strict=True))
        return logits.float(), attention.float()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state, also of an earlier version; otherwise as in ``torch.nn.Module``."""
        return super().load_state_dict(modern_names(state_dict), strict, assign)


def modern_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the tensors of a state dict of any version to today's names."""
    return {_modern_name(name): value for name, value in state.items()}


def _modern_name(name: str) -> str:
    if name.startswith(("what.", "when.")):
        name = f"heads.0.{name}"
    name = re.sub(r"^(heads\.\d+)\.what\.", r"\1.logits.", name)
    return re.sub(r"^(heads\.\d+)\.when\.", r"\1.attention.", name)


def pool(logits: torch.Tensor, attention: torch.Tensor, kind: str, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Pool the outputs (B, t, K) of some time steps into one probability per class (B, K).

    With `kind` 'prob', it is Σ a·σ(logits); with 'logit', σ(Σ a·logits); with 'max' the maximum of σ(logits); with
    'prob_max' the mean of 'prob' and 'max' (networks are trained with the first two); ``a`` is the softmax of
    `attention` over the time steps, multiplied by `weight` (B, t) if given, for example the overlap of each step with a
    row; at least one weight is positive. Loss, validation, pseudolabelling and prediction all use this function.
    """
    share = attention.exp()  # scores lie in (-1, 1): no overflow, no maximum to subtract
    if weight is not None:
        share = share * weight[..., None].to(share.dtype)
    share = share / share.sum(1, keepdim=True)
    if kind == "logit":
        return (share * logits).sum(1).sigmoid()
    p = logits.sigmoid()
    # Rounding can bring a mean of ones above 1.
    average, highest = (share * p).sum(1).clamp(max=1.0), (p * (share > 0)).amax(1)
    return {"prob": average, "max": highest, "prob_max": 0.5 * average + 0.5 * highest}[kind]
