"""dB window -> picture -> what and when: the network, and the one pooling of its answers.

Shapes: B windows, F mel bands, T frames, C channels, K classes; f and t after the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.contract import Frontend, Net, check_groups
from ..errors import ConfigError
from . import backbone


def fold(x: torch.Tensor, folds: int) -> torch.Tensor:
    """Cut the time axis into equal parts and stack them, first on top: (B, C, F, T) -> (B, C, F*n, T/n)."""
    B, C, F, T = x.shape
    return x.reshape(B, C, F, folds, T // folds).transpose(2, 3).reshape(B, C, F * folds, T // folds)


def unfold(x: torch.Tensor, folds: int) -> torch.Tensor:
    """Undo `fold`: (B, C, f*n, t) -> (B, C, f, t*n)."""
    B, C, f, t = x.shape
    return x.reshape(B, C, folds, f // folds, t).transpose(2, 3).reshape(B, C, f // folds, t * folds)


def delta(x: torch.Tensor) -> torch.Tensor:
    """Slope along the last axis over 5 columns, edges replicated.

    Equals ``librosa.feature.delta(x, width=5, mode='nearest')`` to rounding.
    """
    *_, T = x.shape
    padded = nn.functional.pad(x, (2, 2), mode="replicate")
    near = padded[..., 3 : T + 3] - padded[..., 1 : T + 1]
    far = padded[..., 4 : T + 4] - padded[..., 0:T]
    return (near + 2.0 * far) / 10.0


class ToImage(nn.Module):
    """dB window -> picture: floor, scale to [0, 1], slopes, fold. It learns nothing.

    Statistics are those of each window alone, never of a batch. A window whose values are all equal gives
    an all-zero picture.
    """

    def __init__(self, frontend: Frontend) -> None:
        super().__init__()
        self.folds, self.channels, self.top_db = frontend.time_folds, frontend.channels, frontend.top_db

    def forward(self, db: torch.Tensor) -> torch.Tensor:
        """(B, F, T) dB -> (B, C, F*folds, T/folds)."""
        high = db.amax((1, 2), keepdim=True)
        x = torch.maximum(db, high - self.top_db)
        low = x.amin((1, 2), keepdim=True)
        # Where all values are equal the numerator is zero, whatever the denominator.
        x = (x - low) / (high - low).clamp_min(1e-6)
        if self.channels == "deltas":
            slope = delta(x)
            x = torch.stack((x, slope, delta(slope)), 1)
        elif self.channels == "repeat":
            x = torch.stack((x, x, x), 1)
        else:
            x = x[:, None]
        # Slopes come before the fold: after it they would have an edge at the seam.
        return fold(x, self.folds)


class GeM(nn.Module):
    """Generalised mean over frequency with a learned exponent (Radenović et al. 2018), 1 being the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, f, t) -> (B, C, t)."""
        return x.float().clamp_min(1e-6).pow(self.exponent).mean(2).pow(1.0 / self.exponent)


class FreqMean(nn.Module):
    """Mean over frequency: (B, C, f, t) -> (B, C, t)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reduce axis 2."""
        return x.mean(2)


class Head(nn.Module):
    """What is heard at each step, and when to listen, for a group of classes.

    Parameters
    ----------
    n_features : int
        C.
    n_classes : int
        Classes of the group.
    dropout : float
        Between the two layers of `logits`.
    """

    def __init__(self, n_features: int, n_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        C = n_features
        self.attention = nn.Conv1d(C, n_classes, kernel_size=3, padding=1)
        self.logits = nn.Sequential(nn.Linear(C, C // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(C // 2, n_classes))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, t, C) -> logits and attention scores, (B, t, classes of the group) each."""
        attention = torch.tanh(self.attention(x.transpose(1, 2))).transpose(1, 2)
        return self.logits(x), attention


