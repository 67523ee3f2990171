"""Which classes share a head: by taxon, or by how many clips they have."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError


def group_by_taxon(classes: Sequence[str], taxa: Mapping[str, str]) -> tuple[int, ...]:
    """Group classes by their taxonomic class, such as Aves or Amphibia.

    Parameters
    ----------
    classes : sequence of K str
    taxa : mapping of str to str
        The taxonomic class of each; a class without one, or with '', is of the group of the unknown.

    Returns
    -------
    tuple of K int
        Groups, numbered from 0 in the order in which they first appear.

    Raises
    ------
    ConfigError
        If all classes are of one group.

    Examples
    --------
    >>> group_by_taxon(("cuckoo1", "frog1", "jay1"), {"cuckoo1": "Aves", "frog1": "Amphibia", "jay1": "Aves"})
    (0, 1, 0)
    """
    names = [taxa.get(name, "") for name in classes]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        shown = repr(names[0]) if names and names[0] else "unknown"
        raise ConfigError(
            f"net.heads is 'taxon', but the taxon of all {len(names)} classes is {shown}: one group needs one "
            "head; use net.heads=shared."
        )
    return tuple(number[name] for name in names)


def group_by_frequency(counts: npt.NDArray[Any], edges: Sequence[int] = (20, 100)) -> tuple[int, ...]:
    """Group classes by how many clips they have.

    Parameters
    ----------
    counts : ndarray, shape (K,)
        Clips of each class.
    edges : sequence of int
        The least number of clips in each band but the first, increasing: by default fewer than 20, 20 to 99,
        and 100 or more.

    Returns
    -------
    tuple of K int
        Groups, numbered from 0 with the rarest; bands that no class is in do not count.

    Raises
    ------
    ConfigError
        If the edges do not increase, or all classes are in one band.

    Examples
    --------
    >>> group_by_frequency(np.array([5, 400, 19, 100]))
    (0, 1, 0, 1)
    """
    if not len(edges) or any(right <= left for left, right in itertools.pairwise(edges)):
        raise ConfigError(f"the edges between bands of clip counts must increase, got {tuple(edges)}.")
    counts = np.asarray(counts)
    bands, group = np.unique(np.searchsorted(edges, counts, side="right"), return_inverse=True)
    if len(bands) < 2:
        seen = f" ({counts.min():g} to {counts.max():g} clips)" if counts.size else ""
        raise ConfigError(
            f"net.heads is 'frequency', but no edge of {', '.join(map(str, edges))} clips parts the "
            f"{counts.size} classes{seen}: one group needs one head; use net.heads=shared."
        )
    return tuple(int(number) for number in group)
