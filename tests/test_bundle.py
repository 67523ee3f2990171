from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bcsed import predict
from bcsed.analysis import compare
from bcsed.config.contract import TINY_128, Contract, Frontend, Net
from bcsed.config.strict import to_dict
from bcsed.errors import BundleError
from bcsed.models import bundle
from bcsed.models.bundle.bundle import compile_graph
from bcsed.models.bundle.probe import IMAGE_TOLERANCE
from bcsed.models.export import convert, export
from bcsed.models.network import SedNet


@pytest.fixture
def copy(tiny, tmp_path):
    shutil.copytree(tiny.path, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder, **changes):
    file = folder / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_torch_and_openvino_agree(tiny, network):
    """Measured: 2e-6 in logits for a network whose logits reach 5."""
    assert tiny.provenance["torch_openvino_difference"] < 1e-4
    db = torch.randn(3, 64, 256) * 20 - 40
    with torch.inference_mode():
        logits, attention = network(db)
    compiled = bundle.compile_graph(bundle.read_graph(tiny), TINY_128)
    for index in range(3):
        outputs = compiled(db[index : index + 1].numpy())
        np.testing.assert_allclose(outputs[0][0], logits[index].numpy(), atol=1e-4)
        np.testing.assert_allclose(outputs[1][0], attention[index].numpy(), atol=1e-4)


def test_a_sealed_bundle_passes_its_check(tiny):
    assert bundle.load(tiny.path) == tiny
    assert max(bundle.check(tiny).values()) < 1e-5
    assert set(bundle.read_weights(tiny)) >= {"norm.weight", "heads.0.attention.weight"}


def test_files_of_a_bundle(tiny):
    names = sorted(path.name for path in tiny.path.iterdir())
    assert names == ["README.md", "bundle.json", "model.bin", "model.xml", "probe.npz", "weights.safetensors"]


def test_training_weights_may_be_removed(copy):
    (copy / "weights.safetensors").unlink()
    light = bundle.load(copy)
    with pytest.raises(BundleError, match=r"without weights\.safetensors"):
        bundle.read_weights(light)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "probe.npz", "bundle.json"])
def test_incomplete(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=r"incomplete: .* is missing|is not a bundle, or its export was interrupted"):
        bundle.load(copy)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "probe.npz", "weights.safetensors"])
def test_a_changed_byte(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{re.escape(name)} was changed after sealing"):
        bundle.load(copy)


def test_class_order_permuted(copy, reseal):
    def permute(values):
        values["contract"]["classes"] = ["b", "a", "c"]

    reseal(copy, permute)
    with pytest.raises(BundleError, match="class order were edited after sealing"):
        bundle.load(copy)


def test_class_order_permuted_with_a_forged_fingerprint(copy, reseal):
    def forge(values):
        values["contract"]["classes"] = ["b", "a", "c"]
        forged = Contract(frontend=TINY_128, net=Net(backbone="mobilenetv3_small_050"), classes=("b", "a", "c"))
        values["fingerprint"] = forged.fingerprint

    reseal(copy, forge)
    with pytest.raises(BundleError, match="the graph belongs to another bundle"):
        bundle.load(copy)


@pytest.mark.slow
def test_the_graph_of_another_front_end(copy, network, tmp_path, reseal):
    frontend = dataclasses.replace(TINY_128, fmax_hz=15_000.0)
    other = Contract(frontend=frontend, net=Net(backbone="mobilenetv3_small_050"), classes=("a", "b", "c"))
    export(network, tmp_path / "other", contract=other, priors=np.full(3, 0.2, "float32"))
    for name in ("model.xml", "model.bin"):
        shutil.copy(tmp_path / "other" / name, copy / name)
    reseal(copy, lambda _: None)
    with pytest.raises(BundleError, match="the graph belongs to another bundle: its contract has fingerprint"):
        bundle.load(copy)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema": 4}, "has schema 4; this version of bcsed reads 1 and 2 and 3"),
        ({"schema": None}, "has schema None"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"steps": 7}, "steps is 7"),
        ({"priors": [0.1]}, "priors must be 3 shares"),
        ({"contract": {}}, "contract lacks frontend, net, classes, groups"),
        ({"files": {"../../etc/passwd": "0"}}, "lists '../../etc/passwd'; a bundle contains only"),
        ({"fingerprint": "0" * 16}, "sealed one is 0000000000000000"),
    ],
)
def test_edited_manifests(copy, changes, sentence):
    edit(copy, **changes)
    with pytest.raises(BundleError, match=sentence):
        bundle.load(copy)


