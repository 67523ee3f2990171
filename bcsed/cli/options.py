"""The arguments of commands that have many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .reading import fold


def train_options(add: Callable[..., Any]) -> None:
    """Add those of train."""
    add("experiment", metavar="EXPERIMENT", help="a row of `bcsed experiments`")
    add("--data", required=True, metavar="DIR", help="the competition's folder")
    add("--out", required=True, metavar="RUN", help="a new folder")
    add("--fold", type=fold, default=0, metavar="K", help="the fold that is held out, or none (%(default)s)")
    add("--set", action="append", default=[], metavar="a__b=v", help="change a field, e.g. fit__epochs=3")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--pretrained", metavar="FILE|none", help="local weights of the backbone, or a random start")
    add("--device", choices=("cpu", "cuda"), help="a GPU where there is one")
    add("--jobs", type=int, default=4, metavar="N", help="threads that decode (%(default)s)")
    add("--cache-gb", type=float, default=1.0, metavar="G", help="memory for decoded clips (%(default)s)")
    add("--on-error", choices=("stop", "skip"), default="stop", help="what an unreadable recording does")


def predict_options(add: Callable[..., Any]) -> None:
    """Add those of predict."""
    add("bundles", nargs="+", metavar="BUNDLE")
    add("--recordings", nargs="+", required=True, metavar="PATH", help="files and folders")
    add("--out", required=True, metavar="OUT", help="folder for submission.csv, problems.csv, manifest.json")
    add("--weights", nargs="+", type=float, metavar="W", help="one per bundle (equal)")
    add("--windows", choices=("centred", "sliding"), default="centred", help="(%(default)s)")
    add("--stride-s", type=float, metavar="S", help="stride of sliding windows (half a window)")
    add("--row-s", type=int, default=5, metavar="S", help="seconds per row (%(default)s)")
    add("--sample-submission", metavar="FILE", help="the template whose columns are written")
    add(
        "--on-error",
        choices=("report", "fill"),
        default="report",
        help="leave out a recording that cannot be read, or fill its rows with class priors",
    )
    add("--jobs", type=int, default=2, metavar="N", help="threads that decode (%(default)s)")
