"""Entry point of ``python -m bcsed`` and of the command ``bcsed``."""

from __future__ import annotations

import gc
import sys

from .cli import main


def run() -> int:
    """Run one command in its own process, and return its exit status."""
    # Importing torch and pandas creates several hundred thousand permanent objects. Scanning them for garbage every 700
    # allocations, and once more at exit, took a quarter of the time of a short command.
    gc.set_threshold(50_000, 20, 100)
    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(run())
