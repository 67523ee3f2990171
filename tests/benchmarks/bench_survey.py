"""Measure `bcsed survey` on a year of 20 sites and 30 classes: processor and wall time, and peak memory.

``python tests/benchmarks/bench_survey.py [RECORDINGS_PER_DAY]`` writes a score table of minutes to a temporary folder
(24 a day and site: 2.1 million rows) and runs the command on it in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAYS, SITES, CLASSES, ROWS = 365, 20, 30, 12


def write_scores(path: Path, per_day: int) -> int:
    """Write the score table; return its number of rows."""
    rng = np.random.default_rng(0)
    names = [f"class{k:02d}" for k in range(CLASSES)]
    keys = [("row_id", pa.string()), ("recording", pa.string()), ("start_s", pa.int32()), ("end_s", pa.int32())]
    schema = pa.schema([*keys, *((name, pa.float32()) for name in names)])
    first, n_rows = np.datetime64("2023-01-01T00:00:00"), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for site in range(SITES):
            for day in range(0, DAYS, 15):  # row groups of some thousand rows, as predict writes them
                n_days = min(15, DAYS - day)
                steps = np.arange(per_day * n_days) * np.timedelta64(86_400 // per_day, "s")
                times = first + np.timedelta64(day, "D") + steps
                stems = [f"S{site:02d}_{str(each).translate({45: None, 58: None, 84: '_'})}" for each in times]
                ends = np.tile(np.arange(5, 65, 5, dtype=np.int32), len(stems))
                recordings = np.repeat(stems, ROWS)
                # 0.2 % of the scores are at least 0.5: a detection in every 16th row.
                scores = rng.beta(0.3, 6, (len(ends), CLASSES)).astype(np.float32)
                ids = [f"{name}_{end}" for name, end in zip(recordings, ends, strict=True)]
                columns = [ids, [f"wav/{name}.wav" for name in recordings], ends - np.int32(5), ends, *scores.T]
                writer.write_table(pa.table([pa.array(each) for each in columns], schema=schema))
                n_rows += len(ends)
    return n_rows


def main() -> None:
    """Print one line."""
    per_day = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        n_rows = write_scores(path, per_day)
        command = [sys.executable, "-m", "bcsed", "survey", str(path), "--out", f"{folder}/survey"]
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, "--timezone", "Europe/Paris", "--clock", "+01:00"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s, cpu_s = time.monotonic() - start, usage.ru_utime + usage.ru_stime
        print(
            f"{n_rows} rows, {n_rows // ROWS} recordings, {CLASSES} classes: {cpu_s:.1f} s of processor time, "
            f"{wall_s:.1f} s by the clock, {usage.ru_maxrss / 1024:.0f} MiB, status {status}"
        )


if __name__ == "__main__":
    main()
