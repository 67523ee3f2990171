"""Folders that become Kaggle data sets: wheels that its image lacks, and model bundles.

A data set's folder is flat: the official client leaves sub-folders out unless it is told otherwise, and says so in
one line among many. A bundle is a folder, so it travels as a zip with the folder inside; Kaggle unpacks it, and
where it does not, `unpack` does.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..files import atomic_write, is_occupied, sha256
from ..models.bundle.bundle import load
from ..models.bundle.manifest import MANIFEST, WEIGHTS
from .markers import Log
from .wheels import build, gather

METADATA, SUMS = "dataset-metadata.json", "SHA256SUMS"
WHEELS_SLUG, BUNDLES_SLUG = "bcsed-wheels", "bcsed-bundles"
# Kaggle's image since 2025-12-12.
PYTHONS = ("3.12",)
_TOLD = {
    WHEELS_SLUG: "Wheels of bcsed and of what Kaggle's image lacks, for offline notebooks",
    BUNDLES_SLUG: "Networks sealed by bcsed, to score soundscapes with, offline",
}


def dataset(
    out: str | Path,
    owner: str,
    *,
    python: Sequence[str] = PYTHONS,
    wheels: str | Path | None = None,
    bundles: Sequence[str | Path] = (),
    slug: str = "",
    with_weights: bool = False,
    say: Log,
) -> Path:
    """Write a folder for ``kaggle datasets create``: bcsed's wheels, or with `bundles` those bundles.

    Parameters
    ----------
    out : str or Path
        A new folder.
    owner : str
        Kaggle user name.
    python : sequence of str
        Versions of Python that the wheels are for.
    wheels : str or Path, optional
        A folder of wheels to take instead of building and downloading.
    bundles : sequence of str or Path
        Bundles to pack, each in a zip of its own.
    slug : str
        Name of the data set; ``bcsed-wheels`` or ``bcsed-bundles`` by default.
    with_weights : bool
        Whether bundles keep what only further training needs.
    say : callable
        Told what is done, and the size of each file.

    Returns
    -------
    Path
        The folder: the files, ``SHA256SUMS`` and ``dataset-metadata.json``.

    Raises
    ------
    ConfigError, DataError, BundleError
        If a name is none that Kaggle takes, `out` is taken, a wheel cannot be had, or a bundle is ill.
    """
    out = Path(out)
    told = metadata(owner, slug or (BUNDLES_SLUG if bundles else WHEELS_SLUG), bundles=bool(bundles))
    if is_occupied(out):
        raise DataError(f"{out} is already there; name a new folder for the data set.")
    out.mkdir(parents=True, exist_ok=True)
    if bundles:
        _pack_all([Path(path) for path in bundles], out, with_weights=with_weights)
    elif wheels is not None:
        gather(Path(wheels), out, python)
    else:
        build(out, python, say)
    files = sorted(path for path in out.iterdir() if path.is_file())
    with atomic_write(out / SUMS) as temporary:
        temporary.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files), encoding="utf-8")
    # The metadata last: without it the client takes the folder for none.
    write_json(out / METADATA, told)
    for path in files:
        say(f"{path.stat().st_size / 2**20:8.1f} MiB  {path.name}")
    say(f"{sum(path.stat().st_size for path in files) / 2**20:8.1f} MiB  in {len(files)} files")
    return out


def metadata(owner: str, slug: str, *, bundles: bool = False) -> dict[str, Any]:
    """Return what ``dataset-metadata.json`` holds.

    Raises
    ------
    ConfigError
        If owner or slug are none that Kaggle takes.
    """
    check_owner(owner)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]", slug):
        raise ConfigError(f"a data set's name has 6 to 50 characters, a-z, 0-9 and '-'; got {slug!r}.")
    return {
        "title": slug.replace("-", " "),
        "subtitle": _TOLD[BUNDLES_SLUG if bundles else WHEELS_SLUG],
        "id": f"{owner}/{slug}",
        "licenses": [{"name": "other"}],
        "keywords": [],
    }


def check_owner(owner: str) -> None:
    """Refuse (ConfigError) what can be no Kaggle user name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,49}", owner):
        raise ConfigError(f"{owner!r} is no Kaggle user name; it stands in the address of your profile.")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def unpack(source: Path, scratch: Path) -> list[Path]:
    """Unpack bundles that lie below `source` in zips, and return their folders.

    Only the files of a bundle are taken out of a zip, and `bcsed.models.bundle.load` checks what they are.
    """
    found = []
    for path in sorted({*source.glob("*/*.zip"), *source.glob("*/*/*.zip"), *source.glob("*/*/*/*.zip")}):
        try:
            with zipfile.ZipFile(path) as packed:
                names = [name for name in packed.namelist() if re.fullmatch(rf"[^/\\]+/{MANIFEST}", name)]
                for name in names:
                    folder = scratch / path.stem / name.split("/")[0]
                    _extract(packed, name.split("/")[0], folder)
                    found.append(folder)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} cannot be unpacked ({error}).") from error
    return found


def _extract(packed: zipfile.ZipFile, inside: str, folder: Path) -> None:
    if (folder / MANIFEST).is_file():
        return
    if inside in (".", ".."):
        raise DataError(f"{packed.filename} holds a folder {inside!r}, which is no bundle.")
    folder.mkdir(parents=True, exist_ok=True)
    members = [name for name in packed.namelist() if re.fullmatch(rf"{re.escape(inside)}/[^/\\]+", name)]
    # The manifest last: a folder without it is no bundle.
    for name in sorted(members, key=lambda name: name.endswith(f"/{MANIFEST}")):
        with (
            packed.open(name) as stream,
            atomic_write(folder / name.split("/")[1]) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(stream, file)


def _pack_all(bundles: Sequence[Path], out: Path, *, with_weights: bool) -> None:
    names = [path.resolve().name for path in bundles]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ConfigError(
            f"two bundles are called {doubled[0]!r}; rename a folder, its name is the bundle's on Kaggle."
        )
    classes = [(path, load(path).contract.classes) for path in bundles]
    for path, other in classes[1:]:
        if other != classes[0][1]:
            raise ConfigError(
                f"{classes[0][0]} and {path} do not answer the same classes, so no notebook would take both unasked; "
                "pack them as two data sets."
            )
    for path, name in zip(bundles, names, strict=True):
        with atomic_write(out / f"{name}.zip") as temporary:
            _pack(path, name, temporary, with_weights=with_weights)


def _pack(bundle: Path, name: str, out: Path, *, with_weights: bool) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(bundle.iterdir()):
            if file.name.startswith(".") or (file.name == WEIGHTS and not with_weights):
                continue
            # A fixed date: the same bundle gives the same bytes, and the same sum.
            told = zipfile.ZipInfo(f"{name}/{file.name}", date_time=(1980, 1, 1, 0, 0, 0))
            told.compress_type, told.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with file.open("rb") as stream, packed.open(told, "w", force_zip64=True) as target:
                shutil.copyfileobj(stream, target, 1 << 20)
