"""Make the golden arrays again: ``python tests/golden/make.py``.

The arrays were made by bcsed 0.1.0 with torch 2.14.1 and librosa 0.11.0. If today's code differs from them, networks
trained before no longer hear what they were trained on: that needs a new schema of bundles, not a new array.

``bundle_schema1`` is not made again, since today's code cannot: it was sealed at commit 4cb8d3e (bcsed 0.1.0, torch
2.14.1, OpenVINO 2026.4.1), the last to write schema 1, by ``conftest.seal(conftest.Loudness(), folder,
("loud", "quiet"), Net(backbone="oracle"))``. It must load, and answer its probe, for as long as schema 1 is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bcsed.config.contract import TINY_128
from bcsed.models.bundle.probe import compute_probe

if __name__ == "__main__":
    db, picture = compute_probe(TINY_128)
    np.savez_compressed(
        Path(__file__).with_name("probe_tiny.npz"),
        db=np.maximum(db, db.max() - 80)[:, ::4],
        picture=picture[:, ::2, ::4],
    )
