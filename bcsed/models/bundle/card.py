"""The model card of a bundle: the README.md in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config.contract import Contract
from ...config.strict import to_dict

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


def model_card(
    name: str, contract: Contract, *, steps: int, recipe: Mapping[str, Any], provenance: Mapping[str, Any]
) -> str:
    """Return the model card of a bundle as Markdown.

    Parameters
    ----------
    name : str
        The folder's name.
    contract, steps, recipe, provenance
        See `Bundle`.
    """
    frontend, metrics = contract.frontend, provenance.get("metrics") or {}
    image = "x".join(map(str, (frontend.n_channels, *frontend.image_shape)))
    introduction = (
        f"A sound event detection network for {len(contract.classes)} classes, exported by bcsed. It computes the "
        f"probability of each class in windows of {frontend.window_s:g} s, with {steps} time steps per window. "
        "`bundle.json` states all settings exactly."
    )
    training = {group: fields for group, fields in recipe.items() if group not in ("frontend", "net")}
    rest = {key: value for key, value in provenance.items() if key not in (*_DATA, "metrics")}
    sections = {
        "Classes": ", ".join(f"`{label}`" for label in contract.classes),
        "Front end": _items(to_dict(frontend)),
        "Network": _items({**to_dict(contract.net), "input_image": image, "steps": steps}),
        "Training data": _items({key: provenance[key] for key in _DATA if key in provenance}),
        "Recipe": _items(training),
        "Validation": _items(metrics),
        "Provenance": _items({"fingerprint": contract.fingerprint, **rest}),
        "Licence": _LICENCE,
        "How to load it": _LOAD.format(name=name),
    }
    parts = [f"# {name}", introduction]
    for title, text in sections.items():
        parts += [f"## {title}", text or "Not recorded."]
    return "\n\n".join(parts) + "\n"


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
