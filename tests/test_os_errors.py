"""What the operating system refuses is one sentence with the path; what was there is kept; modes are by the umask."""

from __future__ import annotations

import codecs
import contextlib
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bcsed.cli.app import main
from bcsed.data import synthetic
from bcsed.errors import BundleError, DataError
from bcsed.files import MAX_DEPTH, atomic_write, read_csv, read_json, write_json
from bcsed.models.bundle import load, seal
from bcsed.scores.table import read_table

FULL = "File too large"


@contextlib.contextmanager
def limited(n_bytes: int):
    """Let no file grow beyond a size, which is as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def user_without_rights():
    """Act as a user who does not own the files, where the tests run as root."""
    if os.geteuid():
        yield
        return
    # Python imports it at its first use.
    codecs.lookup("utf-8-sig")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def locked(path, mode: int = 0):
    path.chmod(mode)
    return path


@pytest.fixture
def open_folder(tmp_path):
    """A folder that every user can enter."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("read", [read_table, read_json, lambda path: read_csv(path, [])])
def test_a_file_that_may_not_be_read(open_folder, read):
    path = open_folder / "a.csv"
    path.write_text("row_id,a\nx_5,0.5\n")
    locked(path)
    with user_without_rights(), pytest.raises(DataError, match=r"a\.csv: permission denied\.$"):
        read(path)
    folder = open_folder / "folder"
    folder.mkdir()
    with pytest.raises(DataError, match=r"folder: is a folder, not a file\.$"):
        read(folder)
    locked(folder)
    with user_without_rights(), pytest.raises(DataError, match=r"inside: permission denied\.$"):
        read(folder / "inside")
    with pytest.raises(DataError, match="file name too long"):
        read(open_folder / ("long" * 100))


@pytest.mark.parametrize("name", ["model.bin", "bundle.json", "probe.npz", "."])
def test_a_bundle_that_may_not_be_read_does_not_end_check(open_folder, tiny, name, capsys):
    sealed = open_folder / "bundle"
    shutil.copytree(tiny.path, sealed)
    locked(sealed / name)
    with user_without_rights():
        with pytest.raises(BundleError, match="permission denied"):
            load(sealed)
        assert main(["check", str(sealed), str(open_folder / "none")]) == 1
    sealed.chmod(0o755)
    assert capsys.readouterr().out.count("FAILED") == 2


def writers(path):
    """Functions that write a megabyte with the libraries that bcsed uses."""
    table = pd.DataFrame({"a": np.random.default_rng(0).random(150_000)})
    yield lambda: write_json(path, table["a"].tolist())
    for write in (table.to_csv, table.to_parquet):
        yield lambda write=write: _write(path, write)
    yield lambda: _write(path, lambda file: file.write_bytes(table["a"].to_numpy().tobytes()))


def _write(path, write):
    with atomic_write(path) as temporary:
        write(temporary)


def test_a_full_disk_keeps_what_was_there(tmp_path):
    path = tmp_path / "table"
    path.write_text("earlier")
    for write in writers(path):
        with limited(100_000), pytest.raises(DataError, match=rf"table: could not be written \({FULL}\)"):
            write()
        assert path.read_text() == "earlier"
        assert [item.name for item in tmp_path.iterdir()] == ["table"]


@pytest.mark.slow
def test_a_full_disk_ends_a_training_in_a_sentence(tmp_path, year):
    from test_train import JOBS, SMALL

    from bcsed import train

    experiment = SMALL.vary("one", fit__epochs=1)
    with limited(1_000_000), pytest.raises(DataError, match=rf"(best|last)\.pt: could not be written \({FULL}\)"):
        train.train(experiment, year, tmp_path / "run", options=JOBS)
    train.train(experiment, year, tmp_path / "run", resume=True, options=JOBS)
    assert train.finished(tmp_path / "run")


@pytest.fixture(scope="module")
def graph(network):
    """The contract of `network`, and its graph, which takes a second to convert."""
    from bcsed.config.contract import TINY_128, Contract, Net
    from bcsed.models.export import to_graph

    contract = Contract(frontend=TINY_128, net=Net(backbone="mobilenetv3_small_050"), classes=("a", "b", "c"))
    return contract, to_graph(network, contract)


