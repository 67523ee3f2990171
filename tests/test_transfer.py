"""Pretrained weights: all kinds of sources, and all kinds of mismatches."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from bcsed.config.contract import TINY_128, Contract, Frontend, Net
from bcsed.config.strict import to_dict
from bcsed.errors import BundleError, ConfigError
from bcsed.models.export import export
from bcsed.models.network import SedNet
from bcsed.models.pretrained import load_pretrained

NET = Net(backbone="mobilenetv3_small_050")
CONTRACT = Contract(frontend=TINY_128, net=NET, classes=("a", "b", "c"))
MONO = dataclasses.replace(CONTRACT, frontend=dataclasses.replace(TINY_128, channels="mono"))
HEADED = dataclasses.replace(CONTRACT, net=dataclasses.replace(NET, heads="taxon"), groups=(0, 1, 0))
BODY = ("norm.", "backbone.", "features.")


def fresh(contract: Contract = CONTRACT) -> SedNet:
    return SedNet(contract.frontend, contract.net, len(contract.classes), groups=contract.groups)


def write_run(
    folder: Path, network: torch.nn.Module, contract: Contract, name: str = "best.pt", *, early: bool = False
) -> Path:
    """Write the files of a run's folder that concern its weights; with `early`, in the first version's format."""
    folder.mkdir(exist_ok=True)
    values, state = to_dict(contract), network.state_dict()
    if early:
        del values["groups"], values["net"]["heads"]
        state = {
            key.removeprefix("heads.0.").replace("logits", "what").replace("attention", "when"): value
            for key, value in state.items()
        }
    (folder / "run.json").write_text(json.dumps({"contract": values, "experiment": "x"}))
    torch.save({"model": state, "epoch": 3, "metrics": {}}, folder / name)
    return folder


def equal(network: SedNet, other: SedNet, beginnings: tuple[str, ...]) -> bool:
    mine, theirs = network.state_dict(), other.state_dict()
    names = [name for name in mine if name.startswith(beginnings)]
    assert names
    return all(torch.equal(mine[name], theirs[name]) for name in names)


def backbone_state(network: SedNet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}


@pytest.fixture
def run(tmp_path, network):
    return write_run(tmp_path / "run", network, CONTRACT)


# ---- sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
def test_all_weights_of_a_run_with_the_same_classes_are_loaded(tmp_path, network, early):
    target = fresh()
    report = load_pretrained(target, write_run(tmp_path / "run", network, CONTRACT, early=early), contract=CONTRACT)
    assert equal(target, network, ("",))
    assert set(report.matched) == set(target.state_dict())
    assert report.fits
    assert (report.fresh, report.skipped, report.notes) == ((), (), ())
    assert report.source == "run run/best.pt"
    assert str(report) == f"loaded from run run/best.pt: {len(report.matched)} tensors"


def test_best_last_and_named_checkpoints(run, network):
    last = fresh()
    write_run(run, last, CONTRACT, "last.pt")
    for path, expected in ((run, network), (run / "best.pt", network), (run / "last.pt", last)):
        target = fresh()
        report = load_pretrained(target, path, contract=CONTRACT)
        assert equal(target, expected, ("",))
        assert report.fits
    (run / "best.pt").unlink()
    target = fresh()
    assert load_pretrained(target, run, contract=CONTRACT).source == "run run/last.pt"
    assert equal(target, last, ("",))


@pytest.mark.parametrize("inside", ["", "weights.safetensors"])
def test_a_bundle(tiny, network, inside):
    target = fresh()
    report = load_pretrained(target, tiny.path / inside, contract=CONTRACT)
    assert equal(target, network, ("",))
    assert report.source == "bundle bundle"
    manifest = json.loads((tiny.path / "bundle.json").read_text())
    assert report.sha256 == manifest["files"]["weights.safetensors"]


def test_bundles_without_weights_and_changed_bundles(tiny, tmp_path):
    light = shutil.copytree(tiny.path, tmp_path / "light")
    (light / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match="sealed without weights"):
        load_pretrained(fresh(), light, contract=CONTRACT)
    shutil.copy(tiny.path / "model.bin", light / "weights.safetensors")
    with pytest.raises(BundleError, match="changed after sealing"):
        load_pretrained(fresh(), light, contract=CONTRACT)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "bin"])
def test_a_timm_backbone_with_its_classifier(tmp_path, suffix):
    donor = timm.create_model("mobilenetv3_small_050", num_classes=7)
    file = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(donor.state_dict(), file)
    target, before = fresh(), fresh()
    before.load_state_dict(target.state_dict())
    report = load_pretrained(target, file, contract=CONTRACT)
    state = target.backbone.state_dict()
    assert all(torch.equal(state[name], donor.state_dict()[name]) for name in state)
    assert equal(target, before, ("norm.", "features.", "heads."))
    assert report.fits
    assert set(report.skipped) == {"classifier.weight", "classifier.bias"}
    assert {name.split(".")[0] for name in report.fresh} == {"norm", "features", "heads"}
    assert "fresh features, heads, norm: the source is only a backbone" in str(report)
    assert "2 tensors skipped (classifier." in str(report)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", None])
def test_wrapped_and_prefixed_states(tmp_path, network, wrapper):
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({wrapper: state, "epoch": 4, "name": "x"} if wrapper else state, tmp_path / "a.pt")
    target = fresh()
    report = load_pretrained(target, tmp_path / "a.pt", contract=CONTRACT)
    assert equal(target, network, BODY)
    assert report.fits
    # A bare file does not record the classes of its heads.
    assert not equal(target, network, ("heads.0.logits.0",))
    assert "fresh heads: the source does not record the classes of its heads" in str(report)


def test_a_backbone_of_three_channels_is_adapted_to_one(tmp_path):
    donor = timm.create_model("mobilenetv3_small_050", num_classes=0)
    save_file(donor.state_dict(), tmp_path / "a.safetensors")
    target = fresh(MONO)
    report = load_pretrained(target, tmp_path / "a.safetensors", contract=MONO)
    expected = donor.conv_stem.weight.sum(1, keepdim=True)
    torch.testing.assert_close(target.backbone.conv_stem.weight.detach(), expected.detach())
    assert report.fits
    assert "backbone.conv_stem.weight adapted from 3 channels to 1" in str(report)
    # Three channels meet three as they are.
    target = fresh()
    load_pretrained(target, tmp_path / "a.safetensors", contract=CONTRACT)
    assert torch.equal(target.backbone.conv_stem.weight, donor.conv_stem.weight)


def test_files_without_the_counter_of_batches(tmp_path, network):
    state = {name: x for name, x in backbone_state(network).items() if not name.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "a.safetensors")
    assert load_pretrained(fresh(), tmp_path / "a.safetensors", contract=CONTRACT).fits


# ---- heads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        (dataclasses.replace(CONTRACT, classes=("d", "e", "f", "g")), "the source has 3 classes, the network 4"),
        (dataclasses.replace(CONTRACT, classes=("d", "e", "f")), "the source has other classes"),
        (HEADED, "the source has the classes in other groups"),
    ],
)
def test_heads_of_other_classes_stay_fresh(run, network, contract, why):
    target, before = fresh(contract), fresh(contract)
    before.load_state_dict(target.state_dict())
    report = load_pretrained(target, run, contract=contract)
    assert equal(target, network, BODY)
    assert equal(target, before, ("heads.",))
    assert report.fits
    assert {name.split(".")[0] for name in report.fresh} == {"heads"}
    assert set(report.skipped) == {name for name in network.state_dict() if name.startswith("heads.")}
    assert f"fresh heads: {why}" in str(report)


@pytest.mark.slow
def test_heads_of_the_same_groups_are_loaded(tmp_path):
    donor = fresh(HEADED)
    priors = np.full(3, 0.2, "float32")
    bundle = export(donor, tmp_path / "bundle", contract=HEADED, priors=priors)
    for path in (write_run(tmp_path / "run", donor, HEADED), bundle.path):
        target = fresh(HEADED)
        report = load_pretrained(target, path, contract=HEADED)
        assert equal(target, donor, ("",))
        assert report.fresh == ()


# ---- key maps --------------------------------------------------------------------------------------------


def test_a_key_map_renames_the_longest_prefix_and_drops_names(tmp_path, network):
    state = {f"net.encoder.{name}": tensor for name, tensor in backbone_state(network).items()}
    state = {name.replace("net.encoder.conv_stem", "stem"): tensor for name, tensor in state.items()}
    state |= {"net.decoder.weight": torch.zeros(3), "encoding": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    names = {"net": "", "net.encoder.": "backbone.", "stem": "backbone.conv_stem", "encoding": ""}
    target = fresh()
    report = load_pretrained(target, tmp_path / "a.pt", contract=CONTRACT, key_map=names)
    assert equal(target, network, ("backbone.",))
    assert report.fits
    assert report.skipped == ("net.decoder.weight", "encoding")


def test_a_key_map_may_add_a_prefix(tmp_path, network):
    save_file(backbone_state(network), tmp_path / "a.safetensors")
    target = fresh()
    assert load_pretrained(target, tmp_path / "a.safetensors", contract=CONTRACT, key_map={"": "backbone"}).fits
    assert equal(target, network, ("backbone.",))


def test_names_without_a_prefix_of_the_key_map_are_unchanged(tmp_path, network):
    state = {f"encoder.{name}": tensor for name, tensor in backbone_state(network).items()}
    save_file({**state, "features.conv.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"1 tensor unknown to the network \(features\.conv\.weight\)"):
        load_pretrained(fresh(), tmp_path / "a.safetensors", contract=CONTRACT, key_map={"encoder": "backbone"})


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"": "backbone", "encodr": "backbone"}, r"contains 'encodr', which .* begin with blocks, bn1"),
        # Beginnings are whole parts: 'conv' is not one of 'conv_stem'.
        ({"": "backbone", "conv": "x"}, "contains 'conv'"),
        (
            {"": "backbone", "bn1": "backbone.conv_stem"},
            r"renames both \S+ and \S+ of file a\.safetensors to 'backbone\.conv_stem\.weight'",
        ),
        ({"": 3}, "an object of prefixes to prefixes"),
    ],
)
def test_invalid_key_maps(tmp_path, network, names, sentence):
    save_file(backbone_state(network), tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=sentence):
        load_pretrained(fresh(), tmp_path / "a.safetensors", contract=CONTRACT, key_map=names, allow_mismatch=True)


# ---- mismatches -----------------------------------------------------------------------------------


def spoil(network: SedNet) -> dict[str, torch.Tensor]:
    """Return a backbone's state that lacks one tensor, has one too many, and one of another shape."""
    state = backbone_state(network)
    del state["bn1.weight"]
    state["extra.weight"] = torch.zeros(3)
    state["conv_head.bias"] = torch.zeros(5)
    return state


