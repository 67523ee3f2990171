from __future__ import annotations

import pytest

from bcsed.config.contract import SHORT_256, WIDE_256, WIDE_384
from bcsed.config.experiments import TABLE, difference, experiment_names, find_experiment
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


def test_the_straight_repeat_differs_in_the_signal_alone():
    rows = [find_experiment(f"repeat-{name}") for name in ("w384", "w256", "s256")]
    assert [row.frontend for row in rows] == [WIDE_384, WIDE_256, SHORT_256]
    for row in rows[1:]:
        assert all(key.startswith("frontend.") for key in difference(rows[0], row))


def test_vary_refuses_what_does_not_exist():
    base = TABLE[0]
    with pytest.raises(ConfigError, match="net has no field 'bakcbone'"):
        base.vary("x", net__bakcbone="b0")
    with pytest.raises(ConfigError, match="an experiment has no part 'nett'"):
        base.vary("x", nett__backbone="b0")
    with pytest.raises(ConfigError, match="name has no fields"):
        base.vary("x", name__a=1)


def test_a_name_stands_once_and_an_unknown_one_is_told():
    assert len(set(experiment_names())) == len(TABLE)
    with pytest.raises(ConfigError, match="no experiment 'exp-1'; the table has exp-39"):
        find_experiment("exp-1")
