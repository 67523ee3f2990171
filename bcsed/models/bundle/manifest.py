"""The manifest of a bundle, and the verification of its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config.contract import Contract
from ...config.strict import from_dict
from ...config.versions import upgrade_run
from ...errors import BundleError, ConfigError
from ...files import check_fields, check_schema, read_json, sha256

# 1: one head for all classes. 2: the contract names the heads. 3: today's names (frontend, time_folds, logits,
# attention, image), and a model card.
SCHEMA = 3
GRAPH, GRAPH_WEIGHTS, WEIGHTS, PROBE, CARD = "model.xml", "model.bin", "weights.safetensors", "probe.npz", "README.md"
MANIFEST = "bundle.json"
FILES = (MANIFEST, GRAPH, GRAPH_WEIGHTS, WEIGHTS, PROBE, CARD)
_REQUIRED = (GRAPH, GRAPH_WEIGHTS, PROBE)
# These may be removed after sealing: a submission does not need them.
_OPTIONAL = (WEIGHTS, CARD)
_KEYS = ("schema", "bcsed", "contract", "fingerprint", "steps", "priors", "recipe", "provenance", "files")
_FIELDS = {**dict.fromkeys(("contract", "recipe", "provenance", "files"), dict), "steps": int, "priors": list}
# Recorded by a training; a bundle of other origin may lack them.
_RECORDED = {
    "recipe.fit": dict,
    "recipe.fit.seed": int,
    "provenance.metrics": dict,
    "provenance.experiment": str,
    "provenance.fold": int | None,
}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a bundle's folder; contract and recipe of earlier schemas are upgraded."""
    if not path.is_dir():
        raise BundleError(f"{path}: there is no such folder.")
    file = path / MANIFEST
    _refuse_outer_link(file)
    if not file.is_file():
        raise BundleError(f"{path} is not a bundle, or its export was interrupted: {MANIFEST} is missing.")
    manifest = read_json(file, BundleError)
    schema = check_schema(manifest, file, range(1, SCHEMA + 1), BundleError)
    unknown, missing = sorted(set(manifest) - set(_KEYS)), [key for key in _KEYS if key not in manifest]
    if unknown or missing:
        raise BundleError(
            f"{file}: " + (f"unknown key {unknown[0]!r}." if unknown else f"missing {', '.join(missing)}.")
        )
    check_fields(manifest, _FIELDS, file, BundleError)
    check_fields(manifest, _RECORDED, file, BundleError, optional=True)
    return upgrade_run(manifest) if schema < SCHEMA else manifest


def read_contract(path: Path, manifest: Mapping[str, Any]) -> Contract:
    """Return the contract after comparing its fingerprint with the sealed one."""
    try:
        contract = from_dict(Contract, manifest["contract"], "contract")
    except ConfigError as error:
        raise BundleError(f"{path / MANIFEST}: {error}") from error
    if contract.net.pool == "mean":
        raise BundleError(f"{path / MANIFEST}: net.pool is 'mean', which is for embeddings and never sealed.")
    if contract.fingerprint != manifest["fingerprint"]:
        raise BundleError(
            f"{path}: front end, network or class order were edited after sealing: the contract's fingerprint "
            f"is {contract.fingerprint}, the sealed one is {manifest['fingerprint']}."
        )
    return contract


def check_files(path: Path, files: Mapping[str, str]) -> None:
    """Refuse files that are missing, changed, unknown, or links out of the folder."""
    known = {*_REQUIRED, *_OPTIONAL}
    unknown = sorted(set(files) - known)
    if unknown:
        raise BundleError(f"{path / MANIFEST} lists {unknown[0]!r}; a bundle contains only {', '.join(sorted(known))}.")
    for name in dict.fromkeys((*_REQUIRED, *files)):
        file = path / name
        if name not in files or not file.is_file():
            if name in _OPTIONAL:
                continue
            raise BundleError(f"{path} is incomplete: {name} is missing.")
        _refuse_outer_link(file)
        if sha256(file) != files[name]:
            raise BundleError(f"{path}: {name} was changed after sealing (its SHA-256 differs).")
    for file in path.iterdir():
        if file.name not in {*files, MANIFEST} and not file.name.startswith("."):
            raise BundleError(f"{path} contains {file.name}, which {MANIFEST} does not list.")


def _refuse_outer_link(file: Path) -> None:
    if file.is_symlink() and not file.resolve().is_relative_to(file.parent.resolve()):
        raise BundleError(f"{file.parent}: {file.name} is a link out of the bundle.")
