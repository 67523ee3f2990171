"""bcsed: sound event detection for animal recordings.

Train a network on weakly labelled clips, seal it in a bundle that carries and proves its own preprocessing,
and score soundscapes in rows on a CPU. The public names below are loaded at first use, so that importing
bcsed costs nothing.

Glossary
--------
clip        a short labelled recording that a network is trained on
recording   any audio file
soundscape  a long recording made where the model will be used
window      the stretch of a recording that a network computes at once
time step   one position on a network's time axis, with one probability per class
row         5 s of a recording, with one score per class
view        one way to score a row: a member, a windowing and a time shift
member      one bundle of an ensemble
ensemble    several bundles whose scores are averaged
run         the folder of one training
bundle      the folder of a trained network: graph, weights, preprocessing, probe
round       train, pseudolabel, train again
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

# Where each public name is defined; a module stands for itself.
_HOMES = {
    **dict.fromkeys(("Augment", "Contract", "Data", "Fit", "Injection", "Net", "Frontend"), "config"),
    "Bundle": "models.bundle",
    "Experiment": "config.experiments",
    **{name: f"analysis.{name}" for name in ("compare", "doctor", "trace")},
    "experiments": "config.experiments",
    **{name: f"data.{name}" for name in ("labels", "synthetic")},
    **{name: f"models.{name}" for name in ("bundle", "export")},
    **{
        name: f"scores.{name}"
        for name in ("ablation", "calibration", "detections", "evaluation", "metrics", "postprocess")
    },
    "pseudolabels": "train.pseudolabels",
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
    "Injection",
    "Net",
    "Frontend",
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
