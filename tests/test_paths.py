"""Files are written whole or not at all, here and elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcsed.errors import ConfigError, DataError
from bcsed.files import as_path, atomic_write, file_signature, is_occupied, is_remote, remove_partial_files


def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_takes_no_folder_and_is_swept(tmp_path):
    assert not is_occupied(tmp_path / "none")
    gone, below = dead(), tmp_path / "below"
    (tmp_path / f".s.csv.{gone}.part").touch()
    below.mkdir()
    assert is_occupied(tmp_path)
    (below / f".last.pt.{gone}.part").touch()
    assert not is_occupied(below)
    # Process 1 lives, and may be writing.
    (below / ".last.pt.1.part").touch()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".last.pt.1.part", "below"]
    (tmp_path / "file").touch()
    assert is_occupied(tmp_path / "file")
    remove_partial_files(tmp_path / "none")


def test_elsewhere_is_written_whole_or_not_at_all():
    pytest.importorskip("upath")
    place = as_path("memory://bcsed-paths/deep/s.csv")
    assert is_remote(place)
    assert not is_remote(as_path("s.csv"))
    with atomic_write(place) as temporary:
        assert isinstance(temporary, Path)
        temporary.write_text("old")
        assert not place.exists()
    assert place.read_text() == "old"
    before = file_signature(place)
    with (
        pytest.raises(DataError, match=r"memory://bcsed-paths/deep/s\.csv: could not be written"),
        atomic_write(place) as temporary,
    ):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert place.read_text() == "old"
    assert file_signature(place) == before
    with atomic_write(place) as temporary:
        temporary.write_text("newer")
    assert file_signature(place) != before
    assert [item.name for item in place.parent.iterdir()] == ["s.csv"]
    assert is_occupied(place.parent)


def test_state_follows_a_file(tmp_path):
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a", (1, 1))
    first = file_signature(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 2))
    assert file_signature(tmp_path / "a") != first


def test_an_unknown_protocol_says_what_is_missing():
    with pytest.raises(
        ConfigError, match=r"nowhere://a: paths like this one need more packages: pip install 'bcsed\[dask\]'"
    ):
        as_path("nowhere://a")
