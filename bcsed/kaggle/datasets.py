"""Folders that become Kaggle data sets: wheels that Kaggle's image lacks, or bundles.

The folder of a data set is flat, because the official client skips sub-folders by default. A bundle is therefore
packed as a zip that contains its folder. Kaggle unpacks it; if it does not, `unpack` does.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..files import atomic_write, is_occupied, read_errors, read_json, sha256, write_json
from ..models.bundle.bundle import load
from ..models.bundle.manifest import FILES, MANIFEST, WEIGHTS
from .inputs import Log
from .wheels import collect_wheels, requirements

METADATA, SUMS = "dataset-metadata.json", "SHA256SUMS"
WHEELS_SLUG, BUNDLES_SLUG = "bcsed-wheels", "bcsed-bundles"
# Of Kaggle's image since 2025-12-12, and the next.
PYTHONS = ("3.12", "3.13")
# Limits of what is unpacked: networks hardly shrink in a zip, descriptions shrink to a tenth.
_MAX_RATIO, _MAX_PLAIN, _MAX_BYTES, _MAX_BUNDLES = 100, 1 << 24, 8 << 30, 100
_SUBTITLES = {
    WHEELS_SLUG: "Wheels of bcsed and of what Kaggle's image lacks, for offline notebooks",
    BUNDLES_SLUG: "Networks exported by bcsed, to score soundscapes with, offline",
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
    log: Log,
) -> Path:
    """Write a new folder for ``kaggle datasets create``: bcsed's wheels, or with `bundles` these, each as a zip.

    It also contains ``dataset-metadata.json`` and, for wheels, ``SHA256SUMS``, which `kernel` reads. Wheels are for
    the versions in `python`, and copied from the folder `wheels` if there is one, instead of building and downloading
    them. `slug`, the name of the data set, is ``bcsed-wheels`` or ``bcsed-bundles`` by default; `with_weights` keeps
    the weights that only training needs. Raises ConfigError, DataError or BundleError if Kaggle does not accept a name,
    `out` is occupied, a wheel is missing or damaged, two wheels fit one Python, or a bundle is damaged.
    """
    out = Path(out)
    description = metadata(owner, slug or (BUNDLES_SLUG if bundles else WHEELS_SLUG), bundles=bool(bundles))
    if is_occupied(out):
        raise DataError(f"{out} is already there; name a new folder for the data set.")
    out.mkdir(parents=True, exist_ok=True)
    if bundles:
        _pack_bundles([Path(path) for path in bundles], out, with_weights=with_weights)
    else:
        collect_wheels(out, python, None if wheels is None else Path(wheels), log)
    files = sorted(path for path in out.iterdir() if path.is_file())
    if not bundles:
        with atomic_write(out / SUMS) as temporary:
            temporary.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files), encoding="utf-8")
    # Last, because the client refuses a folder without it.
    write_json(out / METADATA, description)
    for path in files:
        log(f"{path.stat().st_size / 2**20:8.1f} MiB  {path.name}")
    log(f"{sum(path.stat().st_size for path in files) / 2**20:8.1f} MiB  in {len(files)} files")
    return out


def read_wheels(folder: Path) -> tuple[str, str]:
    """Return the name of a data set of wheels, and pip's requirements with the SHA-256 of its wheels.

    Raises DataError if `dataset` did not write the folder, a file was changed since, or bcsed has another version.
    """
    if not (folder / SUMS).is_file():
        raise DataError(
            f"{folder} is not a data set of wheels; write one with `bcsed kaggle dataset wheels --owner NAME`, or name "
            "its folder as --wheels."
        )
    with read_errors(folder / SUMS, "a list of SHA-256"):
        sums = {name: digest for digest, name in map(str.split, (folder / SUMS).read_text().splitlines())}
    for path in (folder / name for name in sorted({*sums, *(path.name for path in folder.glob("*.whl"))})):
        if not path.is_file() or sha256(path) != sums.get(path.name):
            raise DataError(f"{path} is not the file that {SUMS} lists; write the data set of wheels again.")
    name = str(read_json(folder / METADATA).get("id"))
    if not re.fullmatch(r"[\w-]+/[\w-]+", name):
        raise DataError(f"{folder / METADATA}: id must be owner/slug, got {name!r}.")
    return name, requirements({folder / name: sums[name] for name in sorted(sums)})


def metadata(owner: str, slug: str, *, bundles: bool = False) -> dict[str, Any]:
    """Return the contents of ``dataset-metadata.json``; raise ConfigError if Kaggle does not accept a name."""
    check_owner(owner)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]", slug):
        raise ConfigError(f"the name of a data set has 6 to 50 characters, a-z, 0-9 and '-'; got {slug!r}.")
    return {
        "title": slug.replace("-", " "),
        "subtitle": _SUBTITLES[BUNDLES_SLUG if bundles else WHEELS_SLUG],
        "id": f"{owner}/{slug}",
        "licenses": [{"name": "other"}],
        "keywords": [],
    }


def check_owner(owner: str) -> None:
    """Raise ConfigError if a text cannot be a Kaggle user name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,49}", owner):
        raise ConfigError(f"{owner!r} is not a Kaggle user name; use the name in the address of your profile.")


