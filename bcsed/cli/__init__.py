"""The command line: one short function per command.

A user's mistake is one sentence and exit status 2; anything else keeps its traceback. `predict` exits with 3
if some recordings could not be read, and with 4 if none could be scored.
"""

from .app import main

__all__ = ["main"]
