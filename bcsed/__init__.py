"""bcsed: sound event detection for animal recordings.

Train a network on weakly labelled clips, store it in a bundle that contains and verifies its own preprocessing, and
score rows of soundscapes on a CPU. The public names are imported at first use, so that importing bcsed is fast.

Glossary
--------
clip        a short labelled recording for training
recording   any audio file
soundscape  a long recording from the place where the model will be used
window      the part of a recording that is the input of a network
time step   a position on the time axis of a network, with one probability per class
row         5 s of a recording, with one score per class
view        one way to score a row: a member, a windowing and a time shift
member      one bundle of an ensemble
ensemble    several bundles whose scores are averaged
run         the folder of one training
bundle      the folder of a trained network: graph, weights, preprocessing, probe
round       one cycle of training and pseudolabelling
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import BcsedError, BundleError, ConfigError, DataError

if TYPE_CHECKING:
    from .analysis import compare, doctor, trace
    from .config import Augment, Contract, Data, Fit, Frontend, Injection, Net, experiments
    from .config.experiments import Experiment
    from .data import labels, synthetic
    from .models import bundle, export
    from .models.bundle import Bundle
    from .scores import ablation, calibration, detections, evaluation, metrics, postprocess
    from .train import pseudolabels

# OpenVINO reports its use to a server, and writes an identifier into the home folder, at import and at conversion. It
# does neither if the package for it cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# The public names of each room: what it exports, and its modules.
_ROOMS = {
    "analysis": ("compare", "doctor", "trace"),
    "config": ("Augment", "Contract", "Data", "Fit", "Frontend", "Injection", "Net", "experiments"),
    "config.experiments": ("Experiment",),
    "data": ("labels", "synthetic"),
    "models": ("bundle", "export"),
    "models.bundle": ("Bundle",),
    "scores": ("ablation", "calibration", "detections", "evaluation", "metrics", "postprocess"),
    "train": ("pseudolabels",),
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
    "Frontend",
    "Injection",
    "Net",
    "__version__",
    "ablation",
    "bundle",
    "calibration",
    "compare",
    "detections",
    "doctor",
    "evaluation",
    "experiments",
    "export",
    "labels",
    "metrics",
    "postprocess",
    "pseudolabels",
    "synthetic",
    "trace",
]


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            module = importlib.import_module(f".{room}", __name__)
            return getattr(module, name, None) or importlib.import_module(f".{room}.{name}", __name__)
    raise AttributeError(f"module 'bcsed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
