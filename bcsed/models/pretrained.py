"""Load earlier weights into a network, with a report of what was loaded and what was not.

The body (norm, backbone, freq_pool, features) is loaded from any source that fits. The heads are loaded if the source
records its classes: of other classes, by name, where both networks have one head; else they keep their initial values,
and the report gives the reason. Anything else that is missing, unused or of another shape is an error: a partly random
network trains without any error and is only slightly worse.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config.contract import Contract
from ..config.strict import to_dict
from ..errors import ConfigError
from ..files import read_errors, read_json
from ..scores.checks.finding import pluralize
from .network import SedNet, modern_names
from .pretrained_sources import WeightSource, read_source

# timm's names for the layers after its backbones.
_CLASSIFIERS = ("classifier.", "head.", "fc.", "head.fc.")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was loaded into a network, and what was not, by the names of tensors."""

    source: str  # kind and name of the weights, without the path of their folder
    sha256: str  # of their file
    matched: tuple[str, ...]  # loaded
    missing: tuple[str, ...]  # tensors of the network that the source should contain, but does not
    unused: tuple[str, ...]  # tensors of the source that the network does not have
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # name, shape in the source, in the network
    fresh: tuple[str, ...]  # tensors of the network that rightly keep their initial values
    skipped: tuple[str, ...]  # entries of the source that were rightly not loaded
    notes: tuple[str, ...]  # why tensors are fresh, what was adapted, how the contracts differ

    @property
    def fits(self) -> bool:
        """True if no tensor was missing, unused or of another shape."""
        return not (self.missing or self.unused or self.wrong_shape)

    def problems(self) -> list[str]:
        """Return what did not fit, one phrase for each kind of problem."""
        shapes = [f"{name} is {theirs} in the source, {ours} in the network" for name, theirs, ours in self.wrong_shape]
        kinds = {
            "missing in the source": self.missing,
            "unknown to the network": self.unused,
            "of another shape": shapes,
        }
        return [
            f"{pluralize(len(names), 'tensor')} {problem} ({_shorten(names)})"
            for problem, names in kinds.items()
            if names
        ]

    def __str__(self) -> str:
        n_skipped, n_matched = (pluralize(len(names), "tensor") for names in (self.skipped, self.matched))
        skipped = [f"{n_skipped} skipped ({_shorten(self.skipped)})"] if self.skipped else []
        loaded = f"loaded from {self.source}: {n_matched}"
        return "\n  ".join([loaded, *self.notes, *skipped, *self.problems()])


def read_key_map(text: str) -> dict[str, str] | str:
    """Read the key map of `load_pretrained`: a JSON object, the path of a file that contains one, or 'order'."""
    if text == "order":
        return text
    if not text.lstrip().startswith("{"):
        return read_json(Path(text))
    with read_errors(f"the key map {text!r}", "JSON"):
        values: dict[str, str] = json.loads(text)
    return values


def load_pretrained(
    network: SedNet,
    path: str | Path,
    *,
    contract: Contract,
    key_map: Mapping[str, str] | str | None = None,
    allow_mismatch: bool = False,
) -> LoadReport:
    """Load earlier weights into a network, which is unchanged if there is an error.

    The path is as for `read_source`; a file may contain the state of a `SedNet` or of its timm backbone, whose first
    convolution is adapted to the channels of the image. `key_map` is prefixes of names in the source -> prefixes in
    the network, in complete parts between dots: the longest matching prefix applies, '' matches every name, and names
    that are mapped to '' are dropped. With ``'order'``, tensors belong together that have the same place and shape in
    source and backbone, whatever their names. Without a map, the names of a bare backbone are recognised, also those
    of ``timm.create_model(..., features_only=True)``.

    Errors as `read_source`; ConfigError if the weights do not fit (unless `allow_mismatch`: load what fits), less than
    half of the backbone would be loaded, or an entry of `key_map` matches no name.
    """
    source = read_source(path)
    dropped: list[str] = []
    if isinstance(key_map, str):
        names, dropped = _by_order(source, network, key_map)
    else:
        mapped, dropped = _apply_key_map(source, key_map) if key_map else ({name: name for name in source.state}, [])
        names = modern_names(mapped)
        if source.contract is None and not key_map:
            names = _under_backbone(names, network)
    matched, report = _match(network, source, names, contract, dropped)
    sizes = {name: tensor.numel() for name, tensor in network.state_dict().items() if name.startswith("backbone.")}
    share = sum(size for name, size in sizes.items() if name in matched) / sum(sizes.values())
    if share < 0.5:
        raise ConfigError(
            f"{path}: {'no tensor fits' if not share else f'only {share:.0%} of the weights fit'} the backbone "
            f"{contract.net.backbone}{_describe_differences(source, contract)}; the names begin with "
            f"{_shorten(_first_parts(source.state))}: use weights of this backbone, or a key map."
        )
    if not report.fits and not allow_mismatch:
        raise ConfigError(
            f"{path} does not fit the network: {', '.join(report.problems())}"
            f"{_describe_differences(source, contract)}; map the names with a key map, or load only the matching "
            "tensors with --allow-mismatch."
        )
    network.load_state_dict(matched, strict=False)
    _log.info("%s", report)
    return report


