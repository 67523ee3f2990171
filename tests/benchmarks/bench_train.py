"""Measure the cost of a training step relative to the network's forward and backward pass.

Run: ``python tests/benchmarks/bench_train.py [EXPERIMENT] [--steps 6] [--batch 8] [--cache-gb 1]``. The full step
decodes ogg files of clips and soundscapes in threads, mixes, injects, computes spectrograms and trains, as
`bcsed train` does; the bare step trains on dB windows that are on the device. Both alternate in one process; quote
the ratio. On a GPU: ``bench_train.py exp-93 --batch 32 --jobs 8``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

from bcsed.audio.headers import read_info
from bcsed.config.contract import Contract
from bcsed.config.experiments import Experiment, find_experiment
from bcsed.data.competitions import BIRDCLEF_2025
from bcsed.models.network import SedNet
from bcsed.train.augment import make_augmentations
from bcsed.train.data import TrainingData, TrainOptions
from bcsed.train.dataset.batches import BatchInputs, batches, epoch_order
from bcsed.train.dataset.clips import ClipReader
from bcsed.train.dataset.excerpts import ExcerptSampler
from bcsed.train.distributed import Distributed
from bcsed.train.loop import Loop
from bcsed.train.losses import criterion

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
    experiment = find_experiment(options.experiment).vary("bench", fit__batch_size=options.batch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        loop = prepare(Path(name), experiment, options, device)
        mix = make_augmentations(experiment.augment, experiment.frontend.top_db, 0)
        first = next(feed_of(loop, options, 0)).clips
        with torch.no_grad():
            ready = loop.mel(first.waves.to(device))
        target = first.targets.to(device)
        loop.network.train()
        full, bare, scales = [], [], []
        for repeat in range(3):
            # No batches are decoded while the bare step is timed: the threads would slow it down.
            def bare_step() -> None:
                step(loop, ready, target, torch.ones_like(target))

            bare.append(statistics.mean([timed(bare_step, device) for _ in range(options.steps + 1)][1:]))
            feed = feed_of(loop, options, repeat)

            def full_step(feed=feed) -> None:
                loop._train_step(next(feed), mix)
                scales.append(loop.scaler.get_scale())

            full.append(statistics.mean([timed(full_step, device) for _ in range(options.steps + 1)][1:]))
            feed.close()
    ratio = statistics.median(f / b for f, b in zip(full, bare, strict=True))
    print(
        f"{options.experiment} on {device}, batch {options.batch}: full step {statistics.median(full):.3f} s, bare "
        f"{statistics.median(bare):.3f} s; overhead {100 * (ratio - 1):.1f} %, {1 / ratio:.2f} of the bare speed "
        f"(cache {options.cache_gb:g} GB), {options.batch / statistics.median(full):.0f} clips per second"
    )
    if loop.scaler.is_enabled():
        # The scale of half precision is halved after a step whose gradients overflow, which is left out.
        overflows = [number for number in range(1, len(scales)) if scales[number] < scales[number - 1]]
        print(
            f"half precision: {len(overflows)} of {len(scales)} steps overflowed {overflows[:9]}; scale {scales[-1]:g}"
        )


def prepare(folder: Path, experiment: Experiment, options: argparse.Namespace, device: torch.device) -> Loop:
    """Write clips of 30 s and soundscapes of 60 s, and prepare a training on them."""
    rng = np.random.default_rng(0)
    n, n_soundscapes = 2 * options.batch, options.batch
    waves = [0.1 * rng.standard_normal((30 if index < n else 60) * RATE, "f4") for index in range(n + n_soundscapes)]
    paths = [folder / f"{index}.ogg" for index in range(len(waves))]
    with ThreadPoolExecutor() as executor:
        list(executor.map(lambda path, wave: soundfile.write(path, wave, RATE), paths, waves))
    infos = [read_info(path) for path in paths]
    class_index = np.arange(n) % K
    targets = np.eye(K, dtype="float32")[class_index]
    ready = TrainingData(
        classes=tuple(map(str, range(K))),
        inputs=BatchInputs(
            ClipReader(infos[:n], experiment.frontend, experiment.data, options.cache_gb / 2),
            targets,
            np.ones_like(targets),
            class_index=class_index,
            injectors=injectors(infos[n:], experiment, options, rng),
        ),
        names=list(map(str, range(n))),
        originals=list(map(str, range(n))),
        listed=targets > 0,
        train_rows=np.arange(n).repeat(options.batch * (options.steps + 5) // n + 1),
        valid_rows=np.empty(0, np.int64),
        soundscapes=[],
        row_truth=None,
        clips_sha256="",
        labels_sha256="",
        sources={},
        duplicates=pd.DataFrame(),
        skipped={},
        competition=BIRDCLEF_2025,
    )
    contract = Contract(frontend=experiment.frontend, net=experiment.net, classes=ready.classes)
    network = SedNet(experiment.frontend, experiment.net, K, dropout=experiment.fit.dropout)
    network = network.to(device, memory_format=torch.channels_last)
    how = TrainOptions(jobs=options.jobs, cache_gb=options.cache_gb)
    return Loop(experiment, contract, ready, network, Distributed(0, 1, device), folder, how)


def injectors(infos, experiment: Experiment, options: argparse.Namespace, rng: np.random.Generator):
    """Return pseudolabelled soundscapes if the experiment injects them."""
    if not experiment.pseudo.share:
        return ()
    file, start = np.repeat(np.arange(len(infos)), 12), np.tile(5 * np.arange(12), len(infos))
    values = rng.random((len(file), K)) * (rng.random((len(file), K)) < 0.01)
    source = ExcerptSampler(
        infos,
        file,
        start,
        start + 5,
        values,
        frontend=experiment.frontend,
        data=experiment.data,
        pseudo=True,
        cache_gb=options.cache_gb,
    )
    return ((source, experiment.pseudo),)


def feed_of(loop: Loop, options: argparse.Namespace, epoch: int):
    """Return the batches of an epoch, as in the loop."""
    return batches(
        loop.data.inputs,
        epoch_order(loop.data.train_rows, 0, epoch),
        batch_size=options.batch,
        crop="random",
        seed=0,
        epoch=epoch,
        jobs=options.jobs,
    )


def step(loop: Loop, db: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> None:
    """Train on spectrograms."""
    loop.optimizer.zero_grad(set_to_none=True)
    with loop.mixed():
        logits, attention = loop.network(db)
    loss = criterion(logits, attention, target, weight, fit=loop.fit, kind="prob")
    loop.scaler.scale(loss).backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()


def timed(act: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    act()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
