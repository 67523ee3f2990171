"""The inputs of a training, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """Files that a training reads in addition to the competition's data.

    Parameters
    ----------
    pseudolabels : str or Path, optional
        A table of `bcsed.pseudolabels`, for an experiment that injects pseudolabelled soundscapes.
    teacher : str or Path, optional
        A teacher's embeddings of the clips (Parquet or npz), for an experiment that distils.
    pretrained : str or Path, optional
        Initial weights instead of timm's or random ones: a run, a bundle or a file, see `bcsed.models.pretrained`.
    key_map : mapping of str to str, optional
        Prefixes of tensor names in that file to prefixes in the network.
    allow_mismatch : bool
        Start even if tensors are missing, unused or of another shape; they are listed in ``start.txt``.
    """

    pseudolabels: str | Path | None = None
    teacher: str | Path | None = None
    pretrained: str | Path | None = None
    key_map: Mapping[str, str] | None = None
    allow_mismatch: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a training is run; the trained weights do not depend on it.

    Parameters
    ----------
    device : str, optional
        ``cuda`` if there is a GPU, else ``cpu``.
    jobs : int
        Decoding threads of each process.
    cache_gb : float
        Memory for decoded recordings.
    checkpoint_min : float
        Minutes between checkpoints; each epoch also ends with one.
    stop_after_min : float, optional
        Minutes after which no step is started. The run keeps a checkpoint and can be resumed;
        `bcsed.train.finished` returns whether all epochs were trained.
    on_error : {'stop', 'skip'}
        What to do with an unreadable training recording.
    """

    device: str | None = None
    jobs: int = 4
    cache_gb: float = 1.0
    checkpoint_min: float = 10.0
    stop_after_min: float | None = None
    on_error: str = "stop"

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "skip"):
            raise ConfigError(f"on_error must be stop or skip, got {self.on_error!r}.")
