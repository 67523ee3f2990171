"""The command for review by people: review."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import atomic_write, require_own_file, shorten_list
from . import options
from .options import Add
from .progress import Progress

# The options of each half of the command, and their defaults.
_CHOOSE: Mapping[str, Any] = {
    "recordings": None,
    "budget": 100,
    "by": "uncertain",
    "classes": [],
    "answered": [],
    "taxonomy": None,
    "seed": 0,
}
_READ: Mapping[str, Any] = {"precision": 0.9, "min_positives": 3, "absent_below": 0.0, "thresholds": None}


def review(args: Namespace) -> int:
    """Choose rows to listen to and write a page for it, or read the answers into labels."""
    if args.inputs[0] == "read":
        return _read(args)
    from ..report.review import PAGE, write_folder
    from ..report.scores import read_prediction
    from ..scores import review as reviews
    from ..scores.detections import read_taxonomy

    if len(args.inputs) > 1 or args.recordings is None:
        raise ConfigError("review chooses rows of one SCORES, from --recordings PATH; `review read` reads answers.")
    _refuse(args, _READ, "is for the answers: bcsed review read FOLDER")
    scores = read_prediction(Path(args.inputs[0])).scores
    classes = list(map(str, scores.columns))
    answered = None
    if args.answered:
        earlier = reviews.read_answered(args.answered)
        answered = reviews.match_answers(earlier, scores, args.classes or classes)
        print(f"{len(answered)} of {len(earlier)} earlier answers are of these rows and classes, and count again")
    drawn = reviews.choose_rows(
        scores, budget=args.budget, by=args.by, classes=args.classes, seed=args.seed, answered=answered
    )
    names = {} if args.taxonomy is None else read_taxonomy(args.taxonomy)
    with Progress() as progress:
        counter = progress.counter("rows")
        write_folder(drawn, args.recordings, args.out, scores=scores, answered=answered, names=names, progress=counter)
    print(
        f"{args.out}: {len(drawn)} of {len(scores)} rows x {len(args.classes or classes)} classes, in "
        f"{drawn['stratum'].nunique()} strata\n"
        f"open {Path(args.out) / PAGE}, answer, download the answers, and read them: "
        f"bcsed review read {args.out} {reviews.ANSWERS_FILE} --out labels.csv"
    )
    return 0


def _read(args: Namespace) -> int:
    from ..scores import review as reviews
    from ..scores.table import read_table

    if len(args.inputs) < 2:
        raise ConfigError("name the folder of the review, and its answers: bcsed review read FOLDER answers.json.")
    _refuse(args, _CHOOSE, "chooses rows; `review read` needs only the folder and the answers")
    folder, out = Path(args.inputs[1]), Path(args.out)
    answers = reviews.read_answers(folder, args.inputs[2:])
    curve = reviews.estimate_precision(answers)
    settings = {"precision": args.precision, "min_positives": args.min_positives}
    thresholds = reviews.find_thresholds(answers, curve, **settings)
    scores = read_table(folder / reviews.SCORES)
    labels = reviews.to_labels(answers, scores, absent_below=args.absent_below)
    tables = {"": labels, "_answers": answers, "_events": reviews.to_events(answers), "_precision": curve}
    paths = {suffix: out.with_name(f"{out.stem}{suffix}{out.suffix}") for suffix in tables}
    if args.thresholds is not None and Path(args.thresholds) in paths.values():
        raise ConfigError(f"{args.thresholds} is one of the tables that are written; name another file of thresholds.")
    for suffix, table in tables.items():
        require_own_file(paths[suffix], ",".join(table.columns), "a table of `review read`")
    for suffix, table in tables.items():
        with atomic_write(paths[suffix]) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    if args.thresholds is not None:
        reviews.write_thresholds(thresholds, args.thresholds, **settings)
    print(thresholds.to_string(index=False, float_format="%.3f", na_rep=""))
    counts = answers["answer"].value_counts()
    print(", ".join(f"{counts.get(answer, 0)} {answer or 'unanswered'}" for answer in (*reviews.ANSWERS, "")))
    if gaps := reviews.describe_gaps(answers):
        print(gaps)
    classes = set(scores.columns)
    if others := sorted({name for name in answers["other"] if name} - classes):
        text = (
            "are not classes of the review, and their rows do not have the class; correct them if they are misspelled"
        )
        print(f"{len(others)} species that were named ({shorten_list(others)}) {text}")
    print(
        f"{out}: {len(labels)} rows, in which all classes outside the column known are unknown; answers, events and "
        f"precision (intervals of {reviews.CONFIDENCE:.0%}) beside it"
        + (f"; thresholds in {args.thresholds}" if args.thresholds is not None else "")
    )
    return 0


def _refuse(args: Namespace, defaults: Mapping[str, Any], reason: str) -> None:
    """Raise ConfigError for an option of the other half of the command."""
    for name, default in defaults.items():
        if getattr(args, name) != default:
            raise ConfigError(f"--{'class' if name == 'classes' else name.replace('_', '-')} {reason}.")


def _review_options(parser: ArgumentParser, add: Add) -> None:
    text = "a folder of predict or a score table; or: read FOLDER [answers.json, tables of the snippets, or folders]"
    add("inputs", nargs="+", metavar="SCORES", help=text)
    add(
        "--out",
        required=True,
        metavar="PATH",
        help="the new folder of the review; for read, the labels to write, *.csv",
    )
    choose = parser.add_argument_group("choose rows").add_argument
    choose("--recordings", nargs="+", metavar="PATH", help="files and folders of the recordings")
    options.add_value(choose, "--budget", _CHOOSE["budget"], "N", "number of rows and classes to listen to")
    text = (
        "uncertain: scores between 0 and 1; site, hour: the same, in equal numbers by the names of recordings; top: "
        "highest scores of each class and a random rest; bands: equal numbers from bands of each class's scores; random"
    )
    choose("--by", choices=("uncertain", "top", "bands", "site", "hour", "random"), default=_CHOOSE["by"], help=text)
    choose("--class", dest="classes", nargs="+", action="extend", default=[], metavar="NAME", help="review only these")
    text = "answers of earlier reviews, *_answers.csv of review read: not chosen again, and counted by review read"
    options.add_list(choose, "--answered", "FILE", text)
    choose("--taxonomy", metavar="FILE", help="taxonomy.csv, for names of the classes")
    options.add_seed(choose, "seed of the random choice")
    read = parser.add_argument_group("read answers").add_argument
    options.add_value(read, "--precision", _READ["precision"], "P", "precision to reach by thresholds")
    options.add_value(read, "--min-positives", _READ["min_positives"], "N", "minimum yes answers of a threshold")
    text = "take classes as absent whose score in an answered row is less; 0: only answers count"
    options.add_value(read, "--absent-below", _READ["absent_below"], "P", text)
    read("--thresholds", metavar="FILE", help="write the thresholds, *.json, for predict --thresholds")


COMMANDS = ((review, _review_options, "bcsed review scores --recordings wav --budget 200 --by bands --out review"),)
