"""Write a bundle, and its model card: the README.md in its folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ...config.contract import Contract
from ...config.strict import to_dict
from ...errors import BundleError
from ...files import atomic_write, is_occupied, os_errors, os_reason, sha256
from .bundle import Bundle, load
from .manifest import CARD, GRAPH, GRAPH_WEIGHTS, MANIFEST, PROBE, SCHEMA, WEIGHTS
from .probe import compute_probe

# What the provenance records about the training data; the rest but the metrics is listed under provenance.
_DATA = ("n_clips", "clips_sha256", "fold", "start", "sources")
_LICENCE = (
    "Not specified. State a licence where you publish this bundle; the licences of its training recordings must permit "
    "it. `bundle.json` contains a checksum of this file, so edit a copy."
)
_LOAD = """```python
from bcsed import bundle, predict

sealed = bundle.load("{name}")
bundle.check(sealed)
scores = predict.predict([sealed], ["recordings"]).scores
```"""


def require_new_folder(out: str | Path) -> Path:
    """Return the path of a new bundle; refuse a folder that is not empty."""
    with os_errors(out, BundleError):
        if not is_occupied(Path(out)):
            return Path(out)
    raise BundleError(f"{out} already exists; name a new folder for the bundle.")


def seal(
    out: str | Path,
    graph: Any,
    outputs: Sequence[npt.NDArray[np.float32]],
    weights: Mapping[str, Any] | None,
    *,
    contract: Contract,
    steps: int,
    priors: npt.NDArray[np.float32],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Write a bundle atomically to a new or empty folder, and load it.

    `graph` is an ``openvino.Model``: input (B, F, T) in dB; outputs `logits` and `attention`, (B, t, K) each, and
    optionally `embedding` (B, E). `outputs` are those for the probe, `weights` the network's state; the others are
    those of `Bundle`. Raises BundleError if `out` is not empty or cannot be written.
    """
    import openvino

    out, fingerprint = require_new_folder(out), contract.fingerprint
    folder = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        folder.mkdir(parents=True)
        graph.set_rt_info(fingerprint, ["bcsed", "fingerprint"])
        openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
        image = compute_probe(contract.frontend)[1]
        arrays = dict(zip(("logits", "attention", "embedding"), outputs, strict=False))
        np.savez_compressed(folder / PROBE, image=image, **arrays)  # type: ignore[arg-type]
        if weights is not None:
            from safetensors.torch import save

            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            (folder / WEIGHTS).write_bytes(save(tensors, metadata={"fingerprint": fingerprint}))
        card = _model_card(out.resolve().name, contract, steps=steps, recipe=recipe, provenance=provenance)
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
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except OSError as error:
        raise BundleError(os_reason(error, out)) from error
    except RuntimeError as error:
        # OpenVINO does not name the reason, which is that of any other file.
        with os_errors(out, BundleError):
            (folder / GRAPH_WEIGHTS).write_bytes(bytes(1 << 20))
        raise BundleError(f"{out}: the bundle could not be written ({str(error).splitlines()[0]}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load(out)


def _model_card(
    name: str, contract: Contract, *, steps: int, recipe: Mapping[str, Any], provenance: Mapping[str, Any]
) -> str:
    """Return the model card of the bundle in a folder of this name as Markdown; for the parameters see `Bundle`."""
    frontend, metrics = contract.frontend, provenance.get("metrics") or {}
    image = "x".join(map(str, (frontend.n_channels, *frontend.image_shape)))
    introduction = (
        f"A sound event detection network for {len(contract.classes)} classes, exported by bcsed. It computes the "
        f"probability of each class in windows of {frontend.window_s:g} s, with {steps} time steps per window. "
        "`bundle.json` states all settings exactly."
    )
    rest = {key: value for key, value in provenance.items() if key not in (*_DATA, "metrics")}
    sections = {
        "Classes": ", ".join(f"`{label}`" for label in contract.classes),
        "Front end": _items(to_dict(frontend)),
        "Network": _items({**to_dict(contract.net), "input_image": image, "steps": steps}),
        "Training data": _items({key: provenance[key] for key in _DATA if key in provenance}),
        "Recipe": _items({group: fields for group, fields in recipe.items() if group not in ("frontend", "net")}),
        "Validation": _items(metrics),
        "Provenance": _items({"fingerprint": contract.fingerprint, **rest}),
        "Licence": _items({key: provenance[key] for key in ("licence", "source") if key in provenance}) or _LICENCE,
        "How to load it": _LOAD.format(name=name),
    }
    parts = (f"## {title}\n\n{text or 'Not recorded.'}" for title, text in sections.items())
    return "\n\n".join([f"# {name}", introduction, *parts]) + "\n"


def _items(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_spell(value)}" for key, value in values.items())


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_spell(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_spell, value)) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else " ".join(str(value).split())