def _by_order(source: WeightSource, network: SedNet, key_map: str) -> tuple[Mapping[str, str], list[str]]:
    """Return the source's names by those of the backbone's tensors at the same place; the classifier is dropped."""
    if key_map != "order":
        raise ConfigError(f"a key map is an object of prefixes, or order; got {key_map!r}.")
    counter, state = "num_batches_tracked", network.state_dict()
    ours = [name for name in state if name.startswith("backbone.") and not name.endswith(counter)]
    theirs = [name for name in source.state if not name.endswith(counter)]
    for index, (mine, name) in enumerate(zip(ours, theirs, strict=False)):
        left, right = tuple(state[mine].shape), tuple(source.state[name].shape)
        first_convolution = index == 0 and len(left) == len(right) == 4 and left[::2] == right[::2]
        if left != right and not (first_convolution and left[3] == right[3]):
            raise ConfigError(
                f"{source.name} has other shapes in order: tensor {index + 1} is {name} {right}, in the backbone "
                f"{mine} {left}."
            )
    rest = theirs[len(ours) :]
    if len(theirs) < len(ours) or any(source.state[name].ndim > 2 for name in rest):
        raise ConfigError(
            f"{source.name} has {len(theirs)} tensors and the backbone {len(ours)}: not the same network."
        )
    return dict(zip(ours, theirs, strict=False)), rest


def _match(
    network: SedNet, source: WeightSource, names: Mapping[str, str], contract: Contract, dropped: Sequence[str]
) -> tuple[dict[str, torch.Tensor], LoadReport]:
    """Return the tensors to load, and the report; `names` maps names in the network to names in the source."""
    state = network.state_dict()
    offered: Mapping[str, torch.Tensor] = {ours: source.state[theirs] for ours, theirs in names.items()}
    backbone_only = source.contract is None and not any(
        name in state and not name.startswith("backbone.") for name in offered
    )
    if backbone_only:
        offered, notes = _adapt_channels(network, offered, state)
        fresh_parts = {name.split(".")[0] for name in state} - {"backbone"}
        notes.append(f"fresh {', '.join(sorted(fresh_parts))}: the source is only a backbone")
        skipped = {
            name for name in set(offered) - set(state) if name.removeprefix("backbone.").startswith(_CLASSIFIERS)
        }
    else:
        offered, common_classes = _heads_by_name(source, offered, state, contract)
        reason = "" if common_classes else _why_fresh_heads(source, offered, contract)
        fresh_parts, notes = ({"heads"}, [f"fresh heads: {reason}"]) if reason else (set(), [])
        if common_classes:
            notes = [f"heads of {common_classes} of {len(contract.classes)} classes by name, the others are fresh"]
        skipped = {name for name in offered if name.split(".")[0] in fresh_parts}
    if source.contract is not None and (different := _differences(source.contract, contract)):
        notes.append(f"differs: {'; '.join(different)}")
    fresh = [name for name in state if name.split(".")[0] in fresh_parts]
    expected = [name for name in state if name.split(".")[0] not in fresh_parts]
    common = [name for name in expected if name in offered]
    matched = {name: offered[name] for name in common if offered[name].shape == state[name].shape}
    return matched, LoadReport(
        source=source.name,
        sha256=source.sha256,
        matched=tuple(matched),
        # Old files do not have the counter of batches, and BatchNorm with a fixed momentum does not use it.
        missing=tuple(n for n in expected if n not in offered and not n.endswith("num_batches_tracked")),
        unused=tuple(names[name] for name in offered if name not in state and name not in skipped),
        wrong_shape=tuple(
            (name, tuple(offered[name].shape), tuple(state[name].shape)) for name in common if name not in matched
        ),
        fresh=tuple(fresh),
        skipped=(*(names[name] for name in offered if name in skipped), *dropped, *source.others),
        notes=tuple(notes),
    )


