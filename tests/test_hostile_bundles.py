"""Bundles that were sealed by a stranger: refused at the door, before they take memory or time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile

import numpy as np
import openvino
import openvino.opset13 as ov
import pytest
from conftest import Contract, Net

from bcsed.config.contract import TINY_128, Frontend
from bcsed.errors import BundleError, ConfigError
from bcsed.files import MAX_DEPTH
from bcsed.models.bundle import check, load, probe

F32 = openvino.Type.f32


def network(steps=8, classes=3, *, second=None, form=(-1, 64, 256), kind=F32, cast=None, unusual=None, batch=None):
    """A small graph (B, F, T) -> twice (B, steps, classes), with one unusual property."""
    db = ov.parameter(openvino.PartialShape(list(form)), kind, name="db")
    values = db if kind == F32 else ov.convert(db, "f32")
    if len(form) == 4:
        values = ov.squeeze(values, np.array([1]))
    if len(form) == 2:
        values = ov.unsqueeze(values, np.array([2]))
    mean = ov.reduce_mean(values, np.array([1, 2]), keep_dims=True)
    shapes = (steps, classes), second or (steps, classes)
    outputs = [ov.add(mean, ov.constant(np.zeros((1, *shape), "float32"))) for shape in shapes]
    if unusual is not None:
        outputs[0] = ov.add(outputs[0], unusual())
    if batch is not None:
        outputs[0] = ov.concat([outputs[0]] * batch, 0)
    if cast is not None:
        outputs[1] = ov.convert(outputs[1], cast)
    return outputs, [db]


def huge():
    wide = ov.broadcast(ov.constant(np.float32(0)), np.array([100_000, 100_000]))
    return ov.reduce_sum(wide, np.array([0, 1]), keep_dims=False)


GRAPHS = {
    "one output": (None, "outputs are f32"),
    "three outputs": (None, "outputs are f32"),
    "two inputs": (None, "inputs are f32"),
    "rank 2": ({"form": (-1, 64)}, r"inputs are f32 \[-1, 64\]"),
    "rank 4": ({"form": (-1, 1, 64, 256)}, r"inputs are f32 \[-1, 1, 64, 256\]"),
    "other bands": ({"form": (-1, 32, 256)}, r"inputs are f32 \[-1, 32, 256\]"),
    "a fixed batch": ({"form": (1, 64, 256)}, r"inputs are f32 \[1, 64, 256\]"),
    "integers": ({"kind": openvino.Type.i64}, "inputs are i64"),
    "half precision": ({"kind": openvino.Type.f16}, "inputs are f16"),
    "integer attention": ({"cast": "i32"}, "outputs are f32 .* and i32"),
    "other steps": ({"steps": 4}, r"outputs are f32 \[-1, 4, 3\]"),
    "other classes of the attention": ({"second": (8, 2)}, r"and f32 \[-1, 8, 2\]"),
    "two batches": ({"batch": 2}, r"outputs are f32 \[4, 8, 3\]"),
    "a huge array": ({"unusual": huge}, "contains Broadcast, which could compute without end"),
}


@pytest.fixture
def sealed(tiny, tmp_path):
    return shutil.copytree(tiny.path, tmp_path / "bundle")


def replace_graph(folder, tiny, reseal, outputs, inputs):
    graph = openvino.Model(outputs, inputs, "g")
    graph.set_rt_info(tiny.contract.fingerprint, ["bcsed", "fingerprint"])
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    reseal(folder, lambda _: None)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_of_another_form_is_refused_at_the_door(sealed, tiny, reseal, name):
    options, sentence = GRAPHS[name]
    if isinstance(options, dict):
        outputs, inputs = network(**options)
    else:
        outputs, inputs = network()
        if name == "one output":
            outputs = outputs[:1]
        elif name == "three outputs":
            outputs = [*outputs, outputs[0]]
        else:
            inputs = [*inputs, ov.parameter(openvino.PartialShape([-1, 64, 256]), F32)]
    replace_graph(sealed, tiny, reseal, outputs, inputs)
    with pytest.raises(BundleError, match=sentence):
        load(sealed)


def test_a_graph_of_this_form_is_not_refused_at_the_door(sealed, tiny, reseal):
    replace_graph(sealed, tiny, reseal, *network())
    with pytest.raises(BundleError, match="the network's output has changed since sealing"):
        check(load(sealed))


def test_a_probe_is_not_unpacked_before_its_header_is_read(sealed, reseal):
    with np.load(sealed / "probe.npz") as stored:
        arrays = dict(stored)
    for name, array in (
        ("image", np.zeros((3, 2000, 2000), "uint8")),
        ("image", arrays["image"].astype("float64")),
        ("logits", np.array(["a"])),
        ("attention", np.zeros((8, 3), [("a", "f4")])),
        ("logits", arrays["logits"][:-1]),
    ):
        np.savez_compressed(sealed / "probe.npz", **{**arrays, name: array})
        reseal(sealed, lambda _: None)
        with pytest.raises(BundleError, match=rf"probe\.npz has {name} of .* the bundle has float32"):
            check(load(sealed))
    with zipfile.ZipFile(sealed / "probe.npz", "w") as archive:
        archive.writestr("image.npy", b"none")
    reseal(sealed, lambda _: None)
    with pytest.raises(BundleError, match=r"probe\.npz"):
        check(load(sealed))


@pytest.mark.parametrize(
    "change",
    [
        {"n_fft": 10**9},
        {"n_frames": 64 * 10**7},
        {"n_mels": 32 * 10**8},
        {"sample_rate": 10**12},
        {"n_frames": 16_384, "n_fft": 4096, "hop_length": 4096},
    ],
    ids=str,
)
def test_a_front_end_beyond_all_bounds_is_refused(change):
    with pytest.raises(ConfigError, match="must be at most"):
        Frontend(**change)


@pytest.mark.parametrize(
    "name",
    ["row_id", "end", "a\nb", "a\tb", "\x00", "\ud800", "x\udfff", "a\u2028", " a", "a ", "", "\x7f", "\x9b"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_class_name_that_tables_cannot_hold_is_refused(name, place):
    classes = ["a", "b", "c"]
    classes[place] = name
    with pytest.raises(ConfigError, match="the class name '"):
        Contract(frontend=TINY_128, net=Net(), classes=tuple(classes))


@pytest.mark.parametrize("name", ["bundle.json", "model.bin", "README.md"])
def test_a_link_out_of_the_bundle_is_refused(sealed, tmp_path, name):
    (sealed / name).rename(tmp_path / name)
    (sealed / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=f"{name} is a link out of the bundle"):
        load(sealed)


@pytest.mark.slow
def test_check_has_a_time_limit_and_goes_on(sealed, tiny, tmp_path):
    code = """
import sys, time
from bcsed.cli.app import main
from bcsed.models.bundle import probe
original, probe.LIMIT_S = probe.run_probe, 10.0
def run_probe(compiled, frontend):
    if not slept:
        slept.append(True)
        time.sleep(300)
    return original(compiled, frontend)
slept, probe.run_probe = [], run_probe
sys.exit(main(["check", *sys.argv[1:]]))
"""
    command = [sys.executable, "-c", code, str(sealed), str(tiny.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "did not compute the probe within 10 s" in done.stdout and f"OK      {tiny.path}" in done.stdout


def test_an_error_of_the_computation_is_a_sentence(tiny, monkeypatch):
    def fail(*_):
        raise RuntimeError("Exception from src/x.cpp:\nAxis 3 out of the tensor rank range")

    monkeypatch.setattr(probe, "run_probe", fail)
    with pytest.raises(BundleError, match=r"OpenVINO cannot compute the network \(Axis 3"):
        check(tiny)


def test_deep_json_is_refused(sealed):
    (sealed / "bundle.json").write_text('{"schema": ' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}")
    with pytest.raises(BundleError, match="levels of lists and objects"):
        load(sealed)
