"""Make the golden arrays again: ``python tests/golden/make.py``.

The arrays were computed by bcsed 0.1.0 with torch 2.14.1 and librosa 0.11.0. If today's code gives other arrays, the
input of earlier networks differs from that of their training: this needs a new schema of bundles, not a new array.

``bundle_schema1`` and ``bundle_schema2`` cannot be made by today's code. They were sealed with torch 2.14.1 and
OpenVINO 2026.4.1, and must load and pass `bcsed.models.bundle.check` as long as their schemas are read:

* schema 1 at commit 4cb8d3e: ``conftest.seal(conftest.Loudness(), folder, ("loud", "quiet"),
  Net(backbone="oracle"))``;
* schema 2 at commit ee98300: the same with the recipe of ``experiments.find("tiny").vary("tiny",
  data__pseudo_source="in_situ")`` and the provenance ``{"experiment": "tiny", "fold": 0, "checkpoint": "last"}``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bcsed.config.contract import TINY_128
from bcsed.models.bundle.probe import compute_probe

if __name__ == "__main__":
    db, image = compute_probe(TINY_128)
    np.savez_compressed(
        Path(__file__).with_name("probe_tiny.npz"),
        db=np.maximum(db, db.max() - 80)[:, ::4],
        picture=image[:, ::2, ::4],
    )
