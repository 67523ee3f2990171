"""Network -> OpenVINO graph, sealed in a bundle."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._version import __version__
from ..config.contract import Contract
from ..errors import BundleError
from .bundle.bundle import Bundle, probe_picture, require_new_folder, seal
from .bundle.graph import compile_graph
from .network import SedNet

# Between torch and OpenVINO in float32, in logits: seen were 2e-8 to 2e-5.
PARITY_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


def to_graph(network: SedNet, contract: Contract) -> Any:
    """Convert a network to an ``openvino.Model`` with a free batch axis.

    The graph takes dB windows (B, F, T) as ``db`` and gives ``what`` and ``when``, (B, t, K) each: flooring,
    scaling, slopes and fold are inside, so nobody can do them differently.
    """
    import openvino

    was_training = network.training
    network.eval()
    frontend = contract.frontend
    example = torch.zeros(2, frontend.n_mels, frontend.n_frames, device=next(network.parameters()).device)
    with torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("B", min=1)},))
        graph = openvino.convert_model(program)
    network.train(was_training)
    graph.reshape({0: [-1, frontend.n_mels, frontend.n_frames]})
    graph.inputs[0].get_tensor().set_names({"db"})
    for output, name in zip(graph.outputs, ("logits", "attention"), strict=True):
        output.get_tensor().set_names({name})
    return graph


def parity(network: SedNet, graph: Any, contract: Contract) -> float:
    """Return the largest difference between torch's and OpenVINO's answers to the probe, in logits."""
    db, _ = probe_picture(contract.frontend)
    network = network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        torch_answers = [x[0].cpu().numpy() for x in network(torch.from_numpy(db)[None].to(device))]
    graph_answers = compile_graph(graph, contract.frontend)(db[None])
    return max(float(np.abs(mine - graph_answers[place][0]).max()) for place, mine in enumerate(torch_answers))


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
    """Convert a network, compare the graph's answers with the network's, and seal both.

    Parameters
    ----------
    network : SedNet
    out : str or Path
        The bundle's folder; new or empty.
    contract : Contract
    priors : ndarray, shape (K,)
        Share of training clips per class.
    recipe, provenance : mapping
        Recorded.
    with_weights : bool
        Whether the bundle can also be trained on.

    Raises
    ------
    BundleError
        If graph and network disagree, or the bundle cannot be written.
    """
    require_new_folder(out)
    graph = to_graph(network, contract)
    difference = parity(network, graph, contract)
    if not difference <= PARITY_TOLERANCE:
        raise BundleError(
            f"{out}: OpenVINO answers the probe {difference:.3g} away from torch (allowed "
            f"{PARITY_TOLERANCE:g}); nothing was sealed."
        )
    _log.info("torch and OpenVINO agree to %.2g", difference)
    import openvino

    made = {
        **dict(provenance or {}),
        "exported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "torch_openvino_difference": difference,
        "versions": {"bcsed": __version__, "torch": torch.__version__, "openvino": openvino.__version__},
    }
    return seal(
        out,
        graph,
        network.state_dict() if with_weights else None,
        contract=contract,
        steps=network.steps,
        priors=priors,
        recipe=recipe or {},
        provenance=made,
    )