@pytest.mark.parametrize("limit", [20_000, 300_000, 2_000_000])
def test_a_full_disk_ends_an_export_in_a_sentence(tmp_path, network, graph, limit, monkeypatch):
    """The graph, its weights, or the weights for training."""
    from conftest import export

    contract, converted = graph
    monkeypatch.setattr("bcsed.models.export.to_graph", lambda *_: converted.clone())
    with limited(limit), pytest.raises(BundleError, match="file too large"):
        export(network, tmp_path / "bundle", contract=contract, priors=np.full(3, 0.2, "float32"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_full_disk_ends_a_sample_in_a_sentence(tmp_path):
    with limited(20_000), pytest.raises(DataError, match=rf"ogg: could not be written \({FULL}\)"):
        synthetic.write(tmp_path / "sample", scale=0.05)


def test_a_folder_that_may_not_be_written(open_folder, tiny):
    locked(open_folder, 0o555)
    with user_without_rights():
        for write in writers(open_folder / "new" / "table"):
            with pytest.raises(DataError, match=r"table: could not be written \(Permission denied\)"):
                write()
        with pytest.raises(BundleError, match=r"permission denied\.$"):
            seal(
                open_folder / "b", None, (), None, contract=tiny.contract, steps=1, priors=(), recipe={}, provenance={}
            )
    (open_folder / "taken").mkdir()
    with pytest.raises(DataError, match=r"taken: could not be written \(Is a directory\)"):
        write_json(open_folder / "taken", {})


def test_modes_are_those_of_the_umask(tmp_path, network):
    from conftest import TINY_128, Contract, Net, export

    def act(path):
        path.unlink(missing_ok=True)
        path.write_bytes(b"x")
        path.chmod(0o600)

    contract = Contract(frontend=TINY_128, net=Net(backbone="mobilenetv3_small_050"), classes=("a", "b", "c"))
    before = os.umask(0o027)
    try:
        _write(tmp_path / "file", act)
        export(network, tmp_path / "bundle", contract=contract, priors=np.full(3, 0.2, "float32"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o640}
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o750


def test_an_error_without_a_sentence_of_its_own_has_the_one_of_the_system(monkeypatch, capsys):
    for error, sentence in (
        (PermissionError(13, "Permission denied", "x/y"), "bcsed: x/y: permission denied.\n"),
        (OSError(28, "No space left on device", "a", None, "b"), "bcsed: b: no space left on device.\n"),
        (OSError("only text"), "bcsed: standard output: only text.\n"),
    ):
        monkeypatch.setattr("bcsed.cli.start.describe", lambda error=error: (_ for _ in ()).throw(error))
        assert main(["experiments"]) == 2
        assert capsys.readouterr().err == sentence


@pytest.mark.parametrize("depth", [MAX_DEPTH, 5_000, 100_000])
def test_json_that_is_nested_deeply(tmp_path, depth):
    for opening, closing in (('{"a":', "}"), ("[", "]")):
        path = tmp_path / "deep.json"
        path.write_text('{"x": ' + opening * depth + "1" + closing * depth + "}")
        with pytest.raises(DataError, match=r"deep\.json: not readable as JSON"):
            read_json(path)


# ---- streams ---------------------------------------------------------------------------------------------------

BCSED = f"{sys.executable} -m bcsed"
unbuffered = pytest.mark.parametrize("unbuffered", ["", "1"])


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        (f"{BCSED} experiments > /dev/full", 2, "bcsed: standard output: no space left on device.\n"),
        (f"{BCSED} experiments 2>&- >/dev/null", 0, ""),
        (f"{BCSED} experiments <&- >&- 2>&-", 0, ""),
        (f"{BCSED} experiments --diff exp-93 none 2>&-", 2, ""),
        (f"PYTHONIOENCODING=ascii {BCSED} evaluate sc\u00f6res.csv --truth x", 2, r"bcsed: sc\xf6res.csv: there is no"),
    ],
)
@unbuffered
def test_streams_that_are_closed_full_or_narrow(script, status, error, unbuffered):
    env = {**os.environ, "LC_ALL": "C", "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr[: len(error) or None]) == (status, error)


@pytest.mark.parametrize(
    "words", [["experiments"], ["experiments", "--help"], ["experiments", "--diff", "tiny", "exp-93"]]
)
@pytest.mark.parametrize("both", [False, True])
@unbuffered
def test_a_closed_pipe_ends_quietly(words, both, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    error = writer if both else subprocess.PIPE
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-m", "bcsed", *words], stdout=writer, stderr=error, env=env)
    os.close(writer)
    # Of a closed pipe, argparse ends with status 0.
    assert done.returncode == (0 if "--help" in words and unbuffered else 141) and not done.stderr


def test_a_closed_standard_error_does_not_enter_a_file(tmp_path):
    """A file that gets the number of standard error would get the messages of libraries."""
    code = """
import os, sys
from bcsed.__main__ import _open_streams
_open_streams()
with open(sys.argv[1], "wb") as file:
    os.write(2, b"a message")
    sys.stderr.write("another")
"""
    path = tmp_path / "file"
    subprocess.run(["bash", "-c", '"$0" -c "$1" "$2" 2>&-', sys.executable, code, str(path)], check=True)
    assert path.read_bytes() == b""