def test_a_mismatch_is_an_error_and_leaves_the_network_unchanged(tmp_path, network):
    save_file(spoil(network), tmp_path / "a.safetensors")
    target, before = fresh(), fresh()
    before.load_state_dict(target.state_dict())
    with pytest.raises(ConfigError) as caught:
        load_pretrained(target, tmp_path / "a.safetensors", contract=CONTRACT)
    for phrase in (
        "1 tensor missing in the source (backbone.bn1.weight)",
        "1 tensor unknown to the network (extra.weight)",
        "1 tensor of another shape (backbone.conv_head.bias is (5,) in the source, (1024,) in the network)",
        "load only the matching tensors with --allow-mismatch",
    ):
        assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)
    assert equal(target, before, ("",))


def test_an_allowed_mismatch_is_reported(tmp_path, network):
    save_file(spoil(network), tmp_path / "a.safetensors")
    target, before = fresh(), fresh()
    before.load_state_dict(target.state_dict())
    report = load_pretrained(target, tmp_path / "a.safetensors", contract=CONTRACT, allow_mismatch=True)
    assert report.missing == ("backbone.bn1.weight",)
    assert report.unused == ("extra.weight",)
    assert report.wrong_shape == (("backbone.conv_head.bias", (5,), (1024,)),)
    assert not report.fits
    assert equal(target, network, ("backbone.conv_stem", "backbone.blocks"))
    assert equal(target, before, ("backbone.bn1.weight", "backbone.conv_head.bias"))
    assert "1 tensor missing in the source (backbone.bn1.weight)" in str(report)
    json.dumps(dataclasses.asdict(report))


