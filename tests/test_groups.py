from __future__ import annotations

import numpy as np
import pytest

from bcsed.data.head_groups import group_by_frequency, group_by_taxon
from bcsed.errors import ConfigError

CLASSES = ("jay1", "frog1", "cicada1", "jay2", "noise")
TAXA = {"jay1": "Aves", "frog1": "Amphibia", "cicada1": "Insecta", "jay2": "Aves", "noise": ""}


def test_taxa_are_numbered_as_they_first_appear():
    assert group_by_taxon(CLASSES, TAXA) == (0, 1, 2, 0, 3)
    assert group_by_taxon(CLASSES[::-1], TAXA) == (0, 1, 2, 3, 1)


def test_a_class_of_unknown_taxon_is_of_the_unknown():
    known = {name: taxon for name, taxon in TAXA.items() if name != "frog1"}
    assert group_by_taxon(CLASSES, known) == (0, 1, 2, 0, 1)


@pytest.mark.parametrize(("taxon", "sentence"), [("Aves", "all 2 classes is 'Aves'"), ("", "all 2 classes is unknown")])
def test_a_single_taxon_needs_one_head(taxon, sentence):
    with pytest.raises(ConfigError, match=sentence + ".*net.heads=shared"):
        group_by_taxon(("a", "b"), {"a": taxon, "b": taxon})


def test_bands_hold_their_lower_edge():
    assert group_by_frequency(np.array([19, 20, 99, 100, 0, 5000])) == (0, 1, 1, 2, 0, 2)


def test_empty_bands_leave_no_gap():
    assert group_by_frequency(np.array([500, 3, 100])) == (1, 0, 1)
    assert group_by_frequency(np.array([30, 200, 500])) == (0, 1, 1)
    assert group_by_frequency(np.array([1.0, 2.0, 3.5]), edges=(2,)) == (0, 1, 1)


def test_groups_are_plain_numbers():
    assert {type(number) for number in group_by_frequency(np.array([1, 50, 500]))} == {int}


def test_bands_that_part_nothing_or_do_not_increase():
    with pytest.raises(ConfigError, match=r"no edge of 20, 100 clips separates the 3 classes \(1 to 19 clips\)"):
        group_by_frequency(np.array([1, 5, 19]))
    for edges in ((), (100, 20), (20, 20)):
        with pytest.raises(ConfigError, match="must increase"):
            group_by_frequency(np.array([1, 500]), edges=edges)