def unpack(source: Path, scratch: Path) -> list[Path]:
    """Unpack only the files of bundles from the zips below `source`, and return the folders of the bundles.

    DataError if a zip is damaged or, where it contains bundles, encrypted, ambiguous or too large.
    """
    folders = []
    for path in sorted({*source.glob("*/*.zip"), *source.glob("*/*/*.zip"), *source.glob("*/*/*/*.zip")}):
        folder = scratch / path.relative_to(source)
        with read_errors(path, "a zip"), zipfile.ZipFile(path) as archive:
            for bundle, files in _check_bundles(path, archive).items():
                folders.append(folder / bundle)
                manifest = folder / bundle / MANIFEST
                if manifest.is_file() and manifest.read_bytes() == archive.read(f"{bundle}/{MANIFEST}"):
                    continue
                shutil.rmtree(folder / bundle, ignore_errors=True)  # of a zip that was replaced
                _extract(archive, files, folder / bundle)
    return folders


def _check_bundles(path: Path, archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    """Return the files of each bundle in a zip, the manifest last: a folder without it is not taken for a bundle."""
    bundles: dict[str, list[zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        bundle, _, name = info.filename.partition("/")
        if name in FILES and bundle and "\\" not in bundle:
            bundles.setdefault(bundle, []).append(info)
    bundles = {bundle: files for bundle, files in bundles.items() if f"{bundle}/{MANIFEST}" in archive.NameToInfo}
    for bundle, files in bundles.items():
        if bundle in (".", ".."):
            raise DataError(f"{path} contains a folder {bundle!r}, which is not a bundle.")
        for number, info in enumerate(files):
            problem = ""
            if number >= len(FILES) or any(info.filename == other.filename for other in files[:number]):
                problem = "occurs more than once"
            elif info.flag_bits & 1:
                problem = "is encrypted"
            elif stat.S_ISLNK(info.external_attr >> 16):
                problem = "is a link"
            elif info.file_size > max(_MAX_PLAIN, _MAX_RATIO * info.compress_size):
                problem = f"would grow from {info.compress_size} to {info.file_size} bytes"
            if problem:
                raise DataError(f"{path}: {info.filename!r} {problem}; pack the bundle with `bcsed kaggle dataset`.")
        files.sort(key=lambda info: info.filename.endswith(f"/{MANIFEST}"))
    n_bytes = sum(info.file_size for files in bundles.values() for info in files)
    if n_bytes > _MAX_BYTES or len(bundles) > _MAX_BUNDLES:
        raise DataError(
            f"{path} contains {len(bundles)} bundles of {n_bytes / 2**30:.1f} GiB; attach at most {_MAX_BUNDLES} of "
            f"{_MAX_BYTES / 2**30:g} GiB, or the unpacked folders."
        )
    return bundles


def _extract(archive: zipfile.ZipFile, files: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for info in files:
        target = folder / info.filename.partition("/")[2]
        # No more bytes are read than the size that was checked.
        with archive.open(info) as stream, atomic_write(target) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(stream, file)


def _pack_bundles(bundles: Sequence[Path], out: Path, *, with_weights: bool) -> None:
    names = [path.resolve().name for path in bundles]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two bundles are called {name!r}; rename one folder, Kaggle uses its name.")
    classes = [load(path).contract.classes for path in bundles]
    for path, other in zip(bundles, classes, strict=True):
        if other != classes[0]:
            raise ConfigError(
                f"{bundles[0]} and {path} have different classes, which notebooks do not combine by default; "
                "pack them as two data sets."
            )
    for path, name in zip(bundles, names, strict=True):
        with atomic_write(out / f"{name}.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for file in sorted(path.iterdir()):
                if not file.name.startswith(".") and (file.name != WEIGHTS or with_weights):
                    # A fixed date, so that the same contents give the same bytes.
                    info = zipfile.ZipInfo(f"{name}/{file.name}", date_time=(1980, 1, 1, 0, 0, 0))
                    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    with file.open("rb") as stream, archive.open(info, "w", force_zip64=True) as target:
                        shutil.copyfileobj(stream, target, 1 << 20)
