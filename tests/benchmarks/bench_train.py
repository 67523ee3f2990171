"""What does a training step cost beyond the network's own forward and backward pass?

Run: ``python tests/benchmarks/bench_train.py [EXPERIMENT] [--steps 5] [--batch 8] [--cache-gb 1]``. Real ogg files
are decoded by the loader's threads, mixed, pictured and learned from, as in `bcsed train`; the bare pass learns from
ready dB windows on the device. Both take turns in one process; quote the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
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
from bcsed.train import Prepared
from bcsed.train.loop import Loop, augment

RATE = 32_000
K = 206


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", default="exp-93")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--cache-gb", type=float, default=1.0)
    options = parser.parse_args()
    experiment = experiments.find(options.experiment).vary("bench", fit__batch_size=options.batch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        loop = prepare(Path(name), experiment, options, device)
        mix = augment.from_config(experiment.augment, experiment.signal.top_db, 0)
        ready = loop.mel(next(iter_waves(loop, options)).to(device)).detach()
        target = torch.from_numpy(loop.ready.targets[: options.batch]).to(device)
        loop.network.train()
        full, bare = [], []
        for repeat in range(3):
            # The loader is closed while the bare pass is timed: its threads would slow that, not the full step.
            times = [timed(lambda: step(loop, ready, target, torch.ones_like(target)), device)]
            times += [
                timed(lambda: step(loop, ready, target, torch.ones_like(target)), device) for _ in range(options.steps)
            ]
            bare.append(statistics.mean(times[1:]))
            feed = batches(
                loop.clips,
                epoch_order(loop.ready.train_rows, 0, repeat),
                loop.ready.targets,
                loop.ready.weights,
                batch_size=options.batch,
                crop="random",
                seed=0,
                epoch=repeat,
                jobs=options.jobs,
            )

            def learn(feed=feed) -> None:
                batch = next(feed)
                loop._learn(batch.waves, batch.targets, batch.weights, mix)

            times = [timed(learn, device) for _ in range(options.steps + 1)]
            full.append(statistics.mean(times[1:]))
            feed.close()
    ratio = statistics.median(f / b for f, b in zip(full, bare, strict=True))
    print(
        f"{options.experiment} on {device}, batch {options.batch}: full step {statistics.median(full):.3f} s, bare "
        f"{statistics.median(bare):.3f} s; overhead {100 * (ratio - 1):.1f} %, {1 / ratio:.2f} of the bare speed "
        f"(cache {options.cache_gb:g} GB)"
    )


def prepare(
    folder: Path, experiment: experiments.Experiment, options: argparse.Namespace, device: torch.device
) -> Loop:
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
        train_rows=np.arange(n).repeat(options.batch * (options.steps + 5) // n + 1),
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
    return Loop(experiment, contract, ready, network, device, folder, options.jobs, options.cache_gb, 10.0)


def iter_waves(loop: Loop, options: argparse.Namespace):
    """Yield one batch of waves."""
    rng = np.random.default_rng(1)
    yield torch.from_numpy(np.stack([loop.clips.wave(place, "random", rng) for place in range(options.batch)]))


def step(loop: Loop, db: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> None:
    """Learn from ready pictures."""
    loop.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(loop.device.type, dtype=torch.float16, enabled=loop.half):
        what, when = loop.network(db)
    loss = criterion(what, when, target, weight, fit=loop.fit, kind="prob")
    loop.scaler.scale(loss).backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()


def timed(act: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that an act takes."""
    began = time.perf_counter()
    act()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
