"""The main job, as the README promises it."""

from __future__ import annotations

import re

import pytest

from bcsed.cli.app import main


@pytest.mark.slow
def test_the_demo_learns_from_random_weights(tmp_path, capfd, real_conversion):
    assert main(["demo", "--out", str(tmp_path / "demo here")]) == 0
    told = capfd.readouterr().out
    auc = float(re.search(r"macro ROC-AUC ([\d.]+) over 14 of 14 classes, 96 rows", told)[1])
    assert auc >= 0.85
    # Going over the same ground again is refused, and nothing is lost.
    assert main(["demo", "--out", str(tmp_path / "demo here")]) == 2
