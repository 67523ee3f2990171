"""Commands for the first steps: demo, sample, experiments, versions."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import shutil
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .. import interrupt
from .._version import __version__
from ..config.experiments import describe, difference, find_experiment
from ..errors import DataError
from ..files import atomic_write, is_occupied, lock_folder
from . import options
from .options import Add
from .progress import Progress

_PACKAGES = (
    *("torch", "timm", "librosa", "numpy", "pandas", "scikit-learn", "openvino", "joblib", "matplotlib"),
    *("soundfile", "soxr", "safetensors", "pyarrow", "tqdm"),
)


def demo(args: Namespace) -> int:
    """Train, export, predict and evaluate on a small synthetic competition."""
    start, out = time.monotonic(), Path(args.out)
    mark = out / "demo.txt"  # empty until the demo is finished
    with lock_folder(out):
        if mark.is_file() and mark.stat().st_size:
            raise DataError(f"{out} contains a finished demo; name another folder as --out.")
        if is_occupied(out) and not mark.is_file():
            raise DataError(f"{out} contains other files; name a new folder as --out.")
        mark.touch()
        status = _run_demo(out)
        if status:
            return status
        text = f"the demo took {time.monotonic() - start:.0f} s; all files are in {out}"
        with atomic_write(mark) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")
    print(f"\n{text}")
    return 0


def _run_demo(out: Path) -> int:
    """Run the commands of a demo, without those that an interrupted one finished; return the status of the last one."""
    from .app import make_parser

    if not (out / "sample" / "train.csv").is_file():
        shutil.rmtree(out / "sample", ignore_errors=True)
    data, run, bundle, scores = (shlex.quote(str(out / name)) for name in ("sample", "run", "bundle", "scores"))
    resume = " --resume" if (out / "run" / "run.json").is_file() else ""
    for command, result in (
        (f"sample {data} --year 2025", "sample/train.csv"),
        (f"train tiny --data {data} --out {run} --fold none{resume}", ""),
        (f"export {run} --out {bundle}", "bundle/bundle.json"),
        (f"check {bundle}", ""),
        (
            f"predict {bundle} --recordings {data}/test_soundscapes --out {scores} "
            f"--sample-submission {data}/sample_submission.csv",
            "",
        ),
        (f"evaluate {scores}/submission.csv --truth {data}/test_truth.csv", ""),
    ):
        if result and (out / result).is_file():  # of an interrupted demo
            continue
        print(f"\n$ bcsed {command}", flush=True)
        options = make_parser().parse_args(shlex.split(command))
        with interrupt.postponed():
            status: int = options.run(options)
        if status:
            return status
    return 0


def sample(args: Namespace) -> int:
    """Write a small synthetic competition."""
    from ..data import synthetic

    start = time.monotonic()
    with Progress() as progress, progress.elapsed("writing recordings"):
        folder = synthetic.write(args.folder, year=args.year, seed=args.seed, scale=args.scale)
    print(f"wrote {folder} in {time.monotonic() - start:.0f} s: a synthetic competition of {args.year}")
    return 0


def experiments(args: Namespace) -> int:
    """List the experiments, or the settings in which two of them differ."""
    if args.diff is not None:
        first, second = map(find_experiment, args.diff)
        settings = difference(first, second)
        for name, (left, right) in settings.items():
            print(f"{name:24} {left!s:32} {right!s}")
        if not settings:
            print(f"{first.name} and {second.name} have the same settings; only their notes differ")
        return 0
    rows = describe()
    rows.insert(0, {key: key for key in rows[0]})
    widths = {key: max(len(row[key]) for row in rows) for key in rows[0]}
    for row in rows:
        print("  ".join(text.ljust(widths[key]) for key, text in row.items()).rstrip())
    return 0


def versions(_: Namespace) -> int:
    """Print the versions of bcsed, Python and the packages that affect results."""
    print(f"{'bcsed':14} {__version__}\n{'python':14} {platform.python_version()}")
    for name in _PACKAGES:
        try:
            print(f"{name:14} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name:14} not installed")
    return 0


def _demo_options(_: ArgumentParser, add: Add) -> None:
    add("--out", default="bcsed-demo", metavar="DIR", help="folder of all files (%(default)s)")


def _sample_options(_: ArgumentParser, add: Add) -> None:
    add("folder", metavar="DIR", help="a new folder")
    add("--year", type=int, choices=(2025, 2026), default=2025, help="layout (%(default)s)")
    options.add_seed(add, "seed of all sounds")
    add("--scale", type=float, default=1.0, metavar="X", help="number of recordings, 1 is usual (%(default)s)")


def _experiments_options(_: ArgumentParser, add: Add) -> None:
    add("--diff", nargs=2, metavar=("A", "B"), help="show the settings in which A and B differ")


COMMANDS = (
    (demo, _demo_options, "bcsed demo --out bcsed-demo"),
    (sample, _sample_options, "bcsed sample sample26 --year 2026"),
    (experiments, _experiments_options, "bcsed experiments --diff exp-39 exp-93"),
    (versions, lambda *_: None, "bcsed versions"),
)
