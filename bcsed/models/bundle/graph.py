"""Read a bundle's graph and compile it for this CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.contract import Frontend
from ...errors import BundleError, ConfigError
from .manifest import GRAPH

if TYPE_CHECKING:
    from .bundle import Bundle

# Precisions of the computation. int8 is not offered: in a published experiment it lowered macro ROC-AUC from .777 to
# .716.
PRECISIONS = ("f32", "bf16")


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
    """Compile a graph for throughput on this CPU.

    The precision is set explicitly because OpenVINO's default is bfloat16 where the CPU supports it, so that
    the same file would give different scores on another machine.

    Parameters
    ----------
    graph : openvino.Model
    frontend : Frontend
    threads : int, optional
        Processor cores to use; all of them by default.
    precision : {'f32', 'bf16'}
    cache : str or Path, optional
        Folder in which OpenVINO stores compiled graphs, for a faster start the next time.
    batch : int
        Windows per request.

    Raises
    ------
    ConfigError
        If the precision is unknown or not supported by this CPU.
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
