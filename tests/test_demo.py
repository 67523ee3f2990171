"""The first block of the README: in a clean clone it installs bcsed and runs the demo, as it stands."""

from __future__ import annotations

import re

import pytest
from documents import assert_installed, blocks, make_clone, run


@pytest.mark.slow
def test_the_demo(tmp_path):
    clone = make_clone(tmp_path)
    (block,) = (text for mark, _, text in blocks("README.md") if mark == "demo")
    output = run(clone, block, limit_s=1800)
    auc = re.search(r"macro ROC-AUC ([\d.]+) over 14 of 14 classes, 96 rows", output)
    assert auc is not None
    assert float(auc[1]) >= 0.85
    # A second demo in the same folder is refused, and nothing is lost.
    run(clone, "bcsed demo && exit 1 || [ $? = 2 ]", limit_s=60)
    assert_installed(clone)
