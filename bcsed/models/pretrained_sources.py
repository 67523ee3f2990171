"""Read the weights of a run, a bundle, or a file."""

from __future__ import annotations

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
from ..files import read_errors, read_json, sha256
from .bundle.bundle import load, read_weights
from .bundle.manifest import MANIFEST, WEIGHTS

RUN, BEST, LAST = "run.json", "best.pt", "last.pt"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Keys under which training frameworks store the network in a checkpoint; averaged weights are preferred.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class WeightSource:
    """Weights and their origin."""

    name: str
    state: Mapping[str, torch.Tensor]
    contract: Contract | None  # None for a file that does not record it
    sha256: str
    others: tuple[str, ...] = ()  # entries of the file that are not tensors


def read_source(path: str | Path) -> WeightSource:
    """Read weights without executing any code.

    The path is a run's folder (its best checkpoint, else its last) or one of its checkpoints; a bundle's folder; or a
    ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file of tensors. Raises ConfigError or BundleError if
    there are no such weights, or the file is damaged or contains more than tensors and plain values.
    """
    path = Path(path)
    if path.is_dir():
        if (path / RUN).is_file():
            return _read_run(path, BEST if (path / BEST).is_file() else LAST)
        if (path / MANIFEST).is_file():
            return _read_bundle(path)
        raise ConfigError(
            f"{path} is neither a run nor a bundle of bcsed (it has no {RUN} and no {MANIFEST}); name one of them, "
            "or a file of weights."
        )
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of weights, run or bundle.")
    if path.name in (BEST, LAST) and (path.parent / RUN).is_file():
        return _read_run(path.parent, path.name)
    if path.name == WEIGHTS and (path.parent / MANIFEST).is_file():
        return _read_bundle(path.parent)
    return _read_file(path)


def _read_run(folder: Path, checkpoint: str) -> WeightSource:
    file = folder / checkpoint
    if not file.is_file():
        raise ConfigError(f"{folder} has no checkpoint yet (neither {BEST} nor {LAST}); train it first.")
    values = read_json(folder / RUN, ConfigError).get("contract")
    if not isinstance(values, dict):
        raise ConfigError(f"{folder / RUN} is damaged: it has no contract.")
    contract = from_dict(Contract, upgrade(values), f"{folder / RUN}: contract")
    content = _unpickle(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise ConfigError(f"{file} is not a checkpoint of bcsed: it contains no model.")
    tensors, _ = _split_tensors(file, content["model"])
    return WeightSource(f"run {folder.resolve().name}/{checkpoint}", tensors, contract, sha256(file))


def _read_bundle(folder: Path) -> WeightSource:
    bundle = load(folder)
    return WeightSource(f"bundle {bundle.name}", read_weights(bundle), bundle.contract, sha256(folder / WEIGHTS))


def _read_file(path: Path) -> WeightSource:
    from safetensors.torch import load_file

    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: weights are read from files named *{', *'.join(_SUFFIXES)}, not *{path.suffix}.")
    if path.suffix == ".safetensors":
        with read_errors(path, "safetensors", ConfigError):
            content: Any = load_file(path)
    else:
        content = _unpickle(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    tensors, others = _split_tensors(path, content)
    # The prefix is added by DistributedDataParallel.
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return WeightSource(f"file {path.name}", tensors, None, sha256(path), others)


def _split_tensors(path: Path, content: Any) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Return the named tensors, and the names of all other entries."""
    entries = content if isinstance(content, Mapping) else {}
    tensors = {name: item for name, item in entries.items() if isinstance(name, str) and isinstance(item, torch.Tensor)}
    if not tensors:
        content_type = f"names {', '.join(map(repr, list(entries)[:5]))}" if entries else f"a {type(content).__name__}"
        raise ConfigError(f"{path} contains {content_type}, but no named tensors; save the network's state_dict().")
    return tensors, tuple(str(name) for name in entries if name not in tensors)


def _unpickle(path: Path) -> Any:
    """Read tensors and plain values from PyTorch's format; refuse files that could run code."""
    if _is_torchscript(path):
        raise ConfigError(
            f"{path} is a TorchScript program, which bcsed does not run; save its state_dict() as safetensors."
        )
    with read_errors(path, "PyTorch weights", ConfigError), warnings.catch_warnings():
        # torch warns of unusual pickle protocols before it raises an error.
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            if code is None:
                raise
            raise ConfigError(
                f"{path} contains more than tensors: it asks for {code[1]}, which could run code and is refused; save "
                "only the state_dict(), best as safetensors."
            ) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with read_errors(path, "zip"), zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except DataError:
        return False
