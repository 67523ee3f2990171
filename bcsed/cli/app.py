"""The command line: one short function per command."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .._version import __version__
from ..config.experiments import describe, difference, find_experiment
from ..errors import BcsedError
from .diagnose import calibrate, calibrate_options, doctor, doctor_options, trace, trace_options
from .evaluate import score, score_options
from .kaggle import kaggle, kaggle_options
from .options import check_options, compare_options, predict_options, pseudolabel_options, rounds_options, train_options
from .parse import experiment as read_experiment
from .parse import training_inputs, training_options
from .predict import check, predict
from .progress import Bar, epoch_line
from .report import report, report_options
from .rounds import compare, pseudolabel, rounds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        status: int = options.run(options)
    except BcsedError as error:
        print(f"bcsed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bcsed: interrupted; what is finished is kept.", file=sys.stderr)
        return 130
    return status


def demo(options: argparse.Namespace) -> int:
    """Walk the whole road on the synthetic sample."""
    began, out = time.monotonic(), Path(options.out)
    data, run, bundle, scores = (shlex.quote(str(out / name)) for name in ("sample", "run", "bundle", "scores"))
    for step in (
        f"sample {data} --year 2025",
        f"train tiny --data {data} --out {run}",
        f"export {run} --out {bundle}",
        f"check {bundle}",
        f"predict {bundle} --recordings {data}/test_soundscapes --out {scores} "
        f"--sample-submission {data}/sample_submission.csv",
        f"score {scores}/submission.csv --truth {data}/test_truth.csv",
    ):
        print(f"\n$ bcsed {step}", flush=True)
        status = main(shlex.split(step))
        if status:
            return status
    print(f"\nall of it took {time.monotonic() - began:.0f} s; look into {out}")
    return 0


def sample(options: argparse.Namespace) -> int:
    """Write the synthetic competition."""
    from ..data import synthetic

    began = time.monotonic()
    folder = synthetic.write(options.folder, year=options.year, seed=options.seed)
    print(f"wrote {folder} in {time.monotonic() - began:.0f} s: a synthetic competition of {options.year}")
    return 0


def experiments(options: argparse.Namespace) -> int:
    """Print the table, or the difference of two of its rows."""
    if options.diff is not None:
        first, second = map(find_experiment, options.diff)
        differing = difference(first, second)
        for name, (left, right) in differing.items():
            print(f"{name:24} {left!s:32} {right!s}")
        if not differing:
            print(f"{first.name} and {second.name} are the same, but for what their notes say")
        return 0
    shown = describe()
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    for row in [{key: key for key in shown[0]}, *shown]:
        print("  ".join(row[key].ljust(widths[key]) for key in row).rstrip())
    return 0


def train(options: argparse.Namespace) -> int:
    """Train a row of the table."""
    from ..train.api import train as run_training

    experiment = read_experiment(options)
    with Bar("train") as bar:
        out = run_training(
            experiment,
            options.data,
            options.out,
            fold=options.fold,
            resume=options.resume,
            inputs=training_inputs(options),
            options=training_options(options),
            progress=lambda epoch, step, steps, loss: bar.step(f"epoch {epoch + 1}", step, steps, f"loss {loss:.4g}"),
            epoch_done=lambda values: bar.say(epoch_line(values, experiment.fit.epochs)),
        )
    bar.say(f"the run is in {out}: metrics.csv, metrics.png, last.pt and, where something was held out, best.pt")
    return 0


def export(options: argparse.Namespace) -> int:
    """Convert a run's network and seal it in a bundle."""
    from ..train.export import export_run

    bundle = export_run(options.run_folder, options.out, options.checkpoint, with_weights=not options.no_weights)
    print(
        f"sealed {bundle.path} from the {bundle.provenance['checkpoint']} checkpoint of {options.run_folder}: "
        f"{len(bundle.contract.classes)} classes, fingerprint {bundle.contract.fingerprint}; torch and OpenVINO "
        f"agree to {bundle.provenance['torch_openvino_difference']:.1e}"
    )
    return 0


def versions(_: argparse.Namespace) -> int:
    """Print the versions that a result depends on."""
    import importlib.metadata
    import platform

    print(f"{'bcsed':14} {__version__}\n{'python':14} {platform.python_version()}")
    for name in [
        "torch",
        "timm",
        "librosa",
        "numpy",
        "pandas",
        "scikit-learn",
        "openvino",
        "joblib",
        "matplotlib",
        "soundfile",
        "soxr",
        "safetensors",
        "pyarrow",
        "tqdm",
    ]:
        try:
            print(f"{name:14} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name:14} not installed")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bcsed", description="Sound event detection for animal recordings.")
    parser.add_argument("--version", action="version", version=f"bcsed {__version__}")
    parser.set_defaults(verbose=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        told = (run.__doc__ or "").strip()
        made = commands.add_parser(run.__name__, help=told, description=told)
        made.add_argument("-v", "--verbose", action="store_true", help="log what is done")
        made.set_defaults(run=run)
        return made

    add = command(demo).add_argument
    add("--out", default="bcsed-demo", help="folder for everything that is made (%(default)s)")
    add = command(sample).add_argument
    add("folder", help="a new folder")
    add("--year", type=int, choices=(2025, 2026), default=2025, help="whose layout (%(default)s)")
    add("--seed", type=int, default=0, help="another seed, another competition (%(default)s)")
    add = command(experiments).add_argument
    add("--diff", nargs=2, metavar=("A", "B"), help="show what differs between two rows")
    train_options(command(train).add_argument)
    add = command(export).add_argument
    add("run_folder", metavar="RUN", help="a folder made by train")
    add("--out", required=True, metavar="BUNDLE", help="a new folder")
    add("--checkpoint", choices=("best", "last"), help="best where something was held out, else last")
    add("--no-weights", action="store_true", help="leave out what only further training needs")
    check_options(command(check).add_argument)
    predict_options(command(predict).add_argument)
    pseudolabel_options(command(pseudolabel).add_argument)
    rounds_options(command(rounds).add_argument)
    compare_options(command(compare).add_argument)
    report_options(command(report).add_argument)
    score_options(command(score).add_argument)
    doctor_options(command(doctor).add_argument)
    trace_options(command(trace).add_argument)
    calibrate_options(command(calibrate).add_argument)
    kaggle_options(command(kaggle))
    command(versions)
    return parser
