"""The command that shows: report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .progress import Bar


def report(options: argparse.Namespace) -> int:
    """Write one page of HTML about runs, bundles, predictions, pseudolabels or rounds."""
    from ..report.api import report as write_report

    with Bar("report") as bar:
        made = write_report(
            options.paths,
            options.out,
            truth=options.truth,
            recordings=options.recordings or (),
            bundle=options.bundle,
            taxonomy=options.taxonomy,
            n_examples=options.show,
            limit_mb=options.limit_mb,
            jobs=options.jobs,
            progress=lambda name: bar.step(f"looking at {name}", 0, 1, ""),
        )
    bar.say(f"{made.path}: {made.n_bytes / 1e6:.1f} MB; {', '.join(made.parts)}")
    if made.left_out:
        bar.say(made.left_out)
    return 0


def report_options(add: Callable[..., Any]) -> None:
    """Add those of report."""
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="runs, bundles, folders of predict, score tables, tables of pseudolabels, rounds; or a folder of these",
    )
    add("--out", default="report.html", metavar="FILE", help="the page to write (%(default)s)")
    add(
        "--truth", metavar="FILE", help="labels of soundscapes: a table of 0 and 1, or filename,start,end,primary_label"
    )
    add("--recordings", nargs="+", metavar="PATH", help="where recordings are; with --truth, score runs on them")
    add(
        "--bundle",
        metavar="BUNDLE",
        help="the network whose attention is shown (the run's own, the prediction's first)",
    )
    add("--taxonomy", metavar="FILE", help="taxonomy.csv, for names and taxa (that of a run's data)")
    add("--show", type=int, default=3, metavar="N", help="recordings from either end, worst and best (%(default)s)")
    add("--limit-mb", type=float, default=10.0, metavar="M", help="megabytes of the page at most (%(default)s)")
    add("--jobs", type=int, default=2, metavar="N", help="threads that decode (%(default)s)")