class SedNet(nn.Module):
    """A CNN over the folded picture, and two heads per time step: one pair for all classes, or one a group.

    Parameters
    ----------
    signal : Frontend
    net : Net
    n_classes : int
        K.
    groups : sequence of K int
        The head group of each class, as in `Contract`; empty where one head answers all.
    dropout : three float
        After the pooled features, before the heads, inside the class head.
    pretrained : bool, str or Path
    drop_path : sequence of float
        See `bcsed.models.backbone.build`.

    Attributes
    ----------
    steps : int
        t, in which a window is answered.
    n_features : int
        C, channels of the pooled features.

    Raises
    ------
    ConfigError
        If the backbone is unknown, no CNN, or its map cannot be unfolded into whole steps; if it has no such
        drop path; or if the groups do not belong to the classes.
    """

    places: torch.Tensor

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
        self.picture = ToImage(frontend)
        # Learns the picture's statistics; ImageNet's would be those of photographs.
        self.norm = nn.BatchNorm2d(frontend.n_channels)
        self.backbone = backbone.build(net.backbone, frontend.n_channels, pretrained=pretrained, drop_path=drop_path)
        C, height, width = backbone.feature_shape(self.backbone, frontend.n_channels, frontend.image_shape)
        self.steps, self.n_features = width * self.folds, C
        if height % self.folds or frontend.n_frames % self.steps:
            raise ConfigError(
                f"{net.backbone} makes a map of {height}x{width}, which {self.folds} folds and "
                f"{frontend.n_frames} frames do not divide evenly; choose another backbone or fold."
            )
        self.freq_pool: nn.Module = GeM() if net.freq_pool == "gem" else FreqMean()
        self.features = nn.Sequential(nn.Dropout(dropout[0]), nn.Linear(C, C), nn.ReLU(), nn.Dropout(dropout[1]))
        of_head = [[k for k in range(n_classes) if not groups or groups[k] == g] for g in sorted({0, *groups})]
        self.heads = nn.ModuleList(Head(C, len(members), dropout[2]) for members in of_head)
        # Where in the heads' answers, side by side, each class stands; it follows from the contract.
        places = torch.tensor([k for members in of_head for k in members]).argsort()
        self.register_buffer("places", places, persistent=False)

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer windows of a dB picture, step by step.

        Parameters
        ----------
        db : Tensor, shape (B, F, T)

        Returns
        -------
        what : Tensor, shape (B, t, K)
            Logits of the classes.
        when : Tensor, shape (B, t, K)
            Attention scores in (-1, 1), before the softmax over whichever steps are pooled.
        """
        return self.answer(self.pooled(db))

    def pooled(self, db: torch.Tensor) -> torch.Tensor:
        """Return what the backbone found at each step, its frequencies pooled: (B, F, T) dB -> (B, C, t)."""
        # Half precision has too few digits for dB differences along time.
        with torch.autocast(db.device.type, enabled=False):
            picture = self.picture(db.float())
        x = self.backbone.forward_features(self.norm(picture))  # type: ignore[operator]
        pooled: torch.Tensor = self.freq_pool(unfold(x, self.folds))
        return pooled

    def answer(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `logits` and `attention` of `forward`, (B, t, K) each, from pooled features (B, C, t)."""
        x = self.features(pooled.transpose(1, 2))  # (B, t, C)
        answers = [head(x) for head in self.heads]
        if len(answers) == 1:
            logits, attention = answers[0]
        else:
            logits, attention = (torch.cat(parts, 2)[..., self.places] for parts in zip(*answers, strict=True))
        return logits.float(), attention.float()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take up a state, an earlier version's too; otherwise as in ``torch.nn.Module``."""
        return super().load_state_dict(modern_names(state_dict), strict, assign)


# Prefixes of tensor names in earlier versions, and today's.
_OLD_PREFIXES = (("what.", "heads.0.logits."), ("when.", "heads.0.attention."))


def modern_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict of any version under today's tensor names."""
    renamed = {}
    for name, value in state.items():
        for old, new in _OLD_PREFIXES:
            if name.startswith(old):
                name = new + name.removeprefix(old)
        group, _, rest = name.partition(".")
        if group == "heads":
            number, _, leaf = rest.partition(".")
            leaf = leaf.replace("what.", "logits.", 1) if leaf.startswith("what.") else leaf
            leaf = leaf.replace("when.", "attention.", 1) if leaf.startswith("when.") else leaf
            name = f"heads.{number}.{leaf}"
        renamed[name] = value
    return renamed


def pool(logits: torch.Tensor, attention: torch.Tensor, kind: str, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Pool the answers of some steps into one probability per class.

    The same function serves the loss, validation, labelling and submission.

    Parameters
    ----------
    what, when : Tensor of float32, shape (B, t, K)
        The network's answers.
    kind : {'prob', 'logit'}
        Σ a·σ(what), or σ(Σ a·what), with ``a`` the softmax of `attention` over the steps.
    weight : Tensor, shape (B, t), optional
        How much of each step belongs to the answer, for example its overlap with a row; at least one
        positive. Equal by default.

    Returns
    -------
    Tensor of float32, shape (B, K)
        Probabilities.
    """
    share = attention.exp()  # scores lie in (-1, 1): no overflow, no maximum to subtract
    if weight is not None:
        share = share * weight[..., None].to(share.dtype)
    share = share / share.sum(1, keepdim=True)
    if kind == "prob":
        return (share * logits.sigmoid()).sum(1)
    return (share * logits).sum(1).sigmoid()
