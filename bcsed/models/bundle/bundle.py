"""Load a bundle, the only way to get a trained network for prediction, and compile its graph for this CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...config.contract import Contract, Frontend
from ...errors import BundleError, ConfigError
from ...files import os_errors, read_errors
from .manifest import GRAPH, GRAPH_WEIGHTS, MANIFEST, WEIGHTS, check_files, read_contract, read_manifest

# Precisions of the computation. int8 is not offered: in a published experiment it lowered macro ROC-AUC from .777 to
# .716.
PRECISIONS = ("f32", "bf16")
# Operations whose time is not bounded by the graph; no network of bcsed has them.
_UNBOUNDED = ("Loop", "TensorIterator", "If")
# Of one array of a graph for one window; the largest known is of 30 million.
_MAX_VALUES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose files are complete, unchanged and consistent."""

    path: Path
    contract: Contract  # front end, network and classes
    steps: int  # time steps per window
    priors: tuple[float, ...]  # share of training clips per class; the scores of a recording that cannot be read
    recipe: Mapping[str, Any]  # how the network was trained; recorded only
    provenance: Mapping[str, Any]  # on what and when it was trained; recorded only
    sha256: str  # digest of the graph's weights; it identifies the training
    n_features: int = 0  # values of the embedding of a window; 0 if the graph does not return one

    @property
    def is_embedding(self) -> bool:
        """Whether a backend computes the embedding, see `as_embedding`."""
        return self.contract.net.pool == "mean"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.contract.classes

    def describe(self) -> dict[str, Any]:
        """Return its origin for a manifest."""
        experiment, fingerprint = self.provenance.get("experiment", ""), self.contract.fingerprint
        return {"bundle": str(self.path), "experiment": experiment, "fingerprint": fingerprint, "sha256": self.sha256}


def load(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises BundleError if it is incomplete, has an unknown schema, was changed, contradicts itself, or contains the
    graph of another bundle.
    """
    path = Path(path)
    with os_errors(path, BundleError):
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
    return replace(bundle, n_features=_check_graph(bundle))


def as_embedding(bundle: Bundle) -> Bundle:
    """Return the bundle with the values of its embedding in the place of classes; BundleError if it has none."""
    if not bundle.n_features:
        advice = "export the run again, or adopt the file with --embedding"
        raise BundleError(f"{bundle.path}: its graph returns no embedding; {advice}.")
    classes, net = tuple(map(str, range(bundle.n_features))), replace(bundle.contract.net, heads="shared", pool="mean")
    contract = replace(bundle.contract, classes=classes, groups=(), net=net)
    priors = (0.0,) * bundle.n_features
    return replace(bundle, contract=contract, steps=1, priors=priors)


def read_graph(bundle: Bundle) -> Any:
    """Return a bundle's ``openvino.Model``."""
    import openvino

    try:
        return openvino.Core().read_model(bundle.path / GRAPH)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}: {GRAPH} is not a valid OpenVINO graph.") from error


def compile_graph(
    graph: Any,
    frontend: Frontend,
    *,
    threads: int | None = None,
    precision: str = "f32",
    cache: str | Path | None = None,
    batch: int = 1,
) -> Any:
    """Compile an ``openvino.Model`` for throughput on this CPU.

    The precision is set explicitly because OpenVINO's default is bfloat16 where the CPU supports it, so that
    the same file would give different scores on another machine.

    Parameters
    ----------
    threads : int, optional
        Processor cores to use; all of them by default.
    precision : {'f32', 'bf16'}
        ConfigError if it is unknown or not supported by this CPU.
    cache : str or Path, optional
        Folder in which OpenVINO stores compiled graphs, for a faster start the next time.
    batch : int
        Windows per request.
    """
    import openvino

    core = openvino.Core()
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("this CPU does not support bfloat16; use the precision f32.")
    graph = graph.clone()
    graph.reshape({0: [batch, frontend.n_mels, frontend.n_frames]})
    options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    if cache is not None:
        options["CACHE_DIR"] = str(cache)
    return core.compile_model(graph, "CPU", options)


