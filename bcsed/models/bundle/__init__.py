"""The folder that proves itself: a network, what it was made to hear, and what it answered once.

``model.xml``, ``model.bin``
    OpenVINO graph, dB window -> what and when; its runtime info carries the contract's fingerprint.
``weights.safetensors``
    For further training; optional where a bundle only predicts.
``probe.npz``
    The picture that this network saw of a closed-form sound at export, and its answers.
``bundle.json``
    Contract, fingerprint, recipe, provenance, and the SHA-256 of every other file. Written last: a folder
    without it is no bundle.

Nothing in it is a pickle, and no name in it is followed outside the folder: a bundle from a stranger cannot
run code.
"""

from ...config.contract import Contract, Frontend
from ...config.strict import to_dict
from ...errors import BundleError
from ...files import atomic_write, read_errors, sha256
from .bundle import (
    ANSWER_TOLERANCE,
    PICTURE_TOLERANCE,
    Bundle,
    check,
    load,
    probe_difference,
    probe_picture,
    probe_wave,
    read_weights,
    require_new_folder,
    seal,
)
from .graph import PRECISIONS, compile_graph, read_graph
from .manifest import GRAPH, GRAPH_WEIGHTS, MANIFEST, PROBE, SCHEMA, WEIGHTS, check_files, read_contract, read_manifest

__all__ = [
    "ANSWER_TOLERANCE",
    "Bundle",
    "BundleError",
    "Contract",
    "GRAPH",
    "GRAPH_WEIGHTS",
    "MANIFEST",
    "PICTURE_TOLERANCE",
    "PRECISIONS",
    "PROBE",
    "SCHEMA",
    "Frontend",
    "WEIGHTS",
    "check",
    "check_files",
    "require_new_folder",
    "compile_graph",
    "load",
    "probe_difference",
    "probe_picture",
    "probe_wave",
    "read_contract",
    "read_graph",
    "read_manifest",
    "read_weights",
    "read_errors",
    "atomic_write",
    "seal",
    "sha256",
    "to_dict",
]
