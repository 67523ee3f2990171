"""The command line: one module per group of commands.

A user's mistake ends in one sentence and exit status 2; any other error keeps its traceback.
"""

from .app import main

__all__ = ["main"]
