"""Load a bundle: the only way to get a trained network for prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config.contract import Contract
from ...errors import BundleError
from ...files import read_errors
from .graph import read_graph
from .manifest import GRAPH_WEIGHTS, MANIFEST, WEIGHTS, check_files, read_contract, read_manifest


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose files are complete, unchanged and consistent.

    Parameters
    ----------
    path : Path
    contract : Contract
        Front end, network and classes.
    steps : int
        Time steps per window.
    priors : tuple of float
        Share of training clips per class; the scores of a recording that cannot be read.
    recipe, provenance : mapping
        How, on what and when the network was trained; recorded only.
    sha256 : str
        Digest of the graph's weights; it identifies the training.
    """

    path: Path
    contract: Contract
    steps: int
    priors: tuple[float, ...]
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name


def load(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises
    ------
    BundleError
        If it is incomplete, has an unknown schema, was changed, contradicts itself, or contains the graph of
        another bundle.
    """
    path = Path(path)
    manifest = read_manifest(path)
    contract = read_contract(path, manifest)
    check_files(path, manifest["files"])
    steps, priors = manifest["steps"], manifest["priors"]
    if not isinstance(steps, int) or steps < 1 or contract.frontend.n_frames % steps:
        raise BundleError(f"{path}: steps is {steps!r}, which does not divide {contract.frontend.n_frames} frames.")
    if (
        not isinstance(priors, list)
        or len(priors) != len(contract.classes)
        or not all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in priors)
    ):
        raise BundleError(f"{path}: priors must be {len(contract.classes)} shares in [0, 1].")
    bundle = Bundle(
        path=path,
        contract=contract,
        steps=steps,
        priors=tuple(map(float, priors)),
        recipe=manifest["recipe"],
        provenance=manifest["provenance"],
        sha256=manifest["files"][GRAPH_WEIGHTS],
    )
    _check_graph(bundle)
    return bundle


def read_weights(bundle: Bundle) -> dict[str, Any]:
    """Read a bundle's weights as tensors under today's names, for further training.

    Raises
    ------
    BundleError
        If the bundle has no weights, or they are damaged.
    """
    from safetensors.torch import load_file

    from ..network import modern_names

    if not (bundle.path / WEIGHTS).is_file():
        raise BundleError(f"{bundle.path} was sealed without {WEIGHTS}; it can predict but not be trained further.")
    with read_errors(bundle.path / WEIGHTS, "safetensors", BundleError):
        tensors: dict[str, Any] = load_file(bundle.path / WEIGHTS)
    return modern_names(tensors)


def _check_graph(bundle: Bundle) -> None:
    graph, contract, fingerprint = read_graph(bundle), bundle.contract, None
    if graph.has_rt_info(["bcsed", "fingerprint"]):
        fingerprint = graph.get_rt_info(["bcsed", "fingerprint"]).astype(str)
    if fingerprint != contract.fingerprint:
        raise BundleError(
            f"{bundle.path}: the graph belongs to another bundle: its contract has fingerprint {fingerprint}, the one "
            f"in {MANIFEST} has {contract.fingerprint}."
        )
    shape = [dim.get_length() if dim.is_static else None for dim in graph.outputs[0].partial_shape]
    expected = [bundle.steps, len(contract.classes)]
    if len(graph.outputs) != 2 or shape[1:] != expected:
        raise BundleError(
            f"{bundle.path}: the graph's outputs have shape {shape[1:]} (steps, classes); {MANIFEST} states {expected}."
        )
