from __future__ import annotations

import pytest

from bcsed.config.contract import SHORT_256, WIDE_256, WIDE_384
from bcsed.config.diff import flatten
from bcsed.config.experiments import TABLE, describe, difference, experiment_names, find_experiment, parse_changes
from bcsed.errors import ConfigError


def test_the_table_has_the_rows_of_the_post_mortem():
    rows = {row.name: row for row in TABLE}
    numbers = (39, 93, 94, 95, 96, 97, 98, 99, 102, 109, 133, 167, 175, 177)
    assert {f"exp-{number}" for number in numbers} <= set(rows)
    backbones = {n: rows[f"exp-{n}"].net.backbone.removesuffix(".ns_jft_in1k") for n in numbers}
    assert backbones == {
        39: "tf_efficientnet_b0",
        93: "tf_efficientnet_b0",
        94: "eca_nfnet_l0",
        95: "tf_efficientnet_b3",
        96: "tf_efficientnet_b3",
        97: "resnest26d",
        98: "tf_efficientnet_b2",
        99: "regnety_008",
        102: "tf_efficientnet_b1",
        109: "tf_efficientnet_b0",
        133: "tf_efficientnet_b0",
        167: "tf_efficientnet_b0",
        175: "resnest14d",
        177: "tf_efficientnet_b0",
    }
    small = {n for n in numbers if rows[f"exp-{n}"].frontend == WIDE_256}
    assert small == {39, 94, 95, 133}
    assert rows["exp-167"].private_lb == ".765 / .820"
    assert all(rows[f"exp-{n}"].private_lb and rows[f"exp-{n}"].public_lb for n in numbers)


def test_the_straight_repeat_differs_only_in_the_front_end():
    rows = [find_experiment(f"repeat-{name}") for name in ("w384", "w256", "s256")]
    assert [row.frontend for row in rows] == [WIDE_384, WIDE_256, SHORT_256]
    for row in rows[1:]:
        assert all(key.startswith("frontend.") for key in difference(rows[0], row))


def test_vary_refuses_what_does_not_exist():
    base = TABLE[0]
    with pytest.raises(ConfigError, match="net has no field 'bakcbone'"):
        base.vary("x", net__bakcbone="b0")
    with pytest.raises(ConfigError, match="an experiment has no field 'nett'"):
        base.vary("x", nett__backbone="b0")
    for group, value in (("pseudo", 0.25), ("net", "x"), ("data", None), ("fit", 3)):
        with pytest.raises(
            ConfigError, match=rf"{group} is a group of fields, and cannot be {value!r}; write {group}\."
        ):
            find_experiment("tiny").vary("x", **{group: value})
    with pytest.raises(ConfigError, match="seed must be in"):
        find_experiment("tiny").vary("x", fit__seed=2**64)
    with pytest.raises(ConfigError, match="name has no fields"):
        base.vary("x", name__a=1)


def test_names_are_unique_and_an_unknown_name_is_refused():
    assert len(set(experiment_names())) == len(TABLE)
    with pytest.raises(ConfigError, match="no experiment 'exp-1'; the table has exp-39"):
        find_experiment("exp-1")


def test_assignments_in_both_spellings():
    changes = parse_changes(["fit.epochs=3", "pseudo__gain=[0.1, 0.2]", "frontend=WIDE_256", "fit.lr=1e-3"])
    assert changes == {"fit__epochs": 3, "pseudo__gain": (0.1, 0.2), "frontend": WIDE_256, "fit__lr": 0.001}
    assert TABLE[0].vary("x", **changes).fit.epochs == 3
    with pytest.raises(ConfigError, match=r"group\.field=value, got 'fit\.epochs'"):
        parse_changes(["fit.epochs"])
    with pytest.raises(ConfigError, match="no front end 'WIDE'; presets are WIDE_384"):
        parse_changes(["frontend=WIDE"])


def test_refused_combinations_name_the_dotted_field():
    base = find_experiment("exp-93")
    with pytest.raises(ConfigError, match=r"pseudo\.share 0\.25 and labelled\.share 0\.8"):
        base.vary("x", labelled__share=0.8)
    with pytest.raises(ConfigError, match=r"set pseudo\.mode to background or mix"):
        base.vary("x", data__pseudo_source="online", pseudo__mode="substitute")


def test_the_printed_table_has_headings_in_words():
    assert list(describe()[0]) == [
        *("experiment", "backbone", "front end", "initial weights", "private LB", "public LB", "note")
    ]


