"""Files of networks of other projects: how they are read, what is known about them, and their labels.

OpenVINO reads TFLite, ONNX and its own format, without TensorFlow or ONNX Runtime, and runs no code of a file.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BundleError, ConfigError, DataError
from ..files import os_errors, read_errors, shorten_list

SUFFIXES = (".tflite", ".onnx", ".xml")
# In `ForeignModel.embedding`: what the last matrix product of the graph receives.
LAST = "last"
# How the file of an ONNX graph names another file that holds its weights: a field "location" of a tensor, whose number
# and length may be written with more bytes than needed.
_EXTERNAL = re.compile(rb"(?:\n|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """What the file of a network does not state about itself."""

    name: str = "foreign"
    sample_rate: int = 0  # Hz
    n_samples: int = 0  # per window; 0: as the graph's input has
    scores: str = ""  # name of the output, or of an inner tensor, with one score per class; none without classes
    are_logits: bool = True  # scores before the sigmoid; otherwise probabilities
    embedding: str = ""  # name of the output, or of an inner tensor, that is the embedding; or 'last'
    peak: float | None = None  # the highest magnitude to which each window is scaled; None: as recorded
    fmin_hz: float = 0.0  # band of the network, for notes about recordings that do not contain it
    fmax_hz: float | None = None
    n_classes: int = 0  # by which a known file is recognised
    labels_sha256: str = ""  # of the scientific names in order, one per line; '' if any labels are accepted
    licence: str = "not specified"
    source: str = "not specified"

    def __post_init__(self) -> None:
        for field, value in (("sample rate", self.sample_rate), ("window", self.n_samples)):
            if not 0 <= value <= 1 << 40:
                raise ConfigError(f"the {field} must be positive, got {value}.")
        if self.peak is not None and not 0 < self.peak < math.inf:
            raise ConfigError(f"the peak must be positive, got {self.peak:g}.")


BIRDNET = ForeignModel(
    name="BirdNET V2.4",
    sample_rate=48_000,
    n_samples=144_000,
    scores="Identity",
    embedding=LAST,
    fmax_hz=15_000.0,
    n_classes=6522,
    labels_sha256="b3255db4beb5f605c54697ddacf31db1c2112d1a27b29ab8f1cd661d242c0a49",
    licence="CC BY-NC-SA 4.0: no commercial use; what is derived from it must carry the same licence",
    source="https://github.com/birdnet-team/BirdNET-Analyzer",
)
PERCH = ForeignModel(
    name="Perch v2",
    sample_rate=32_000,
    n_samples=160_000,
    scores="label",
    embedding="embedding",
    peak=0.25,
    fmin_hz=60.0,
    fmax_hz=16_000.0,
    n_classes=14_795,
    licence="Apache-2.0",
    source="https://www.kaggle.com/models/google/bird-vocalization-classifier",
)
KNOWN = (BIRDNET, PERCH)


def read_foreign(file: Path) -> Any:
    """Read a graph as an ``openvino.Model``; BundleError if it is damaged, unknown, or refers to other files."""
    import openvino
    from openvino.frontend import ConversionExtension

    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{file}: adopt reads {', '.join(SUFFIXES)} files; convert the network to one of them.")
    with os_errors(file, BundleError):
        data = file.read_bytes()
    if file.suffix.lower() == ".onnx" and _EXTERNAL.search(data):
        advice = "save it with its weights inside, as onnx.save_model(..., save_as_external_data=False) does"
        raise BundleError(f"{file} keeps weights in another file, which is not read; {advice}.")
    if file.suffix.lower() == ".tflite" and data[4:8] != b"TFL3":
        raise BundleError(f"{file} is not a TFLite file.")
    if file.suffix.lower() == ".onnx" and data[:1] != b"\x08":  # the version of its format, the first field
        raise BundleError(f"{file} is not an ONNX file.")
    weights = file.with_suffix(".bin")
    if file.suffix.lower() == ".xml" and not weights.is_file():
        raise BundleError(f"{weights}: there is no such file; copy it beside {file.name}.")
    core = openvino.Core()
    core.add_extension(ConversionExtension("RFFT2D", _real_part_of_rfft))
    with openvino_errors(file):
        graph = core.read_model(file)
    for op in graph.get_ops() if file.suffix.lower() == ".tflite" else ():
        if op.get_type_name() == "RDFT" and not _is_cast(op.output(0)):
            raise BundleError(f"{file} uses the phase or the magnitude of RFFT2D, which is not supported.")
    return graph


def _real_part_of_rfft(node: Any) -> list[Any]:
    """Convert TFLite's RFFT2D: the real part, which its cast to a real type keeps; see `_is_cast`."""
    from openvino import opset13 as ops

    size = node.get_input(1)
    lengths = list(size.get_node().data) if size.get_node().get_type_name() == "Constant" else []
    # Over a single row, the transform in one dimension is the same, and twice as fast.
    axes = [-1] if len(lengths) == 2 and lengths[0] == 1 else [-2, -1]
    if len(axes) == 1:
        size = ops.constant(np.asarray(lengths[1:], np.int64))
    spectrum = ops.rdft(node.get_input(0), ops.constant(np.array(axes, np.int64)), size)
    return [ops.gather(spectrum, ops.constant(np.int64(0)), ops.constant(np.int64(-1))).output(0)]


