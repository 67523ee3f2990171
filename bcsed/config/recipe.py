"""How the weights come about: data, augmentation, and fit."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .strict import at_least, check_types, in_range, one_of


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which clips are heard, where they are cut, and what their labels mean.

    Parameters
    ----------
    crop : {'random', 'first', 'centre'}
        Where a training window is cut from a longer recording.
    pad : {'zeros', 'repeat'}
        What follows a recording shorter than the window: silence, or the recording again.
    label_target : float in (0, 1]
        Target of a clip's primary label.
    secondary_target : float in [0, 1] or None
        Target of its secondary labels; None leaves these elements out of the loss.
    n_folds : int >= 2
        Folds, stratified by class and grouped by `group_by`.
    group_by : {'recording', 'author'}
        What must never stand on both sides of a fold.
    min_class_count : int
        Classes with fewer clips never enter validation, and are repeated up to this count.
    """

    crop: str = "random"
    pad: str = "zeros"
    label_target: float = 1.0
    secondary_target: float | None = 0.3
    n_folds: int = 5
    group_by: str = "recording"
    min_class_count: int = 20

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "crop", ("random", "first", "centre"))
        one_of(self, "pad", ("zeros", "repeat"))
        one_of(self, "group_by", ("recording", "author"))
        if not 0 < self.label_target <= 1:
            raise ConfigError(f"label_target must be in (0, 1], got {self.label_target:g}.")
        if self.secondary_target is not None:
            in_range(self, "secondary_target", 0, 1)
        at_least(self, "n_folds", 2)
        at_least(self, "min_class_count", 1)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to a training batch, waves first, then pictures.

    Parameters
    ----------
    sumix_draw : tuple of int
        How many times SUMIX is applied to a batch is drawn from these.
    sumix_min_gain : tuple of float
        Lowest gain when it is applied once, and when more often.
    noise_p : tuple of float
        Probability that a clip gets noise: from epoch 0, and from each of `noise_epochs` on.
    noise_epochs : tuple of int
        Epochs at which the probability changes; one fewer than `noise_p`.
    noise_snr_db : tuple of float
        Range of the signal-to-noise ratio.
    time_masks, freq_masks : int
        How many bands of each kind are masked (SpecAugment), filled with the window's floor.
    time_mask_share, freq_mask_share : float in [0, 1]
        Longest such band, as a share of the window's frames or mel bands.
    mask_p : float in [0, 1]
        Probability that a clip is masked.
    dropout_area : float in [0, 1)
        Expected share of the picture's area that coarse dropout fills with the floor; 0 is off.
    """

    sumix_draw: tuple[int, ...] = (0, 1, 1, 2)
    sumix_min_gain: tuple[float, ...] = (0.3, 0.5)
    noise_p: tuple[float, ...] = (0.25, 0.15, 0.10)
    noise_epochs: tuple[int, ...] = (10, 16)
    noise_snr_db: tuple[float, ...] = (3.0, 30.0)
    time_masks: int = 1
    freq_masks: int = 1
    time_mask_share: float = 0.1
    freq_mask_share: float = 0.1
    mask_p: float = 0.5
    dropout_area: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        if not self.sumix_draw or min(self.sumix_draw) < 0:
            raise ConfigError(f"sumix_draw must hold numbers of passes >= 0, got {self.sumix_draw}; (0,) is off.")
        if len(self.sumix_min_gain) != 2 or not all(0 < gain <= 1 for gain in self.sumix_min_gain):
            raise ConfigError(f"sumix_min_gain must be two gains in (0, 1], got {self.sumix_min_gain}.")
        if len(self.noise_p) != len(self.noise_epochs) + 1:
            raise ConfigError(
                f"noise_p needs one value more than noise_epochs, got {self.noise_p} and {self.noise_epochs}."
            )
        if not all(0 <= p <= 1 for p in self.noise_p):
            raise ConfigError(f"noise_p must be probabilities in [0, 1], got {self.noise_p}.")
        if list(self.noise_epochs) != sorted(set(self.noise_epochs)) or any(e < 0 for e in self.noise_epochs):
            raise ConfigError(f"noise_epochs must increase from 0 on, got {self.noise_epochs}.")
        if len(self.noise_snr_db) != 2 or self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ConfigError(f"noise_snr_db must be (lowest, highest) in dB, got {self.noise_snr_db}.")
        for name in ("time_masks", "freq_masks"):
            at_least(self, name, 0)
        for name in ("time_mask_share", "freq_mask_share", "mask_p"):
            in_range(self, name, 0, 1)
        if not 0 <= self.dropout_area < 1:
            raise ConfigError(f"dropout_area must be in [0, 1), got {self.dropout_area:g}.")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The loss, the optimiser and its schedule.

    Parameters
    ----------
    pretrained : bool
        Start from timm's weights of the backbone; False starts from random ones.
    loss : {'focal', 'bce'}
        Focal binary cross-entropy, or plain.
    two_way : bool
        Take the loss on the clip answer and, 1:1, on the time-mean of the frame logits.
    focal_gamma, focal_alpha : float
        Focusing exponent, and weight of the positives (1 - alpha of the negatives).
    epochs, batch_size : int
        Length of the training, and clips per step.
    lr, lr_start, weight_decay : float
        AdamW's peak rate, the rate at which warm-up begins, and its decoupled decay.
    warmup_epochs, cycle_epochs : int
        Linear warm-up, then cosine cycles of this many epochs, each peak half the last.
    dropout : tuple of 3 float
        After the pooled features, before the heads, and inside the class head.
    mixed_precision : bool
        Half precision on a GPU (a CPU always trains in float32).
    seed : int
        All randomness of a training follows from it.
    """

    pretrained: bool = True
    loss: str = "focal"
    two_way: bool = True
    focal_gamma: float = 2.0
    focal_alpha: float = 0.8
    epochs: int = 24
    batch_size: int = 32
    lr: float = 1e-3
    lr_start: float = 1e-4
    weight_decay: float = 0.01
    warmup_epochs: int = 2
    cycle_epochs: int = 8
    dropout: tuple[float, ...] = (0.2, 0.3, 0.2)
    mixed_precision: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "loss", ("focal", "bce"))
        for name in ("epochs", "cycle_epochs"):
            at_least(self, name, 1)
        # BatchNorm has no variance over a single clip.
        at_least(self, "batch_size", 2)
        for name in ("warmup_epochs", "seed", "weight_decay", "focal_gamma"):
            at_least(self, name, 0)
        if not 0 < self.lr_start <= self.lr:
            raise ConfigError(f"need 0 < lr_start <= lr, got lr_start {self.lr_start:g} and lr {self.lr:g}.")
        in_range(self, "focal_alpha", 0, 1)
        if len(self.dropout) != 3 or not all(0 <= p < 1 for p in self.dropout):
            raise ConfigError(f"dropout must be three probabilities in [0, 1), got {self.dropout}.")
