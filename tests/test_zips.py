"""Zips with bundles that a Kaggle notebook attaches: the known files only, within bounds, or one sentence."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from bcsed import bundle
from bcsed.errors import BundleError, DataError
from bcsed.kaggle import datasets, inputs
from bcsed.models.bundle.manifest import FILES


def write_zip(path, files, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


@pytest.fixture
def files(tiny):
    return [(f"net/{path.name}", path.read_bytes()) for path in sorted(tiny.path.iterdir())]


@pytest.fixture
def attached(tmp_path):
    return tmp_path / "input" / "datasets" / "me" / "x.zip"


def unpack(tmp_path):
    return datasets.unpack(tmp_path / "input", tmp_path / "scratch")


def written(tmp_path):
    folder = tmp_path / "scratch"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_only_the_files_of_a_bundle_are_unpacked(tmp_path, files, attached, tiny):
    more = [(f"net/{number}.txt", b"") for number in range(20_000)]
    more += [(f"other/{name}", b"x") for name in FILES if name != "bundle.json"]
    more += [("net/inner.zip", attached.name), ("net/sub/model.xml", b"x"), ("/net/model.xml", b"x"), ("../a", b"x")]
    more += [("net/../../a", b"x"), ("net\\model.xml", b"x"), ("readme.md", b"x"), ("net/Model.xml", b"x")]
    write_zip(attached, more[:9000] + files + more[9000:])
    (folder,) = unpack(tmp_path)
    assert [name.rpartition("/")[2] for name in written(tmp_path)] == sorted(path.name for path in tiny.path.iterdir())
    assert bundle.load(folder).sha256 == tiny.sha256
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["encrypted", "linked", "doubled", "method", "cut", "no zip", "empty", "damaged"])
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path, files, attached, kind):
    name = "net/model.xml"
    entries = [(zipfile.ZipInfo(each), data) for each, data in files]
    info = next(info for info, _ in entries if info.filename == name)
    if kind == "linked":
        info.external_attr = 0o120777 << 16
    if kind == "doubled":
        with pytest.warns(UserWarning, match="Duplicate name"):
            write_zip(attached, [*entries, (zipfile.ZipInfo(name), b"another")])
    else:
        write_zip(attached, entries)
    data = bytearray(attached.read_bytes())
    at = data.rindex(name.encode()) - 46  # its entry in the directory at the end
    header = data.index(name.encode()) - 30
    if kind == "encrypted":
        data[at + 8] |= 1
        data[header + 6] |= 1
    if kind == "method":
        data[at + 10], data[header + 8] = 99, 99
    if kind == "damaged":
        data[header + 60] ^= 255
    attached.write_bytes({"cut": data[: len(data) // 2], "no zip": b"no zip", "empty": b""}.get(kind, data))
    reason = {"encrypted": "is encrypted", "linked": "is a link", "doubled": "occurs more than once"}
    with pytest.raises(DataError, match=rf"x\.zip: .*{reason.get(kind, 'not readable as a zip')}") as error:
        unpack(tmp_path)
    assert "\n" not in str(error.value)
    assert "bundle.json" not in "".join(written(tmp_path))
    attached.unlink()
    assert unpack(tmp_path) == []


@pytest.mark.parametrize("name", ["bundle.json", "model.bin", "README.md"])
def test_a_file_that_would_grow_beyond_all_measure_is_refused(tmp_path, files, attached, name):
    entries = [each for each in files if each[0] != f"net/{name}"]
    write_zip(attached, [*entries, (f"net/{name}", bytes(20 << 20))])
    with pytest.raises(DataError, match=rf"'net/{name}' would grow from \d+ to 20971520 bytes; pack the bundle"):
        unpack(tmp_path)
    assert not written(tmp_path)


def test_a_size_that_is_stated_wrongly_bounds_what_is_read(tmp_path, files, attached):
    entries = [each for each in files if each[0] != "net/README.md"]
    write_zip(attached, [("net/README.md", bytes(20 << 20)), *entries])
    data = bytearray(attached.read_bytes())
    at = data.rindex(b"net/README.md") - 46
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    attached.write_bytes(data)
    with pytest.raises(DataError, match="not readable as a zip"):
        unpack(tmp_path)
    assert not written(tmp_path)


@pytest.mark.parametrize(("n", "limit"), [(3, "_MAX_BUNDLES"), (1, "_MAX_BYTES")])
def test_the_sum_is_bounded(tmp_path, files, attached, monkeypatch, n, limit):
    monkeypatch.setattr(datasets, limit, 2)
    write_zip(attached, [(f"{number}{name}", data) for number in range(n) for name, data in files])
    with pytest.raises(DataError, match=rf"contains {n} bundles of [\d.]+ GiB; attach at most"):
        unpack(tmp_path)
    assert not written(tmp_path)


@pytest.mark.parametrize("bundle_json", ["Bundle.json", "bundle.json/x", "sub/bundle.json"])
def test_other_zips_are_left_alone(tmp_path, files, attached, bundle_json):
    write_zip(attached, [("net/" + bundle_json, b"{}"), *(each for each in files if "bundle.json" not in each[0])])
    assert unpack(tmp_path) == []
    assert not written(tmp_path)


def test_a_file_of_another_case_is_missing(tmp_path, files, attached):
    write_zip(attached, [(name.replace("model.xml", "MODEL.XML"), data) for name, data in files])
    (folder,) = unpack(tmp_path)
    with pytest.raises(BundleError, match=r"model\.xml"):
        bundle.load(folder)


def test_two_zips_of_one_name(tmp_path, files, attached):
    write_zip(attached, files)
    write_zip(attached.parents[1] / "you" / "x.zip", files)
    other = [(name, data + b" " if name.endswith("bundle.json") else data) for name, data in files]
    write_zip(attached.parents[1] / "them" / "x.zip", other)
    arguments = {"root": tmp_path, "scratch": tmp_path / "scratch", "log": lambda _: None}
    assert len(inputs.find_bundles([], **arguments)) == 2
    # They are unpacked once.
    assert len(inputs.find_bundles([], **arguments)) == 2


def test_zips_whose_paths_join_to_one_name(tmp_path, files, attached):
    folder = attached.parent
    other = [(name, data + b" " if name.endswith("bundle.json") else data) for name, data in files]
    write_zip(folder / "birds" / "v2-net.zip", files)
    write_zip(folder / "birds-v2" / "net.zip", other)
    first, second = (path / "bundle.json" for path in unpack(tmp_path))
    assert {first.read_bytes(), second.read_bytes()} == {dict(each)["net/bundle.json"] for each in (files, other)}


def test_a_bundle_that_is_packed_under_two_names_is_available_under_both(tmp_path, files, attached):
    for name in ("a", "b"):
        write_zip(attached.with_name(f"{name}.zip"), [(each.replace("net/", f"{name}/"), data) for each, data in files])
        shutil.copy(attached.with_name(f"{name}.zip"), attached.with_name(f"{name}-copy.zip"))
    arguments = {"root": tmp_path, "scratch": tmp_path / "scratch", "log": lambda _: None}
    for wanted in (["a"], ["b"], ["b", "a"]):
        assert [path.name for path in inputs.find_bundles(wanted, **arguments)] == wanted
    assert len(inputs.find_bundles([], **arguments)) == 1


def test_a_zip_that_was_replaced_is_unpacked_again(tmp_path, files, attached, tiny, oracle):
    write_zip(attached, files)
    assert bundle.load(unpack(tmp_path)[0]).sha256 == tiny.sha256
    write_zip(attached, [(f"net/{path.name}", path.read_bytes()) for path in oracle.path.iterdir()])
    assert bundle.load(unpack(tmp_path)[0]).sha256 == oracle.sha256


@pytest.mark.parametrize("name", ["x.zip", "me", "datasets/me", "net"])
def test_a_zipped_bundle_is_named_by_its_data_set_or_zip(tmp_path, files, attached, name):
    write_zip(attached.parents[1] / "me" / "data" / "x.zip", files)
    found = inputs.find_bundles([name], root=tmp_path, scratch=tmp_path / "scratch", log=print)
    assert [path.name for path in found] == ["net"]
