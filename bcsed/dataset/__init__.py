"""Labels + audio -> batches, decoded by threads ahead of the training step.

Every random number of a clip follows from (seed, epoch, place in the epoch), so that neither the number of
threads, nor the cache, nor a resumed run changes what is heard.
"""

from __future__ import annotations

from .clips import Clips, read_headers
from .feed import Batch, batches, epoch_order

__all__ = ["Batch", "Clips", "batches", "epoch_order", "read_headers"]
