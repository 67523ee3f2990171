"""Make the golden arrays again: ``python tests/golden/make.py``.

They were made by bcsed 0.1.0 with torch 2.14.1 and librosa 0.11.0. If today's code differs from them, networks
trained before no longer hear what they were trained on: that needs a new schema of bundles, not a new array.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bcsed.bundle import probe_picture
from bcsed.config import TINY_128

if __name__ == "__main__":
    db, picture = probe_picture(TINY_128)
    np.savez_compressed(
        Path(__file__).with_name("probe_tiny.npz"),
        db=np.maximum(db, db.max() - 80)[:, ::4],
        picture=picture[:, ::2, ::4],
    )
