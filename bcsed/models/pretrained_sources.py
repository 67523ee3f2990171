"""Where earlier weights come from: a run, a bundle, or a file of anybody's."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config.contract import Contract
from ..config.strict import from_dict
from ..config.versions import upgrade
from ..errors import ConfigError, DataError
from ..files import read_errors, sha256
from . import bundle
from .bundle.manifest import MANIFEST, WEIGHTS

RUN, BEST, LAST = "run.json", "best.pt", "last.pt"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Under which a training framework's checkpoint keeps the network among other things.
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class WeightSource:
    """Weights as they were found, and what is known of them.

    Parameters
    ----------
    name : str
        What messages and reports call it.
    state : mapping of str to Tensor
    contract : Contract or None
        What the network was made to hear and to answer, where bcsed wrote it down.
    sha256 : str
        Of the file that holds the weights.
    others : tuple of str
        Entries of the file that are no tensors.
    """

    name: str
    state: Mapping[str, torch.Tensor]
    contract: Contract | None
    sha256: str
    others: tuple[str, ...] = ()


def read_source(path: str | Path) -> WeightSource:
    """Read weights from whatever is at a path; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        A run's folder (its best checkpoint, else its last) or one of its checkpoints; a bundle's folder; or a
        file of tensors in safetensors or PyTorch format.

    Raises
    ------
    ConfigError
        If nothing of the kind is there, or it is damaged or holds more than tensors and plain values.
    BundleError
        If a bundle is refused, or was sealed without weights.
    """
    path = Path(path)
    if path.is_dir():
        if (path / RUN).is_file():
            return _run(path, BEST if (path / BEST).is_file() else LAST)
        if (path / MANIFEST).is_file():
            return _bundle(path)
        raise ConfigError(
            f"{path} is neither a run nor a bundle of bcsed (it has no {RUN} and no {MANIFEST}); name one of them, "
            "or a file of weights."
        )
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of weights, run or bundle to start from.")
    if path.name in (BEST, LAST) and (path.parent / RUN).is_file():
        return _run(path.parent, path.name)
    if path.name == WEIGHTS and (path.parent / MANIFEST).is_file():
        return _bundle(path.parent)
    return _file(path)


def _run(folder: Path, checkpoint: str) -> WeightSource:
    file = folder / checkpoint
    if not file.is_file():
        raise ConfigError(f"{folder} has no checkpoint yet (neither {BEST} nor {LAST}); train it first.")
    try:
        told = upgrade(json.loads((folder / RUN).read_text(encoding="utf-8"))["contract"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / RUN} is damaged: it does not say what the run's network is.") from error
    contract = from_dict(Contract, told, f"{folder / RUN}: contract")
    content = _unpickled(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise ConfigError(f"{file} is no checkpoint of bcsed: it holds no model.")
    tensors, _ = _tensors(file, content["model"])
    return WeightSource(f"run {folder.resolve().name}/{checkpoint}", tensors, contract, sha256(file))


def _bundle(folder: Path) -> WeightSource:
    found = bundle.load(folder)
    state = bundle.read_weights(found)
    return WeightSource(f"bundle {found.name}", state, found.contract, sha256(folder / WEIGHTS))


def _file(path: Path) -> WeightSource:
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: weights are read from files named *{', *'.join(_SUFFIXES)}, not *{path.suffix}.")
    content = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    tensors, others = _tensors(path, content)
    # Left by training on several devices at once.
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return WeightSource(f"file {path.name}", tensors, None, sha256(path), others)


def _tensors(path: Path, content: Any) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Part named tensors from whatever else lies beside them."""
    named = content if isinstance(content, Mapping) else {}
    tensors = {name: item for name, item in named.items() if isinstance(name, str) and isinstance(item, torch.Tensor)}
    if not tensors:
        held = f"names {', '.join(map(repr, list(named)[:5]))}" if named else f"a {type(content).__name__}"
        raise ConfigError(f"{path} holds {held}, but no named tensors; save the network's state_dict().")
    return tensors, tuple(str(name) for name in named if name not in tensors)


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    with read_errors(path, "safetensors", ConfigError):
        tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


def _unpickled(path: Path) -> Any:
    """Read tensors and plain values from PyTorch's format; whatever could run is refused unread."""
    if _is_torchscript(path):
        raise ConfigError(
            f"{path} is a TorchScript program, which bcsed does not run; save its state_dict() as safetensors."
        )
    with read_errors(path, "PyTorch weights", ConfigError), warnings.catch_warnings():
        # Of an unusual protocol: what it leads to is an error anyway.
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            if code is None:
                raise
            raise ConfigError(
                f"{path} holds more than tensors: it asks for {code[1]}, which could run code and is refused; save "
                "only the state_dict(), best as safetensors."
            ) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with read_errors(path, "zip"), zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except DataError:
        return False
