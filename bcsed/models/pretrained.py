"""Starting a network from earlier weights, with a report of what was taken and what was not.

The body (norm, backbone, freq_pool, features) is taken from anywhere that fits. The heads are taken only where
the source says that they answer the same classes in the same order and groups; otherwise they stay as they are,
and the report tells so. Whatever else is missing, left over or of another shape is an error: a network that
starts half random trains without complaint and is a little worse.
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
from .network import SedNet, modern_names
from .pretrained_sources import WeightSource, read_source

# As timm calls the layers after its backbones.
_CLASSIFIERS = ("classifier.", "head.", "fc.", "head.fc.")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of each tensor of a network and of the weights that it was started from.

    Parameters
    ----------
    source : str
        What the weights were, without the folder above: the same wherever it lies.
    sha256 : str
        Of the file that held them.
    matched : tuple of str
        Tensors of the network that were taken.
    missing : tuple of str
        Tensors of the network that the source should have had and has not.
    unused : tuple of str
        Tensors of the source, as they are called there, that the network has no place for.
    wrong_shape : tuple of (str, tuple of int, tuple of int)
        Tensors that both have, with the shape in the source and in the network.
    fresh : tuple of str
        Tensors of the network that rightly stayed as they were.
    left : tuple of str
        Entries of the source that were rightly left there.
    notes : tuple of str
        Why some are fresh, what was adapted, and how the earlier network differs.
    """

    source: str
    sha256: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    fresh: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing was missing, unused or of another shape."""
        return not (self.missing or self.unused or self.wrong_shape)

    def problems(self) -> list[str]:
        """Return what did not fit, a phrase each."""
        shapes = [f"{name} {there} there and {here} here" for name, there, here in self.wrong_shape]
        told = (("missing there", self.missing), ("unknown here", self.unused), ("of another shape", shapes))
        return [f"{_tensors(len(names))} {logits} ({_first(names)})" for logits, names in told if names]

    def summary(self) -> str:
        """Return the report in a few lines."""
        left = [f"{_tensors(len(self.left))} left there ({_first(self.left)})"] if self.left else []
        taken = f"started from {self.source}: {_tensors(len(self.matched))} taken"
        return "\n  ".join([taken, *self.notes, *left, *self.problems()])

    def __str__(self) -> str:
        return self.summary()


def load_pretrained(
    network: SedNet,
    path: str | Path,
    *,
    contract: Contract,
    key_map: Mapping[str, str] | None = None,
    allow_mismatch: bool = False,
) -> LoadReport:
    """Start a network from earlier weights.

    Parameters
    ----------
    network : SedNet
        It keeps its own values where the report says so, and altogether where there is an error.
    path : str or Path
        A run's folder or one of its checkpoints; a bundle; or a ``.safetensors``, ``.pth``, ``.pt`` or
        ``.bin`` file with the state of a `SedNet` or of its timm backbone. A backbone's first convolution of
        3 channels is adapted to the picture's as timm does it.
    contract : Contract
        The network's own.
    key_map : mapping of str to str, optional
        How names there become names here: beginnings, in whole parts between dots, of the source's names to
        those of the network's. The longest that fits counts, '' fits all, and what becomes '' is dropped. Other
        names stay, and none is taken for a bare backbone's.
    allow_mismatch : bool
        Take what fits, though something is missing, left over or of another shape.

    Returns
    -------
    Report

    Raises
    ------
    ConfigError
        If there are no such weights, or they cannot be read without running code; if they do not fit, unless
        allowed; if nothing in them fits the backbone; or if an entry of `key_map` fits no name.
    BundleError
        If a bundle is refused, or was sealed without weights.
    """
    source = read_source(path)
    moved, dropped = _mapped(source, key_map) if key_map else ({name: name for name in source.state}, [])
    names: Mapping[str, str] = modern_names(moved)
    if source.contract is None and not key_map:
        names = _under_backbone(names, network)
    chosen, report = _match(network, source, names, contract, dropped)
    if not any(name.startswith("backbone.") and chosen[name].is_floating_point() for name in chosen):
        raise ConfigError(
            f"{path}: nothing in it fits the backbone {contract.net.backbone}{_besides(source, contract)}; its names "
            f"begin with {_first(_beginnings(source.state))}: give weights of this backbone, or a key map."
        )
    if not report.fits and not allow_mismatch:
        raise ConfigError(
            f"{path} does not fit the network: {', '.join(report.problems())}{_besides(source, contract)}; "
            "map the names with a key map, or take what fits with --allow-mismatch."
        )
    network.load_state_dict(chosen, strict=False)
    _log.info("%s", report)
    return report


def _match(
    network: SedNet,
    source: WeightSource,
    names: Mapping[str, str],
    contract: Contract,
    dropped: Sequence[str],
) -> tuple[dict[str, torch.Tensor], LoadReport]:
    """Return the tensors to take, and the report; `names` are what the network would call them, and the source does."""
    own = network.state_dict()
    state: Mapping[str, torch.Tensor] = {here: source.state[there] for here, there in names.items()}
    backbone_only = source.contract is None and not any(
        name in own and not name.startswith("backbone.") for name in state
    )
    if backbone_only:
        state, notes = _adapted(network, state, own)
        parts = {name.split(".")[0] for name in own} - {"backbone"}
        notes.append(f"fresh {', '.join(sorted(parts))}: the source is a backbone alone")
        left = {name for name in set(state) - set(own) if name.removeprefix("backbone.").startswith(_CLASSIFIERS)}
    else:
        why = _why_fresh_heads(source, state, contract)
        parts, notes = ({"heads"}, [f"fresh heads: {why}"]) if why else (set(), [])
        left = {name for name in state if name.split(".")[0] in parts}
    if source.contract is not None and (differing := _differences(source.contract, contract)):
        notes.append(f"differs: {'; '.join(differing)}")
    fresh = {name for name in own if name.split(".")[0] in parts}
    common = [name for name in own if name in state and name not in fresh]
    chosen = {name: state[name] for name in common if state[name].shape == own[name].shape}
    lacking = [name for name in own if name not in state and name not in fresh]
    return chosen, LoadReport(
        source=source.name,
        sha256=source.sha256,
        matched=tuple(chosen),
        # Files older than the counter of batches lack it, and it is of no use where momentum is a number.
        missing=tuple(name for name in lacking if not name.endswith("num_batches_tracked")),
        unused=tuple(names[name] for name in state if name not in own and name not in left),
        wrong_shape=tuple(
            (name, tuple(state[name].shape), tuple(own[name].shape)) for name in common if name not in chosen
        ),
        fresh=tuple(name for name in own if name in fresh),
        left=(*(names[name] for name in state if name in left), *dropped, *source.others),
        notes=tuple(notes),
    )


def _mapped(source: WeightSource, key_map: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the source's names by what they become, and those that are dropped."""
    if not all(isinstance(text, str) for pair in key_map.items() for text in pair):
        raise ConfigError("a key map is an object of names to names; '' drops what is called so.")
    pairs = {left.rstrip("."): right.rstrip(".") for left, right in key_map.items()}
    moved: dict[str, str] = {}
    dropped, used = [], set()
    for name in source.state:
        fitting = [prefix for prefix in pairs if not prefix or f"{name}.".startswith(f"{prefix}.")]
        new = name
        if fitting:
            prefix = max(fitting, key=len)
            used.add(prefix)
            if not pairs[prefix]:
                dropped.append(name)
                continue
            new = ".".join(filter(None, (pairs[prefix], name[len(prefix) :].lstrip("."))))
        if new in moved:
            raise ConfigError(
                f"the key map calls both {moved[new]} and {name} of {source.name} {new!r}; each needs its own name."
            )
        moved[new] = name
    idle = sorted(set(pairs) - used)
    if idle:
        raise ConfigError(
            f"the key map speaks of {idle[0]!r}, which is no name's longest beginning in {source.name} (names there "
            f"begin with {_first(_beginnings(source.state))}); correct it or leave it out."
        )
    return moved, dropped


