"""How the weights come about: data, augmentation, injected soundscapes, and fit."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .strict import at_least, check_types, in_range, one_of


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which clips are heard, where they are cut, and what their labels mean.

    Parameters
    ----------
    crop : {'random', 'first', 'centre', 'marked'}
        Where a training window is cut from a longer recording; 'marked' is around one of the clip's
        ``centres`` (a column of the label file, seconds between semicolons), random where it has none.
    pad : {'zeros', 'repeat'}
        What follows a recording shorter than the window: silence, or the recording again.
    label_target : float in (0, 1]
        Target of a clip's primary label.
    secondary_target : float in [0, 1] or None
        Target of its secondary labels; None leaves these elements out of the loss.
    pseudo_target : float in (0, 1]
        Target of a pseudolabel; with `pseudo_soft`, what its probability is multiplied by.
    pseudo_soft : bool
        Whether a pseudolabel keeps its probability, or counts as present.
    pseudo_loss_weight : float in [0, 1]
        What an element counts *in the loss* that is positive by a pseudolabel and by nothing else.
    pseudo_source : {'table', 'online'}
        Pseudolabels made before the training, or by the network in training as it goes.
    in_situ_floor : float in [0, 1)
        Scores of the network in training below it count as 0.
    in_situ_weight : tuple of 2 float in [0, 1]
        What these scores are multiplied by, at the first and at the last epoch, linear between; a label t and
        a score s then become t + s * (1 - t).
    soundscapes : {'validate', 'split', 'train'}
        Labelled soundscapes are for validation, or divided by site (those of the held-out fold validate, whole
        sites, and no other recording of these sites is learned from), or all for training.
    soundscape_repeats : int
        How often an epoch holds each labelled row that is for training; 0 leaves them to the injector.
    sampling : {'uniform', 'sqrt', 'balanced'}
        An epoch holds each clip once, or draws clips (with replacement) so that a class comes in proportion
        to the root of its count, or every class equally often.
    max_per_class : int
        Clips of one class that an epoch holds at most, drawn anew each time; 0 is no limit.
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
    pseudo_target: float = 1.0
    pseudo_soft: bool = False
    pseudo_loss_weight: float = 1.0
    pseudo_source: str = "table"
    in_situ_floor: float = 0.1
    in_situ_weight: tuple[float, ...] = (0.0, 1.0)
    soundscapes: str = "validate"
    soundscape_repeats: int = 1
    sampling: str = "uniform"
    max_per_class: int = 0
    n_folds: int = 5
    group_by: str = "recording"
    min_class_count: int = 20

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "crop", ("random", "first", "centre", "marked"))
        one_of(self, "pad", ("zeros", "repeat"))
        one_of(self, "group_by", ("recording", "author"))
        one_of(self, "pseudo_source", ("table", "online"))
        one_of(self, "soundscapes", ("validate", "split", "train"))
        one_of(self, "sampling", ("uniform", "sqrt", "balanced"))
        for name in ("label_target", "pseudo_target"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in (0, 1], got {getattr(self, name):g}.")
        for name in ("pseudo_loss_weight", "in_situ_floor"):
            in_range(self, name, 0, 1)
        if len(self.in_situ_weight) != 2 or not all(0 <= weight <= 1 for weight in self.in_situ_weight):
            raise ConfigError(f"in_situ_weight must be two numbers in [0, 1], got {self.in_situ_weight}.")
        for name in ("soundscape_repeats", "max_per_class"):
            at_least(self, name, 0)
        if self.secondary_target is not None:
            in_range(self, "secondary_target", 0, 1)
        at_least(self, "n_folds", 2)
        at_least(self, "min_class_count", 1)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to a training batch, waves first, then pictures.

    Parameters
    ----------
    mix : {'sumix', 'mixup', 'cutmix', 'off'}
        How clips of a batch are put together.
    mix_p : float in [0, 1]
        Probability that a clip is mixed, by mixup (half and half, label max) or CutMix; SUMIX has its draw.
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

    mix: str = "sumix"
    mix_p: float = 0.5
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
        one_of(self, "mix", ("sumix", "mixup", "cutmix", "off"))
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
        for name in ("mix_p", "time_mask_share", "freq_mask_share", "mask_p"):
            in_range(self, name, 0, 1)
        if not 0 <= self.dropout_area < 1:
            raise ConfigError(f"dropout_area must be in [0, 1), got {self.dropout_area:g}.")


@dataclass(frozen=True, kw_only=True)
class Injection:
    """How excerpts of soundscapes, pseudolabelled or labelled, enter a batch.

    A sample takes at most one excerpt. Its labels are the element-wise maximum of its own and the excerpt's.

    Parameters
    ----------
    share : float in [0, 1]
        Share of the batch that takes an excerpt; 0 is off.
    mode : {'background', 'mix', 'substitute'}
        Add it at a drawn gain, add half of both, or put it in the sample's place. A pseudolabelled
        substitute holds the sample's own class; a labelled one is any.
    gain : tuple of 2 float
        Range of a background's gain.
    level : {'raw', 'rms'}
        Excerpts as they are, or brought to the sample's root mean square first.
    excerpt : {'whole', 'pairs'}
        One run as long as the window, or two of half its length from different places, joined.
    draw : {'rows', 'confidence'}
        Any row that has a label, all equally likely; or a soundscape in proportion to the sum of its classes'
        highest labels, and any place in it.
    cap : float > 0 or None
        The most that a sample's label sum may gain; a larger gain is scaled down.
    """

    share: float = 0.0
    mode: str = "background"
    gain: tuple[float, ...] = (0.2, 0.8)
    level: str = "raw"
    excerpt: str = "whole"
    draw: str = "rows"
    cap: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        in_range(self, "share", 0, 1)
        one_of(self, "mode", ("background", "mix", "substitute"))
        one_of(self, "level", ("raw", "rms"))
        one_of(self, "excerpt", ("whole", "pairs"))
        one_of(self, "draw", ("rows", "confidence"))
        if len(self.gain) != 2 or not 0 < self.gain[0] <= self.gain[1]:
            raise ConfigError(f"gain must be (lowest, highest), both above 0, got {self.gain}.")
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be above 0, or none for no limit; got {self.cap:g}.")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The loss, the optimiser and its schedule.

    Parameters
    ----------
    pretrained : bool
        Start from timm's weights of the backbone; False starts from random ones.
    loss : {'focal', 'bce', 'ce', 'auc'}
        Focal binary cross-entropy, plain, cross-entropy over the classes on multi-hot targets, or soft AUC
        with `auc_bce` times the plain one.
    two_way : bool
        Take the loss on the clip answer and, 1:1, on the time-mean of the frame logits.
    focal_gamma, focal_alpha : float
        Focusing exponent, and weight of the positives (1 - alpha of the negatives).
    auc_bce : float
        λ of soft-AUC + λ·BCE.
    distil_weight : float
        What the cosine distance to a teacher's embeddings counts beside the loss; 0 is off.
    ema : float in [0, 1)
        Decay of the weights' moving average, which is then what is validated and kept; 0 is off.
    clip_norm : float
        Largest norm of the gradient; 0 is no limit.
    drop_path : tuple of float
        Stochastic depth: nothing, one rate that the backbone's blocks ramp up to, or one for each of its
        stages.
    epochs, batch_size : int
        Length of the training, and clips per step (of all processes together).
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
    auc_bce: float = 0.25
    distil_weight: float = 0.0
    ema: float = 0.0
    clip_norm: float = 0.0
    drop_path: tuple[float, ...] = ()
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
        one_of(self, "loss", ("focal", "bce", "ce", "auc"))
        for name in ("epochs", "cycle_epochs"):
            at_least(self, name, 1)
        # BatchNorm has no variance over a single clip.
        at_least(self, "batch_size", 2)
        for name in ("warmup_epochs", "seed", "weight_decay", "focal_gamma", "auc_bce", "distil_weight", "clip_norm"):
            at_least(self, name, 0)
        if not 0 < self.lr_start <= self.lr:
            raise ConfigError(f"need 0 < lr_start <= lr, got lr_start {self.lr_start:g} and lr {self.lr:g}.")
        in_range(self, "focal_alpha", 0, 1)
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be in [0, 1), got {self.ema:g}; 0 is off, .999 a usual decay.")
        if not all(0 <= rate < 1 for rate in self.drop_path):
            raise ConfigError(f"drop_path must be rates in [0, 1), got {self.drop_path}.")
        if len(self.dropout) != 3 or not all(0 <= p < 1 for p in self.dropout):
            raise ConfigError(f"dropout must be three probabilities in [0, 1), got {self.dropout}.")
