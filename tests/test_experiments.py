from __future__ import annotations

import pytest

from bcsed.config.contract import SHORT_256, WIDE_256, WIDE_384
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
