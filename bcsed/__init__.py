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

# The module of each public name; public modules have their own path.
_HOMES = {
    **dict.fromkeys(("Augment", "Contract", "Data", "Fit", "Frontend", "Injection", "Net"), "config"),
    "Bundle": "models.bundle",
    "Experiment": "config.experiments",
    "ablation": "scores.ablation",
    "bundle": "models.bundle",
    "calibration": "scores.calibration",
    "compare": "analysis.compare",
    "detections": "scores.detections",
    "doctor": "analysis.doctor",
    "evaluation": "scores.evaluation",
    "experiments": "config.experiments",
    "export": "models.export",
    "labels": "data.labels",
    "metrics": "scores.metrics",
    "postprocess": "scores.postprocess",
    "pseudolabels": "train.pseudolabels",
    "synthetic": "data.synthetic",
    "trace": "analysis.trace",
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
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bcsed' has no attribute {name!r}")
    module = importlib.import_module(f".{home}", __name__)
    return module if home.rpartition(".")[2] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
