"""``python -m bcsed``, and the command ``bcsed``."""

from __future__ import annotations

import gc
import sys

from .cli import main


def run() -> int:
    """Run one command in a process of its own, and return its exit status."""
    # Importing torch and pandas makes several hundred thousand objects that all stay. Looking among them for what
    # does not, every 700 new ones and once more at the end, took a quarter of a short command's time.
    gc.set_threshold(50_000, 20, 100)
    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(run())
