"""Entry point of ``python -m bcsed`` and of the command ``bcsed``."""

from __future__ import annotations

import gc
import os
import signal
import sys

from .cli import main


def run() -> int:
    """Run one command in its own process, and return its exit status."""
    # Importing torch and pandas creates several hundred thousand permanent objects. Scanning them for garbage every 700
    # allocations, and once more at exit, took a quarter of the time of a short command.
    gc.set_threshold(50_000, 20, 100)
    _open_streams()
    try:
        return main()
    finally:
        # Nothing is left to be done that must be finished, and nothing to be explained in a traceback.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
        gc.freeze()


def _open_streams() -> None:
    """Replace closed streams by the null device, and let no character of a name end the work."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one; otherwise the next file would get it, and the messages of libraries.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.exit(run())
