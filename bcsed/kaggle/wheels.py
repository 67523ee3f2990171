"""Wheels for a machine without a network: that of bcsed, and those that Kaggle's image lacks."""

from __future__ import annotations

import base64
import email
import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._version import __version__
from ..errors import ConfigError, DataError
from ..files import atomic_write, read_errors
from .inputs import Log

# The packages that a prediction needs and the image lacks; all others are used as they are installed there.
MISSING = ("openvino", "openvino-telemetry")
# pip matches platforms literally; a newer manylinux does not include the older ones.
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_31_x86_64")
_SOURCES = ("setup.cfg", "setup.py", "README.md", "LICENSE")
_WHEEL_NAME = r"[\w.]+-[\w.+!]+(-\d\w*)?(-[\w.]+){3}\.whl"
_METADATA_BYTES = 1 << 20
# Files of an installation that its wheel did not contain.
_ADDED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def collect_wheels(out: Path, python: Sequence[str], source: Path | None, log: Log) -> None:
    """Write the wheels of bcsed and of what Kaggle lacks: copies of those in `source`, or new ones.

    The wheel of bcsed is built from a clone: the one that is running, or the current folder if it has the same version.
    An installed copy without a clone is packed again from its files. The others are downloaded as they are installed.
    """
    for version in python:
        if not re.fullmatch(r"3\.\d{1,2}", version):
            raise ConfigError(f"a Python version is written 3.12, got {version!r}.")
    if source is None:
        _make_wheels(out, python, log)
    elif not source.is_dir():
        raise DataError(f"{source}: there is no such folder of wheels.")
    else:
        for path in sorted(source.glob("*.whl")):
            if _project(path) in ("bcsed", *MISSING):
                shutil.copy2(path, out / path.name)
    _check_complete(out, python)


def _make_wheels(out: Path, python: Sequence[str], log: Log) -> None:
    installed = Path(__file__).parents[2]
    clone = next((path for path in (installed, Path.cwd()) if _is_clone(path)), None)
    if clone is None:
        log(f"packing the wheel of bcsed {__version__} from {installed}")
        pack_installed(installed, out)
    else:
        log(f"building the wheel of bcsed {__version__} from {clone}")
        _build(clone, out)
    for version in python:
        names = [f"{name}=={importlib.metadata.version(name)}" for name in MISSING]
        log(f"downloading {', '.join(names)} for Python {version}")
        platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
        target = ["--python-version", version, "--implementation", "cp", *platforms]
        _pip("download", "--no-deps", "--only-binary=:all:", *target, "--dest", str(out), *names)


def pack_installed(folder: Path, out: Path) -> Path:
    """Write again the wheel from which bcsed was installed into a folder; raise DataError if a file was changed."""
    records = list(importlib.metadata.distributions(name="bcsed", path=[str(folder)]))
    if not records or not records[0].files:
        raise DataError(
            f"{folder} has no record of pip about bcsed, so its wheel cannot be packed; run this in a clone of bcsed, "
            "or give a folder of wheels as --wheels."
        )
    info = f"bcsed-{records[0].version}.dist-info"
    files = {}
    for name in records[0].files:
        # Files without a hash are bytecode; those outside of the two folders are scripts, which pip writes itself.
        if name.hash is None or name.parts[0] not in ("bcsed", info) or str(name) in {f"{info}/{x}" for x in _ADDED}:
            continue
        path = folder / name
        digest = hashlib.new(name.hash.mode, path.read_bytes() if path.is_file() else b"").digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != name.hash.value:
            raise DataError(f"{path} was changed after its installation; install bcsed again, then repeat the command.")
        files[str(name)] = f"{name},{name.hash.mode}={name.hash.value},{name.size}\n"
    wheel = out / f"bcsed-{records[0].version}-py3-none-any.whl"
    with atomic_write(wheel) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(folder / file, file)
        archive.writestr(f"{info}/RECORD", "".join([*files.values(), f"{info}/RECORD,,\n"]))
    return wheel


