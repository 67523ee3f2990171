"""The parser of all commands, and the function that runs one of them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from .._version import __version__
from ..errors import BcsedError
from . import evaluate, kaggle, predict, start, train
from .options import Command, add_command

GROUPS: dict[str, tuple[Command, ...]] = {
    "start": start.COMMANDS,
    "train": train.COMMANDS,
    "predict": predict.COMMANDS,
    "evaluate": evaluate.COMMANDS,
    "diagnose": predict.DIAGNOSE,
    "Kaggle": kaggle.COMMANDS,
}
COMMANDS = {command[0].__name__: command for group in GROUPS.values() for command in group}
EXAMPLES = """examples:
  train a network for a competition and score its test recordings:
    bcsed train exp-39 --data DIR --out run
    bcsed export run --out bundle
    bcsed predict bundle --recordings DIR/test_soundscapes --out scores

  write the detections in a folder of WAV files as selection tables for Raven:
    bcsed predict bundle --recordings wav --out detections --format raven --threshold 0.7

  compare two runs on labelled soundscapes:
    bcsed compare run run2 --recordings soundscapes --truth labels.csv --out comparison

`bcsed COMMAND --help` describes the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = make_parser().parse_args(argv)
    level = logging.DEBUG if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    try:
        status: int = options.run(options)
    except BcsedError as error:
        print(f"bcsed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bcsed: interrupted; finished work is kept.", file=sys.stderr)
        return 130
    return status


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="bcsed",
        usage="bcsed [-h] [--version] COMMAND ...",
        description="Sound event detection for animal recordings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bcsed {__version__}")
    # argparse lists all commands together; the list in groups is part of the epilog.
    commands = parser.add_subparsers(prog="bcsed", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    lines = []
    for title, group in GROUPS.items():
        lines.append(f"{title}:")
        for command in group:
            lines.append(f"  {command[0].__name__:12} {add_command(commands, command)}")
        lines.append("")
    parser.epilog = "\n".join([*lines, EXAMPLES])
    return parser
