"""Progress of long work: a bar with pace and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Progress on standard error, lines on standard output; of several processes (torchrun) only the first prints."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._label = ""
        self._quiet = os.environ.get("RANK", "0") != "0"
        self._shows_bar = sys.stderr.isatty() and not self._quiet

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def update(self, label: str, done: int, total: int, extra: str = "") -> None:
        """Move the bar of a label to `done` of `total`; a new label starts a new bar."""
        if not self._shows_bar:
            return
        if self._bar is None or label != self._label:
            from tqdm import tqdm

            self.__exit__()
            self._bar, self._label = tqdm(total=total, desc=label, leave=False), label
        self._bar.set_postfix_str(extra, refresh=False)
        self._bar.update(done - self._bar.n)

    def counter(self, label: str) -> Callable[[int, int], None]:
        """Return a callback that takes (done, total)."""
        return lambda done, total: self.update(label, done, total)

    def epoch_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show one step of a training."""
        self.update(f"epoch {epoch + 1}", step, steps, f"loss {loss:.4g}")

    def log(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        if not self._quiet:
            print(line, flush=True)

    @contextmanager
    def elapsed(self, label: str) -> Iterator[None]:
        """Show the elapsed seconds of work that has no steps to count."""
        if not self._shows_bar:
            yield
            return
        start, finished = time.monotonic(), threading.Event()

        def show() -> None:
            while not finished.wait(1.0):
                print(f"\r{label}: {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()
            print(f"\r{'':{len(label) + 12}}\r", end="", file=sys.stderr, flush=True)
