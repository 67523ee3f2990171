"""Does choosing what to listen to pay? A probe on embeddings, retrained with answers of a listener who knows the truth.

A linear probe with one logistic output per class is trained on the embeddings of clips, scores the unlabelled
soundscapes, and is trained again with the answers to rows that `choose_rows` selects. A row's probability is the mean
over its windows. Of an answered row, the class that was asked for is known; classes whose score is below `ABSENT` are
taken as absent, and all others stay unknown. Both probes are evaluated on the labelled soundscapes.

    bcsed embed BUNDLE --data DATA --out clips.parquet
    bcsed embed BUNDLE --recordings DATA/train_soundscapes --out soundscapes.parquet
    bcsed embed BUNDLE --recordings DATA/valid_soundscapes --out valid.parquet
    python tests/benchmarks/bench_review.py DATA clips.parquet soundscapes.parquet valid.parquet

With ``--class NAME --labels labels.csv`` and the embeddings of one folder of recordings in which only that class is
labelled, recordings are split into halves 20 times; rows of one half are asked for, those of the other are evaluated:

    python tests/benchmarks/bench_review.py DATA clips.parquet field.parquet --class NAME --labels labels.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
FIELD_ARMS = [("uncertain", 24), ("random", 48), ("uncertain", 12), ("random", 24), ("random", 12)]
Scale = Callable[[np.ndarray], torch.Tensor]
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


def train(data: Path, table: str) -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor, Scale]:
    """Train on clips: return classes, scaled vectors, targets, the weights, and the function that scales vectors."""
    torch.set_num_threads(1)
    competition = detect_competition(data)
    classes = read_class_list(data, competition)
    clips = read_train(data, competition, classes).set_index("filename")["label"]
    frame, vectors, _ = read_embeddings(table)
    mean, spread = vectors.mean(0), vectors.std()

    def scale(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.c_[(x - mean) / spread, np.ones(len(x))], dtype=torch.float32)

    index = [classes.index(label) for label in clips.loc[frame["filename"]]]
    targets, x = torch.nn.functional.one_hot(torch.tensor(index), len(classes)).float(), scale(vectors)
    base = torch.zeros(x.shape[1], len(classes))
    for _ in range(2):
        base = fit(x, targets, None, base)
    return list(classes), x, targets, base, scale


def main(data: Path, clips: str, *tables: str) -> None:
    """Print the macro ROC-AUC of the probe before and after the answers of each arm, mean over seeds."""
    classes, vectors, targets, base, scale = train(data, clips)
    soundscapes = [read_embeddings(path) for path in tables]
    scaled = [vectors, *(scale(part[1]) for part in soundscapes)]
    truths = [
        truth_table(read_soundscape_labels(data / name, classes), classes)
        for name in ("oracle_truth.csv", "valid_soundscapes_labels.csv")
    ]
    pairs = zip(soundscapes, truths, strict=True)
    shares = [torch.tensor(overlaps(part[0], truth.index)) for part, truth in pairs]

    def score(weights: torch.Tensor, part: int) -> pd.DataFrame:
        p = shares[part] @ torch.sigmoid(scaled[1 + part] @ weights)
        return make_table(list(truths[part].index), classes, p.numpy())

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
    compare(results)


def compare(results: dict[tuple[str, int], list[float]]) -> None:
    """Print the difference of the first two arms, and the standard deviation of each."""
    (first, n_first), (second, n_second) = list(results)[:2]
    better = np.array(results[first, n_first]) - np.array(results[second, n_second])
    spread = {f"{by} {n}": round(float(np.std(x, ddof=1)), 4) for (by, n), x in results.items()}
    print(
        f"{first} {n_first} less {second} {n_second}: {better.mean():+.4f} (sd {better.std(ddof=1):.4f}); sd {spread}"
    )


def main_of_a_class(data: Path, clips: str, table: str, name: str, labels: str) -> None:
    """Print the ROC-AUC of a class in one half of the recordings, before and after answers about the other half."""
    classes, vectors, targets, base, scale = train(data, clips)
    frame, windows, _ = read_embeddings(table)
    truth = truth_table(read_soundscape_labels(Path(labels), [name]), [name])
    share, x, recording = (
        torch.tensor(overlaps(frame, truth.index)),
        scale(windows),
        truth.index.str.rsplit("_", n=1).str[0],
    )
    column = classes.index(name)
    results: dict[tuple[str, int], list[float]] = {arm: [] for arm in [*FIELD_ARMS, ("nothing", 0)]}
    for seed in range(SEEDS):
        names = np.random.default_rng(seed).permutation(sorted(set(recording)))
        asked, judged = (
            np.isin(recording, part) for part in (names[: len(names) // 2 + 1], names[len(names) // 2 + 1 :])
        )

        def score(weights: torch.Tensor) -> pd.DataFrame:
            p = share @ torch.sigmoid(x @ weights)[:, [column]]
            return make_table(list(truth.index), [name], p.numpy())

        for by, budget in results:
            weights = base
            if budget:
                chosen = choose_rows(score(base)[asked], budget=budget, by=by, seed=seed)["row_id"]
                used, known = truth.index.get_indexer(chosen), torch.zeros(len(chosen), len(classes))
                known[:, column] = 1
                answers = torch.zeros_like(known)
                answers[:, column] = torch.tensor(truth[name].to_numpy(np.float32)[used])
                weights = fit(vectors, targets, (share[used], x, answers, known), base)
            results[by, budget].append(macro_auc(truth[judged], score(weights)[judged])[0])
    print({f"{by} {n}": round(float(np.mean(x)), 4) for (by, n), x in results.items()})
    compare(results)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("tables", nargs="+", help="embeddings of clips, then of soundscapes")
    parser.add_argument("--class", dest="name")
    parser.add_argument("--labels")
    options = parser.parse_args()
    if options.name:
        main_of_a_class(options.data, *options.tables, options.name, options.labels)
    else:
        main(options.data, *options.tables)