def test_every_tensor_is_reported_once(tmp_path, network):
    save_file(spoil(network), tmp_path / "a.safetensors")
    report = load_pretrained(fresh(), tmp_path / "a.safetensors", contract=CONTRACT, allow_mismatch=True)
    shapes = [name for name, *_ in report.wrong_shape]
    here = [*report.matched, *report.missing, *shapes, *report.fresh]
    assert sorted(here) == sorted(network.state_dict())
    taken = [name.removeprefix("backbone.") for name in (*report.matched, *shapes)]
    assert sorted([*taken, *report.unused, *report.skipped]) == sorted(spoil(network))


@pytest.mark.parametrize("allow_mismatch", [False, True])
def test_weights_that_do_not_fit_the_backbone(tmp_path, allow_mismatch):
    save_file({"encoder.weight": torch.zeros(3), "norm.weight": torch.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"no tensor fits the backbone mobilenetv3_small_050; .* with encoder, norm"):
        load_pretrained(fresh(), tmp_path / "a.safetensors", contract=CONTRACT, allow_mismatch=allow_mismatch)


def test_a_run_of_another_front_end_or_backbone(run, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"norm\.weight is \(3,\) in the source, \(1,\) in the network.*frontend.channels deltas -> mono",
    ):
        load_pretrained(fresh(MONO), run, contract=MONO)
    other = dataclasses.replace(CONTRACT, net=Net(backbone="resnet10t", freq_pool="gem"))
    with pytest.raises(ConfigError, match=r"net\.backbone mobilenetv3_small_050 -> resnet10t; net\.freq_pool"):
        load_pretrained(fresh(other), run, contract=other)


def test_a_difference_without_effect_on_shapes_is_reported(run):
    wide = dataclasses.replace(CONTRACT, frontend=Frontend(**{**to_dict(TINY_128), "fmax_hz": 15_000.0}))
    report = load_pretrained(fresh(wide), run, contract=wide)
    assert report.fits
    assert "differs: frontend.fmax_hz 14000.0 -> 15000.0" in str(report)


# ---- files without weights ---------------------------------------------------------------------------


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("where", ["a.pt", "run/best.pt", "run/last.pt"])
def test_code_is_refused_and_not_run(tmp_path, network, where):
    file = tmp_path / where
    if where != "a.pt":
        write_run(tmp_path / "run", network, CONTRACT, file.name)
    torch.save({"model": {"a": torch.zeros(1)}, "x": Malicious(tmp_path / "mark")}, file)
    with pytest.raises(ConfigError, match=r"asks for \w+\.mkdir, which could run code and is refused"):
        load_pretrained(fresh(), file if where == "a.pt" else tmp_path / "run", contract=CONTRACT, allow_mismatch=True)
    assert not (tmp_path / "mark").exists()


def test_a_torchscript_program_is_not_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(ConfigError, match="is a TorchScript program, which bcsed does not run"):
        load_pretrained(fresh(), tmp_path / "a.pt", contract=CONTRACT)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_damaged_files(tmp_path, network, suffix, rng):
    complete = tmp_path / f"complete.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(backbone_state(network), complete)
    content = complete.read_bytes()
    spoiled = (b"", b"no weights at all", content[: len(content) // 2], rng.bytes(500), b"\x80\x02" + rng.bytes(300))
    for number, damaged in enumerate(spoiled):
        file = tmp_path / f"{number}.{suffix}"
        file.write_bytes(damaged)
        with pytest.raises(ConfigError, match=rf"{re.escape(str(file))}: not readable as") as caught:
            load_pretrained(fresh(), file, contract=CONTRACT)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [([1, 2], "contains a list, but no named tensors"), ({"epoch": 3}, "contains names 'epoch', but no named tensors")],
)
def test_files_without_tensors(tmp_path, content, sentence):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=sentence):
        load_pretrained(fresh(), tmp_path / "a.pt", contract=CONTRACT)


def test_paths_without_weights(tmp_path, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.onnx").touch()
    (run / "best.pt").unlink()
    for path, sentence in (
        (tmp_path / "none.pt", "there is no such file of weights, run or bundle"),
        (tmp_path / "empty", "neither a run nor a bundle"),
        (tmp_path / "weights.onnx", r"read from files named \*\.safetensors, .* not \*\.onnx"),
        (run, "has no checkpoint yet"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load_pretrained(fresh(), path, contract=CONTRACT)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "run.json: not readable as JSON"),
        ("{}", "is damaged: it has no contract"),
        ('{"contract": [1]}', "is damaged: it has no contract"),
        ('{"contract": {"frontend": {}}}', "run.json: contract lacks net, classes"),
    ],
)
def test_runs_with_a_damaged_description(run, text, sentence):
    (run / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_pretrained(fresh(), run, contract=CONTRACT)


def test_a_checkpoint_without_a_model(run):
    torch.save({"epoch": 3}, run / "best.pt")
    with pytest.raises(ConfigError, match="not a checkpoint of bcsed: it contains no model"):
        load_pretrained(fresh(), run, contract=CONTRACT)


# ---- what people have ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema"])
def test_averaged_weights_of_a_checkpoint_are_preferred(tmp_path, network, wrapper):
    other = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": other, wrapper: network.state_dict(), "epoch": 3}, tmp_path / "x.ckpt")
    target = fresh()
    load_pretrained(target, tmp_path / "x.ckpt", contract=CONTRACT)
    assert equal(target, network, BODY)


@pytest.mark.parametrize("name", ["eca_nfnet_l0", "tf_efficientnet_b0", "resnet10t"])
def test_states_of_features_only(tmp_path, name):
    """timm joins the first two parts of a name, and leaves out the last 1x1 convolution of EfficientNets."""
    source = timm.create_model(name, features_only=True, in_chans=3)
    save_file(source.state_dict(), tmp_path / "x.safetensors")
    net = Net(backbone=name, last_conv=name == "resnet10t" or "nfnet" in name)
    contract = dataclasses.replace(CONTRACT, net=net)
    report = load_pretrained(fresh(contract), tmp_path / "x.safetensors", contract=contract)
    assert report.fits
    assert len(report.matched) == len(source.state_dict())
    if name == "tf_efficientnet_b0":
        complete = dataclasses.replace(CONTRACT, net=Net(backbone=name))
        with pytest.raises(ConfigError, match=r"5 tensors missing|6 tensors missing"):
            load_pretrained(fresh(complete), tmp_path / "x.safetensors", contract=complete)


def test_networks_without_a_last_convolution_refuse_to_drop_it():
    with pytest.raises(ConfigError, match=r"resnet10t has no last 1x1 convolution; leave net\.last_conv at true"):
        SedNet(TINY_128, Net(backbone="resnet10t", last_conv=False), 3)


def test_a_backbone_of_one_channel_is_adapted_to_three(tmp_path):
    source = timm.create_model(NET.backbone, num_classes=0, in_chans=1)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    target = fresh()
    report = load_pretrained(target, tmp_path / "x.pth", contract=CONTRACT)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(target.backbone.conv_stem(image.expand(1, 3, 64, 64)), source.conv_stem(image))
    assert any("from 1 channels to 3" in note for note in report.notes)


def test_tensors_in_the_same_order_under_other_names(tmp_path, network):
    source = timm.create_model(NET.backbone, num_classes=9, in_chans=3)
    state = {f"_layer{k}.{name.split('.')[-1]}": tensor for k, (name, tensor) in enumerate(source.state_dict().items())}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="no tensor fits the backbone"):
        load_pretrained(fresh(), tmp_path / "x.pth", contract=CONTRACT)
    target = fresh()
    report = load_pretrained(target, tmp_path / "x.pth", contract=CONTRACT, key_map="order")
    for name, tensor in source.state_dict().items():
        if not name.startswith("classifier") and not name.endswith("num_batches_tracked"):
            assert torch.equal(target.backbone.state_dict()[name], tensor)
    assert report.fits
    first, second, *others = state
    torch.save(
        {second: state[second], first: state[first], **{name: state[name] for name in others}}, tmp_path / "y.pth"
    )
    with pytest.raises(ConfigError, match="other shapes in order: tensor 1 is _layer1"):
        load_pretrained(fresh(), tmp_path / "y.pth", contract=CONTRACT, key_map="order")
    torch.save(dict(list(state.items())[:20]), tmp_path / "z.pth")
    with pytest.raises(ConfigError, match="not the same network"):
        load_pretrained(fresh(), tmp_path / "z.pth", contract=CONTRACT, key_map="order")
    with pytest.raises(ConfigError, match="got 'shapes'"):
        load_pretrained(fresh(), tmp_path / "x.pth", contract=CONTRACT, key_map="shapes")


def test_less_than_half_of_the_backbone_is_refused(tmp_path, network):
    most = ("backbone.blocks", "backbone.conv_head")
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(most)}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"only \d+% of the weights fit the backbone"):
        load_pretrained(fresh(), tmp_path / "x.pth", contract=CONTRACT, allow_mismatch=True)


def test_rows_of_common_classes_are_loaded_by_name(run, network):
    contract = dataclasses.replace(CONTRACT, classes=("x", "c", "a", "y"))
    target, before = fresh(contract), fresh(contract)
    before.load_state_dict(target.state_dict())
    report = load_pretrained(target, run, contract=contract)
    for layer in ("attention.weight", "attention.bias", "logits.3.weight", "logits.3.bias"):
        mine, theirs, first = (each.state_dict()[f"heads.0.{layer}"] for each in (target, network, before))
        assert torch.equal(mine[[1, 2]], theirs[[2, 0]])
        assert torch.equal(mine[[0, 3]], first[[0, 3]])
    assert torch.equal(target.heads[0].logits[0].weight, network.heads[0].logits[0].weight)
    assert "heads of 2 of 4 classes by name, the others are fresh" in report.notes
    assert report.fits
