"""Groups of classes that share a head: by taxon, or by the number of clips."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError


def group_by_taxon(classes: Sequence[str], taxa: Mapping[str, str]) -> tuple[int, ...]:
    """Return the group of each class by taxonomic class, such as Aves; classes without one form a group.

    Groups are numbered from 0 in order of first appearance. ConfigError if all classes are in one group.

    >>> group_by_taxon(("cuckoo1", "frog1", "jay1"), {"cuckoo1": "Aves", "frog1": "Amphibia", "jay1": "Aves"})
    (0, 1, 0)
    """
    names = [taxa.get(name, "") for name in classes]
    group = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(group) < 2:
        taxon = repr(names[0]) if names and names[0] else "unknown"
        raise ConfigError(
            f"net.heads is 'taxon', but the taxon of all {len(names)} classes is {taxon}; use net.heads=shared."
        )
    return tuple(group[name] for name in names)


def group_by_frequency(counts: npt.NDArray[Any], edges: Sequence[int] = (20, 100)) -> tuple[int, ...]:
    """Return the group of each of K classes by its number of clips.

    `edges` are the least counts of the bands after the first. Groups are numbered from 0 with the rarest; empty bands
    are not numbered. ConfigError if the edges do not increase, or all classes are in one band.

    >>> group_by_frequency(np.array([5, 400, 19, 100]))
    (0, 1, 0, 1)
    """
    if not len(edges) or any(right <= left for left, right in itertools.pairwise(edges)):
        raise ConfigError(f"the edges between bands of clip counts must increase, got {tuple(edges)}.")
    counts = np.asarray(counts)
    bands, group = np.unique(np.searchsorted(edges, counts, side="right"), return_inverse=True)
    if len(bands) < 2:
        extent = f" ({counts.min():g} to {counts.max():g} clips)" if counts.size else ""
        raise ConfigError(
            f"net.heads is 'frequency', but no edge of {', '.join(map(str, edges))} clips separates the {counts.size} "
            f"classes{extent}; use net.heads=shared."
        )
    return tuple(map(int, group))
