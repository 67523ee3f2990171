"""bcsed: sound event detection for animal recordings.

Train a network on weakly labelled clips, seal it in a bundle that carries and proves its own preprocessing,
and score soundscapes in rows on a CPU. The public names below are loaded when first used, so importing
bcsed costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import BcsedError, BundleError, ConfigError, DataError

if TYPE_CHECKING:
    from .bundle import Bundle
    from .config import Augment, Contract, Data, Fit, Inject, Net, Signal
    from .experiments import Experiment

_HOMES = {
    "Augment": "config",
    "Bundle": "bundle",
    "Contract": "config",
    "Data": "config",
    "Experiment": "experiments",
    "Fit": "config",
    "Inject": "config",
    "Net": "config",
    "Signal": "config",
}

__all__ = [
    "Augment",
    "BcsedError",
    "Bundle",
    "BundleError",
    "ConfigError",
    "Contract",
    "Data",
    "DataError",
    "Experiment",
    "Fit",
    "Inject",
    "Net",
    "Signal",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bcsed' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
