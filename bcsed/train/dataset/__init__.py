"""Labels + audio -> batches, decoded by threads ahead of the training step.

Every random number of a clip follows from (seed, epoch, place in the epoch), so that neither the number of
threads or processes, nor the cache, nor a resumed run changes what is heard.
"""

from __future__ import annotations

from .clips import Clip, Clips, read_headers
from .feed import Batch, Feed, batches, epoch_order
from .source import Source
from .teacher import Embeddings

__all__ = ["Batch", "Clip", "Clips", "Embeddings", "Feed", "Source", "batches", "epoch_order", "read_headers"]
