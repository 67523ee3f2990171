"""Several processes that train one network: ``torchrun --nproc_per_node=N -m bcsed train ...``.

Each process takes its part of every batch; gradients are averaged. What is heard does not depend on how many
processes share it. The first process alone writes to the run's folder.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ..errors import ConfigError


@dataclass(frozen=True)
class Distributed:
    """Which process of those that train together is running here.

    Parameters
    ----------
    rank, size : int
        Which of how many.
    device : torch.device
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean of a number over all processes."""
        value = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(value)
        return float(value) / self.size

    def check(self, batch_size: int) -> None:
        """Refuse (ConfigError) a batch that cannot be shared equally, or leaves BatchNorm a single clip."""
        if batch_size % self.size or batch_size // self.size < 2:
            least = max(2, batch_size // self.size) * self.size
            raise ConfigError(
                f"{self.size} processes cannot share a batch of {batch_size} equally, two clips each at least; "
                f"use fit.batch_size={least}."
            )


@contextmanager
def join_processes(device: str | None) -> Iterator[Distributed]:
    """Join the processes that torchrun started, or stand alone.

    Parameters
    ----------
    device : str, optional
        ``cuda`` where there is a GPU, else ``cpu``; each process takes a GPU of its own.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Distributed(0, 1, torch.device(kind))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(place)
    # The others wait while the first validates, which may take long.
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=datetime.timedelta(hours=4))
    try:
        yield Distributed(rank, size, place)
    finally:
        dist.destroy_process_group()
