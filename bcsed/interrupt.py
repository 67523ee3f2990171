"""Ctrl-C and SIGTERM on the command line: the first one finishes the work in hand, a second one ends the process.

Only `handle_signals` changes what a signal does: where bcsed is used as a library, as in a notebook, KeyboardInterrupt
is raised as usual, and `asked` is always False.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class _State:
    signal: int = 0  # the first signal of the command, 0 before
    depth: int = 0  # of blocks of `postponed`


_state = _State()


@contextmanager
def handle_signals(describe: Callable[[], str]) -> Iterator[None]:
    """Raise KeyboardInterrupt(signal) in the block at the first signal, or at the end of a `postponed` block in it.

    The second signal ends the process with status 128 + signal and the sentence that `describe` returns. Signals that
    are ignored, as by nohup, and those of other threads than the first keep their treatment.
    """

    def interrupt(number: int, _: object) -> None:
        if _state.signal:
            # torchrun sends its own signal after the terminal's, and ends its processes after 30 s.
            if "TORCHELASTIC_RUN_ID" not in os.environ:
                _end_process(128 + number, describe())
            return
        _state.signal = number
        if not _state.depth:
            raise KeyboardInterrupt(number)
        _print("interrupted; the work in hand is finished first (once more: ends at once).")

    previous = {}
    _state.signal = _state.depth = 0
    if threading.current_thread() is threading.main_thread():
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == usual:
                previous[number] = signal.signal(number, interrupt)
    try:
        yield
    except BrokenPipeError:
        check()  # the reader, such as tee, has ended by the same signal
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _state.signal = 0


@contextmanager
def postponed() -> Iterator[None]:
    """Postpone an interruption to the end of the block, whose loops ask `asked` and leave all in order."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    check()


def asked() -> bool:
    """Return True if the command was interrupted."""
    return _state.signal > 0


def check() -> None:
    """Raise KeyboardInterrupt if the command was interrupted."""
    if asked():
        raise KeyboardInterrupt(_state.signal)


@contextmanager
def shielded() -> Iterator[None]:
    """Block signals in processes that the block starts: those of a terminal go to all, and this process decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # Python before 3.14 unblocks the signals when it starts this process, so it is started first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_process(status: int, sentence: str) -> None:
    from multiprocessing import active_children

    _print(sentence)
    for child in active_children():
        with suppress(OSError, TypeError):
            os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # type: ignore[arg-type]
    # Threads that are reading or computing cannot be ended otherwise.
    os._exit(status)


def _print(sentence: str) -> None:
    """Print a sentence from a signal handler, which may have interrupted the printing of another one."""
    with suppress(OSError):
        os.write(2, f"\nbcsed: {sentence}\n".encode("utf-8", "backslashreplace"))
