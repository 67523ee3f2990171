"""Labels + audio -> batches, decoded by threads ahead of the training step.

Every random number of a clip follows from (seed, epoch, place in the epoch), so that neither the number of
threads or processes, nor the cache, nor a resumed run changes what is heard.
"""

from __future__ import annotations

from .batches import Batch, BatchInputs, batches, epoch_order
from .clips import Clip, ClipReader, read_headers
from .embeddings import Embeddings
from .excerpts import ExcerptSampler

__all__ = [
    "Batch",
    "BatchInputs",
    "Clip",
    "ClipReader",
    "Embeddings",
    "ExcerptSampler",
    "batches",
    "epoch_order",
    "read_headers",
]
