"""The inputs of a training, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """Files that a training reads in addition to the competition's data."""

    pseudolabels: str | Path | None = None  #: table of `bcsed.pseudolabels`, for an experiment that injects soundscapes
    teacher: str | Path | None = None  #: a teacher's embeddings of the clips (Parquet or npz), to distil
    #: Initial weights instead of timm's or random ones: a run, a bundle or a file, see `bcsed.models.pretrained`.
    pretrained: str | Path | None = None
    key_map: Mapping[str, str] | None = None  #: prefixes of tensor names in that file to prefixes in the network
    allow_mismatch: bool = False  #: start even if tensors do not match; they are listed in ``start.txt``


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a training is run; the trained weights do not depend on it."""

    device: str | None = None  #: by default ``cuda`` if there is a GPU, else ``cpu``
    jobs: int = 4  #: decoding threads of each process
    cache_gb: float = 1.0  #: memory for decoded recordings
    checkpoint_min: float = 10.0  #: minutes between checkpoints; each epoch also ends with one
    #: Minutes after which no step is started. The run keeps a checkpoint and can be resumed; `bcsed.train.finished`
    #: returns whether all epochs were trained.
    stop_after_min: float | None = None
    on_error: str = "stop"  #: stop at an unreadable training recording, or skip it

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "skip"):
            raise ConfigError(f"on_error must be stop or skip, got {self.on_error!r}.")
