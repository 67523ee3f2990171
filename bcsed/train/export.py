"""Export a run as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.bundle.bundle import Bundle
from ..models.export import export
from .checkpoints import load_run


def export_run(
    run: str | Path,
    out: str | Path,
    checkpoint: str | None = None,
    *,
    with_weights: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Convert the network of a run and seal it in a bundle.

    Parameters
    ----------
    run : str or Path
        The run's folder.
    out : str or Path
        The bundle's folder; new or empty.
    checkpoint : {'best', 'last'}, optional
        See `load_run`.
    with_weights : bool
        Include the weights that further training needs.
    provenance : mapping, optional
        Recorded in addition to the run's own provenance.

    Raises
    ------
    ConfigError, DataError, BundleError
        If there is no such run or checkpoint, or as in `bcsed.models.export.export`.
    """
    trained = load_run(run, checkpoint)
    return export(
        trained.network,
        out,
        contract=trained.contract,
        priors=trained.priors,
        recipe=trained.recipe,
        provenance={**trained.provenance, **(provenance or {})},
        with_weights=with_weights,
    )
