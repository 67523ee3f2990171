"""Does choosing what to listen to pay? A probe on embeddings, retrained with answers of a listener who knows the truth.

A linear probe with one logistic output per class is trained on the embeddings of clips, scores the unlabelled
soundscapes, and is trained again with the answers to rows that `choose_rows` selects. A row's probability is the mean
over its windows. Of an answered row, the class that was asked for is known; classes whose score is below `ABSENT` are
taken as absent, and all others stay unknown. Both probes are evaluated on the labelled soundscapes.

    bcsed embed BUNDLE --data DATA --out clips.parquet
    bcsed embed BUNDLE --recordings DATA/train_soundscapes --out soundscapes.parquet
    bcsed embed BUNDLE --recordings DATA/valid_soundscapes --out valid.parquet
    python tests/benchmarks/bench_review.py DATA clips.parquet soundscapes.parquet valid.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bcsed.data import detect_competition, read_class_list, read_soundscape_labels, read_train, truth_table
from bcsed.predict.embeddings import read_embeddings
from bcsed.scores.metrics import macro_auc
from bcsed.scores.review import choose_rows
from bcsed.scores.table import make_table

SEEDS, PENALTY, WINDOW_S, ABSENT = 20, 3e-4, 3.0, 0.05
ARMS = [("uncertain", 120), ("random", 240), ("random", 120)]
Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def fit(vectors: torch.Tensor, targets: torch.Tensor, rows: Rows | None, start: torch.Tensor) -> torch.Tensor:
    """Return weights and biases, (E + 1, K), of the least cross-entropy of clips and of rows with known targets.

    `rows` are the shares of windows in rows (R, N), vectors of windows, targets and weights (R, K).
    """
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=40, history_size=10, line_search_fn="strong_wolfe")
    functional = torch.nn.functional

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = functional.binary_cross_entropy_with_logits(vectors @ weights, targets, reduction="sum")
        if rows is not None:
            share, windows, truth, known = rows
            p = (share @ torch.sigmoid(windows @ weights)).clamp(1e-6, 1 - 1e-6)
            total = total + (functional.binary_cross_entropy(p, truth, reduction="none") * known).sum()
        total = total / len(targets) + PENALTY * (weights[:-1] ** 2).sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def main(data: Path, *tables: str) -> None:
    """Print the macro ROC-AUC of the probe before and after the answers of each arm, mean over seeds."""
    torch.set_num_threads(1)
    competition = detect_competition(data)
    classes = read_class_list(data, competition)
    clips = read_train(data, competition, classes).set_index("filename")["label"]
    (frame, vectors, _), *soundscapes = [read_embeddings(path) for path in tables]
    mean, scale = vectors.mean(0), vectors.std()
    parts = [vectors, *(part[1] for part in soundscapes)]
    scaled = [torch.tensor(np.c_[(x - mean) / scale, np.ones(len(x))], dtype=torch.float32) for x in parts]
    index = [classes.index(label) for label in clips.loc[frame["filename"]]]
    targets = torch.nn.functional.one_hot(torch.tensor(index), len(classes)).float()
    truths = [
        truth_table(read_soundscape_labels(data / name, classes), classes)
        for name in ("oracle_truth.csv", "valid_soundscapes_labels.csv")
    ]
    pairs = zip(soundscapes, truths, strict=True)
    shares = [torch.tensor(overlaps(part[0], truth.index)) for part, truth in pairs]

    def score(weights: torch.Tensor, part: int) -> pd.DataFrame:
        p = shares[part] @ torch.sigmoid(scaled[1 + part] @ weights)
        return make_table(list(truths[part].index), classes, p.numpy())

    base = torch.zeros(scaled[0].shape[1], len(classes))
    for _ in range(2):
        base = fit(scaled[0], targets, None, base)
    pool, truth = score(base, 0), truths[0].to_numpy(np.float32)
    print(f"before: {macro_auc(truths[1], score(base, 1))[0]:.4f}", flush=True)
    results: dict[tuple[str, int], list[float]] = {arm: [] for arm in ARMS}
    for seed in range(SEEDS):
        for by, budget in ARMS:
            chosen = choose_rows(pool, budget=budget, by=by, seed=seed)
            row, column = pool.index.get_indexer(chosen["row_id"]), pool.columns.get_indexer(chosen["class"])
            answered = np.zeros(pool.shape, np.float32)
            answered[row, column] = 1
            used = np.unique(row)
            known = np.maximum(answered, pool.to_numpy() < ABSENT)[used]
            labels = (torch.tensor(values) for values in ((truth * answered)[used], known))
            weights = fit(scaled[0], targets, (shares[0][used], scaled[1], *labels), base)
            results[by, budget].append(macro_auc(truths[1], score(weights, 1))[0])
        print(seed + 1, {f"{by} {n}": round(float(np.mean(x)), 4) for (by, n), x in results.items()}, flush=True)
    better = np.array(results["uncertain", 120]) - np.array(results["random", 240])
    spread = {f"{by} {n}": round(float(np.std(x, ddof=1)), 4) for (by, n), x in results.items()}
    print(f"uncertain 120 less random 240: {better.mean():+.4f} (sd {better.std(ddof=1):.4f}); sd of arms {spread}")


def overlaps(frame: pd.DataFrame, ids: pd.Index) -> np.ndarray:
    """Return the share of each window in each row, (R, N): overlaps in time that sum to 1 for a row."""
    shares = np.zeros((len(ids), len(frame)), np.float32)
    stems = frame["filename"].str.rsplit(".", n=1).str[0].to_numpy()
    start_s = frame["start_s"].to_numpy(float)
    for row, (stem, end) in enumerate(name.rsplit("_", 1) for name in ids):
        overlap = np.minimum(start_s + WINDOW_S, float(end)) - np.maximum(start_s, float(end) - 5)
        shares[row] = np.where(stems == stem, overlap.clip(0), 0)
    return shares / shares.sum(1, keepdims=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