def _apply_key_map(source: WeightSource, key_map: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the source's names by their new names, and the names that are dropped."""
    if not all(isinstance(text, str) for pair in key_map.items() for text in pair):
        raise ConfigError("a key map must be an object of prefixes to prefixes; '' drops the names with this prefix.")
    pairs = {old.rstrip("."): new.rstrip(".") for old, new in key_map.items()}
    mapped: dict[str, str] = {}
    dropped, used = [], set()
    for name in source.state:
        matching = [prefix for prefix in pairs if not prefix or f"{name}.".startswith(f"{prefix}.")]
        new = name
        if matching:
            prefix = max(matching, key=len)
            used.add(prefix)
            if not pairs[prefix]:
                dropped.append(name)
                continue
            new = ".".join(filter(None, (pairs[prefix], name[len(prefix) :].lstrip("."))))
        if new in mapped:
            raise ConfigError(
                f"the key map renames both {mapped[new]} and {name} of {source.name} to {new!r}; names must be unique."
            )
        mapped[new] = name
    unused = sorted(set(pairs) - used)
    if unused:
        raise ConfigError(
            f"the key map contains {unused[0]!r}, which is not the longest matching prefix of any name in "
            f"{source.name} (names begin with {_shorten(_first_parts(source.state))}); correct or remove it."
        )
    return mapped, dropped


def _under_backbone(names: Mapping[str, str], network: SedNet) -> Mapping[str, str]:
    """Add the prefix ``backbone.`` to the names of a bare timm model."""
    state = network.state_dict().keys()
    prefixed = {f"backbone.{ours}": theirs for ours, theirs in names.items()}
    # Networks of features only have "stages_0" for "stages.0", and "stem_conv1" for "stem.conv1".
    dotted = {ours: ours if ours in state else f"backbone.{ours[9:].replace('_', '.', 1)}" for ours in prefixed}
    prefixed = {new if new in state else ours: prefixed[ours] for ours, new in dotted.items()}
    return prefixed if len(prefixed.keys() & state) > len(names.keys() & state) else names


def _adapt_channels(
    network: SedNet, offered: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], list[str]]:
    """Adapt the first convolution's 3 channels to those of the image, as in timm, or its single one to several."""
    from timm.models import adapt_input_conv

    first_conv = getattr(network.backbone, "pretrained_cfg", {}).get("first_conv") or ()
    notes = []
    for conv in [first_conv] if isinstance(first_conv, str) else first_conv:
        name = f"backbone.{conv}.weight"
        if name not in offered or name not in state or offered[name].ndim != 4:
            continue
        channels, before = state[name].shape[1], offered[name].shape[1]
        if channels == before or before not in (1, 3):
            continue
        # Equal channels give the same sum as one.
        wide = offered[name].repeat(1, channels, 1, 1) / channels if before == 1 else None
        offered = {**offered, name: adapt_input_conv(channels, offered[name]) if wide is None else wide}
        notes.append(f"{name} adapted from {before} channels to {channels}")
    return offered, notes


def _heads_by_name(
    source: WeightSource, offered: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], contract: Contract
) -> tuple[Mapping[str, torch.Tensor], int]:
    """Return the tensors with the rows of common classes in this network's head, and the number of these classes.

    0 if a network has several heads, no class is common, or the classes are the same in the same order.
    """
    theirs = source.contract
    if theirs is None or theirs.groups or contract.groups or theirs.classes == contract.classes:
        return offered, 0
    pairs = [(k, theirs.classes.index(name)) for k, name in enumerate(contract.classes) if name in theirs.classes]
    mixed = dict(offered)
    for layer in ("attention", "logits.3") if pairs else ():
        for name in (f"heads.0.{layer}.weight", f"heads.0.{layer}.bias"):
            if name in offered and offered[name].shape[1:] == state[name].shape[1:]:
                mixed[name] = state[name].clone()
                mixed[name][[ours for ours, _ in pairs]] = offered[name][[other for _, other in pairs]]
    return mixed, len(pairs)


def _why_fresh_heads(source: WeightSource, offered: Mapping[str, torch.Tensor], contract: Contract) -> str:
    """Return why the heads cannot be loaded, '' if they can."""
    theirs = source.contract
    if theirs is None:
        has_heads = any(name.startswith("heads.") for name in offered)
        return "the source does not record the classes of its heads" if has_heads else "the source has no heads"
    if len(theirs.classes) != len(contract.classes):
        return f"the source has {len(theirs.classes)} classes, the network {len(contract.classes)}"
    if theirs.classes != contract.classes:
        return "the source has other classes"
    return "" if theirs.groups == contract.groups else "the source has the classes in other groups"


def _differences(theirs: Contract, ours: Contract) -> list[str]:
    """List the settings of front end and network that differ."""
    different = []
    for group in ("frontend", "net"):
        left, right = to_dict(getattr(theirs, group)), to_dict(getattr(ours, group))
        different += [f"{group}.{key} {left[key]} -> {right[key]}" for key in right if left[key] != right[key]]
    return different


def _describe_differences(source: WeightSource, contract: Contract) -> str:
    different = _differences(source.contract, contract) if source.contract is not None else []
    return f" (other settings: {'; '.join(different[:4])})" if different else ""


def _first_parts(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _shorten(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
