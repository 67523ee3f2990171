"""Wheels for a machine without network: bcsed's own, and those that Kaggle's image lacks."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .._version import __version__
from ..errors import ConfigError, DataError
from .markers import Log

# What bcsed needs to predict and the image does not have; everything else is left as it is there.
LACKING = ("openvino", "openvino-telemetry")
# pip takes each platform literally and does not count down from it.
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_31_x86_64")
_SOURCES = ("setup.cfg", "setup.py", "README.md", "LICENSE")


def build(out: Path, python: Sequence[str], say: Log) -> None:
    """Build bcsed's wheel from its sources and download the others, in the versions that are installed here.

    Raises
    ------
    ConfigError, DataError
        If a version of Python makes no sense, the sources are not here, or pip fails, with its last line.
    """
    for version in python:
        _check_python(version)
    source = Path(__file__).parents[2]
    if not (source / "setup.cfg").is_file():
        raise DataError(
            f"bcsed is installed from a wheel (in {source}), which is not built again: run this in a clone of its "
            "sources, or give a folder that holds its wheel and those of openvino as --wheels."
        )
    say(f"building the wheel of bcsed {__version__} from {source}")
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: setuptools builds in the sources' folder, and takes along what an earlier build left there.
        copy = Path(scratch) / "bcsed"
        shutil.copytree(source / "bcsed", copy / "bcsed", ignore=shutil.ignore_patterns("__pycache__"))
        for name in _SOURCES:
            shutil.copy2(source / name, copy / name)
        _pip("wheel", "--no-deps", *_isolation(), "--wheel-dir", str(out), str(copy))
    for version in python:
        names = [f"{name}=={importlib.metadata.version(name)}" for name in LACKING]
        say(f"downloading {', '.join(names)} for Python {version}")
        platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
        wanted = ["--python-version", version, "--implementation", "cp", *platforms]
        _pip("download", "--no-deps", "--only-binary=:all:", *wanted, "--dest", str(out), *names)
    _check_complete(out, python)


def gather(folder: Path, out: Path, python: Sequence[str]) -> None:
    """Copy the wheels of bcsed and of what Kaggle lacks from a folder.

    Raises
    ------
    ConfigError, DataError
        If one is missing for a version of Python, or bcsed's is of another version than the one that runs here.
    """
    for version in python:
        _check_python(version)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of wheels.")
    for path in sorted(folder.glob("*.whl")):
        if _project(path) in ("bcsed", *LACKING):
            shutil.copy2(path, out / path.name)
    _check_complete(out, python)


def _check_complete(out: Path, python: Sequence[str]) -> None:
    """Refuse a folder from which a notebook could not be set up."""
    for name in ("bcsed", *LACKING):
        there = [path for path in out.glob("*.whl") if _project(path) == name]
        for version in python:
            if not any(_fits(path, version) for path in there):
                shown = ", ".join(path.name for path in there) or "none"
                raise DataError(f"no wheel of {name} for Python {version} on Linux x86_64; there is {shown}.")
    others = [path.name for path in out.glob("bcsed-*.whl") if path.name.split("-")[1] != __version__]
    if others:
        raise DataError(f"{others[0]} is of another version than the bcsed {__version__} that makes this data set.")


def _project(path: Path) -> str:
    return path.name.split("-")[0].lower().replace("_", "-")


def _fits(path: Path, version: str) -> bool:
    """Say whether a wheel can be installed for a version of Python on Kaggle."""
    pythons, abis, platforms = path.stem.split("-")[-3:]
    major, minor = version.split(".")
    tag = f"cp{major}{minor}"
    fits_python = "py3" in pythons.split(".") or tag in pythons.split(".") or "abi3" in abis.split(".")
    on_linux = any(re.fullmatch(r"any|manylinux.*_x86_64|linux_x86_64", name) for name in platforms.split("."))
    return fits_python and on_linux


def _check_python(version: str) -> None:
    if not re.fullmatch(r"3\.\d{1,2}", version):
        raise ConfigError(f"a version of Python is written 3.12, got {version!r}.")


def _isolation() -> list[str]:
    """Build with the setuptools that is here, where it is new enough to make wheels alone; else pip fetches one."""
    try:
        major = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return []
    return ["--no-build-isolation"] if major >= 71 else []


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise DataError(f"pip {arguments[0]} failed ({lines[-1].strip() if lines else 'it said nothing'}).")
