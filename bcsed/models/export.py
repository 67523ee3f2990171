"""Convert a network to an OpenVINO graph and seal it in a bundle."""

from __future__ import annotations

import datetime
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._version import __version__
from ..config.contract import Contract
from ..errors import BundleError
from .bundle.bundle import Bundle, compile_graph
from .bundle.probe import compute_probe, run_probe
from .bundle.seal import require_new_folder, seal
from .network import SedNet

# Between torch and OpenVINO in float32, in logits: measured were 2e-8 to 2e-5.
PARITY_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


def convert(network: torch.nn.Module, example: torch.Tensor) -> Any:
    """Convert a network to an ``openvino.Model`` whose batch axis is free.

    By tracing, which takes a fourth of the time of ``torch.export`` and computes the same bits (tests/test_bundle.py).
    """
    import openvino

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of operations that the network does not depend on, and of torch.jit itself
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, example_input=example)


class _WithEmbedding(torch.nn.Module):
    """Return the embedding of a window too: the mean of the backbone's features over time."""

    def __init__(self, network: SedNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        encoded = self.network.encode(db)
        return (*self.network.apply_heads(encoded), encoded.mean(2))


def to_graph(network: SedNet, contract: Contract) -> Any:
    """Convert a network to an ``openvino.Model``: dB windows ``db`` (B, F, T) -> ``logits``, ``attention`` (B, t, K).

    A third output is the ``embedding`` (B, C) of a `SedNet`.
    Floor, scaling, slopes and fold are part of the graph, so that every program computes them alike.
    """
    was_training = network.training
    network.eval()
    frontend = contract.frontend
    example = torch.zeros(2, frontend.n_mels, frontend.n_frames, device=next(network.parameters()).device)
    graph = convert(_WithEmbedding(network) if isinstance(network, SedNet) else network, example)
    network.train(was_training)
    graph.reshape({0: [-1, frontend.n_mels, frontend.n_frames]})
    graph.inputs[0].get_tensor().set_names({"db"})
    for output, name in zip(graph.outputs, ("logits", "attention", "embedding"), strict=False):
        output.get_tensor().set_names({name})
    return graph


def parity(network: SedNet, outputs: Sequence[npt.NDArray[np.float32]], contract: Contract) -> float:
    """Return the largest difference between the outputs of torch and those of OpenVINO for the probe."""
    db = torch.from_numpy(compute_probe(contract.frontend)[0])[None].to(next(network.parameters()).device)
    with torch.no_grad():
        expected = [output[0].cpu().numpy() for output in network.eval()(db)]
    return max(float(np.abs(left - right).max()) for left, right in zip(expected, outputs, strict=True))


def export(
    network: SedNet,
    out: str | Path,
    *,
    contract: Contract,
    priors: npt.NDArray[np.float32],
    recipe: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    with_weights: bool = True,
) -> Bundle:
    """Convert a network to a graph, compare the outputs of both, and seal them in a bundle.

    `out` is a new or empty folder. `priors` (K,) are the shares of training clips per class. `recipe` and `provenance`
    are recorded. `with_weights` includes the weights that further training needs. Raises BundleError if the outputs of
    graph and network differ, or the bundle cannot be written.
    """
    import openvino

    require_new_folder(out)
    graph = to_graph(network, contract)
    outputs = run_probe(compile_graph(graph, contract.frontend), contract.frontend)
    difference = parity(network, outputs[:2], contract)
    if not difference <= PARITY_TOLERANCE:
        raise BundleError(
            f"{out}: the outputs of OpenVINO differ from those of torch by {difference:.3g} (allowed "
            f"{PARITY_TOLERANCE:g}); nothing was sealed."
        )
    _log.info("torch and OpenVINO agree to %.2g", difference)
    return seal(
        out,
        graph,
        outputs,
        network.state_dict() if with_weights else None,
        contract=contract,
        steps=network.steps,
        priors=priors,
        recipe=recipe or {},
        provenance={
            **(provenance or {}),
            "exported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "torch_openvino_difference": difference,
            "versions": {"bcsed": __version__, "torch": torch.__version__, "openvino": openvino.__version__},
        },
    )
