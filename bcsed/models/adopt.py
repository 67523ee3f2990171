"""Adopt a network of another project: a graph from a wave to scores or an embedding becomes a bundle.

The graph is sealed for one window, as an image of its samples (`bcsed.config.contract.wave_frontend`) -> logits,
attention of zeros, and the embedding, so everything that takes a bundle takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..config.contract import Contract, Net, wave_frontend
from ..errors import BundleError, ConfigError, DataError
from ..files import sha256
from .bundle.bundle import Bundle, check_operations, compile_graph
from .bundle.probe import OUTPUT_TOLERANCE, compute_probe, run_limited
from .bundle.seal import require_new_folder, seal
from .foreign import (
    LAST,
    ForeignModel,
    complete,
    describe_outputs,
    last_size,
    openvino_errors,
    read_foreign,
    read_labels,
)
from .heads import make_graph, to_logits

Array = npt.NDArray[np.float32]
# The peak of a quieter window is not scaled further.
_QUIETEST = 1e-7


def adopt(
    file: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    model: ForeignModel | None = None,
    names: Mapping[str, str] | None = None,
) -> Bundle:
    """Seal the graph in a TFLite, ONNX or OpenVINO file as a bundle in a new folder.

    Parameters
    ----------
    labels : str or Path, optional
        The classes of the scores in order, one per line: a name, or ``scientific name_common name``; lines of a CSV
        file end at the first comma. None if only the embedding is used.
    model : ForeignModel, optional
        What the file does not state; by default that of a known file, recognised by its input and outputs.
    names : mapping, optional
        Label of a competition -> scientific name: the bundle's classes are then these labels, as far as the file has
        their scientific names; the others are in ``provenance["unmatched"]``.

    Raises ConfigError if something is not stated or contradicts the file, DataError if the labels cannot be read or do
    not fit the scores, and BundleError if the file is no such graph, refers to other files, or its answers change from
    call to call.
    """
    file, out = Path(file), require_new_folder(out)
    graph = read_foreign(file)
    if labels is None and model is not None and model.scores:
        raise ConfigError(f"the scores {model.scores!r} need the names of their classes; name a file of --labels.")
    model = complete(file, graph, model or ForeignModel())
    if labels is not None and not model.scores:
        raise ConfigError(f"{labels} names classes; name the output of their --scores too.")
    classes = () if labels is None else read_labels(labels, model)
    columns: npt.NDArray[np.int64] | None = None
    unmatched: list[str] = []
    if names is not None:
        kept, columns, unmatched = match_names(classes, names, where=str(labels))
    else:
        kept = classes
    frontend = wave_frontend(model.sample_rate, model.n_samples, model.fmin_hz, model.fmax_hz)
    contract = Contract(frontend=frontend, net=Net(backbone=model.name), classes=kept)
    with openvino_errors(file):
        graph = wrap_graph(graph, model, contract, columns=columns, n_labels=len(classes))
        check_operations(graph, file)
        outputs = run_limited(file, lambda: _answers(file, graph, contract))
    provenance = {
        "model": model.name,
        "licence": model.licence,
        "source": model.source,
        "file": file.name,
        "file_sha256": sha256(file),
        "labels_sha256": None if labels is None else sha256(Path(labels)),
        "unmatched": unmatched,
        "peak": model.peak,
        "versions": {"bcsed": __version__},
    }
    priors = np.full(len(kept), 1.0 / max(1, len(kept)), np.float32)
    return seal(out, graph, outputs, None, contract=contract, steps=1, priors=priors, recipe={}, provenance=provenance)


def match_names(
    labels: Sequence[str], names: Mapping[str, str], *, where: str
) -> tuple[tuple[str, ...], npt.NDArray[np.int64], list[str]]:
    """Match labels of a competition with scientific names: the matched ones, their columns, and the others."""
    column_of = {label.casefold(): k for k, label in enumerate(labels)}
    matched = {label: column_of.get(name.casefold()) for label, name in names.items()}
    columns = {label: k for label, k in matched.items() if k is not None}
    unmatched = [label for label, k in matched.items() if k is None]
    if not columns:
        raise DataError(
            f"{where}: none of its {len(labels)} labels is the scientific name of a class, such as "
            f"{next(iter(names.values()), '')!r}."
        )
    return tuple(columns), np.array(list(columns.values()), np.int64), unmatched


def wrap_graph(
    graph: Any, model: ForeignModel, contract: Contract, *, columns: npt.NDArray[np.int64] | None, n_labels: int
) -> Any:
    """Return the graph of a bundle: (1, samples per frame, frames) -> logits, attention (1, 1, K), embedding (1, E)."""
    import openvino
    from openvino import opset13 as ops

    frontend, K = contract.frontend, len(contract.classes)
    scores = _find_port(graph, model.scores) if n_labels else None
    if scores is not None and last_size(scores) not in (0, n_labels):
        raise BundleError(f"{model.scores!r} has {last_size(scores)} scores, but there are {n_labels} labels.")
    embedding = _find_port(graph, model.embedding) if model.embedding else None
    if embedding is not None and not last_size(embedding):
        raise BundleError(f"{model.embedding!r} has no fixed number of values, so it is not an embedding of a window.")
    parameter = graph.inputs[0].get_node()
    shape = _wave_shape(graph.inputs[0].partial_shape, model.n_samples)
    graph.reshape({0: shape})
    image = ops.parameter([1, frontend.n_mels, frontend.n_frames], np.float32, name="wave")
    wave = ops.transpose(image, ops.constant(np.array([0, 2, 1])))
    if model.peak is not None:
        highest = ops.reduce_max(ops.abs(wave), ops.constant(np.array([1, 2])), keep_dims=True)
        wave = ops.multiply(wave, ops.divide(np.float32(model.peak), ops.maximum(highest, np.float32(_QUIETEST))))
    wave = ops.reshape(wave, ops.constant(np.array(shape)), special_zero=False)
    if parameter.get_element_type() != openvino.Type.f32:
        wave = ops.convert(wave, parameter.get_element_type().get_type_name())
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(wave.output(0))
    logits = ops.constant(np.zeros((1, 1, 0), np.float32))
    if scores is not None:
        logits = ops.reshape(_as_f32(scores), ops.constant(np.array([1, 1, n_labels])), special_zero=False)
        if not model.are_logits:
            logits = to_logits(logits)
        if columns is not None:
            logits = ops.gather(logits, ops.constant(columns), ops.constant(np.int64(2)))
    outputs = {"logits": logits, "attention": ops.constant(np.zeros((1, 1, K), np.float32))}
    if embedding is not None:
        outputs["embedding"] = ops.reshape(_as_f32(embedding), ops.constant(np.array([1, -1])), special_zero=False)
    sealed = make_graph(outputs, [image], model.name)
    sealed.inputs[0].get_tensor().set_names({"wave"})
    sealed.validate_nodes_and_infer_types()
    return sealed


def _wave_shape(shape: Any, n_samples: int) -> list[int]:
    """Return the shape of one window for an input of samples, with or without a batch and a channel."""
    rank = shape.rank.get_length() if shape.rank.is_static else 2
    if rank == 3 and shape[2].is_static and shape[2].get_length() == 1:
        return [1, n_samples, 1]
    return [1] * (rank - 1) + [n_samples]


def _as_f32(port: Any) -> Any:
    from openvino import opset13 as ops

    return port if port.get_element_type().get_type_name() == "f32" else ops.convert(port, "f32").output(0)


def _find_port(graph: Any, name: str) -> Any:
    """Return the port that has a name, or what the last matrix product receives; ConfigError if there is none."""
    if name == LAST:
        products = [op for op in graph.get_ordered_ops() if op.get_type_name() == "MatMul"]
        if not products:
            raise ConfigError(f"the graph has no matrix product, so no {LAST!r} embedding; name the tensor.")
        return products[-1].input_value(0)
    for op in graph.get_ordered_ops():
        for port in op.outputs():
            if name in port.get_names() or name == op.get_friendly_name():
                return port
    raise ConfigError(f"the graph has no tensor {name!r}; its outputs are {describe_outputs(graph)}.")


def _answers(file: Path, graph: Any, contract: Contract) -> tuple[Array, ...]:
    """Return logits, attention and embedding for the probe; BundleError if later calls give another answer."""
    compiled = compile_graph(graph, contract.frontend)
    window = compute_probe(contract.frontend)[0][None]
    answers = [[np.array(output) for output in compiled(window).values()] for _ in range(3)]
    for values in zip(*answers, strict=True):
        if not all(np.isfinite(value).all() for value in values):
            raise BundleError(f"{file} answers the probe with values that are not finite.")
        difference = max((float(np.abs(values[0] - value).max()) for value in values[1:] if value.size), default=0.0)
        if difference > OUTPUT_TOLERANCE:
            raise BundleError(f"{file} gives other answers to the same sound from call to call, by {difference:.3g}.")
    return tuple(values[0] for values in answers[0])
