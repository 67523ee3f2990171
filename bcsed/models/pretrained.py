"""Load earlier weights into a network, with a report of what was loaded and what was not.

The body (norm, backbone, freq_pool, features) is loaded from any source that fits. The heads are loaded only if the
source records the same classes in the same order and groups; otherwise they keep their initial values, and the report
gives the reason. Anything else that is missing, unused or of another shape is an error: a partly random network trains
without any error and is only slightly worse.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config.contract import Contract
from ..config.strict import to_dict
from ..errors import ConfigError
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


def load_pretrained(
    network: SedNet,
    path: str | Path,
    *,
    contract: Contract,
    key_map: Mapping[str, str] | None = None,
    allow_mismatch: bool = False,
) -> LoadReport:
    """Load earlier weights into a network, which is unchanged if there is an error.

    The path is as for `read_source`; a file may contain the state of a `SedNet` or of its timm backbone, whose first
    convolution is adapted to the channels of the image. `key_map` is prefixes of names in the source -> prefixes in
    the network, in complete parts between dots: the longest matching prefix applies, '' matches every name, and names
    that are mapped to '' are dropped. Without a map, the names of a bare backbone are recognised.

    Errors as `read_source`; ConfigError if the weights do not fit (unless `allow_mismatch`: load what fits) or contain
    nothing for the backbone, or an entry of `key_map` matches no name.
    """
    source = read_source(path)
    mapped, dropped = _apply_key_map(source, key_map) if key_map else ({name: name for name in source.state}, [])
    names: Mapping[str, str] = modern_names(mapped)
    if source.contract is None and not key_map:
        names = _under_backbone(names, network)
    matched, report = _match(network, source, names, contract, dropped)
    if not any(name.startswith("backbone.") and matched[name].is_floating_point() for name in matched):
        raise ConfigError(
            f"{path}: no tensor fits the backbone {contract.net.backbone}{_describe_differences(source, contract)}; "
            f"the names begin with {_shorten(_first_parts(source.state))}: use weights of this backbone, or a key map."
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
        reason = _why_fresh_heads(source, offered, contract)
        fresh_parts, notes = ({"heads"}, [f"fresh heads: {reason}"]) if reason else (set(), [])
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
    return prefixed if len(prefixed.keys() & state) > len(names.keys() & state) else names


def _adapt_channels(
    network: SedNet, offered: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], list[str]]:
    """Adapt the first convolution's 3 channels to those of the image, as in timm."""
    from timm.models import adapt_input_conv

    first_conv = getattr(network.backbone, "pretrained_cfg", {}).get("first_conv") or ()
    notes = []
    for conv in [first_conv] if isinstance(first_conv, str) else first_conv:
        name = f"backbone.{conv}.weight"
        if name not in offered or name not in state or offered[name].ndim != 4 or offered[name].shape[1] != 3:
            continue
        channels = state[name].shape[1]
        if channels != 3:
            offered = {**offered, name: adapt_input_conv(channels, offered[name])}
            notes.append(f"{name} adapted from 3 channels to {channels}")
    return offered, notes


def _why_fresh_heads(source: WeightSource, offered: Mapping[str, torch.Tensor], contract: Contract) -> str:
    """Return why the heads cannot be loaded, '' if they can."""
    theirs = source.contract
    if theirs is None:
        has_heads = any(name.startswith("heads.") for name in offered)
        return "the source does not record the classes of its heads" if has_heads else "the source has no heads"
    if len(theirs.classes) != len(contract.classes):
        return f"the source has {len(theirs.classes)} classes, the network {len(contract.classes)}"
    if theirs.classes != contract.classes:
        same = set(theirs.classes) == set(contract.classes)
        return "the source has the classes in another order" if same else "the source has other classes"
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
