"""Detections in noise before and after 60 negatives, at equal recall of labelled rows: a head on embeddings.

python tests/benchmarks/bench_negatives.py DATA CLIPS.parquet VALID.parquet POOL.parquet POOL_LABELS.csv [OTHER.parquet
OTHER_LABELS.csv]

The tables are written by `bcsed embed`: of the clips of DATA, of its labelled soundscapes ``valid_soundscapes``, of
soundscapes whose windows without any label are the pool of negatives, and of others that are only noise to score. For
each of 20 seeds, 60 windows of the pool are drawn. The threshold of the head without negatives is 0.1, 0.3 or 0.5; that
of the head with them gives the same recall over the labelled rows and classes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from bcsed.config.recipe import Data
from bcsed.data.competitions import detect_competition, read_class_list
from bcsed.data.label_files import multi_hot, read_soundscape_labels, read_train
from bcsed.data.labels import make_targets
from bcsed.predict.embeddings import read_embeddings
from bcsed.scores.metrics import class_auc
from bcsed.train import probe

SEEDS, N_NEGATIVES, STRENGTH, WINDOW_S = 20, 60, 0.1, 3.0


def read_rows(table: str, labels: str, classes: tuple[str, ...]):
    """Return labels, weights of windows in rows, vectors, and the windows that touch only rows without a label."""
    frame, vectors, _ = read_embeddings(table)
    rows = read_soundscape_labels(labels, classes)
    truth, start = multi_hot(rows["labels"], classes), frame["start_s"].to_numpy()
    weights = np.zeros((len(rows), len(frame)), np.float32)
    for row, (name, begin, end) in enumerate(zip(rows["filename"], rows["start_s"], rows["end_s"], strict=True)):
        overlap = np.minimum(start + WINDOW_S, end) - np.maximum(start, begin)
        weights[row] = np.where(frame["filename"] == name, overlap.clip(0), 0)
    labelled = truth.any(1)
    empty = np.flatnonzero((weights[labelled].sum(0) == 0) & (weights[~labelled].sum(0) > 0))
    return truth > 0, weights / weights.sum(1, keepdims=True), vectors, empty


def main(data: str, clips_table: str, valid: str, pool: str, pool_labels: str, *others: str) -> None:
    """Print the reduction for each threshold: mean and range over the seeds."""
    competition = detect_competition(data)
    classes = read_class_list(data, competition)
    clips = read_train(data, competition, classes)
    targets = make_targets(clips, classes, Data())[0]
    frame, vectors, _ = read_embeddings(clips_table)
    sets = {"valid": read_rows(valid, str(Path(data) / "valid_soundscapes_labels.csv"), classes)}
    sets["pool"] = read_rows(pool, pool_labels, classes)
    if others:
        sets["other"] = read_rows(*others, classes)

    def score(negatives: np.ndarray) -> dict[str, np.ndarray]:
        names = np.concatenate([frame["filename"].to_numpy(object), [f"noise {k}" for k in range(len(negatives))]])
        is_noise = np.arange(len(names)) >= len(frame)
        joined = np.concatenate([vectors, negatives])
        windows = probe._make_windows(clips, targets, names, joined, None, is_noise, 0)
        mean, scale = windows.vectors.mean(0), np.sqrt(windows.vectors.var(0).mean())
        head = probe._fit((windows.vectors - mean) / scale, windows.targets, probe.ProbeOptions(), STRENGTH)
        return {name: W @ head.scores((x - mean) / scale)[:, :-1] for name, (_, W, x, _) in sets.items()}

    truth, lines = sets["valid"][0], []
    before = score(vectors[:0])
    for seed in range(SEEDS):
        drawn = np.random.default_rng(seed).choice(sets["pool"][3], N_NEGATIVES, replace=False)
        after = score(sets["pool"][2][drawn])
        for threshold in (0.1, 0.3, 0.5):
            recall = (before["valid"][truth] >= threshold).mean()
            equal = np.quantile(after["valid"][truth], 1 - recall, method="lower")
            noise = {name: ~rows[0].any(1) for name, rows in sets.items()}
            n = {k: ((before[k][noise[k]] >= threshold).sum(), (after[k][noise[k]] >= equal).sum()) for k in sets}
            lines.append(
                {"threshold": threshold, "recall": recall, **{k: 1 - late / early for k, (early, late) in n.items()}}
                | {
                    f"auc {k}": np.nanmean(class_auc(truth.astype(int), s["valid"].astype(float)))
                    for k, s in (("0", before), ("60", after))
                }
            )
    print(pd.DataFrame(lines).groupby("threshold").agg(["mean", "min", "max"]).T.round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
