"""Atomic writes, remote paths, JSON files and schema numbers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcsed.errors import ConfigError, DataError
from bcsed.files import (
    as_path,
    atomic_write,
    check_schema,
    file_signature,
    is_occupied,
    is_remote,
    read_json,
    remove_partial_files,
    sha256,
    write_json,
)


def pid_of_ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_partial_files_of_a_killed_process_do_not_count_and_are_removed(tmp_path):
    assert not is_occupied(tmp_path / "none")
    pid, subfolder = pid_of_ended_process(), tmp_path / "subfolder"
    (tmp_path / f".s.csv.{pid}.part").touch()
    subfolder.mkdir()
    assert is_occupied(tmp_path)
    (subfolder / f".last.pt.{pid}.part").touch()
    assert not is_occupied(subfolder)
    # Process 1 is alive, and may be writing.
    (subfolder / ".last.pt.1.part").touch()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".last.pt.1.part", "subfolder"]
    (tmp_path / "file").touch()
    assert is_occupied(tmp_path / "file")
    remove_partial_files(tmp_path / "none")


class PathWithProtocol(type(Path())):
    """As UPath in versions of universal-pathlib in which it is a subclass of Path."""

    protocol = "s3"


def test_a_path_is_remote_because_of_its_protocol():
    assert not is_remote(Path("s.csv"))
    assert is_remote(PathWithProtocol("s.csv"))


def test_a_upath_is_remote_only_with_a_protocol():
    upath = pytest.importorskip("upath")
    assert is_remote(upath.UPath("memory://bcsed-paths/s.csv"))
    assert not is_remote(upath.UPath("s.csv"))


def test_a_remote_file_is_written_completely_or_not_at_all():
    pytest.importorskip("upath")
    path = as_path("memory://bcsed-paths/deep/s.csv")
    assert is_remote(path)
    assert not is_remote(as_path("s.csv"))
    with atomic_write(path) as temporary:
        assert isinstance(temporary, Path)
        temporary.write_text("old")
        assert not path.exists()
    assert path.read_text() == "old"
    before = file_signature(path)
    with (
        pytest.raises(DataError, match=r"memory://bcsed-paths/deep/s\.csv: could not be written"),
        atomic_write(path) as temporary,
    ):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert file_signature(path) == before
    with atomic_write(path) as temporary:
        temporary.write_text("newer")
    assert file_signature(path) != before
    assert [item.name for item in path.parent.iterdir()] == ["s.csv"]
    assert is_occupied(path.parent)


def test_a_signature_changes_with_the_file(tmp_path):
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a", (1, 1))
    first = file_signature(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 2))
    assert file_signature(tmp_path / "a") != first


def test_an_unknown_protocol_names_the_missing_packages():
    with pytest.raises(
        ConfigError, match=r"nowhere://a: paths like this one need more packages: pip install 'bcsed\[dask\]'"
    ):
        as_path("nowhere://a")


def test_json_files_and_their_schema(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"schema": 2, "ä": [1]})
    assert read_json(path) == {"schema": 2, "ä": [1]}
    assert check_schema(read_json(path), path, (1, 2)) == 2
    assert check_schema({}, path, (1, 2)) == 1
    with pytest.raises(ConfigError, match=r"a\.json: has schema 2; this version of bcsed reads 3 and 4"):
        check_schema(read_json(path), path, (3, 4), ConfigError)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(path, [1])
    with pytest.raises(DataError, match="must contain a JSON object"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        read_json(path)
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")
