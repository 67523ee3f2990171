"""Groups of arguments that several commands share: how they are added to a parser, and how they are read."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.experiments import Experiment, find_experiment, parse_changes
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..models.ensemble import Member
    from ..predict import Windowing
    from ..scores.detections import SpeciesList
    from ..scores.postprocess import Weight
    from ..train.data import TrainInputs, TrainOptions

Add = Callable[..., Any]  # add_argument of a parser or of a group
# A command: its function, whose name and docstring are shown, the function that adds its options, and an example.
Command = tuple[Callable[[Namespace], int], Callable[[ArgumentParser, Add], None], str]

TRUTH = "a table of 0 and 1, filename,start,end,primary_label, or an annotation table"


def add_command(commands: Any, command: Command) -> str:
    """Add a command to the subparsers of argparse, and return its description."""
    run, add_options, example = command
    text, epilog = run.__doc__ or "", f"example:\n  {example}"
    parser = commands.add_parser(
        run.__name__, help=text, description=text, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print log messages")
    parser.set_defaults(run=run)
    add_options(parser, parser.add_argument)
    return text


def add_value(add: Add, name: str, default: Any, metavar: str, text: str) -> None:
    """Add an option of the type of its default, which the help shows."""
    add(name, type=type(default), default=default, metavar=metavar, help=f"{text} (%(default)s)")


def add_seed(add: Add, text: str) -> None:
    """Add ``--seed``."""
    add("--seed", type=_read_seed, default=0, metavar="N", help=f"{text} (%(default)s)")


def _read_seed(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) >= 2**63:
        raise ArgumentTypeError(f"takes a whole number from 0 to 2^63, got {text!r}")
    return int(text)


def add_list(add: Add, name: str, metavar: str, text: str) -> None:
    """Add an option that takes several values and can be repeated."""
    add(name, nargs="+", action="extend", default=[], metavar=metavar, help=text)


def add_jobs(add: Add, default: int = 2) -> None:
    """Add ``--jobs``."""
    add_value(add, "--jobs", default, "N", "decoding threads")


def add_workers(add: Add) -> None:
    """Add ``--workers`` and ``--backend``."""
    add_value(add, "--workers", 1, "N", "number of workers")
    add("--backend", choices=("threads", "processes"), default="threads", help="of the workers (%(default)s)")


def add_bundles(add: Add, text: str, recordings: str, means: Sequence[str]) -> None:
    """Add bundles and score tables, their weights, the kinds of mean over them, and `recordings` in words."""
    add(
        "bundles", nargs="+", metavar="BUNDLE", help=f"{text}; then score tables (*.csv, *.parquet, folders of predict)"
    )
    add("--recordings", nargs="+", metavar="PATH", help=f"files and folders, also s3://... and the like{recordings}")
    add("--weights", nargs="+", type=float, metavar="W", help="one weight per member: bundles, then tables (equal)")
    add("--ensemble-mean", choices=means, default="prob", help="mean of the members' scores (%(default)s)")
    weights = "weight of a member for a taxon or a class, e.g. 2.Aves=0.5 1.frog1=0"
    add_list(add, "--class-weight", "N.NAME=W", weights)
    rows = "rows that a table lacks are an error, or the mean of the other members (%(default)s)"
    add("--missing-rows", choices=("refuse", "others"), default="refuse", help=rows)
    add("--taxonomy", metavar="FILE", help="taxonomy.csv: taxa for weights and stages, names for detections")


def read_members(args: Namespace) -> tuple[list[Member], tuple[Weight, ...] | None]:
    """Return the bundles and score tables, and their weights."""
    from ..models.ensemble import load_member
    from ..scores.detections import read_taxonomy
    from ..scores.postprocess import parse_weights

    members = [load_member(path, args.missing_rows) for path in args.bundles]
    taxonomy = read_taxonomy(args.taxonomy) if args.taxonomy is not None and args.class_weight else {}
    taxa = {label: name.taxon for label, name in taxonomy.items()}
    return members, parse_weights(args.weights, args.class_weight, [member.classes for member in members], taxa)


def add_windowing(parser: ArgumentParser) -> None:
    """Add the options that place windows and rows in a recording."""
    add = parser.add_argument_group("windows and rows").add_argument
    add("--windows", choices=("centred", "sliding"), default="centred", help="sliding is faster (%(default)s)")
    add("--stride-s", type=float, metavar="S", help="stride of sliding windows (half a window)")
    add_value(add, "--row-s", 5, "S", "length of a row in seconds")
    pools, text = (
        ("bundle", "max", "prob_max"),
        "the time steps of a row as trained, their maximum, or the mean of both",
    )
    add("--pool", choices=pools, default="bundle", help=f"pool {text} (%(default)s)")


def read_windowing(args: Namespace, **fields: Any) -> Windowing:
    """Return the windowing that was asked for."""
    from ..predict.spec import Windowing

    return Windowing(row_s=args.row_s, windows=args.windows, stride_s=args.stride_s, pool=args.pool, **fields)


def add_soundscapes(add: Add, text: str) -> None:
    """Add ``--recordings`` and ``--truth``, which are optional."""
    add("--recordings", nargs="+", metavar="PATH", help=text)
    add("--truth", metavar="FILE", help="labels of these recordings, as for evaluate")


def check_soundscapes(args: Namespace) -> None:
    """Refuse one of ``--recordings`` and ``--truth`` without the other, and files that are not there."""
    if (args.recordings is None) != (args.truth is None):
        raise ConfigError("--recordings and --truth go together: labelled soundscapes, and their labels.")
    if args.truth is not None:
        from ..files import require_file
        from ..recordings import find_recordings

        require_file(Path(args.truth))
        find_recordings(args.recordings)


def add_train_options(add: Add) -> None:
    """Add the options about the machine that trains."""
    add("--device", choices=("cpu", "cuda"), help="device (cuda if there is a GPU)")
    add_jobs(add, 4)
    add_value(add, "--cache-gb", 1.0, "GB", "memory for decoded recordings")
    add("--on-error", choices=("stop", "skip"), default="stop", help="at an unreadable recording (%(default)s)")


def read_train_options(args: Namespace) -> TrainOptions:
    """Return the options about the machine that trains."""
    from ..train.data import TrainOptions

    return TrainOptions(device=args.device, jobs=args.jobs, cache_gb=args.cache_gb, on_error=args.on_error)


def add_training(parser: ArgumentParser) -> None:
    """Add the options that all trainings share."""
    add = parser.add_argument_group("training").add_argument
    add("--data", required=True, metavar="DIR", help="folder of the competition")
    add("--fold", type=_read_fold, default=0, metavar="K", help="the held-out fold, or none (%(default)s)")
    add_list(add, "--set", "GROUP.FIELD=VALUE", "change fields of the experiment, e.g. fit.epochs=3 net.heads=taxon")
    add("--pseudolabels", metavar="FILE", help="table of pseudolabels, written by pseudolabel")
    text = "table of pseudolabels of the clips, written by pseudolabel --clips"
    add("--clip-pseudolabels", metavar="FILE", help=text)
    add_labels(add)
    add_list(add, "--teacher", "FILE", "a teacher's embeddings of the clips, and of soundscapes, for distillation")
    add("--pretrained", metavar="PATH", help="initial weights: a run, a bundle, a file, or none for a random start")
    text = 'prefixes of tensor names, e.g. \'{"encoder.": "backbone."}\', a file, or order: by their order'
    add("--key-map", metavar="JSON", help=text)
    add("--allow-mismatch", action="store_true", help="start although tensors are missing or unused")
    add_train_options(add)


def add_labels(add: Add) -> None:
    """Add the labels and negatives of a person that are not in the competition's folder."""
    add_list(add, "--labels", "FILE", "labels of further soundscapes, written by label, or annotation tables")
    add_list(add, "--events", "FILE", "annotation tables of clips and labelled soundscapes, for fit.strong_weight")
    add("--noise", metavar="DIR", help="recordings without any class: negatives, and backgrounds of clips")


