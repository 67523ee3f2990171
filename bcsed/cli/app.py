"""The parser of all commands, and the function that runs one of them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import interrupt
from .._version import __version__
from ..errors import BcsedError
from ..files import is_occupied, os_reason
from . import embeddings, evaluate, kaggle, label, predict, review, start, survey, train
from .options import Command, add_command

GROUPS: dict[str, tuple[Command, ...]] = {
    "start": start.COMMANDS,
    "label": label.COMMANDS,
    "train": train.COMMANDS,
    "predict": predict.COMMANDS,
    "embeddings": embeddings.COMMANDS,
    "evaluate": evaluate.COMMANDS,
    "review": (*review.COMMANDS, *survey.COMMANDS),
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

exit status: 0 done; 1 check, doctor or trace found a difference; 2 a mistake in the call or an error of the
operating system; 3 some recordings failed, 4 all; 130 interrupted. Ctrl-C finishes and stores the work in hand, and
the same command (train: with --resume) continues (sample and kaggle dataset: in a new folder); a second Ctrl-C ends
at once.

`bcsed COMMAND --help` describes the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    141 if the reader of standard output has ended, as ``head`` does; 128 + signal after an interruption.
    """
    options, status = argparse.Namespace(), 0
    try:
        try:
            options = make_parser().parse_args(argv)
            level = logging.DEBUG if options.verbose else logging.WARNING
            logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
            with interrupt.handle_signals(lambda: _describe_interruption(options)):
                status = options.run(options)
        except KeyboardInterrupt as error:
            print(f"bcsed: {_describe_interruption(options)}", file=sys.stderr)
            status = 128 + int(error.args[0] if error.args else signal.SIGINT)
        finally:
            sys.stdout.flush()
    except BcsedError as error:
        print(f"bcsed: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reported = _report_os_error(error)
        return status or reported
    return status


def _describe_interruption(options: argparse.Namespace) -> str:
    """Return a sentence on how to continue."""
    run: Any = getattr(options, "run", None)
    folder = {start.sample: "folder", kaggle.dataset: "out"}.get(run)
    if folder and is_occupied(path := Path(getattr(options, folder))):
        return f"interrupted; {path} is incomplete: name another folder, or remove that one, and run the command again."
    is_run = not getattr(options, "resume", True) and (Path(options.out) / "run.json").is_file()
    return f"interrupted; finished work is kept: run the same command again{', with --resume' if is_run else ''}."


def _report_os_error(error: OSError) -> int:
    """Print an error of the operating system, unless nobody reads the output, and return the exit status."""
    has_ended = isinstance(error, BrokenPipeError) and _reader_has_ended()
    if not has_ended:
        with contextlib.suppress(OSError):
            print(f"bcsed: {os_reason(error, 'standard output')}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        # The buffer is written once more at exit, which would fail again and change the exit status.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141 if has_ended else 2


def _reader_has_ended() -> bool:
    """Return True if nobody reads standard output or the messages."""
    if not hasattr(select, "poll"):  # Windows
        return True
    streams = select.poll()
    for number in (1, 2):
        streams.register(number, 0)
    return any(event & select.POLLERR for _, event in streams.poll(0))


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
