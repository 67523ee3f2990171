"""How long a physician takes: `bcsed doctor` on a table of 700 x 12 rows and 234 classes, and on two of them.

``python tests/benchmarks/bench_doctor.py [--recordings 700]`` writes the tables, runs the command in processes of its
own on one core, and prints wall seconds, start of Python and reading of CSV included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROWS, K = 12, 234


def write(folder: Path, n_recordings: int) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 1.5, (n_recordings, ROWS, K)) + rng.normal(0, 1, (n_recordings, 1, K))
    stems = [f"BC2026_Test_{number:04}_S05_20250227_010002" for number in range(n_recordings)]
    ids = [f"{stem}_{5 * (row + 1)}" for stem in stems for row in range(ROWS)]
    classes = [f"class{k:03}" for k in range(K)]
    variants = {
        "good": logits,
        "broadcast": np.repeat(logits[:, :1], ROWS, 1),
        "shifted": np.roll(logits, 1, 1),
        "permuted": logits[:, :, rng.permutation(K)],
        "other": logits + rng.normal(0, 0.5, logits.shape),
    }
    paths = {}
    for name, values in variants.items():
        paths[name] = folder / f"{name}.csv"
        table = pd.DataFrame(1 / (1 + np.exp(-values.reshape(-1, K))), index=ids, columns=classes)
        table.astype("float32").to_csv(paths[name], index_label="row_id")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=700)
    options = parser.parse_args()
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bcsed", "doctor"]
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), options.recordings)
        for given in (["good"], ["broadcast"], *(["good", other] for other in paths)):
            began = time.perf_counter()
            done = subprocess.run(
                [*command, *(str(paths[name]) for name in given)], env=one_core, capture_output=True, text=True
            )
            took = time.perf_counter() - began
            print(f"{' and '.join(given):20} {took:5.1f} s, exit {done.returncode}")
            print(f"    {(done.stdout or done.stderr).strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
