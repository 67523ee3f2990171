"""Commands that say whether scores can be believed: doctor, trace, calibrate."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError

# Evidence of two tables: so many classes and recordings are shown.
_SHOWN = 5


def doctor(options: argparse.Namespace) -> int:
    """Say what is wrong with a score table, or between two; exit 1 when ill."""
    from ..analysis.doctor.api import diagnose

    found = diagnose(
        options.scores,
        options.other,
        recordings=options.recordings or (),
        sample_submission=options.sample_submission,
        tolerance=options.tolerance,
    )
    for finding in found.findings:
        print(f"{finding.severity:7} {finding.name + ':':20} {finding.sentence}")
    if found.comparison is not None and not found.comparison.same and len(found.comparison.largest):
        spearman = found.comparison.spearman.sort_values()
        print(f"Spearman, lowest:         {_listed(spearman)}; mean {spearman.mean():.3f}")
        if found.comparison.shifts:
            shifts = ", ".join(f"{shift:+d}: {value:.3f}" for shift, value in found.comparison.shifts.items())
            print(f"Spearman, rows moved by:  {shifts}")
        print(f"largest differences:      {_listed(found.comparison.largest)}")
    print(f"{'FAILED' if found.failed else 'OK'}: {found.verdict}")
    return 1 if found.failed else 0


def _listed(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.head(_SHOWN).items())


def trace(options: argparse.Namespace) -> int:
    """Keep every stage between a recording and its rows; with --against, name the first that differs."""
    from ..analysis import trace as tracing
    from ..models.bundle.bundle import load
    from ..predict.blocks import Windowing

    against = None if options.against is None else tracing.read(options.against)
    tolerances = _tolerances(options.tolerance)
    windowing = Windowing(row_s=options.row_s, windows=options.windows, stride_s=options.stride_s)
    made = tracing.trace(
        load(options.bundle), options.recording, windowing=windowing, first_row=options.first_row, n_rows=options.n_rows
    )
    tracing.write(made, options.out)
    print(made.table().to_string(index=False, float_format="%.4g"))
    if against is None:
        print(f"written to {options.out}")
        return 0
    found = tracing.compare(made, against, tolerances)
    for stage in found.stages:
        print(f"{stage.status:8} {stage.name:8} {stage.sentence if stage.status != 'absent' else ''}".rstrip())
    print(found.verdict)
    return 0 if found.first is None else 1


def _tolerances(given: list[str]) -> dict[str, float]:
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--tolerance takes stage=value, such as db=0.1; got {text!r}.") from error
    return found


def calibrate(options: argparse.Namespace) -> int:
    """Find the threshold of each class at a wanted precision, and say how far probabilities can be believed."""
    from ..scores.calibration import calibrate as run_calibration
    from ..scores.calibration import write_thresholds
    from ..scores.evaluation import read_truth
    from ..scores.table import check_table, read_table

    scores = read_table(options.scores)
    check_table(scores, where=str(options.scores))
    truth = read_truth(options.truth, list(map(str, scores.columns)))
    found = run_calibration(truth, scores, precision=options.precision, min_positives=options.support)
    print(found.table.to_string(index=False, float_format="%.3f"))
    print(found.reliability.to_string(index=False, float_format="%.3f"))
    if options.out is not None:
        write_thresholds(found, options.out)
    reached = len(found.thresholds)
    print(
        f"{reached} of {len(found.table)} classes reach a precision of {options.precision:g} with at least "
        f"{options.support} true rows; expected calibration error {found.ece:.3f}"
        + (f"; thresholds in {Path(options.out)}" if options.out is not None else "")
    )
    return 0


def doctor_options(add: Callable[..., Any]) -> None:
    """Add those of doctor."""
    add("scores", metavar="SCORES", help="a table like submission.csv, or Parquet")
    add("other", nargs="?", metavar="OTHER", help="another path's answers for the same rows")
    add("--recordings", nargs="+", metavar="PATH", help="files and folders that the rows should be of")
    add("--sample-submission", metavar="FILE", help="the competition's template")
    add("--tolerance", type=float, default=1e-4, metavar="P", help="differences up to this are none (%(default)s)")


def trace_options(add: Callable[..., Any]) -> None:
    """Add those of trace."""
    add("bundle", metavar="BUNDLE")
    add("recording", metavar="RECORDING")
    add("--out", required=True, metavar="FILE", help="the trace to write, *.npz")
    add("--against", metavar="FILE", help="another trace, or any npz of arrays by the names of the stages")
    add("--tolerance", action="append", default=[], metavar="STAGE=V", help="what a stage may differ by, e.g. db=0.1")
    add("--first-row", type=int, default=0, metavar="N", help="the first row to trace, from 0 (%(default)s)")
    add("--n-rows", type=int, default=24, metavar="N", help="at most so many rows (%(default)s)")
    add("--windows", choices=("centred", "sliding"), default="centred", help="(%(default)s)")
    add("--stride-s", type=float, metavar="S", help="stride of sliding windows (half a window)")
    add("--row-s", type=int, default=5, metavar="S", help="seconds per row (%(default)s)")


def calibrate_options(add: Callable[..., Any]) -> None:
    """Add those of calibrate."""
    add("scores", metavar="SCORES", help="a table like submission.csv")
    add("--truth", required=True, metavar="FILE", help="a table of 0 and 1, or labels, as for score")
    add("--precision", type=float, default=0.9, metavar="P", help="of what lies at or above it (%(default)s)")
    add("--support", type=int, default=5, metavar="N", help="true rows that a threshold must keep (%(default)s)")
    add("--out", metavar="FILE", help="the thresholds to write, *.json")
