"""How close is `bcsed predict` to the network's own speed, and does its memory stay flat?

Run: ``python tests/benchmarks/bench_predict.py [--recordings 40]``. Untrained B0 `WIDE_384` bundles of 206
classes score minutes of ogg; the same windows go through the same compiled graphs in a bare asynchronous loop,
in turn with it. For one member, for three that share a signal, and for windows that do not overlap; then from the
start of a process to its first finished recording; then memory. Quote ratios: the machine may be busy. Those of
processor time do not follow what else runs on it.
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

from bcsed.audio.decode import read_audio
from bcsed.audio.headers import read_info
from bcsed.models.network import SedNet

RATE = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backbone", default="tf_efficientnet_b0.ns_jft_in1k")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory(Path(options.folder), options.memory_of, options.jobs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 4 * options.recordings, options.backbone)
        speed(folder, options)
        start(folder, options.repeats)
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


def prepare(folder: Path, n: int, backbone: str) -> None:
    """Write four different minutes, and links to them under n names; seal three bundles."""
    import torch

    from bcsed.config.contract import WIDE_384, Contract, Net
    from bcsed.models.export import export

    rng = np.random.default_rng(0)
    t = np.arange(60 * RATE) / RATE
    for place in range(4):
        wave = 0.05 * rng.standard_normal(t.size) + 0.2 * np.sin(2 * np.pi * (800 + 300 * place) * t) * (t % 3 < 1)
        soundfile.write(folder / f"minute{place}.ogg", wave.astype("float32"), RATE)
    (folder / "recordings").mkdir()
    for place in range(n):
        (folder / "recordings" / f"r{place:04}.ogg").symlink_to(folder / f"minute{place % 4}.ogg")
    net = Net(backbone=backbone)
    contract = Contract(frontend=WIDE_384, net=net, classes=tuple(f"class{k:03}" for k in range(206)))
    for seed in range(3):
        torch.manual_seed(seed)
        network = SedNet(WIDE_384, net, 206)
        export(network, folder / f"bundle{seed}", contract=contract, priors=np.full(206, 1 / 206, "float32"))


def clock() -> np.ndarray:
    """Return wall time and this process's processor time, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def bare(bundles: list, windows: np.ndarray, n: int) -> np.ndarray:
    """Return the wall and processor seconds that n recordings' windows take in a bare loop over some networks."""
    import openvino

    from bcsed.models.bundle.bundle import compile_graph, read_graph

    queues = []
    for one in bundles:
        queues.append(openvino.AsyncInferQueue(compile_graph(read_graph(one), one.contract.frontend), 4))
        queues[-1].start_async([windows[0][None]])
        queues[-1].wait_all()
    began = clock()
    for queue in queues:
        for _ in range(n):
            for window in windows:
                queue.start_async([window[None]])
        queue.wait_all()
    return clock() - began


def speed(folder: Path, options: argparse.Namespace) -> None:
    import torch

    from bcsed import predict
    from bcsed.audio.spectrogram import LogMel
    from bcsed.audio.windows import plan_windows
    from bcsed.config.contract import WIDE_384
    from bcsed.models import bundle

    loaded = [bundle.load(folder / f"bundle{k}") for k in range(3)]
    paths = sorted((folder / "recordings").iterdir())[: options.recordings]
    wave = read_audio(read_info(paths[0]), RATE)[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mel = LogMel(WIDE_384)
    db = mel.compute(wave, 0, 3840)
    decoding = best(lambda: read_audio(read_info(paths[0]), RATE)[0])
    picturing = best(lambda: mel.compute(wave, 0, 3840))
    torch.set_num_threads(threads)
    windows = np.stack([db[:, start : start + 768] for start in plan_windows(len(wave), WIDE_384, 24, 5).starts])
    sliding = predict.Windowing(windows="sliding", stride_s=12.0)
    run_options = predict.RunOptions(jobs=options.jobs)
    network_s, faster = [], []
    for members in (loaded[:1], loaded):
        predict.predict(members, paths[:1])  # imports and first allocations are not what is compared
        ratios, compiled = [], compiling(members)
        # Three members take three times as long.
        chosen = paths[:: len(members)]
        for repeat in range(options.repeats):
            network = bare(members, windows, len(chosen))
            began = clock()
            predict.predict(members, chosen, options=run_options)
            took = clock() - began
            # Compiling is no part of the pace, and the bare loop had done so before.
            took -= compiled
            ratios.append(took / network)
            if len(members) == 1:
                network_s.append(network[0] / len(chosen))
                began = clock()
                predict.predict(members, chosen, options=run_options, windowing=sliding)
                faster.append(took / (clock() - began - compiled))
            print(
                f"{len(members)} members, run {repeat + 1}: bare {network[0]:.2f} s ({network[1]:.2f} s of processor), "
                f"predict {took[0]:.2f} s ({took[1]:.2f} s), ratio {ratios[-1][0]:.3f} ({ratios[-1][1]:.3f})"
            )
        wall, processor = np.median(ratios, axis=0)
        print(f"{len(members)} members: median ratio {wall:.3f} by the clock, {processor:.3f} of processor time")
    print(
        f"seconds per recording: decoding {decoding:.3f}, picture {picturing:.3f} (one thread each), network "
        f"{statistics.median(network_s):.3f} (all cores)"
    )
    wall, processor = np.median(faster, axis=0)
    told = ", ".join(f"{one[0]:.2f}" for one in faster)
    print(f"12-s windows that do not overlap are {wall:.2f} times as fast ({processor:.2f} of processor time): {told}")


def compiling(members: list) -> np.ndarray:
    """Return the wall and processor seconds that compiling some networks takes, the least of three."""
    from bcsed.models.ensemble import from_bundles

    times = []
    for _ in range(3):
        began = clock()
        from_bundles(members)
        times.append(clock() - began)
    return np.min(times, axis=0)


def start(folder: Path, repeats: int) -> None:
    """Time a process from its start to its first finished recording, with graphs compiled before and kept."""
    code = """
import sys, time
from bcsed.cli.app import main
from bcsed.predict import process_age_s
from bcsed.predict.run import PredictionRun
original = PredictionRun._put
def put(self, finished):
    original(self, finished)
    if finished:
        print(f"first {process_age_s():.2f}", flush=True)
PredictionRun._put = put
main(sys.argv[1:])
"""
    times = []
    for run in range(1 + repeats):
        words = ["predict", str(folder / "bundle0"), "--recordings", str(folder / "minute0.ogg")]
        words += ["--out", str(folder / f"start{run}"), "--graph-cache", str(folder / "cache")]
        told = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True).stdout
        times.append(float(told.split("first ")[1].split()[0]))
    cold, *warm = times
    print(f"start to first finished recording: {cold:.2f} s, with a warm cache {min(warm):.2f} s (best of {repeats})")


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
    from bcsed import predict
    from bcsed.models import bundle

    paths = sorted((folder / "recordings").iterdir())[:n]
    predict.predict([bundle.load(folder / "bundle0")], paths, options=predict.RunOptions(jobs=jobs))
    # Not ru_maxrss, which remembers the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
