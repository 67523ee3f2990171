"""Files are written whole or not at all, here and elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcsed import files as paths
from bcsed.errors import ConfigError, DataError


def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_takes_no_folder_and_is_swept(tmp_path):
    assert not paths.taken(tmp_path / "none")
    gone, below = dead(), tmp_path / "below"
    (tmp_path / f".s.csv.{gone}.part").touch()
    below.mkdir()
    assert paths.taken(tmp_path)
    (below / f".last.pt.{gone}.part").touch()
    assert not paths.taken(below)
    # Process 1 lives, and may be writing.
    (below / ".last.pt.1.part").touch()
    paths.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".last.pt.1.part", "below"]
    (tmp_path / "file").touch()
    assert paths.taken(tmp_path / "file")
    paths.sweep(tmp_path / "none")


def test_elsewhere_is_written_whole_or_not_at_all():
    pytest.importorskip("upath")
    place = paths.locate("memory://bcsed-paths/deep/s.csv")
    assert paths.remote(place)
    assert not paths.remote(paths.locate("s.csv"))
    with paths.replacing(place) as temporary:
        assert isinstance(temporary, Path)
        temporary.write_text("old")
        assert not place.exists()
    assert place.read_text() == "old"
    before = paths.state(place)
    with (
        pytest.raises(DataError, match=r"memory://bcsed-paths/deep/s\.csv: could not be written"),
        paths.replacing(place) as temporary,
    ):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert place.read_text() == "old"
    assert paths.state(place) == before
    with paths.replacing(place) as temporary:
        temporary.write_text("newer")
    assert paths.state(place) != before
    assert [item.name for item in place.parent.iterdir()] == ["s.csv"]
    assert paths.taken(place.parent)


def test_state_follows_a_file(tmp_path):
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a", (1, 1))
    first = paths.state(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 2))
    assert paths.state(tmp_path / "a") != first


def test_an_unknown_protocol_says_what_is_missing():
    with pytest.raises(
        ConfigError, match=r"nowhere://a: paths like this one need more packages: pip install 'bcsed\[dask\]'"
    ):
        paths.locate("nowhere://a")
