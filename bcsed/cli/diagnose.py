"""Commands that search for faults in scores: doctor, trace."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from . import options
from .options import Command
from .progress import Progress

if TYPE_CHECKING:
    from ..analysis.doctor.compare import Comparison

# Classes and recordings that are listed when two tables differ.
_N_LISTED = 5


def doctor(args: Namespace) -> int:
    """Find faults in a score table, or the differences of two tables; exit 1 if there are any."""
    from ..analysis.doctor.api import diagnose

    with Progress() as progress, progress.elapsed("reading"):
        diagnosis = diagnose(
            args.scores,
            args.other,
            recordings=args.recordings or (),
            sample_submission=args.sample_submission,
            tolerance=args.tolerance,
        )
    for finding in diagnosis.findings:
        print(f"{finding.severity:7} {finding.name + ':':20} {finding.sentence}")
    comparison = diagnosis.comparison
    if comparison is not None and not comparison.same and len(comparison.largest):
        _print_comparison(comparison)
    print(f"{'FAILED' if diagnosis.failed else 'OK'}: {diagnosis.verdict}")
    return 1 if diagnosis.failed else 0


def _print_comparison(comparison: Comparison) -> None:
    spearman = comparison.spearman.sort_values()
    print(f"Spearman, lowest:         {_list_values(spearman)}; mean {spearman.mean():.3f}")
    if comparison.shifts:
        shifts = ", ".join(f"{shift:+d}: {value:.3f}" for shift, value in comparison.shifts.items())
        print(f"Spearman, rows moved by:  {shifts}")
    print(f"largest differences:      {_list_values(comparison.largest)}")


def _list_values(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.head(_N_LISTED).items())


def trace(args: Namespace) -> int:
    """Save every stage between a recording and its rows; with --against, exit 1 if a stage differs."""
    from ..analysis import trace as tracing
    from ..models.bundle.bundle import load

    against = None if args.against is None else tracing.read(args.against)
    tolerances = options.read_values(args.tolerance, "--tolerance", "stage=value, such as db=0.1")
    result = tracing.trace(
        load(args.bundle),
        args.recording,
        windowing=options.read_windowing(args),
        first_row=args.first_row,
        n_rows=args.n_rows,
    )
    tracing.write(result, args.out)
    print(result.table().to_string(index=False, float_format="%.4g"))
    if against is None:
        print(f"written to {args.out}")
        return 0
    comparison = tracing.compare(result, against, tolerances)
    for stage in comparison.stages:
        print(f"{stage.status:8} {stage.name:8} {stage.sentence if stage.status != 'absent' else ''}".rstrip())
    print(comparison.verdict)
    return 0 if comparison.first is None else 1


def _doctor_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("scores", metavar="SCORES", help="a score table: CSV like submission.csv, or Parquet")
    add("other", nargs="?", metavar="OTHER", help="scores of the same rows by another pipeline")
    add("--recordings", nargs="+", metavar="PATH", help="the recordings of the rows")
    add("--sample-submission", metavar="FILE", help="template of the competition")
    options.add_value(parser, "--tolerance", 1e-4, "P", "ignore smaller differences")


def _trace_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="the bundle to trace")
    add("recording", metavar="RECORDING", help="the recording to score")
    add("--out", required=True, metavar="FILE", help="the trace to write, *.npz")
    add("--against", metavar="FILE", help="another trace, or an npz of arrays named as the stages")
    options.add_list(parser, "--tolerance", "STAGE=VALUE", "allowed difference of a stage, e.g. db=0.1")
    options.add_value(parser, "--first-row", 0, "N", "first row, from 0")
    options.add_value(parser, "--n-rows", 24, "N", "maximum number of rows")
    options.add_windowing(parser)


COMMANDS = (
    Command(doctor, _doctor_options, "bcsed doctor scores/submission.csv other.csv --recordings DIR/test_soundscapes"),
    Command(trace, _trace_options, "bcsed trace bundle recording.ogg --out ours.npz --against theirs.npz"),
)
