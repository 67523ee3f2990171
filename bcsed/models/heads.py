"""Heads on the embedding of a sealed network, and the bundle of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio.spectrogram import FLOOR_POWER
from ..config.contract import Contract, Net
from ..errors import BundleError
from .bundle.bundle import Bundle, as_embedding, compile_graph, read_graph
from .bundle.probe import run_probe
from .bundle.seal import seal

Array = npt.NDArray[np.float32]
# A probability is at least this far from 0 and 1, so that its logit is finite.
_MARGIN = 1e-7
Layer = tuple[Array, Array]  # weight (outputs, inputs) and bias (outputs,)


@dataclass(frozen=True, eq=False)
class ProbeHead:
    """Dense layers with ReLU between them, then a softmax over K classes and "none of them"."""

    layers: tuple[Layer, ...]

    @property
    def n_windows(self) -> int:
        """Consecutive windows that the head receives."""
        return 1

    @property
    def n_inputs(self) -> int:
        """Values of an embedding."""
        return int(self.layers[0][0].shape[1])

    def scores(self, vectors: Array) -> Array:
        """Return probabilities (N, K + 1) of embeddings (N, E)."""
        x = vectors
        for index, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if index < len(self.layers) - 1:
                x = np.maximum(x, 0)
        return _softmax(x)

    def unscaled(self, mean: Array, scale: float) -> ProbeHead:
        """Return the head that receives embeddings as they are instead of ``(x - mean) / scale``."""
        return ProbeHead((_unscaled(self.layers[0], mean, scale), *self.layers[1:]))

    def to_graph(self, vectors: Any) -> Any:
        """Return the node of an OpenVINO graph that computes logits (B, n, K + 1) of embeddings (B, n, E)."""
        from openvino import opset13 as ops

        x = vectors
        for index, layer in enumerate(self.layers):
            x = _dense(x, layer)
            if index < len(self.layers) - 1:
                x = ops.relu(x)
        return x


@dataclass(frozen=True, eq=False)
class SequenceHead:
    """Attention over n consecutive windows between two dense layers, then a softmax as in `ProbeHead`."""

    inner: Layer  # E -> D, with ReLU
    query: Layer  # D -> A
    key: Layer  # D -> A
    value: Layer  # D -> D, with ReLU after the attention
    outer: Layer  # 2 D -> K + 1
    position: Array  # (n, n), added to the products of queries and keys

    @property
    def n_windows(self) -> int:
        """Consecutive windows that the head receives."""
        return len(self.position)

    @property
    def n_inputs(self) -> int:
        """Values of an embedding."""
        return int(self.inner[0].shape[1])

    def scores(self, vectors: Array) -> Array:
        """Return probabilities (N, n, K + 1) of embeddings (N, n, E)."""

        def dense(x: Any, layer: Layer) -> Any:
            return x @ layer[0].T + layer[1]

        x = np.maximum(dense(vectors, self.inner), 0)
        products = dense(x, self.query) @ np.swapaxes(dense(x, self.key), 1, 2)
        context = _softmax(products + self.position) @ dense(x, self.value)
        return _softmax(dense(np.concatenate([x, np.maximum(context, 0)], 2), self.outer))

    def unscaled(self, mean: Array, scale: float) -> SequenceHead:
        """Return the head that receives embeddings as they are instead of ``(x - mean) / scale``."""
        return replace(self, inner=_unscaled(self.inner, mean, scale))

    def to_graph(self, vectors: Any) -> Any:
        """Return the node of an OpenVINO graph that computes logits (B, n, K + 1) of embeddings (B, n, E)."""
        from openvino import opset13 as ops

        x = ops.relu(_dense(vectors, self.inner))
        products = ops.matmul(_dense(x, self.query), _dense(x, self.key), False, True)
        attention = ops.softmax(ops.add(products, ops.constant(self.position)), 2)
        context = ops.relu(ops.matmul(attention, _dense(x, self.value), False, False))
        return _dense(ops.concat([x, context], 2), self.outer)


def _dense(x: Any, layer: Layer) -> Any:
    from openvino import opset13 as ops

    weight, bias = (values.astype(np.float32) for values in layer)
    return ops.add(ops.matmul(x, ops.constant(weight), False, True), ops.constant(bias))


def _unscaled(layer: Layer, mean: Array, scale: float) -> Layer:
    weight = layer[0] / scale
    return weight, np.asarray(layer[1] - weight @ mean, np.float32)


def _softmax(x: Array) -> Array:
    x = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(x / x.sum(-1, keepdims=True), np.float32)


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
    head: ProbeHead | SequenceHead,
    out: str | Path,
    *,
    classes: Sequence[str],
    priors: Array,
    provenance: Mapping[str, Any],
) -> Bundle:
    """Seal the graph of a network and a head on its embedding as one bundle.

    Its window is as many windows of the network as the head receives, and each of them is a time step.

    BundleError if the network has no embedding, or the bundle cannot be written.
    """
    from openvino import opset13 as ops

    if as_embedding(network).n_features != head.n_inputs:
        raise BundleError(f"{network.path}: its embedding has {network.n_features} values, which do not fit the head.")
    n, frontend, graph = head.n_windows, network.contract.frontend, read_graph(network)
    frontend = replace(frontend, n_frames=n * frontend.n_frames)
    image, vectors = _embed_windows(graph, n)
    # Without the last column, "none of the classes".
    columns, last = ops.constant(np.arange(len(classes))), ops.constant(np.int64(2))
    steps = ops.gather(to_logits(ops.softmax(head.to_graph(vectors), 2)), columns, last)
    embedding = ops.reduce_mean(vectors, ops.constant(np.array([1])), keep_dims=False)
    outputs = {"logits": steps, "attention": ops.multiply(steps, np.float32(0.0)), "embedding": embedding}
    sealed = make_graph(outputs, [image], graph.get_friendly_name())
    net = Net(backbone=network.contract.net.backbone)
    contract: Contract = replace(network.contract, frontend=frontend, classes=tuple(classes), groups=(), net=net)
    probed = run_probe(compile_graph(sealed, frontend), frontend)
    return seal(
        out, sealed, probed, None, contract=contract, steps=n, priors=priors, recipe={}, provenance=dict(provenance)
    )


def embed_silence(network: Bundle) -> Array:
    """Return the embedding (E,) of a window of digital silence."""
    frontend = network.contract.frontend
    level = 0.0 if frontend.is_wave else 10 * np.log10(FLOOR_POWER)
    window = np.full((1, frontend.n_mels, frontend.n_frames), level, np.float32)
    return np.array(compile_graph(read_graph(network), frontend)(window)[2][0])


def _embed_windows(graph: Any, n: int) -> tuple[Any, Any]:
    """Return the input of n consecutive windows, and the node of their embeddings (B, n, E).

    The graph is copied for each window, because many graphs of waves compute one window at a time; the weights of the
    copies are stored once.
    """
    from openvino import opset13 as ops

    batch, bands, frames = graph.inputs[0].partial_shape
    sizes = [batch.get_length() if batch.is_static else -1, bands.get_length(), n * frames.get_length()]
    image = ops.parameter(sizes, np.float32)
    image.output(0).get_tensor().set_names(graph.inputs[0].get_names())
    pieces, vectors = ops.split(image, ops.constant(np.int64(2)), n), []
    for index in range(n):
        copy = graph.clone()
        for target in copy.inputs[0].get_node().output(0).get_target_inputs():
            target.replace_source_output(pieces.output(index))
        embedding = copy.outputs[2].get_node().input_value(0)
        vectors.append(ops.unsqueeze(embedding, ops.constant(np.int64(1))))
    return image, ops.concat(vectors, 1)
