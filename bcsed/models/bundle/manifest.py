"""What lies in a bundle's folder, and whether it is what was sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...config.contract import Contract
from ...config.strict import from_dict
from ...config.versions import upgrade
from ...errors import BundleError, ConfigError
from ...files import sha256

# 1: one head serves all classes. 2: the contract names the heads. 3: frontend, time_folds, logits, attention.
SCHEMA = 3
_READ = (1, 2, 3)
GRAPH, GRAPH_WEIGHTS, WEIGHTS, PROBE = "model.xml", "model.bin", "weights.safetensors", "probe.npz"
MANIFEST = "bundle.json"
_REQUIRED = (GRAPH, GRAPH_WEIGHTS, PROBE)
_KEYS = ("schema", "bcsed", "contract", "fingerprint", "steps", "priors", "recipe", "provenance", "files")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest of a known schema, with its keys; an earlier schema's contract is filled up to today's."""
    if not path.is_dir():
        raise BundleError(f"{path}: there is no such folder.")
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path} is no bundle, or was not finished: it has no {MANIFEST}.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError(f"{file} is not readable as JSON ({error}).") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{file} must hold an object with named fields.")
    if manifest.get("schema") not in _READ:
        raise BundleError(
            f"{file} has schema {manifest.get('schema')!r}; bcsed {__version__} reads the schemas "
            f"{' and '.join(map(str, _READ))}."
        )
    unknown, missing = sorted(set(manifest) - set(_KEYS)), sorted(set(_KEYS) - set(manifest))
    if unknown or missing:
        logits = f"has an unknown key {unknown[0]!r}" if unknown else f"lacks {', '.join(missing)}"
        raise BundleError(f"{file} {logits}.")
    for key in ("recipe", "provenance", "files"):
        if not isinstance(manifest[key], dict):
            raise BundleError(f"{file}: {key} must be an object with named fields.")
    if manifest["schema"] < SCHEMA and isinstance(manifest["contract"], dict):
        manifest["contract"] = upgrade(manifest["contract"])
    return manifest


def read_contract(path: Path, manifest: Mapping[str, Any]) -> Contract:
    """Return the contract, if it is the one that was sealed."""
    try:
        contract = from_dict(Contract, manifest["contract"], "contract")
    except ConfigError as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    if contract.fingerprint != manifest["fingerprint"]:
        raise BundleError(
            f"{path}: signal, network or class order were edited after sealing: the contract's fingerprint "
            f"is {contract.fingerprint}, sealed was {manifest['fingerprint']}."
        )
    return contract


def check_files(path: Path, files: Mapping[str, str]) -> None:
    """Refuse files that are missing, changed, unknown or links out of the folder."""
    known = {*_REQUIRED, WEIGHTS}
    strange = sorted(set(files) - known)
    if strange:
        raise BundleError(f"{path / MANIFEST} lists {strange[0]!r}; a bundle holds only {', '.join(sorted(known))}.")
    for name in dict.fromkeys((*_REQUIRED, *files)):
        file = path / name
        if name not in files or not file.is_file():
            # A submission may leave the training weights at home.
            if name == WEIGHTS:
                continue
            raise BundleError(f"{path} is incomplete: it lacks {name}.")
        if file.is_symlink() and not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f"{path}: {name} is a link out of the bundle.")
        if sha256(file) != files[name]:
            raise BundleError(f"{path}: {name} was changed after sealing (its SHA-256 differs).")
    for file in path.iterdir():
        if file.name not in {*files, MANIFEST} and not file.name.startswith("."):
            raise BundleError(f"{path} holds {file.name}, which {MANIFEST} does not list.")
