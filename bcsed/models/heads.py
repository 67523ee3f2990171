"""Heads on the embedding of a sealed network, and the bundle of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config.contract import Contract, Net
from ..errors import BundleError
from .bundle.bundle import Bundle, as_embedding, compile_graph, read_graph
from .bundle.probe import run_probe
from .bundle.seal import seal

Array = npt.NDArray[np.float32]
# A probability is at least this far from 0 and 1, so that its logit is finite.
_MARGIN = 1e-7


@dataclass(frozen=True, eq=False)
class ProbeHead:
    """Dense layers with ReLU between them, then a softmax over K classes and "none of them"."""

    layers: tuple[tuple[Array, Array], ...]  # weight (outputs, inputs) and bias (outputs,) of each

    def scores(self, vectors: Array) -> Array:
        """Return probabilities (N, K + 1) of embeddings (N, E)."""
        x = vectors
        for index, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if index < len(self.layers) - 1:
                x = np.maximum(x, 0)
        x = np.exp(x - x.max(1, keepdims=True))
        return np.asarray(x / x.sum(1, keepdims=True), np.float32)

    def unscaled(self, mean: Array, scale: float) -> ProbeHead:
        """Return the head that receives embeddings as they are instead of ``(x - mean) / scale``."""
        weight, bias = self.layers[0]
        first = weight / scale
        return ProbeHead(((first, np.asarray(bias - first @ mean, np.float32)), *self.layers[1:]))


def to_logits(probabilities: Any) -> Any:
    """Return the node of an OpenVINO graph that computes the logits of probabilities."""
    from openvino import opset13 as ops

    p = ops.clamp(probabilities, _MARGIN, 1.0 - _MARGIN)
    return ops.subtract(ops.log(p), ops.log(ops.subtract(np.float32(1.0), p)))


def make_graph(outputs: Mapping[str, Any], inputs: Sequence[Any], name: str) -> Any:
    """Return the ``openvino.Model`` of named output nodes."""
    from openvino import Model
    from openvino import opset13 as ops

    graph = Model([ops.result(node) for node in outputs.values()], list(inputs), name)
    for port, output in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({output})
    return graph


def seal_head(
    network: Bundle,
    head: ProbeHead,
    out: str | Path,
    *,
    classes: Sequence[str],
    priors: Array,
    provenance: Mapping[str, Any],
) -> Bundle:
    """Seal the graph of a network and a head on its embedding as one bundle, which computes one time step per window.

    BundleError if the network has no embedding, or the bundle cannot be written.
    """
    from openvino import opset13 as ops

    if as_embedding(network).n_features != head.layers[0][0].shape[1]:
        raise BundleError(f"{network.path}: its embedding has {network.n_features} values, which do not fit the head.")
    graph = read_graph(network)
    embedding = x = graph.outputs[2].get_node().input_value(0)
    for index, (weight, bias) in enumerate(head.layers):
        x = ops.add(ops.matmul(x, ops.constant(weight.astype(np.float32)), False, True), bias.astype(np.float32))
        if index < len(head.layers) - 1:
            x = ops.relu(x)
    # Without the last column, "none of the classes".
    columns = ops.gather(to_logits(ops.softmax(x, 1)), ops.constant(np.arange(len(classes))), ops.constant(np.int64(1)))
    steps = ops.unsqueeze(columns, ops.constant(np.int64(1)))
    outputs = {"logits": steps, "attention": ops.multiply(steps, np.float32(0.0)), "embedding": embedding}
    sealed = make_graph(outputs, graph.get_parameters(), graph.get_friendly_name())
    net = Net(backbone=network.contract.net.backbone)
    contract: Contract = replace(network.contract, classes=tuple(classes), groups=(), net=net)
    probed = run_probe(compile_graph(sealed, contract.frontend), contract.frontend)
    return seal(
        out, sealed, probed, None, contract=contract, steps=1, priors=priors, recipe={}, provenance=dict(provenance)
    )
