"""Bundles: the folder of a trained network, with its preprocessing and the means to verify both.

``model.xml``, ``model.bin``
    OpenVINO graph, dB window -> logits, attention and, optionally, embedding; its runtime info contains the contract's
    fingerprint.
``weights.safetensors``
    For further training; optional where a bundle only predicts.
``probe.npz``
    Image and outputs of a fixed sound, computed at export.
``README.md``
    Model card; optional.
``bundle.json``
    Contract, fingerprint, recipe, provenance, and the SHA-256 of every other file. Written last: a folder
    without it is not a bundle.

Loading a bundle from an untrusted source cannot run code: no file is a pickle, and no link out of the folder is
followed. Schemas 1 to 3 can be read.
"""

from .bundle import PRECISIONS, Bundle, as_embedding, compile_graph, load, read_graph, read_weights
from .probe import check, compute_probe, probe_difference
from .seal import seal

__all__ = [
    "PRECISIONS",
    "Bundle",
    "as_embedding",
    "check",
    "compile_graph",
    "compute_probe",
    "load",
    "probe_difference",
    "read_graph",
    "read_weights",
    "seal",
]
