"""The wheels that a notebook installs are those whose SHA-256 it carries, from the data set that it names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_kaggle import fake_wheels, write_wheel
from test_notebooks import LEGACY, NEW, code, read

from bcsed import kaggle
from bcsed._version import __version__
from bcsed.errors import DataError
from bcsed.kaggle import datasets

BCSED = f"bcsed-{__version__}-py3-none-any.whl"
TELEMETRY = "openvino_telemetry-2025.2.0-py3-none-any.whl"


@pytest.fixture
def wheels(tmp_path):
    """A data set of small wheels for this Python."""
    tag = f"cp3{sys.version_info.minor}"
    source = tmp_path / "source"
    source.mkdir()
    for name in (BCSED, TELEMETRY, f"openvino-2026.4.1-1-{tag}-{tag}-manylinux2014_x86_64.whl"):
        write_wheel(source / name, "ours = True")
    python = (f"3.{sys.version_info.minor}",)
    return kaggle.dataset(tmp_path / "wheels", "me", wheels=source, python=python, log=lambda _: None)


def install(notebook: Path, root: Path) -> subprocess.CompletedProcess:
    """Execute the first cell of a notebook, with pip installing into root/site."""
    cell = code(read(notebook, "submit"))[0].replace('"--no-deps"', f'"--no-deps", "--target={root / "site"}"')
    environment = os.environ | {"BCSED_KAGGLE_ROOT": str(root)}
    command = [sys.executable, "-c", cell]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def mount(root: Path, layout: dict[str, str], slug: str, wheels: Path) -> Path:
    return Path(shutil.copytree(wheels, root / "input" / layout["dataset"].format(slug=slug)))


@pytest.mark.parametrize("layout", [LEGACY, NEW], ids=["legacy", "new"])
def test_only_the_named_data_set_is_installed(tmp_path, wheels, layout):
    notebook = kaggle.kernel("submit", tmp_path / "notebook", "me", wheels=wheels)
    mount(tmp_path, layout, "bcsed-wheels", wheels)
    for slug, name in (("aaa", BCSED), ("zzz", f"bcsed-{__version__}-9x-py3-none-any.whl")):
        write_wheel(mount(tmp_path, layout, slug, wheels) / name, "ours = False")
    done = install(notebook, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "bcsed_says.py").read_text() == "ours = True"
    assert (tmp_path / "site" / "openvino_says.py").is_file()


@pytest.mark.parametrize("name", [BCSED, TELEMETRY, f"bcsed-{__version__}-9x-py3-none-any.whl"])
@pytest.mark.slow
def test_another_wheel_in_the_named_data_set_is_refused(tmp_path, wheels, name):
    notebook = kaggle.kernel("submit", tmp_path / "notebook", "me", wheels=wheels)
    write_wheel(mount(tmp_path, NEW, "bcsed-wheels", wheels) / name, "ours = False")
    done = install(notebook, tmp_path)
    assert done.returncode and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "site").exists()


def test_what_is_missing_is_named(tmp_path, wheels):
    notebook = kaggle.kernel("submit", tmp_path / "notebook", "me", wheels=wheels)
    stranger = mount(tmp_path, NEW, "other", wheels)
    assert "attach the data set me/bcsed-wheels; there is ['datasets']" in install(notebook, tmp_path).stderr
    stranger.rename(stranger.with_name("bcsed-wheels"))
    (stranger.with_name("bcsed-wheels") / BCSED).unlink()
    assert f"No matching distribution found for bcsed=={__version__}" in install(notebook, tmp_path).stderr
    template = kaggle.kernel("submit", tmp_path / "template", "me")
    assert "write this notebook with `bcsed kaggle kernel`" in install(template, tmp_path).stderr


def test_a_notebook_names_the_data_set_of_its_wheels(tmp_path, wheels):
    out = kaggle.kernel("train", tmp_path / "notebook", "colleague", wheels=wheels)
    assert json.loads((out / "kernel-metadata.json").read_text())["dataset_sources"] == ["me/bcsed-wheels"]
    for change, sentence in (
        (lambda: (wheels / TELEMETRY).write_bytes(b"other"), "telemetry.* is not the file that SHA256SUMS lists"),
        (lambda: write_wheel(wheels / "numpy-1.0-py3-none-any.whl"), "numpy.* is not the file that SHA256SUMS lists"),
        (lambda: (wheels / "SHA256SUMS").write_text("nonsense"), "not readable as a list of SHA-256"),
        (lambda: (wheels / "SHA256SUMS").unlink(), "is not a data set of wheels; write one with"),
    ):
        change()
        with pytest.raises(DataError, match=sentence):
            kaggle.kernel("train", tmp_path / "notebook", "me", wheels=wheels)
        (wheels / "numpy-1.0-py3-none-any.whl").unlink(missing_ok=True)
        (wheels / TELEMETRY).write_bytes((tmp_path / "source" / TELEMETRY).read_bytes())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (BCSED, b"not a zip", "not readable as a wheel"),
        (TELEMETRY, b"PK\5\6" + b"\0" * 18, "not readable as a wheel"),
        (f"bcsed-{__version__}-9x-py3-none-any.whl", None, r"2 wheels of bcsed for Python 3.12 .*one is needed"),
        ("openvino-2025.1-1-cp312-cp312-manylinux2014_x86_64.whl", None, "2 wheels of openvino for Python 3.12"),
        ("openvino-2025 1.whl", b"", "is not named as a wheel"),
    ],
)
def test_files_that_are_no_wheels_are_not_packed(tmp_path, name, content, sentence):
    source = fake_wheels(tmp_path / "in")
    write_wheel(source / name) if content is None else (source / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        kaggle.dataset(tmp_path / "out", "me", wheels=source, log=lambda _: None)


def test_a_wheel_is_what_its_name_states(tmp_path):
    source = fake_wheels(tmp_path / "in")
    shutil.copy(source / TELEMETRY, source / BCSED)
    with pytest.raises(DataError, match=r"is a wheel of openvino-telemetry 2025\.2\.0, not of what its name states"):
        kaggle.dataset(tmp_path / "out", "me", wheels=source, log=lambda _: None)
    assert zipfile.is_zipfile(source / BCSED) and not (tmp_path / "out" / datasets.SUMS).exists()
