"""The arguments of commands that have many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parse import fold


def train_options(add: Callable[..., Any]) -> None:
    """Add those of train."""
    add("experiment", metavar="EXPERIMENT", help="a row of `bcsed experiments`")
    add("--data", required=True, metavar="DIR", help="the competition's folder")
    add("--out", required=True, metavar="RUN", help="a new folder")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--fold", type=fold, default=0, metavar="K", help="the fold that is held out, or none (%(default)s)")
    _learning_options(add)


def _learning_options(add: Callable[..., Any]) -> None:
    add("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", help="change a field, e.g. fit.epochs=3")
    add("--pseudolabels", metavar="FILE", help="a table made by pseudolabel, where soundscapes are injected")
    add("--teacher", metavar="FILE", help="a teacher's embeddings of the clips, where they are distilled")
    add("--pretrained", metavar="FILE|none", help="a run, a bundle or a file of weights; or a random start")
    add("--key-map", metavar="JSON", help='prefixes of its tensors, e.g. \'{"encoder.": "backbone."}\'; or a file')
    add("--allow-mismatch", action="store_true", help="start although tensors are missing or left over")
    add("--device", choices=("cpu", "cuda"), help="a GPU where there is one")
    add("--jobs", type=int, default=4, metavar="N", help="threads that decode (%(default)s)")
    add("--cache-gb", type=float, default=1.0, metavar="G", help="memory for decoded clips (%(default)s)")
    add("--on-error", choices=("stop", "skip"), default="stop", help="what an unreadable recording does")


def check_options(add: Callable[..., Any]) -> None:
    """Add those of check."""
    add("bundles", nargs="+", metavar="BUNDLE")
    add("--precision", choices=("bf16",), help="show what computing in this changes")
    add("--recordings", nargs="+", metavar="PATH", help="on these, besides the probe")
    add("--truth", metavar="FILE", help="and what it changes in macro ROC-AUC")
    add("--jobs", type=int, default=2, metavar="N", help="threads that decode (%(default)s)")


def predict_options(add: Callable[..., Any]) -> None:
    """Add those of predict."""
    add("bundles", nargs="+", metavar="BUNDLE")
    add("--recordings", nargs="+", required=True, metavar="PATH", help="files and folders, also s3://... and the like")
    add("--out", required=True, metavar="OUT", help="folder for what is made; a killed run goes on there")
    add("--weights", nargs="+", type=float, metavar="W", help="one per bundle (equal)")
    add("--mean", choices=("prob", "logit", "rank"), default="prob", help="of the bundles' answers (%(default)s)")
    add("--windows", choices=("centred", "sliding"), default="centred", help="(%(default)s)")
    add("--stride-s", type=float, metavar="S", help="stride of sliding windows (half a window)")
    add(
        "--shifts-s",
        nargs="+",
        type=float,
        default=[0.0],
        metavar="S",
        help="look at shifted windows too, e.g. 0 1.5 -1.5",
    )
    add("--row-s", type=int, default=5, metavar="S", help="seconds per row (%(default)s)")
    add("--sample-submission", metavar="FILE", help="the template whose columns are written")
    add("--post", nargs="+", default=[], metavar="STEP", help="smooth=.1,.8,.1 smooth.Aves=... top=3 power=1.5")
    add("--taxonomy", metavar="FILE", help="taxonomy.csv: taxa for --post, names for detections")
    add("--precision", choices=("f32", "bf16"), default="f32", help="in which networks compute (%(default)s)")
    add(
        "--on-error",
        choices=("report", "fill"),
        default="report",
        help="leave out a recording that cannot be read, or fill its rows with class priors",
    )
    _format_options(add)
    add("--budget-min", type=float, metavar="M", help="be done M minutes after this process began, with every row")
    add("--spent-min", type=float, default=0.0, metavar="M", help="minutes that went before, e.g. installing")
    add("--jobs", type=int, default=2, metavar="N", help="threads that decode (%(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="share recordings out among N workers (%(default)s)")
    add("--backend", choices=("threads", "processes"), default="threads", help="of workers (%(default)s)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:8786, whose workers score")
    add("--shard", type=int, metavar="N", help="recordings written, and given to a worker, together")
    add("--graph-cache", metavar="DIR", help="keep compiled networks here, to begin sooner the next time")


def _format_options(add: Callable[..., Any]) -> None:
    add(
        "--format",
        nargs="+",
        default=["submission"],
        metavar="NAME",
        choices=("submission", "scores", "raven", "audacity", "csv", "parquet", "members", "frames"),
        help="submission, scores (wide Parquet), raven, audacity, csv, parquet (detections), members, frames",
    )
    add("--threshold", type=float, metavar="P", help="score of a detection (0.5)")
    add("--threshold-of", action="append", default=[], metavar="CLASS=P", help="an exception")
    add("--thresholds", metavar="FILE", help="thresholds of classes, as calibrate writes them")
    add("--no-merge", action="store_true", help="a detection for every row, though rows of a class follow one another")
    add("--gap-rows", type=int, default=0, metavar="N", help="rows that a merged detection bridges (%(default)s)")
    add("--min-rows", type=int, default=1, metavar="N", help="rows that one has at least (%(default)s)")


def pseudolabel_options(add: Callable[..., Any]) -> None:
    """Add those of pseudolabel."""
    add("bundles", nargs="+", metavar="BUNDLE", help="the teachers")
    add("--recordings", nargs="+", required=True, metavar="PATH", help="files and folders")
    add("--out", required=True, metavar="FILE", help="the table to make, *.parquet")
    add("--weights", nargs="+", type=float, metavar="W", help="one per bundle (equal)")
    add("--threshold", type=float, metavar="P", help="believe answers of at least this (0.5)")
    add("--threshold-of", action="append", default=[], metavar="CLASS=P", help="an exception")
    add("--top-n", type=int, default=0, metavar="N", help="believe at most N rows of each class, the highest")
    add("--floor", type=float, default=0.1, metavar="P", help="of answers of at least this (%(default)s)")
    add("--soft", action="store_true", help="believe every answer as far as it goes")
    add("--power", type=float, default=1.0, metavar="E", help="raise probabilities to this; above 1 sharpens")
    add("--windows", choices=("centred", "sliding"), default="centred", help="(%(default)s)")
    add("--stride-s", type=float, metavar="S", help="stride of sliding windows (half a window)")
    add("--row-s", type=int, default=5, metavar="S", help="seconds per row (%(default)s)")
    add("--jobs", type=int, default=2, metavar="N", help="threads that decode (%(default)s)")


def rounds_options(add: Callable[..., Any]) -> None:
    """Add those of rounds."""
    presets = "write-up, noisy-student, teacher-small, teacher-ensemble, tiny"
    add("plan", metavar="PLAN", help=f"a JSON file, or a preset: {presets}")
    add("--data", required=True, metavar="DIR", help="the competition's folder")
    add("--out", required=True, metavar="DIR", help="folder of the rounds; a killed plan goes on in it")
    add("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", help="change a field of every student")
    add("--recordings", nargs="+", metavar="PATH", help="labelled soundscapes to score each round on")
    add("--truth", metavar="FILE", help="their labels")
    add("--device", choices=("cpu", "cuda"), help="a GPU where there is one")
    add("--jobs", type=int, default=4, metavar="N", help="threads that decode (%(default)s)")
    add("--cache-gb", type=float, default=1.0, metavar="G", help="memory for decoded clips (%(default)s)")
    add("--on-error", choices=("stop", "skip"), default="stop", help="what an unreadable recording does")


def compare_options(add: Callable[..., Any]) -> None:
    """Add those of compare."""
    add(
        "what",
        nargs="+",
        metavar="WHAT",
        help="runs and bundles; or, with --data, a question: repeat, labels, heads, mix, teacher",
    )
    add("--out", metavar="DIR", help="folder for the runs of a question, and for compare.csv, .md and .png")
    add("--recordings", nargs="+", metavar="PATH", help="labelled soundscapes to score all of them on")
    add("--truth", metavar="FILE", help="their labels")
    add("--data", metavar="DIR", help="the competition's folder, to train what the question needs")
    add("--by-name", action="store_true", help="a line per experiment's name: plans repeated with several seeds")
    add("--base", metavar="EXPERIMENT", help="what the arms of a question share")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="each arm once with each (0)")
    add("--fold", type=fold, default=0, metavar="K", help="the fold that is held out, or none (%(default)s)")
    _learning_options(add)