def _under_backbone(names: Mapping[str, str], network: SedNet) -> Mapping[str, str]:
    """Put a timm model's names where a network has its backbone, if they are one's."""
    own = network.state_dict().keys()
    below = {f"backbone.{here}": there for here, there in names.items()}
    return below if len(below.keys() & own) > len(names.keys() & own) else names


def _adapted(
    network: SedNet, state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], list[str]]:
    """Adapt the first convolution's 3 channels to the picture's, as timm does."""
    from timm.models import adapt_input_conv

    told = getattr(network.backbone, "pretrained_cfg", {}).get("first_conv") or ()
    notes = []
    for conv in [told] if isinstance(told, str) else told:
        name = f"backbone.{conv}.weight"
        if name not in state or name not in own or state[name].ndim != 4 or state[name].shape[1] != 3:
            continue
        channels = own[name].shape[1]
        if channels != 3:
            state = {**state, name: adapt_input_conv(channels, state[name])}
            notes.append(f"{name} adapted from 3 channels to {channels}")
    return state, notes


def _why_fresh_heads(source: WeightSource, state: Mapping[str, torch.Tensor], contract: Contract) -> str:
    """Say why the heads cannot be taken, '' if they can."""
    if source.contract is None:
        held = any(name.startswith("heads.") for name in state)
        return "the source does not say which classes its heads answer" if held else "the source has none"
    there, here = source.contract, contract
    if len(there.classes) != len(here.classes):
        return f"{len(there.classes)} classes there, {len(here.classes)} here"
    if there.classes != here.classes:
        same = set(there.classes) == set(here.classes)
        return "the same classes in another order there" if same else "other classes there"
    return "" if there.groups == here.groups else "the classes are in other groups there"


def _differences(there: Contract, here: Contract) -> list[str]:
    """Name the settings of signal and network that differ; classes are the heads' affair."""
    found = []
    for group in ("frontend", "net"):
        left, right = (to_dict(getattr(contract, group)) for contract in (there, here))
        found += [f"{group}.{key} {left[key]} there, {right[key]} here" for key in right if left[key] != right[key]]
    return found


def _besides(source: WeightSource, contract: Contract) -> str:
    differing = _differences(source.contract, contract) if source.contract is not None else []
    return f" (it was made otherwise: {'; '.join(differing[:4])})" if differing else ""


def _beginnings(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _tensors(number: int) -> str:
    return f"{number} tensor" if number == 1 else f"{number} tensors"


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
