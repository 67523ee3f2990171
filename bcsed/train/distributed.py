"""Train a network in several processes: ``torchrun --nproc_per_node=N -m bcsed train ...``.

Each process computes its part of every batch and gradients are averaged. Only the first writes to the run's folder.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ..errors import ConfigError


@dataclass(frozen=True)
class Distributed:
    """The rank and device of this process, among all processes that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes have called this."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean of a value over all processes."""
        value = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(value)
        return float(value) / self.size

    def any(self, flag: bool) -> bool:
        """Return True if a flag is set in one of the processes."""
        return flag if self.size == 1 else self.mean(torch.tensor(float(flag), device=self.device)) > 0

    def check(self, batch_size: int) -> None:
        """Refuse (ConfigError) a batch without equal parts, or with parts of one clip, too few for BatchNorm."""
        if batch_size % self.size or batch_size // self.size < 2:
            least = max(2, batch_size // self.size) * self.size
            raise ConfigError(
                f"{self.size} processes cannot share a batch of {batch_size} equally with at least two clips each; "
                f"use --set fit.batch_size={least}."
            )


@contextmanager
def join_processes(device: str | None) -> Iterator[Distributed]:
    """Join the processes that torchrun started, each with a GPU of its own; without torchrun, there is only one."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", kind):
        raise ConfigError(f"there is no device {kind!r} for training; name cpu, cuda, or one GPU such as cuda:1.")
    if kind != "cpu" and int(kind[5:] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"this installation of torch finds no GPU{kind[4:]} here: train with --device cpu.")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Distributed(0, 1, torch.device(kind))
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    process_device = torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        n_local, n_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
        if n_local > n_gpus:
            raise ConfigError(
                f"{n_local} processes were started on a machine with {n_gpus} {'GPU' if n_gpus == 1 else 'GPUs'}, and "
                f"each needs a GPU of its own: start {n_gpus}, or train with --device cpu."
            )
        torch.cuda.set_device(process_device)
    # The other processes wait while the first validates, which may take long.
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=datetime.timedelta(hours=4))
    try:
        yield Distributed(rank, size, process_device)
    finally:
        dist.destroy_process_group()


def half_type(device: torch.device, network: torch.nn.Module) -> torch.dtype | None:
    """Return the half precision in which a device trains a network faster than in float32, or None.

    float16 on a GPU, because older ones lack bfloat16; bfloat16 on a CPU that has instructions for it, where it halves
    the time of a convolution, but not of a depthwise one (EfficientNets, MobileNets), which becomes slower.
    """
    if device.type == "cuda":
        return torch.float16
    # Older versions of torch do not tell what a CPU can do.
    abilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_bfloat16 = abilities.get("avx512_bf16") or abilities.get("amx_bf16")
    convolutions = (layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    depthwise = any(1 < layer.groups == layer.in_channels for layer in convolutions)
    return torch.bfloat16 if has_bfloat16 and not depthwise else None
