from __future__ import annotations

import dataclasses
import json

import pytest

from bcsed.config.contract import FRONTENDS, WIDE_384, Contract, Frontend, Net
from bcsed.config.experiments import Experiment, find_experiment
from bcsed.config.recipe import Augment, Data, Fit
from bcsed.config.strict import from_dict, read_value, to_dict
from bcsed.config.versions import upgrade, upgrade_run
from bcsed.errors import ConfigError

HEADED = Contract(frontend=Frontend(), net=Net(heads="taxon"), classes=("a", "b", "c"), groups=(1, 0, 1))
VALUES = [
    Frontend(),
    Net(),
    Data(),
    Augment(),
    Fit(),
    Contract(frontend=Frontend(), net=Net(), classes=("a", "b")),
    HEADED,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_json_round_trip(value):
    assert from_dict(type(value), to_dict(value)) == value


def test_presets_have_the_image_size_of_their_name():
    shapes = {name: (frontend.image_shape, frontend.window_s) for name, frontend in FRONTENDS.items()}
    assert shapes == {
        "WIDE_384": ((384, 384), 12.0),
        "WIDE_256": ((256, 256), 12.0),
        "SHORT_256": ((256, 256), 8.0),
        "TINY_128": ((128, 128), 8.0),
    }


def test_unknown_and_missing_keys_are_errors():
    values = to_dict(Net())
    with pytest.raises(ConfigError, match="Net has no field 'bakcbone'; its fields are backbone"):
        from_dict(Net, {**values, "bakcbone": "x"})
    del values["pool"]
    with pytest.raises(ConfigError, match="Net lacks pool"):
        from_dict(Net, values)
    with pytest.raises(ConfigError, match=r"contract\.frontend lacks"):
        from_dict(Contract, {"frontend": {}, "net": to_dict(Net()), "classes": ["a"], "groups": []}, "contract")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Frontend(n_mels=100), "the nearest n_mels are 96 and 112"),
        (lambda: Frontend(n_frames=700), "multiple of 64, got 700; the nearest are 640 and 704"),
        (lambda: Frontend(fmax_hz=20_000), r"0 <= fmin_hz < fmax_hz <= 16000 Hz"),
        (lambda: Frontend(hop_length=4096), "use at most 2048"),
        (lambda: Frontend(n_fft=2047), "must be even"),
        (lambda: Frontend(channels="rgb"), "deltas, repeat, mono"),
        (lambda: Frontend(top_db=0), r"\(0, 200\] dB"),
        (lambda: Frontend(time_folds=0), "time_folds must be at least 1"),
        (lambda: Frontend(sample_rate="32k"), r"Frontend.sample_rate must be int, got '32k' \(str\)"),
        (lambda: Net(pool="max"), "pool must be one of prob, logit"),
        (lambda: Net(backbone=""), "name a timm CNN"),
        (lambda: Data(crop=True), r"Data.crop must be str, got True"),
        (lambda: Data(secondary_target=2.0), r"in \[0, 1\], got 2"),
        (lambda: Data(label_target=0.0), r"label_target must be in \(0, 1\]"),
        (lambda: Data(n_folds=1), "n_folds must be at least 2"),
        (lambda: Augment(sumix_draw=()), r"\(0,\) is off"),
        (lambda: Augment(noise_p=(0.1,)), "one value more than noise_epochs"),
        (lambda: Augment(noise_epochs=(16, 10)), "must increase"),
        (lambda: Augment(dropout_area=1.0), r"in \[0, 1\)"),
        (lambda: Fit(batch_size=1), "batch_size must be at least 2"),
        (lambda: Fit(lr_start=1.0), "0 < lr_start <= lr"),
        (lambda: Fit(dropout=(0.1, 0.2)), "three probabilities"),
        (lambda: Fit(lr=float("nan")), "Fit.lr must be float"),
        (lambda: Contract(frontend=Frontend(), net=Net(), classes=("a", "a")), "names a more than once"),
        (lambda: Contract(frontend=Frontend(), net=Net(), classes=()), "at least one class"),
        (lambda: Net(heads="two"), "heads must be one of shared, taxon, frequency; got 'two'"),
        (lambda: dataclasses.replace(HEADED, net=Net()), "heads is 'shared', but there are 2 groups"),
        (lambda: dataclasses.replace(HEADED, groups=()), "group of each of the 3 classes, got 0"),
        (lambda: dataclasses.replace(HEADED, groups=(0, 1)), "group of each of the 3 classes, got 2"),
        (lambda: dataclasses.replace(HEADED, groups=(0, 2, 2)), r"without a gap, got \[0, 2\]"),
        (lambda: dataclasses.replace(HEADED, groups=(1, 2, 1)), r"without a gap, got \[1, 2\]"),
        (lambda: dataclasses.replace(HEADED, groups=(0.5, 1, 0)), "Contract.groups must be a list of int"),
    ],
)
def test_refusals_name_the_value_and_the_way_out(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_every_field_of_the_contract_changes_the_fingerprint():
    base = Contract(frontend=WIDE_384, net=Net(), classes=("a", "b"))
    fingerprints = {base.fingerprint}
    changes = {"sample_rate": 44_100, "n_fft": 4096, "hop_length": 400, "n_mels": 128, "fmin_hz": 50.0}
    changes |= {"fmax_hz": 15_000.0, "n_frames": 512, "time_folds": 1, "channels": "mono", "top_db": 60.0}
    assert set(changes) == {field.name for field in dataclasses.fields(Frontend)}
    for name, value in changes.items():
        fingerprints.add(dataclasses.replace(base, frontend=dataclasses.replace(WIDE_384, **{name: value})).fingerprint)
    nets = {"backbone": "resnest14d", "pool": "logit", "freq_pool": "gem", "last_conv": False}
    assert {*nets, "heads"} == {field.name for field in dataclasses.fields(Net)}
    for name, value in nets.items():
        fingerprints.add(dataclasses.replace(base, net=dataclasses.replace(base.net, **{name: value})).fingerprint)
    fingerprints.add(dataclasses.replace(base, classes=("b", "a")).fingerprint)
    for heads, groups in (("taxon", (0, 1)), ("taxon", (1, 0)), ("frequency", (0, 1))):
        fingerprints.add(
            dataclasses.replace(base, net=dataclasses.replace(base.net, heads=heads), groups=groups).fingerprint
        )
    assert len(fingerprints) == 1 + len(changes) + len(nets) + 1 + 3


def test_fields_added_later_do_not_change_a_fingerprint():
    """Computed by the first version, which had neither heads nor groups."""
    old = Contract(frontend=WIDE_384, net=Net(), classes=("a", "b"))
    assert old.fingerprint == "a7aa6ea42bb0ec7d"


def test_missing_fields_of_an_earlier_contract_get_the_earlier_behaviour():
    old = Contract(frontend=WIDE_384, net=Net(), classes=("a", "b"))
    values = to_dict(old)
    del values["groups"], values["net"]["heads"]
    assert from_dict(Contract, upgrade(values)) == old
    assert "heads" not in values["net"], "the argument was changed"
    assert upgrade(to_dict(HEADED)) == to_dict(HEADED)


def test_a_run_of_the_first_version_is_read_in_the_current_names():
    experiment = find_experiment("in-situ").vary(
        "x", data__sampling="uniform", labelled__draw="confidence", private_lb=".8", public_lb=".7"
    )
    contract = Contract(frontend=experiment.frontend, net=experiment.net, classes=("a", "b"))
    run = {"experiment": "x", "recipe": experiment.recipe, "contract": to_dict(contract), "fold": 0}
    old = json.loads(json.dumps(run))
    for group in (old["recipe"], old["contract"]):
        group["signal"] = group.pop("frontend")
        group["signal"]["folds"] = group["signal"].pop("time_folds")
        group["net"]["heads"] = "one"
    old["recipe"]["data"] |= {"pseudo_source": "in_situ", "sampling": "plain"}
    old["recipe"]["labelled"]["draw"] = "maxima"
    assert upgrade_run(old) == run


def test_a_recipe_without_the_later_fields_gets_the_earlier_behaviour():
    """One form of the focal loss, raw levels, one number of masks, rows of which half is heard."""
    old = find_experiment("tiny").vary("x", fit__loss="focal").recipe
    for group, names in {
        "data": ["excerpt_rows", "duplicates"],
        "augment": ["level", "noise_measure", "mask_epochs", "dropout_p"],
        "fit": ["auc_pairs", "distil_epochs", "swa_epochs", "freeze_epochs", "cycle_decay", "logit_dropout"],
    }.items():
        for name in names:
            del old[group][name]
    old["augment"]["time_masks"], old["pseudo"] = 2, {}
    new = upgrade(old)
    assert new["fit"]["loss"] == "focal_torchvision"
    assert new["augment"]["level"] == "raw"
    assert new["augment"]["time_masks"] == [2]
    assert new["data"]["excerpt_rows"] == "half" and new["data"]["duplicates"] == "off"
    assert new["fit"]["cycle_decay"] == 0.5
    assert upgrade(new) == new


def test_a_run_of_these_names_is_unchanged():
    experiment = find_experiment("in-situ").vary("x", private_lb=".8", public_lb=".7")
    contract = Contract(frontend=experiment.frontend, net=experiment.net, classes=("a", "b"))
    run = {"experiment": "x", "recipe": experiment.recipe, "contract": to_dict(contract), "fold": 0}
    assert upgrade_run(run) == run
    assert upgrade_run({"contract": None, "fold": 1}) == {"contract": None, "fold": 1}
    values = to_dict(experiment)
    values["hidden"], values["public"] = values.pop("private_lb"), values.pop("public_lb")
    assert from_dict(Experiment, upgrade(values)) == experiment


def test_whole_floats_and_ints_have_one_fingerprint():
    first = Contract(frontend=Frontend(fmin_hz=20), net=Net(), classes=("a",))
    assert first.fingerprint == Contract(frontend=Frontend(fmin_hz=20.0), net=Net(), classes=("a",)).fingerprint


def test_values_from_the_command_line():
    assert read_value("true") is True
    assert read_value("[0,1,1,2]") == (0, 1, 1, 2)
    assert read_value("1e-3") == 0.001