def read_weights(bundle: Bundle) -> dict[str, Any]:
    """Read a bundle's weights under today's names, for further training; BundleError if missing or damaged."""
    from safetensors.torch import load_file

    from ..network import modern_names

    if not (bundle.path / WEIGHTS).is_file():
        raise BundleError(f"{bundle.path} was sealed without {WEIGHTS}; it can predict but not be trained further.")
    with read_errors(bundle.path / WEIGHTS, "safetensors", BundleError):
        tensors: dict[str, Any] = load_file(bundle.path / WEIGHTS)
    return modern_names(tensors)


def _check_graph(bundle: Bundle) -> int:
    """Refuse a graph that does not fit the contract, and return the number of values of its embedding."""
    graph, contract, fingerprint = read_graph(bundle), bundle.contract, None
    if graph.has_rt_info(["bcsed", "fingerprint"]):
        fingerprint = graph.get_rt_info(["bcsed", "fingerprint"]).astype(str)
    if fingerprint != contract.fingerprint:
        raise BundleError(
            f"{bundle.path}: the graph belongs to another bundle: its contract has fingerprint {fingerprint}, the one "
            f"in {MANIFEST} has {contract.fingerprint}."
        )
    image = [contract.frontend.n_mels, contract.frontend.n_frames]
    outputs = [bundle.steps, len(contract.classes)]
    # Graphs of waves are sealed for one window: many of their files know no other batch.
    any_batch, batch = (1, 1) if contract.frontend.is_wave else (-1, 2)
    _check_ports(bundle, "input", graph.inputs, [[any_batch, *image]])
    shapes = [[any_batch, *outputs]] * 2
    if len(graph.outputs) > len(shapes) and (shape := _embedding_size(graph.outputs[2])):
        shapes.append([any_batch, *shape])
    _check_ports(bundle, "output", graph.outputs, shapes)
    try:
        graph.reshape({0: [batch, *image]})
    except RuntimeError as error:
        raise BundleError(f"{bundle.path}: the graph of {GRAPH} is valid for no batch of {batch} windows.") from error
    _check_ports(bundle, "output", graph.outputs, [[batch, *shape[1:]] for shape in shapes])
    check_operations(graph, bundle.path / GRAPH)
    return shapes[2][1] if len(shapes) > 2 else 0


def check_operations(graph: Any, path: Path) -> None:
    """Refuse a graph of one or two windows that could compute without end, or fill the memory."""
    for op in graph.get_ops():
        sizes = [math.prod(_shape(port, 1)) for port in op.outputs() if port.partial_shape.rank.is_static]
        if op.get_type_name() in _UNBOUNDED or max(sizes, default=0) > _MAX_VALUES:
            raise BundleError(f"{path} contains {op.get_type_name()}, which could compute without end.")


def _embedding_size(port: Any) -> list[int]:
    """Return the number of values of a third output if it can be an embedding, as a list; otherwise an empty list."""
    shape = port.partial_shape
    return [shape[1].get_length()] if shape.rank.is_static and len(shape) == 2 and shape[1].is_static else []


def _check_ports(bundle: Bundle, noun: str, ports: Sequence[Any], expected: list[list[int]]) -> None:
    """Refuse a graph whose inputs or outputs are not arrays of float32 of the expected shapes; -1: any size."""
    known = [port for port in ports if port.partial_shape.rank.is_static]
    forms = [(port.element_type.get_type_name(), _shape(port, -1)) for port in known]
    if len(ports) != len(expected) or forms != [("f32", shape) for shape in expected]:
        stated = " and ".join(f"{kind} {shape}" for kind, shape in forms) or "none of a known rank"
        needed = " and ".join(f"f32 {shape}" for shape in expected)
        raise BundleError(f"{bundle.path}: the graph's {noun}s are {stated}; {MANIFEST} states {needed} (-1: any).")


def _shape(port: Any, free: int) -> list[int]:
    return [dim.get_length() if dim.is_static else free for dim in port.partial_shape]
