"""What does a training step cost beyond the network's own forward and backward pass?

Run: ``python tests/benchmarks/bench_train.py [EXPERIMENT] [--steps 6] [--batch 8] [--set a__b=v]``. Real ogg files
are decoded by the loader's threads, mixed, pictured and learned from, as in `bcsed train`; the bare pass learns from
ready dB windows on the device. Both take turns in one process; quote the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from bcsed import audio, experiments
from bcsed.competition import BIRDCLEF_2025
from bcsed.config import Contract
from bcsed.dataset import batches, epoch_order
from bcsed.losses import criterion
from bcsed.model import SedNet
from bcsed.train import Prepared, _Loop, augment

RATE = 32_000
K = 206


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", default="exp-93")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--cache-gb", type=float, default=0.0)
    options = parser.parse_args()
    experiment = experiments.find(options.experiment).vary("bench", fit__batch_size=options.batch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        loop = prepare(Path(name), experiment, options, device)
        full, bare = [], []
        mix = augment.from_config(experiment.augment, experiment.signal.top_db, 0)
        feed = batches(
            loop.clips,
            epoch_order(loop.ready.train_rows, 0, 0),
            loop.ready.targets,
            loop.ready.weights,
            batch_size=options.batch,
            crop="random",
            seed=0,
            epoch=0,
            jobs=options.jobs,
        )
        ready = loop.mel(next(iter_waves(loop, options)).to(device)).detach()
        loop.network.train()
        for number in range(options.steps + 1):
            began = time.perf_counter()
            batch = next(feed)
            loop._learn(batch.waves, batch.targets, batch.weights, mix)
            synchronise(device)
            middle = time.perf_counter()
            step(loop, ready, batch.targets.to(device), batch.weights.to(device))
            synchronise(device)
            # The first of each warms up.
            if number:
                full.append(middle - began)
                bare.append(time.perf_counter() - middle)
    ratio = statistics.median(f / b for f, b in zip(full, bare, strict=True))
    print(
        f"{options.experiment} on {device}, batch {options.batch}: full step {statistics.median(full):.3f} s, bare "
        f"{statistics.median(bare):.3f} s; overhead {100 * (ratio - 1):.1f} %, {1 / ratio:.2f} of the bare speed"
    )


def prepare(
    folder: Path, experiment: experiments.Experiment, options: argparse.Namespace, device: torch.device
) -> _Loop:
    """Write clips of 30 s and set a training up on them."""
    rng = np.random.default_rng(0)
    infos = []
    for place in range(2 * options.batch):
        wave = 0.1 * rng.standard_normal(30 * RATE)
        soundfile.write(folder / f"{place}.ogg", wave.astype("float32"), RATE)
        infos.append(audio.info(folder / f"{place}.ogg"))
    n = len(infos)
    targets = np.eye(K, dtype="float32")[np.arange(n) % K]
    ready = Prepared(
        classes=tuple(map(str, range(K))),
        recordings=infos,
        targets=targets,
        weights=np.ones_like(targets),
        truth=targets,
        train_rows=np.arange(n).repeat(options.batch * (options.steps + 2) // n + 1),
        valid_rows=np.empty(0, np.int64),
        soundscapes=[],
        row_truth=None,
        clips_sha256="",
        skipped={},
        year=BIRDCLEF_2025,
    )
    contract = Contract(signal=experiment.signal, net=experiment.net, classes=ready.classes)
    network = SedNet(experiment.signal, experiment.net, K, dropout=experiment.fit.dropout)
    network = network.to(device, memory_format=torch.channels_last)
    return _Loop(experiment, contract, ready, network, device, folder, options.jobs, options.cache_gb, 10.0)


def iter_waves(loop: _Loop, options: argparse.Namespace):
    """Yield one batch of waves."""
    rng = np.random.default_rng(1)
    yield torch.from_numpy(np.stack([loop.clips.wave(place, "random", rng) for place in range(options.batch)]))


def step(loop: _Loop, db: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> None:
    """Learn from ready pictures."""
    loop.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(loop.device.type, dtype=torch.float16, enabled=loop.half):
        what, when = loop.network(db)
    loss = criterion(what, when, target, weight, fit=loop.fit, kind="prob")
    loop.scaler.scale(loss).backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