def read_experiment(args: Namespace) -> Experiment:
    """Return the named experiment with the changes of ``--set`` and ``--pretrained none``."""
    return find_experiment(args.experiment).vary(args.experiment, **parse_changes(read_changes(args)))


def read_changes(args: Namespace) -> list[str]:
    """Return the changes of ``--set`` and ``--pretrained none``."""
    return [*args.set, *(["fit.pretrained=false"] if args.pretrained == "none" else [])]


def read_train_inputs(args: Namespace) -> TrainInputs:
    """Return the files that a training reads besides the competition's data."""
    from ..models.pretrained import read_key_map
    from ..train.data import TrainInputs

    return TrainInputs(
        pseudolabels=args.pseudolabels,
        clip_pseudolabels=args.clip_pseudolabels,
        labels=tuple(args.labels),
        events=tuple(args.events),
        teacher=args.teacher,
        noise=args.noise,
        pretrained=None if args.pretrained == "none" else args.pretrained,
        key_map=None if args.key_map is None else read_key_map(args.key_map),
        allow_mismatch=args.allow_mismatch,
    )


def add_thresholds(add: Add, text: str) -> None:
    """Add ``--threshold`` and ``--class-threshold``."""
    add("--threshold", type=float, metavar="P", help=f"{text} (0.5)")
    add_list(add, "--class-threshold", "CLASS=P", "thresholds of single classes")


def _read_fold(text: str) -> int | None:
    try:
        return None if text == "none" else int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"takes the number of a fold, or none; got {text!r}") from error


def print_removed(species: SpeciesList, removed: Mapping[str, int]) -> None:
    """Print the detections that a list of species removed, and its names that match no class."""
    classes = ", ".join(f"{name} {count}" for name, count in list(removed.items())[:5])
    more = f" and {len(removed) - 5} more" if len(removed) > 5 else ""
    counts = f"{sum(removed.values())} detections of {len(removed)} classes"
    print(f"{species.path} removed {counts}{f' ({classes}{more})' if classes else ''}")
    if species.unmatched:
        print(f"{len(species.unmatched)} names of {species.path} match no class: {', '.join(species.unmatched)}")