def test_invalid_manifests(copy):
    for text in ("{", "[]"):
        (copy / "bundle.json").write_text(text)
        with pytest.raises(BundleError, match=r"not readable as JSON|must contain a JSON object"):
            bundle.load(copy)


def test_unlisted_files_and_links_out_of_the_bundle(copy, tmp_path):
    (copy / "payload.pkl").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"contains payload.pkl, which bundle.json does not list"):
        bundle.load(copy)
    (copy / "payload.pkl").unlink()
    shutil.move(copy / "model.bin", tmp_path / "model.bin")
    (copy / "model.bin").symlink_to(tmp_path / "model.bin")
    with pytest.raises(BundleError, match="a link out of the bundle"):
        bundle.load(copy)


@pytest.mark.parametrize("spoil", [b"no zip", None])
def test_invalid_and_pickled_probes(copy, reseal, spoil):
    if spoil is None:
        np.savez(copy / "probe.npz", image=np.array([{}], dtype=object), logits=0, attention=0)
    else:
        (copy / "probe.npz").write_bytes(spoil)
    reseal(copy, lambda _: None)
    with pytest.raises(BundleError, match=r"probe\.npz(: not readable as a probe| has image of object)"):
        bundle.check(bundle.load(copy))


def test_a_failed_check_names_the_stage(tiny, monkeypatch):
    picture = bundle.compute_probe(TINY_128)
    monkeypatch.setattr("bcsed.models.bundle.probe.compute_probe", lambda _: (picture[0], picture[1] + 1e-3))
    with pytest.raises(BundleError, match=r"input has changed since sealing: .* image differs"):
        bundle.check(tiny)
    monkeypatch.setattr("bcsed.models.bundle.probe.compute_probe", lambda _: (picture[0][::-1].copy(), picture[1]))
    with pytest.raises(BundleError, match="output has changed since sealing"):
        bundle.check(tiny)


@pytest.mark.parametrize("schema", [1, 2])
def test_bundles_of_earlier_schemas_load_check_and_predict(schema, oracle, recordings):
    """Sealed by earlier versions, see golden/make.py."""
    old = bundle.load(Path(__file__).parent / "golden" / f"bundle_schema{schema}")
    assert json.loads((old.path / "bundle.json").read_text())["schema"] == schema
    assert old.contract == oracle.contract
    assert old.contract.fingerprint == "84c6b0c3cdeb1b8d"
    assert max(bundle.check(old).values()) < 1e-4
    paths = [recordings / "short.wav"]
    scores, expected = (predict.predict([sealed], paths).scores for sealed in (old, oracle))
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_recipe_of_an_earlier_schema_has_todays_names():
    old = bundle.load(Path(__file__).parent / "golden" / "bundle_schema2")
    assert old.recipe["frontend"]["time_folds"] == 2
    assert (old.recipe["net"]["heads"], old.recipe["data"]["pseudo_source"]) == ("shared", "online")
    run = compare.read_run(old.path)
    assert (run.experiment, run.fold, run.settings["data.sampling"]) == ("tiny", 0, "uniform")


def test_the_model_card(tmp_path, network, tiny):
    provenance = {"experiment": "tiny", "n_clips": 1234, "sources": {}, "metrics": {"clip_auc": 0.87654321}}
    recipe = {"fit": {"epochs": 18, "loss": "bce", "drop_path": []}, "frontend": {"n_mels": 64}}
    priors = np.full(3, 0.2, "float32")
    sealed = export(
        network, tmp_path / "owl", contract=tiny.contract, priors=priors, recipe=recipe, provenance=provenance
    )
    card = (sealed.path / "README.md").read_text()
    titles = [line for line in card.splitlines() if line.startswith("#")]
    names = "Classes, Front end, Network, Training data, Recipe, Validation, Provenance, Licence, How to load it"
    assert titles == ["# owl", *(f"## {name}" for name in names.split(", "))]
    for line in (
        "`a`, `b`, `c`",
        "- n_mels: 64",
        "- backbone: mobilenetv3_small_050",
        "- input_image: 3x128x128",
        "- n_clips: 1234",
        "- sources: none",
        "- fit: epochs 18, loss bce, drop_path []",
        "- clip_auc: 0.876543",
        f"- fingerprint: {tiny.contract.fingerprint}",
        'sealed = bundle.load("owl")',
    ):
        assert line in card.splitlines()
    assert "Not recorded." in (tiny.path / "README.md").read_text()
    # The card may be removed, but not changed.
    (sealed.path / "README.md").unlink()
    assert bundle.load(sealed.path) == sealed
    (sealed.path / "README.md").write_text("changed")
    with pytest.raises(BundleError, match=r"README\.md was changed after sealing"):
        bundle.load(sealed.path)


