"""A run that hangs beyond its budget still leaves what it has."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from .budget import Budget

# How a run ends that some recordings, or all of them, have failed in.
SOME_FAILED, ALL_FAILED = 3, 4

_log = logging.getLogger(__name__)


class Watchdog:
    """Writes, from its own thread, when the time for scoring is up by half of the reserve.

    That happens where the run itself cannot look at the clock: a read from a drive that does not answer, or
    a window that never comes back.

    Parameters
    ----------
    budget : Budget
    write : callable
        Writes what there is, and says whether that is anything.
    """

    def __init__(self, budget: Budget, write: Callable[[], bool]) -> None:
        self.budget, self._write = budget, write
        late_s = max(0.0, budget.left()) + budget.reserve / 2
        self._timer = threading.Timer(late_s, self._fire)
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
            print("bcsed: the run hung beyond its budget; what was scored by then is written.", file=sys.stderr)
        except Exception:
            _log.exception("the run hung beyond its budget, and what it has could not be written")
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        # The hanging thread cannot be ended otherwise.
        os._exit(status)