def _is_clone(folder: Path) -> bool:
    version = folder / "bcsed" / "_version.py"
    return (folder / "setup.cfg").is_file() and version.is_file() and f'"{__version__}"' in version.read_text()


def _build(clone: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # A copy, because setuptools writes into the folder of the sources and packs the files of earlier builds.
        copy = Path(scratch) / "bcsed"
        shutil.copytree(clone / "bcsed", copy / "bcsed", ignore=shutil.ignore_patterns("__pycache__"))
        for name in _SOURCES:
            shutil.copy2(clone / name, copy / name)
        _pip("wheel", "--no-deps", *_isolation(), "--wheel-dir", str(out), str(copy))


def _check_complete(out: Path, python: Sequence[str]) -> None:
    """Raise DataError if a notebook could not be set up from a folder, or pip could choose between two wheels."""
    wheels = sorted(out.glob("*.whl"))
    for path in wheels:
        _check_wheel(path)
    for name in ("bcsed", *MISSING):
        for version in python:
            matching = [path.name for path in wheels if _project(path) == name and _supports(path, version)]
            if len(matching) != 1:
                names = ", ".join(path.name for path in wheels if _project(path) == name) or "none"
                count = f"{len(matching)} wheels" if matching else "no wheel"
                needed = ", and one is needed" if matching else ""
                raise DataError(f"{count} of {name} for Python {version} on Linux x86_64{needed}; there is {names}.")


def _check_wheel(path: Path) -> None:
    """Raise DataError if a file is no wheel of the project and version in its name, or of another bcsed."""
    if not re.fullmatch(_WHEEL_NAME, path.name):
        raise DataError(f"{str(path)!r} is not named as a wheel: name-version-python-abi-platform.whl.")
    with read_errors(path, "a wheel"), zipfile.ZipFile(path) as archive:
        (entry,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        with archive.open(entry) as stream:
            stated = email.message_from_bytes(stream.read(_METADATA_BYTES))
    name, version = str(stated["Name"]).lower().replace("_", "-"), str(stated["Version"])
    if (name, version) != (_project(path), path.name.split("-")[1]):
        raise DataError(f"{path} is a wheel of {name} {version}, not of what its name states.")
    if name == "bcsed" and version != __version__:
        raise DataError(f"{path.name} has another version than the running bcsed {__version__}.")


def requirements(sums: Mapping[Path, str]) -> str:
    """Return pip's requirements for wheels and their SHA-256; DataError if these are no wheels of this version."""
    hashes: dict[str, list[str]] = {f"bcsed=={__version__}": []}
    for path, digest in sums.items():
        _check_wheel(path)
        hashes.setdefault(f"{_project(path)}=={path.name.split('-')[1]}", []).append(f"--hash=sha256:{digest}")
    return "".join(" \\\n".join([name, *digests]) + "\n" for name, digests in hashes.items())


def _project(path: Path) -> str:
    return path.name.split("-")[0].lower().replace("_", "-")


def _supports(path: Path, version: str) -> bool:
    """Return whether a wheel can be installed for a Python version on Kaggle."""
    pythons, abis, platforms = path.stem.split("-")[-3:]
    tag = f"cp{version.replace('.', '')}"
    for_python = "py3" in pythons.split(".") or tag in pythons.split(".") or "abi3" in abis.split(".")
    return for_python and any(re.fullmatch(r"any|manylinux.*_x86_64|linux_x86_64", p) for p in platforms.split("."))


def _isolation() -> list[str]:
    """Build with the installed setuptools if it can write wheels on its own; otherwise pip downloads one."""
    try:
        major = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return []
    return ["--no-build-isolation"] if major >= 71 else []


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "ERROR" in line] or result.stderr.splitlines()
        raise DataError(f"pip {arguments[0]} failed ({lines[-1].strip() if lines else 'no message'}).")