# The published numbers of each recipe: dotted settings and values.
_WINNER_2025 = {
    "frontend.n_mels": 224,
    "frontend.n_fft": 4096,
    "frontend.hop_length": 1252,
    "frontend.fmin_hz": 0,
    "frontend.fmax_hz": 16_000,
    "frontend.n_frames": 512,
    "frontend.time_folds": 1,
    "frontend.channels": "repeat",
    "frontend.top_db": 80,
    "net.freq_pool": "gem",
    "data.secondary_target": 1,
    "data.pseudo_soft": True,
    "data.label_target": 1,
    "augment.level": "peak",
    "augment.mix": "mixup",
    "augment.mix_p": 0.5,
    "augment.noise_p": [0],
    "augment.mask_p": 0,
    "augment.dropout_area": 0,
    "pseudo.share": 1,
    "pseudo.mode": "mix",
    "pseudo.level": "peak",
    "pseudo.draw": "confidence",
    "fit.loss": "ce",
    "fit.two_way": False,
    "fit.lr": 5e-4,
    "fit.cycle_epochs": 5,
    "fit.cycle_decay": 1,
    "fit.warmup_epochs": 0,
    "fit.epochs": 25,
    "fit.drop_path": [0.15],
}
_SECOND_2026 = {
    "frontend.n_mels": 128,
    "frontend.n_fft": 2048,
    "frontend.hop_length": 512,
    "frontend.fmin_hz": 20,
    "frontend.fmax_hz": 16_000,
    "frontend.n_frames": 320,  # 5.12 s; the original has 313 frames, 5 s
    "frontend.time_folds": 1,
    "frontend.channels": "repeat",
    "net.backbone": "tf_efficientnetv2_s.in21k_ft_in1k",
    "data.pseudo_soft": False,
    "pseudo.share": 0.5,
    "pseudo.mode": "substitute",
    "pseudo.same_class": False,
    "augment.mix": "mixup",
    "fit.loss": "auc",
    "fit.auc_pairs": "batch",
    "fit.auc_bce": 0.25,
    "fit.lr": 5e-4,
    "fit.epochs": 30,
    "fit.cycle_epochs": 30,
    "fit.batch_size": 32,
    "fit.weight_decay": 1e-4,
    "fit.clip_norm": 1,
    "fit.swa_epochs": 15,
    "fit.freeze_epochs": 2,
}
_WRITE_UP = {
    "frontend.hop_length": 500,
    "frontend.time_folds": 2,
    "frontend.channels": "deltas",
    "frontend.top_db": 80,
    "data.label_target": 0.8,
    "data.pseudo_target": 1,
    "data.pseudo_soft": False,
    "data.pseudo_loss_weight": 1,
    "data.pad": "join",
    "data.n_folds": 10,
    "data.min_class_count": 20,
    "augment.level": "peak",
    "augment.mix": "sumix",
    "augment.sumix_draw": [0, 1, 1, 2],
    "augment.sumix_min_gain": [0.3, 0.5],
    "augment.noise_p": [0.25, 0.15, 0.1],
    "augment.noise_epochs": [10, 16],
    "augment.noise_snr_db": [1, 5],
    "augment.noise_measure": "peak",
    "augment.mask_p": 0.25,
    "augment.time_masks": [1, 2, 3],
    "augment.freq_masks": [1, 2, 3],
    "augment.mask_epochs": 9,
    "augment.dropout_p": 0.4,
    "pseudo.share": 0.25,
    "pseudo.mode": "background",
    "pseudo.gain": [0.2, 0.8],
    "pseudo.level": "raw",
    "pseudo.excerpt": "pairs",
    "fit.loss": "focal",
    "fit.two_way": True,
    "fit.focal_gamma": 2,
    "fit.focal_alpha": 0.8,
    "fit.dropout": [0.2, 0.3, 0.2],
    "fit.logit_dropout": 0.3,
    "fit.attention_init": "mean",
    "fit.lr": 1e-3,
    "fit.weight_decay": 0.01,
    "fit.batch_size": 32,
    "fit.epochs": 24,
    "fit.warmup_epochs": 2,
    "fit.cycle_epochs": 8,
    "fit.cycle_decay": 0.5,
}


@pytest.mark.parametrize(
    ("name", "numbers"), [("noisy-2025", _WINNER_2025), ("auc-2026", _SECOND_2026), ("exp-93", _WRITE_UP)]
)
def test_a_preset_has_the_published_numbers(name, numbers):
    settings = flatten(find_experiment(name).recipe)
    assert {key: settings[key] for key in numbers} == numbers


def test_online_pseudolabels_as_in_the_original():
    """An excerpt in every clip of the batch, at a nearly constant weight."""
    settings = flatten(find_experiment("in-situ").recipe)
    first, last = settings["data.in_situ_weight"]
    assert settings["pseudo.share"] == 1
    assert last - first == pytest.approx(0.1)
    assert settings["data.in_situ_floor"] == 0.1
