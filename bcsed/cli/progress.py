"""What is shown while something takes long."""

from __future__ import annotations

import os
import sys
from typing import Any


class Bar:
    """A progress bar where somebody is looking, plain lines where nobody is.

    Of several processes of one training (torchrun), only the first speaks.
    """

    def __init__(self, name: str) -> None:
        self.name, self._label = name, ""
        self._bar: Any = None
        self._quiet = os.environ.get("RANK", "0") != "0"

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, label: str, done: int, total: int, extra: str) -> None:
        """Move to `done` of `total`."""
        if self._quiet or not sys.stderr.isatty():
            return
        if self._bar is None or label != self._label:
            from tqdm import tqdm

            self.__exit__()
            self._bar, self._label = tqdm(total=total, desc=label, leave=False), label
        self._bar.set_postfix_str(extra, refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        if not self._quiet:
            print(line, flush=True)


def epoch_line(values: Any, n_epochs: int) -> str:
    """Say in a line how an epoch ended."""
    parts = [f"epoch {values['epoch']:.0f}/{n_epochs}", f"loss {values['loss']:.4g}"]
    for key, name in (("clip", "clips"), ("row", "soundscape rows")):
        if f"{key}_auc" in values:
            parts.append(f"{name}: macro ROC-AUC {values[f'{key}_auc']:.4f} ({values[f'{key}_classes']:.0f} classes)")
    return "  ".join([*parts, f"{values['seconds']:.0f} s", "best" if values["best"] else ""]).rstrip()
