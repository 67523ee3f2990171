"""The recipe: training data, augmentation, injected soundscapes, optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .strict import at_least, check_types, in_range, one_of


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training clips: their selection, crops and targets."""

    #: Position of the window in a longer recording: random, first, centre, or marked: around one of the clip's
    #: ``centres`` (a column of the label file, seconds separated by semicolons), random if the clip has none.
    crop: str = "random"
    #: A shorter recording is filled with zeros (zeros), repeated (repeat), or followed by a random clip of a rare
    #: class and both repeated (join).
    pad: str = "zeros"
    label_target: float = 1.0  #: target of a clip's primary label, in (0, 1]
    secondary_target: float | None = 0.3  #: target of its secondary labels; None excludes them from the loss
    pseudo_target: float = 1.0  #: target of a pseudolabel, in (0, 1]; with pseudo_soft, factor of its probability
    pseudo_soft: bool = False  #: use the probability of a pseudolabel as its target
    pseudo_loss_weight: float = 1.0  #: loss weight of elements that only a pseudolabel makes positive
    pseudo_source: str = "table"  #: pseudolabels from a table, or computed by the network during training (online)
    in_situ_floor: float = 0.1  #: online pseudolabels below this score count as 0
    #: Factor of online pseudolabels at the first and the last epoch, linear between: label t and score s become
    #: t + s * (1 - t).
    in_situ_weight: tuple[float, ...] = (0.0, 1.0)
    #: Rows of a soundscape that label an excerpt of it: those that are wholly inside (whole; a class that is only in
    #: rows partly inside has loss weight 0), or those of which at least half is inside (half).
    excerpt_rows: str = "whole"
    #: Labelled soundscapes: validate, train, or split by site (sites of the held-out fold only validate).
    soundscapes: str = "validate"
    soundscape_repeats: int = 1  #: repetitions of each labelled training row per epoch; 0: injection only
    #: An epoch contains each clip once (uniform), or samples clips with replacement so that the frequency of a class
    #: is proportional to the square root of its count (sqrt) or equal for all classes (balanced).
    sampling: str = "uniform"
    max_per_class: int = 0  #: maximum number of clips per class, sampled in each epoch; 0: no limit
    n_folds: int = 5  #: folds, stratified by class and grouped by group_by
    group_by: str = "recording"  #: clips of one recording (or author) are in the same fold
    #: Clips with the same audio at any level, offset or encoding: reported and kept in one fold (keep); of each group
    #: the longest clip remains, or none if the audio is in a soundscape that validates (drop); not searched (off).
    duplicates: str = "keep"
    min_class_count: int = 20  #: classes with fewer clips are not validated, and are repeated up to this count
    #: Negatives (clips without a label, noise recordings) are repeated up to this share of an epoch's clips; 0: never.
    negative_share: float = 0.1

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "crop", ("random", "first", "centre", "marked"))
        one_of(self, "pad", ("zeros", "repeat", "join"))
        one_of(self, "excerpt_rows", ("whole", "half"))
        one_of(self, "group_by", ("recording", "author"))
        one_of(self, "duplicates", ("keep", "drop", "off"))
        one_of(self, "pseudo_source", ("table", "online"))
        one_of(self, "soundscapes", ("validate", "split", "train"))
        one_of(self, "sampling", ("uniform", "sqrt", "balanced"))
        for name in ("label_target", "pseudo_target"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in (0, 1], got {getattr(self, name):g}.")
        in_range(self, 0, 1, "pseudo_loss_weight", "in_situ_floor", "secondary_target")
        if len(self.in_situ_weight) != 2 or not all(0 <= weight <= 1 for weight in self.in_situ_weight):
            raise ConfigError(f"in_situ_weight must be two numbers in [0, 1], got {self.in_situ_weight}.")
        at_least(self, 0, "soundscape_repeats", "max_per_class")
        at_least(self, 2, "n_folds")
        at_least(self, 1, "min_class_count")
        if not 0 <= self.negative_share < 1:
            raise ConfigError(f"negative_share must be in [0, 1), got {self.negative_share:g}.")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation of a training batch: level, noise, mixing, then masks in the spectrogram."""

    #: Each clip is divided by its peak (peak) or scaled to one root mean square (rms) before noise and mixing, and so
    #: is the mixture; or left as recorded (raw). Two random clips differ by 12 dB, so that the quieter one is inaudible
    #: in a mixture of raw clips.
    level: str = "peak"
    mix: str = "sumix"  #: how clips of a batch are combined: sumix, mixup, cutmix, off
    mix_p: float = 0.5  #: probability that a clip is mixed by mixup (half and half, maximum of the labels) or CutMix
    sumix_draw: tuple[int, ...] = (0, 1, 1, 2)  #: the number of SUMIX passes is sampled from these values
    sumix_min_gain: tuple[float, ...] = (0.3, 0.5)  #: minimum gain for a single pass, and for several
    noise_p: tuple[float, ...] = (
        0.25,
        0.15,
        0.10,
    )  #: probability of noise from epoch 0 and from each of noise_epochs on
    noise_epochs: tuple[int, ...] = (10, 16)  #: epochs at which the probability changes; one fewer than noise_p
    noise_snr_db: tuple[float, ...] = (3.0, 30.0)  #: range of the signal-to-noise ratio
    noise_measure: str = "rms"  #: the ratio compares root mean squares (rms) or peaks (peak)
    time_masks: tuple[int, ...] = (1,)  #: the number of SpecAugment masks over time is sampled from these values
    freq_masks: tuple[int, ...] = (1,)  #: the same for masks over mel bands; masks have the floor of the window
    time_mask_share: float = 0.1  #: maximum mask length, as a share of the frames
    freq_mask_share: float = 0.1  #: maximum mask length, as a share of the mel bands
    mask_p: float = 0.5  #: probability that a clip is masked
    mask_epochs: int = 0  #: masks only in the first epochs; 0: in all
    dropout_area: float = 0.0  #: expected share of the spectrogram that coarse dropout fills with the floor; 0: off
    dropout_p: float = 1.0  #: probability that a clip has coarse dropout

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "mix", ("sumix", "mixup", "cutmix", "off"))
        one_of(self, "level", ("peak", "rms", "raw"))
        one_of(self, "noise_measure", ("rms", "peak"))
        if not self.sumix_draw or min(self.sumix_draw) < 0:
            raise ConfigError(f"sumix_draw must contain numbers of passes >= 0, got {self.sumix_draw}; (0,) is off.")
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
            if not getattr(self, name) or min(getattr(self, name)) < 0:
                raise ConfigError(f"{name} must contain numbers of masks >= 0, got {getattr(self, name)}; (0,) is off.")
        at_least(self, 0, "mask_epochs")
        in_range(self, 0, 1, "mix_p", "time_mask_share", "freq_mask_share", "mask_p", "dropout_p")
        if not 0 <= self.dropout_area < 1:
            raise ConfigError(f"dropout_area must be in [0, 1), got {self.dropout_area:g}.")


@dataclass(frozen=True, kw_only=True)
class Injection:
    """How excerpts of pseudolabelled or labelled soundscapes are added to a batch.

    A sample receives at most one excerpt. Its labels are the element-wise maximum of both labels.
    """

    share: float = 0.0  #: share of the batch that receives an excerpt; 0: off
    mode: str = (
        "background"  #: add the excerpt at a random gain, average both (mix), or replace the sample (substitute)
    )
    same_class: bool = True  #: a pseudolabelled substitute contains the sample's class; a labelled one is arbitrary
    gain: tuple[float, ...] = (0.2, 0.8)  #: range of the gain of a background
    level: str = "raw"  #: excerpts as recorded, or scaled to the sample's root mean square (rms) or peak (peak)
    excerpt: str = "whole"  #: one excerpt as long as the window, or two of half its length, concatenated (pairs)
    #: Sample labelled rows with equal probability (rows); or a soundscape in proportion to the sum of its maximum
    #: probability per class, and any position in it (confidence).
    draw: str = "rows"
    cap: float | None = None  #: maximum increase of a sample's label sum; a larger increase is scaled down

    def __post_init__(self) -> None:
        check_types(self)
        in_range(self, 0, 1, "share")
        one_of(self, "mode", ("background", "mix", "substitute"))
        one_of(self, "level", ("raw", "rms", "peak"))
        one_of(self, "excerpt", ("whole", "pairs"))
        one_of(self, "draw", ("rows", "confidence"))
        if len(self.gain) != 2 or not 0 < self.gain[0] <= self.gain[1]:
            raise ConfigError(f"gain must be (lowest, highest), both above 0, got {self.gain}.")
        if self.cap is not None and not self.cap > 0:
            raise ConfigError(f"cap must be above 0, or none for no limit, got {self.cap:g}.")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The loss, the optimiser and its schedule."""

    pretrained: bool = True  #: start from timm's weights of the backbone instead of random weights
    #: Focal BCE of the write-up (focal) or of torchvision (focal_torchvision), plain BCE (bce), cross-entropy over the
    #: classes with multi-hot targets (ce, which learns nothing from a clip without a class), or soft AUC plus auc_bce
    #: times BCE (auc).
    loss: str = "focal"
    two_way: bool = True  #: add the loss of the time-mean of the frame logits to that of the clip output
    focal_gamma: float = 2.0  #: focusing exponent
    focal_alpha: float = 0.8  #: weight of the positives; negatives have 1, in focal_torchvision 1 - alpha
    auc_bce: float = 0.25  #: λ of soft AUC + λ·BCE
    auc_pairs: str = "class"  #: soft AUC over the pairs of each class, or over all pairs of the batch (batch)
    strong_weight: float = 0.0  #: weight of the loss of time steps in and outside marked events; 0: off
    distil_weight: float = 0.0  #: weight of the cosine distance to a teacher's embeddings; 0: off
    distil_epochs: int = 0  #: distillation only in the first epochs; 0: in all
    ema: float = 0.0  #: decay of the moving average of the weights, which is then validated and saved; 0: off
    swa_epochs: int = 0  #: average the weights at the ends of the last epochs, instead of ema; 0: off
    freeze_epochs: int = 0  #: the backbone does not change in the first epochs
    clip_norm: float = 0.0  #: maximum norm of the gradient; 0: no limit
    drop_path: tuple[float, ...] = ()  #: stochastic depth: off, one rate that the blocks ramp up to, or one per stage
    epochs: int = 24
    batch_size: int = 32  #: clips per update, of all processes together
    lr: float = 1e-3  #: peak learning rate of AdamW
    lr_start: float = 1e-4  #: learning rate at the start of the warm-up
    weight_decay: float = 0.01  #: decoupled weight decay
    warmup_epochs: int = 2  #: length of the linear warm-up
    cycle_epochs: int = 8  #: length of a cosine cycle
    cycle_decay: float = 0.5  #: ratio of the peaks of consecutive cycles; 1: restarts to the same peak
    dropout: tuple[float, ...] = (0.2, 0.3, 0.2)  #: after the pooled features, before the heads, inside the class head
    logit_dropout: float = 0.0  #: dropout of the logits per time step
    #: Initial attention: random weights, or nearly the same score for all time steps (mean), as in the original.
    attention_init: str = "random"
    #: Half precision where it is faster: float16 on a GPU; bfloat16 on a CPU that has instructions for it, if no
    #: convolution is depthwise.
    mixed_precision: bool = True
    seed: int = 0  #: seed of all randomness of a training

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "loss", ("focal", "focal_torchvision", "bce", "ce", "auc"))
        one_of(self, "auc_pairs", ("class", "batch"))
        one_of(self, "attention_init", ("random", "mean"))
        at_least(self, 1, "epochs", "cycle_epochs")
        # BatchNorm has no variance over a single clip.
        at_least(self, 2, "batch_size")
        at_least(
            self, 0, "warmup_epochs", "seed", "weight_decay", "focal_gamma", "auc_bce", "distil_weight", "strong_weight"
        )
        at_least(self, 0, "clip_norm", "distil_epochs", "swa_epochs", "freeze_epochs")
        in_range(self, 0, 2**63 - 1, "seed")
        if self.swa_epochs and self.ema:
            raise ConfigError(f"weights are averaged by swa_epochs or by ema, got {self.swa_epochs} and {self.ema:g}.")
        if not 0 < self.lr_start <= self.lr:
            raise ConfigError(f"need 0 < lr_start <= lr, got lr_start {self.lr_start:g} and lr {self.lr:g}.")
        in_range(self, 0, 1, "focal_alpha")
        if not 0 < self.cycle_decay <= 1 or not 0 <= self.logit_dropout < 1:
            raise ConfigError(
                f"cycle_decay must be in (0, 1] and logit_dropout in [0, 1), got {self.cycle_decay:g} and "
                f"{self.logit_dropout:g}."
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be in [0, 1), got {self.ema:g}; 0 is off, 0.999 is common.")
        if not all(0 <= rate < 1 for rate in self.drop_path):
            raise ConfigError(f"drop_path must be rates in [0, 1), got {self.drop_path}.")
        if len(self.dropout) != 3 or not all(0 <= p < 1 for p in self.dropout):
            raise ConfigError(f"dropout must be three probabilities in [0, 1), got {self.dropout}.")
