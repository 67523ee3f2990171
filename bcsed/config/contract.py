"""The contract: front end, network and classes of a bundle."""

from __future__ import annotations

import hashlib
import json
import math
import types
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .strict import at_least, check_types, nearest, one_of, to_dict
from .versions import first_names

# Beyond these, a window would not fit into memory.
_LIMITS = {"sample_rate": 2_000_000, "n_fft": 65_536, "n_mels": 1024, "n_frames": 16_384, "clip_samples": 1 << 25}
# Columns of tables with one column per class.
RESERVED = ("row_id", "filename", "start", "end", "recording", "start_s", "end_s")
MAX_CLASSES = 100_000
# A timm CNN halves its image five times.
STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """The front end: how audio becomes the image that the network receives.

    Mel power with a periodic Hann window, Slaney mel scale and norm, then decibels ``10 * log10(max(S, 1e-10))``.
    """

    sample_rate: int = 32_000  #: Hz; all recordings are resampled to it
    n_fft: int = 2048  #: samples per spectrum
    hop_length: int = 500  #: samples between frames
    n_mels: int = 192  #: mel bands
    fmin_hz: float = 20.0  #: lower edge of the lowest band
    fmax_hz: float = 14_000.0  #: upper edge of the highest band
    n_frames: int = 768  #: frames per window
    time_folds: int = 2  #: equal parts into which the frames are cut and stacked, the first on top; 1: no folding
    #: image channels: (x, Δ, ΔΔ) along time, three equal ones (repeat), or one (mono); or no image but the samples
    #: (wave), see `wave_frontend`
    channels: str = "deltas"
    top_db: float = 80.0  #: floor of a window, in dB below its maximum

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "sample_rate", "n_fft", "hop_length", "n_mels", "n_frames", "time_folds")
        for name, highest in _LIMITS.items():
            if getattr(self, name) > highest:
                raise ConfigError(f"{name} must be at most {highest}, got {getattr(self, name)}.")
        one_of(self, "channels", ("deltas", "repeat", "mono", "wave"))
        if self.is_wave:
            if (self.hop_length, self.n_mels, self.time_folds) != (self.n_fft, self.n_fft, 1):
                raise ConfigError("channels is 'wave', but frames and folds are those of an image; use wave_frontend.")
        else:
            self._check_image()

    def _check_image(self) -> None:
        if self.n_fft % 2:
            raise ConfigError(f"n_fft must be even, got {self.n_fft}; the nearest is {self.n_fft + 1}.")
        if self.hop_length > self.n_fft:
            raise ConfigError(
                f"hop_length {self.hop_length} skips samples between frames; use at most {self.n_fft} (n_fft)."
            )
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate / 2:
            bands = f"0 <= fmin_hz < fmax_hz <= {self.sample_rate / 2:g} Hz (half the sample rate)"
            raise ConfigError(f"need {bands}, got fmin_hz {self.fmin_hz:g} and fmax_hz {self.fmax_hz:g}.")
        if not 0 < self.top_db <= 200:
            raise ConfigError(f"top_db must be in (0, 200] dB, got {self.top_db:g}.")
        step = STRIDE * self.time_folds
        if self.n_frames % step:
            frames = f"got {self.n_frames}; the nearest are {nearest(self.n_frames, step)}"
            raise ConfigError(f"n_frames must be a multiple of {step}, {frames}.")
        step = STRIDE // math.gcd(STRIDE, self.time_folds)
        if self.n_mels % step:
            height = f"image height n_mels * time_folds, got {self.n_mels} * {self.time_folds}"
            values = nearest(self.n_mels, step)
            raise ConfigError(f"the {height}, must be a multiple of {STRIDE}; the nearest n_mels are {values}.")

    @property
    def window_s(self) -> float:
        """Duration of one window in seconds."""
        return self.n_frames * self.hop_length / self.sample_rate

    @property
    def clip_samples(self) -> int:
        """Samples that the frames of one window cover: ``(n_frames - 1) * hop_length + n_fft``."""
        return (self.n_frames - 1) * self.hop_length + self.n_fft

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the folded image, in pixels."""
        return self.n_mels * self.time_folds, self.n_frames // self.time_folds

    @property
    def is_wave(self) -> bool:
        """Whether the network receives the samples, not an image."""
        return self.channels == "wave"

    @property
    def n_channels(self) -> int:
        """Number of image channels."""
        return 3 if self.channels in ("deltas", "repeat") else 1

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """Return the half-open range of the recording's samples that frames ``first`` to ``last`` cover."""
        begin = first * self.hop_length - (0 if self.is_wave else self.n_fft // 2)
        return begin, begin + (last - first - 1) * self.hop_length + self.n_fft


def wave_frontend(sample_rate: int, n_samples: int, fmin_hz: float = 0.0, fmax_hz: float | None = None) -> Frontend:
    """Return the front end of a network that receives the samples of a window, such as BirdNET.

    A "spectrogram" of it is the wave cut into frames of about 20 ms, (samples per frame, frames), and its bands are
    those that the network uses. ConfigError if the window cannot be divided into such frames.
    """
    shortest = -(-n_samples // _LIMITS["n_frames"])
    for frame in range(min(sample_rate // 50, _LIMITS["n_mels"]), shortest - 1, -1):
        if frame > 0 and n_samples % frame == 0:
            top = sample_rate / 2 if fmax_hz is None else fmax_hz
            sizes = {"n_fft": frame, "hop_length": frame, "n_mels": frame, "n_frames": n_samples // frame}
            bands = {"fmin_hz": fmin_hz, "fmax_hz": top}
            return Frontend(sample_rate=sample_rate, **sizes, **bands, time_folds=1, channels="wave")  # type: ignore[arg-type]
    raise ConfigError(f"a window of {n_samples} samples at {sample_rate} Hz cannot be divided into frames.")


WIDE_384 = Frontend()
WIDE_256 = Frontend(hop_length=750, n_mels=128, n_frames=512)
SHORT_256 = Frontend(n_mels=128, n_frames=512)
TINY_128 = Frontend(hop_length=1000, n_mels=64, n_frames=256)
FRONTENDS: Mapping[str, Frontend] = types.MappingProxyType(
    {"WIDE_384": WIDE_384, "WIDE_256": WIDE_256, "SHORT_256": SHORT_256, "TINY_128": TINY_128}
)


@dataclass(frozen=True, kw_only=True)
class Net:
    """The network between the image and its outputs per time step."""

    backbone: str = "tf_efficientnet_b0.ns_jft_in1k"  #: name of a timm CNN
    #: clip probability from logits x and attention a: Σ a·σ(x) (prob), or σ(Σ a·x) (logit); Σ a·x (mean) of embeddings
    pool: str = "prob"
    freq_pool: str = "mean"  #: pooling over the frequency axis: mean, or gem with a learned exponent
    last_conv: bool = True  #: keep the backbone's last 1x1 convolution (EfficientNet, NFNet)
    #: One pair of heads for all classes (shared), or one pair per group of `Contract.groups`: taxa (taxon), or bands of
    #: the number of clips per class (frequency).
    heads: str = "shared"

    def __post_init__(self) -> None:
        check_types(self)
        if not self.backbone:
            raise ConfigError("backbone is empty; name a timm CNN such as 'tf_efficientnet_b0.ns_jft_in1k'.")
        one_of(self, "pool", ("prob", "logit", "mean"))
        one_of(self, "freq_pool", ("mean", "gem"))
        one_of(self, "heads", ("shared", "taxon", "frequency"))


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Input and output of a network; it is stored with the weights."""

    frontend: Frontend
    net: Net
    classes: tuple[str, ...]  #: names of the K output columns, in order; none for a network of embeddings only
    groups: tuple[int, ...] = ()  #: head group of each class (see `bcsed.data.head_groups`); empty for shared heads

    def __post_init__(self) -> None:
        check_types(self)
        if not self.classes and self.frontend.channels != "wave":
            raise ConfigError("classes is empty; a network needs at least one class.")
        check_class_names(self.classes)
        duplicates = sorted(name for name, n in Counter(self.classes).items() if n > 1)
        if duplicates:
            raise ConfigError(f"classes names {', '.join(duplicates[:5])} more than once; class names must be unique.")
        check_groups(self.groups, self.net.heads, len(self.classes))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change if any value of the contract changes."""
        # From the names of the first version, without later fields at their default: the same in all versions.
        text = json.dumps(first_names(to_dict(self)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_class_names(names: Sequence[str]) -> None:
    """Refuse names that tables cannot hold: empty, with blanks at an end, control characters, reserved, too many."""
    if len(names) > MAX_CLASSES:
        raise ConfigError(f"there are {len(names)} classes; at most {MAX_CLASSES} are possible.")
    for name in names:
        if not name or name != name.strip():
            raise ConfigError(f"the class name {name!r} is empty or has blanks at an end; rename it.")
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
            raise ConfigError(f"the class name {name!r} contains control or invalid characters; rename it.")
        if name in RESERVED:
            raise ConfigError(f"the class name {name!r} is a column of tables of bcsed; rename it.")


def check_groups(groups: Sequence[int], heads: str, n_classes: int) -> None:
    """Refuse head groups that do not agree with the number of classes and with `heads`."""
    if heads == "shared":
        if groups:
            use = "leave groups empty, or set net.heads to 'taxon' or 'frequency'"
            raise ConfigError(f"heads is 'shared', but there are {len(set(groups))} groups of classes; {use}.")
        return
    if len(groups) != n_classes:
        needed = f"the group of each of the {n_classes} classes, got {len(groups)}"
        raise ConfigError(f"heads is {heads!r} and needs {needed}; use bcsed.data.head_groups.")
    if set(groups) != set(range(len(set(groups)))):
        raise ConfigError(f"groups must be numbered 0, 1, ... without a gap, got {sorted(set(groups))}.")