def test_a_contract_without_groups(copy, reseal):
    reseal(copy, lambda values: values["contract"].pop("groups"))
    with pytest.raises(BundleError, match="contract lacks groups"):
        bundle.load(copy)


def test_weights_with_earlier_names_are_renamed(copy, network, reseal):
    from safetensors.torch import load_file, save_file

    old = {
        name.removeprefix("heads.0.").replace("logits", "what").replace("attention", "when"): tensor
        for name, tensor in load_file(copy / "weights.safetensors").items()
    }
    assert {"when.weight", "what.0.weight"} <= set(old)
    save_file(old, copy / "weights.safetensors")
    reseal(copy, lambda _: None)
    read = bundle.read_weights(bundle.load(copy))
    assert set(read) == set(network.state_dict())


@pytest.mark.slow
def test_a_network_with_several_heads_is_sealed_with_its_groups(tmp_path, reseal):
    torch.manual_seed(4)
    net, groups = Net(backbone="mobilenetv3_small_050", heads="taxon"), (2, 0, 1, 0)
    contract = Contract(frontend=TINY_128, net=net, classes=("a", "b", "c", "d"), groups=groups)
    network = SedNet(TINY_128, net, 4, groups=groups).eval()
    sealed = export(network, tmp_path / "b", contract=contract, priors=np.full(4, 0.2, "float32"))
    assert sealed.contract == contract
    assert sealed.provenance["torch_openvino_difference"] < 1e-4
    assert max(bundle.check(sealed).values()) < 1e-5
    db = torch.randn(1, 64, 256) * 20 - 40
    with torch.inference_mode():
        expected = network(db)
    outputs = bundle.compile_graph(bundle.read_graph(sealed), TINY_128)(db.numpy())
    for index in range(2):
        np.testing.assert_allclose(outputs[index], expected[index].numpy(), atol=1e-4)
    again = SedNet(TINY_128, net, 4, groups=groups).eval()
    again.load_state_dict(bundle.read_weights(sealed))
    with torch.inference_mode():
        assert torch.equal(again(db)[0], expected[0])
    reseal(sealed.path, lambda values: values["contract"].update(groups=[1, 0, 2, 0]))
    with pytest.raises(BundleError, match="edited after sealing"):
        bundle.load(sealed.path)


def test_every_field_of_the_front_end_changes_the_probe():
    base = Frontend(hop_length=1000, n_mels=64, n_frames=256)
    changes = {"sample_rate": 31_000, "n_fft": 1024, "hop_length": 900, "n_mels": 96, "fmin_hz": 60.0}
    changes |= {"fmax_hz": 13_000.0, "n_frames": 320, "time_folds": 1, "channels": "repeat", "top_db": 70.0}
    assert set(changes) == set(to_dict(base))
    _, before = bundle.compute_probe(base)
    for name, value in changes.items():
        _, after = bundle.compute_probe(dataclasses.replace(base, **{name: value}))
        differs = after.shape != before.shape or np.abs(after - before).max() > 10 * IMAGE_TOLERANCE
        assert differs, name


def test_occupied_folders_and_graphs_with_other_outputs(network, tiny, tmp_path, monkeypatch):
    contract = tiny.contract
    priors = np.full(3, 0.2, "float32")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(BundleError, match="already exists"):
        export(network, tmp_path / "taken", contract=contract, priors=priors)
    monkeypatch.setattr("bcsed.models.export.parity", lambda *_: 0.5)
    with pytest.raises(BundleError, match=r"differ from those of torch by 0\.5 .* nothing was sealed"):
        export(network, tmp_path / "new", contract=contract, priors=priors)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "resnet10t"])
def test_the_conversion_by_torch_export_computes_the_same_bits(backbone):
    import openvino

    torch.manual_seed(0)
    network = SedNet(TINY_128, Net(backbone=backbone), 3).eval()
    example = torch.randn(2, TINY_128.n_mels, TINY_128.n_frames)
    db = np.random.default_rng(0).normal(-30, 15, (1, TINY_128.n_mels, TINY_128.n_frames)).astype("float32")
    outputs = []
    batch = torch.export.Dim("B", min=1)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    for graph in (convert(network, example), openvino.convert_model(program)):
        graph.reshape({0: [-1, TINY_128.n_mels, TINY_128.n_frames]})
        outputs.append(compile_graph(graph, TINY_128)(db))
    for index in (0, 1):
        np.testing.assert_array_equal(outputs[0][index], outputs[1][index])
