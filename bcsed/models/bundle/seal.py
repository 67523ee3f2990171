"""Write a bundle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ...config.contract import Contract
from ...config.strict import to_dict
from ...errors import BundleError
from ...files import atomic_write, sha256
from .bundle import Bundle, load
from .card import model_card
from .manifest import CARD, GRAPH, MANIFEST, PROBE, SCHEMA, WEIGHTS
from .probe import compute_probe


def require_new_folder(out: str | Path) -> Path:
    """Return the path of a new bundle; refuse a folder that is not empty."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} already exists; name a new folder for the bundle.")
    return out


def seal(
    out: str | Path,
    graph: Any,
    outputs: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    weights: Mapping[str, Any] | None,
    *,
    contract: Contract,
    steps: int,
    priors: npt.NDArray[np.float32],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Write a bundle atomically, and load it.

    Parameters
    ----------
    out : str or Path
        A new or empty folder.
    graph : openvino.Model
        Input (B, F, T) in dB; outputs `logits` and `attention`, (B, t, K) each.
    outputs : (ndarray, ndarray)
        Its logits and attention for the probe.
    weights : mapping of str to Tensor, optional
        The network's state.
    contract, steps, priors, recipe, provenance
        See `Bundle`.

    Raises
    ------
    BundleError
        If `out` is not empty or cannot be written.
    """
    import openvino

    out, fingerprint = require_new_folder(out), contract.fingerprint
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise BundleError(f"{out}: could not be written ({error.strerror}).") from error
    try:
        graph.set_rt_info(fingerprint, ["bcsed", "fingerprint"])
        openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
        image = compute_probe(contract.frontend)[1]
        np.savez_compressed(folder / PROBE, image=image, logits=outputs[0], attention=outputs[1])
        if weights is not None:
            from safetensors.torch import save_file

            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            save_file(tensors, folder / WEIGHTS, metadata={"fingerprint": fingerprint})
        card = model_card(out.resolve().name, contract, steps=steps, recipe=recipe, provenance=provenance)
        (folder / CARD).write_text(card, encoding="utf-8")
        manifest = {
            "schema": SCHEMA,
            "bcsed": __version__,
            "contract": to_dict(contract),
            "fingerprint": fingerprint,
            "steps": steps,
            "priors": [round(float(value), 8) for value in priors],
            "recipe": dict(recipe),
            "provenance": dict(provenance),
            "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
        }
        # Written last: a folder without a manifest is not a bundle.
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        folder.chmod(0o755)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{out}: the bundle could not be written ({str(error).splitlines()[0]}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load(out)
