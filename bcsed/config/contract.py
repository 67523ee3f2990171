"""What the network hears, what it is, and which classes it answers: the contract."""

from __future__ import annotations

import hashlib
import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .strict import at_least, check_types, multiple, nearest, one_of, to_dict
from .versions import first_names

# A CNN of the timm kind halves its picture five times.
STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """How audio becomes the picture that the network sees.

    Mel power with a periodic Hann window, Slaney mel scale and norm, then decibels
    ``10 * log10(max(S, 1e-10))``; frame ``k`` is centred on sample ``k * hop_length`` of its recording.

    Parameters
    ----------
    sample_rate : int
        Hz; every recording is resampled to it.
    n_fft, hop_length : int
        Samples per spectrum, and from one frame to the next.
    n_mels : int
        Mel bands.
    fmin_hz, fmax_hz : float
        Edges of the lowest and highest band.
    n_frames : int
        Frames of one window; ``n_frames * hop_length / sample_rate`` seconds.
    time_folds : int
        Into how many equal parts the frames are cut and stacked, first on top; 1 is no fold.
    channels : {'deltas', 'repeat', 'mono'}
        Picture channels: (x, Δ, ΔΔ) along time, three equal ones, or one.
    top_db : float
        The floor of a window, in dB below its own maximum.
    """

    sample_rate: int = 32_000
    n_fft: int = 2048
    hop_length: int = 500
    n_mels: int = 192
    fmin_hz: float = 20.0
    fmax_hz: float = 14_000.0
    n_frames: int = 768
    time_folds: int = 2
    channels: str = "deltas"
    top_db: float = 80.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "n_frames", "time_folds"):
            at_least(self, name, 1)
        one_of(self, "channels", ("deltas", "repeat", "mono"))
        if self.n_fft % 2:
            raise ConfigError(f"n_fft must be even, got {self.n_fft}; the nearest is {self.n_fft + 1}.")
        if self.hop_length > self.n_fft:
            raise ConfigError(
                f"hop_length {self.hop_length} is longer than n_fft {self.n_fft}: samples would go unheard; "
                f"use at most {self.n_fft}."
            )
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate / 2:
            raise ConfigError(
                f"need 0 <= fmin_hz < fmax_hz <= {self.sample_rate / 2:g} Hz (half the sample rate), "
                f"got fmin_hz {self.fmin_hz:g} and fmax_hz {self.fmax_hz:g}."
            )
        if not 0 < self.top_db <= 200:
            raise ConfigError(f"top_db must be in (0, 200] dB, got {self.top_db:g}.")
        multiple(self, "n_frames", STRIDE * self.time_folds)
        if self.n_mels * self.time_folds % STRIDE:
            step = STRIDE // math.gcd(STRIDE, self.time_folds)
            raise ConfigError(
                f"n_mels times time_folds is the picture's height and must be a multiple of {STRIDE}, got "
                f"{self.n_mels} x {self.time_folds}; the nearest n_mels are {nearest(self.n_mels, step)}."
            )

    @property
    def window_s(self) -> float:
        """Duration of one window in seconds."""
        return self.n_frames * self.hop_length / self.sample_rate

    @property
    def clip_samples(self) -> int:
        """Samples that one window's frames see: ``(n_frames - 1) * hop_length + n_fft``."""
        return (self.n_frames - 1) * self.hop_length + self.n_fft

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the folded picture, in pixels."""
        return self.n_mels * self.time_folds, self.n_frames // self.time_folds

    @property
    def n_channels(self) -> int:
        """Channels of the picture."""
        return 1 if self.channels == "mono" else 3


WIDE_384 = Frontend()
WIDE_256 = Frontend(hop_length=750, n_mels=128, n_frames=512)
SHORT_256 = Frontend(n_mels=128, n_frames=512)
TINY_128 = Frontend(hop_length=1000, n_mels=64, n_frames=256)
FRONTENDS: Mapping[str, Frontend] = types.MappingProxyType(
    {"WIDE_384": WIDE_384, "WIDE_256": WIDE_256, "SHORT_256": SHORT_256, "TINY_128": TINY_128}
)


@dataclass(frozen=True, kw_only=True)
class Net:
    """The network between picture and frame answers.

    Parameters
    ----------
    backbone : str
        Name of a timm CNN.
    pool : {'prob', 'logit'}
        A clip's answer: Σ when·σ(what), or σ(Σ when·what).
    freq_pool : {'mean', 'gem'}
        How the frequency axis of the feature map is reduced; GeM has a learned exponent.
    heads : {'shared', 'taxon', 'frequency'}
        One pair of heads for all classes, or one for each group of them: the taxa, or bands of how many
        clips a class has. Which class is in which group, the contract says.
    """

    backbone: str = "tf_efficientnet_b0.ns_jft_in1k"
    pool: str = "prob"
    freq_pool: str = "mean"
    heads: str = "shared"

    def __post_init__(self) -> None:
        check_types(self)
        if not self.backbone:
            raise ConfigError("backbone is empty; name a timm CNN such as 'tf_efficientnet_b0.ns_jft_in1k'.")
        one_of(self, "pool", ("prob", "logit"))
        one_of(self, "freq_pool", ("mean", "gem"))
        one_of(self, "heads", ("shared", "taxon", "frequency"))


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a network was made to hear and to answer: it travels with the weights.

    Parameters
    ----------
    signal : Frontend
    net : Net
    classes : tuple of str
        Names of the K columns of the answer, in order.
    groups : tuple of int
        The head group of each class, numbered from 0, see `bcsed.data.head_groups`; empty where one head answers all.
    """

    frontend: Frontend
    net: Net
    classes: tuple[str, ...]
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        if not self.classes:
            raise ConfigError("classes is empty; a network needs at least one class.")
        doubled = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if doubled:
            raise ConfigError(f"classes names {', '.join(doubled[:5])} more than once; each may stand once.")
        check_groups(self.groups, self.net.heads, len(self.classes))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever a value of the contract changes.

        Taken over the first version's names, without later fields that have their default value, so that a
        network keeps its fingerprint from version to version.
        """
        text = json.dumps(first_names(to_dict(self)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_groups(groups: Sequence[int], heads: str, n_classes: int) -> None:
    """Refuse head groups that do not belong to the classes, or that nothing asked for.

    Parameters
    ----------
    groups : sequence of int
        The group of each class, or empty.
    heads : str
        As in `Net`.
    n_classes : int
        K.

    Raises
    ------
    ConfigError
        If there are groups though `heads` is 'shared', not K of them though it is not, or their numbers are not
        0, 1, ... without a gap.
    """
    if heads == "shared":
        if groups:
            raise ConfigError(
                f"heads is 'shared', yet there are {len(set(groups))} groups of classes; leave groups empty, or set "
                "net__heads to 'taxon' or 'frequency'."
            )
        return
    if len(groups) != n_classes:
        raise ConfigError(
            f"heads is {heads!r} and needs the group of each of the {n_classes} classes, got {len(groups)}; "
            "bcsed.data.head_groups makes them."
        )
    if set(groups) != set(range(len(set(groups)))):
        raise ConfigError(f"groups must be numbered 0, 1, ... without a gap, got {sorted(set(groups))}.")
