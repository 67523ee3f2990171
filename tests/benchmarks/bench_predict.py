"""How close is `bcsed predict` to the network's own speed, and does its memory stay flat?

Run: ``python tests/benchmarks/bench_predict.py [--recordings 40]``. An untrained B0 `WIDE_384` bundle of 206
classes scores minutes of ogg; the same windows go through the same compiled graph in a bare asynchronous loop,
in turn with it. Quote the ratio: the machine may be busy.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory(Path(options.folder), options.memory_of, options.jobs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 4 * options.recordings)
        speed(folder, options)
        peaks = []
        for n in (options.recordings, 4 * options.recordings):
            call = [
                sys.executable,
                __file__,
                "--memory-of",
                str(n),
                "--folder",
                name,
                "--jobs",
                str(options.jobs),
            ]
            peaks.append(int(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
            print(f"peak memory at {n} recordings: {peaks[-1] / 1024:.0f} MiB")
        print(f"ratio of peak memory: {peaks[1] / peaks[0]:.3f}")


def prepare(folder: Path, n: int) -> None:
    """Write four different minutes, and links to them under n names; seal the bundle."""
    import torch

    from bcsed import export, model
    from bcsed.config import WIDE_384, Contract, Net

    rng = np.random.default_rng(0)
    t = np.arange(60 * RATE) / RATE
    for place in range(4):
        wave = 0.05 * rng.standard_normal(t.size) + 0.2 * np.sin(2 * np.pi * (800 + 300 * place) * t) * (t % 3 < 1)
        soundfile.write(folder / f"minute{place}.ogg", wave.astype("float32"), RATE)
    (folder / "recordings").mkdir()
    for place in range(n):
        (folder / "recordings" / f"r{place:04}.ogg").symlink_to(folder / f"minute{place % 4}.ogg")
    torch.manual_seed(0)
    net = Net()
    contract = Contract(signal=WIDE_384, net=net, classes=tuple(f"class{k:03}" for k in range(206)))
    network = model.SedNet(WIDE_384, net, 206)
    export.export(network, folder / "bundle", contract=contract, priors=np.full(206, 1 / 206, "float32"))


def bare(compiled_bundle: object, windows: np.ndarray, n: int) -> float:
    """Return the seconds that n recordings' windows take in a bare loop."""
    import openvino

    from bcsed.bundle import compile_graph, read_graph

    compiled = compile_graph(read_graph(compiled_bundle), compiled_bundle.contract.signal)
    queue = openvino.AsyncInferQueue(compiled, 4)
    queue.start_async([windows[0][None]])
    queue.wait_all()
    began = time.perf_counter()
    for _ in range(n):
        for window in windows:
            queue.start_async([window[None]])
    queue.wait_all()
    return time.perf_counter() - began


def speed(folder: Path, options: argparse.Namespace) -> None:
    import torch

    from bcsed import audio, bundle, predict
    from bcsed.config import WIDE_384
    from bcsed.spectrogram import LogMel
    from bcsed.windows import plan

    loaded = bundle.load(folder / "bundle")
    paths = sorted((folder / "recordings").iterdir())[: options.recordings]
    wave = audio.load(paths[0], RATE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mel = LogMel(WIDE_384)
    db = mel.picture(wave, 0, 3840).numpy()
    decoding = best(lambda: audio.load(paths[0], RATE))
    picturing = best(lambda: mel.picture(wave, 0, 3840))
    torch.set_num_threads(threads)
    windows = np.stack([db[:, start : start + 768] for start in plan(len(wave), WIDE_384, 24, 5).starts])
    ratios, network_s = [], []
    predict.predict([loaded], paths[:1])  # imports and first allocations are not what is compared
    for repeat in range(options.repeats):
        network = bare(loaded, windows, len(paths))
        result = predict.predict([loaded], paths, jobs=options.jobs)
        ratios.append(result.seconds / network)
        network_s.append(network / len(paths))
        print(f"run {repeat + 1}: bare {network:.2f} s, predict {result.seconds:.2f} s, ratio {ratios[-1]:.3f}")
    print(
        f"seconds per recording: decoding {decoding:.3f}, picture {picturing:.3f} (one thread each), network "
        f"{statistics.median(network_s):.3f} (all cores)"
    )
    print(f"ratio of predict to the bare network, {len(paths)} recordings: median {statistics.median(ratios):.3f}")


def best(function: object, n: int = 5) -> float:
    """Return the shortest of n times, in seconds."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def memory(folder: Path, n: int, jobs: int) -> None:
    """Print this process's peak memory in KiB after predicting n recordings."""
    from bcsed import bundle, predict

    predict.predict([bundle.load(folder / "bundle")], sorted((folder / "recordings").iterdir())[:n], jobs=jobs)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
