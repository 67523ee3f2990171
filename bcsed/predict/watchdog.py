"""End a run that hangs beyond its budget, with the scores that it has."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from .budget import Budget

# Exit statuses of a run in which some recordings, or all, have failed.
SOME_FAILED, ALL_FAILED = 3, 4

_log = logging.getLogger(__name__)


class Watchdog:
    """Writes from its own thread, and ends the process, when the time for scoring is exceeded by half of the reserve.

    This happens where the run itself cannot check the clock: a read from a drive that does not respond, or a window
    that was lost. `write` returns whether any recording was scored.
    """

    def __init__(self, budget: Budget, write: Callable[[], bool]) -> None:
        self.budget, self._write = budget, write
        self._timer = threading.Timer(max(0.0, budget.left()) + budget.reserve / 2, self._fire)
        self._timer.daemon = True

    def __enter__(self) -> Watchdog:
        if self.budget.end_process:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        try:
            status = SOME_FAILED if self._write() else ALL_FAILED
            print("bcsed: the run hung beyond its budget; the scores available by then are written.", file=sys.stderr)
        except Exception:
            _log.exception("the run hung beyond its budget, and its scores could not be written")
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        # The hanging thread cannot be ended otherwise.
        os._exit(status)