def _is_cast(port: Any) -> bool:
    """Return whether everything that receives an output casts it, after changes of its shape only."""
    receivers = [target.get_node() for target in port.get_target_inputs()]
    names = [node.get_type_name() for node in receivers]
    return bool(names) and all(
        name == "Convert" or (name in ("Gather", "Squeeze", "Reshape") and _is_cast(node.output(0)))
        for name, node in zip(names, receivers, strict=True)
    )


@contextmanager
def openvino_errors(file: Path) -> Iterator[None]:
    """Raise BundleError, with the last line of OpenVINO's reason, for a graph that it cannot read or compute."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        _log.info("%s: %s", file, error)
        # Without a known format, the last line lists the formats.
        reason = "it is damaged" if "Please check" in lines[-1] else lines[-1][:200]
        raise BundleError(f"{file} is not a graph that OpenVINO can compute ({reason}).") from error


def complete(file: Path, graph: Any, model: ForeignModel) -> ForeignModel:
    """Return the description of a file: that of a known one with the stated fields, or these and its window.

    ConfigError if something is missing or contradicts the file.
    """
    if len(graph.inputs) != 1:
        names = ", ".join(sorted(name for port in graph.inputs for name in port.get_names()))
        raise BundleError(f"{file} has {len(graph.inputs)} inputs ({names}); it must receive a wave and nothing else.")
    shape = graph.inputs[0].partial_shape
    if not graph.inputs[0].get_element_type().is_real():
        kind = graph.inputs[0].get_element_type().get_type_name()
        raise BundleError(f"{file} receives {kind}; a wave of numbers in [-1, 1] is needed.")
    sizes = [dim.get_length() for dim in shape if dim.is_static] if shape.rank.is_static else []
    size = max(sizes, default=0)
    n_scores = [last_size(port) for port in graph.outputs]
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    stated = {field.name: values[field.name] for field in fields(model) if values[field.name] != field.default}
    for known in KNOWN:
        if size in (known.n_samples, 1, 0) and known.n_classes in n_scores:
            _log.info("%s is %s", file, known.name)
            fixed = ("sample_rate", "n_samples", "scores", "are_logits")
            differing = [name for name in fixed if stated.get(name, getattr(known, name)) != getattr(known, name)]
            if differing:
                value = getattr(known, differing[0])
                raise ConfigError(f"{file} is {known.name}, whose {differing[0]} is {value!r}; leave it out.")
            return replace(known, **stated)
    if not model.sample_rate:
        names = " or ".join(known.name for known in KNOWN)
        needed = "state the --sample-rate of its input, and --scores or --embedding"
        raise ConfigError(f"{file} is not {names}; {needed}. Its outputs are {describe_outputs(graph)}.")
    if model.n_samples and size > 1 and model.n_samples != size:
        raise ConfigError(f"{file}: its input has {size} samples, not {model.n_samples}.")
    if not (n_samples := model.n_samples or (size if size > 1 else 0)):
        raise ConfigError(f"{file}: its input has any length; state the length of a window as --window-s.")
    if not model.scores and not model.embedding:
        outputs = describe_outputs(graph)
        raise ConfigError(f"{file}: name its output of --scores, its --embedding, or both; it has {outputs}.")
    return replace(model, n_samples=n_samples)


def last_size(port: Any) -> int:
    """Return the last dimension of an output, 0 if it is free."""
    shape = port.partial_shape
    return shape[-1].get_length() if shape.rank.is_static and len(shape) and shape[-1].is_static else 0


def describe_outputs(graph: Any) -> str:
    """Return the names and shapes of the outputs of a graph."""
    names = ("/".join(sorted(port.get_names())) or "no name" for port in graph.outputs)
    return shorten_list((f"{name} {port.partial_shape}" for name, port in zip(names, graph.outputs, strict=True)), 10)


def read_labels(path: str | Path, model: ForeignModel) -> tuple[str, ...]:
    """Return the scientific names, or other labels, of a file's lines; DataError if there are none or some are equal.

    A header is skipped if the known model has one class less than the file has lines.
    """
    path = Path(path)
    with os_errors(path), read_errors(path, "a list of labels"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    if path.suffix.lower() == ".csv":
        lines = [line.partition(",")[0].strip('"') for line in lines]
    lines = [line.strip() for line in lines if line.strip()]
    if model.n_classes and len(lines) == model.n_classes + 1:
        lines = lines[1:]
    labels = tuple(line.partition("_")[0] for line in lines)
    # Scientific names have two words; great_tit is one name, and not that of a class "great".
    n_scientific = sum(" " in label and "_" in line for label, line in zip(labels, lines, strict=True))
    if 2 * n_scientific < len(lines) or len(set(labels)) < len(labels):
        labels = tuple(lines)
    repeated = sorted(name for name, n in Counter(labels).items() if n > 1)
    if not labels or repeated:
        raise DataError(f"{path}: " + (f"the label {repeated[0]!r} is listed twice." if labels else "no labels."))
    if model.labels_sha256 and hashlib.sha256("\n".join(labels).encode()).hexdigest() != model.labels_sha256:
        raise DataError(f"{path}: these are not the {model.n_classes} labels of {model.name} in their order.")
    return labels
