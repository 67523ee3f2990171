"""What a run computes: windowing, views, weights and settings, without the networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..audio.windows import WindowPlan, plan_windows
from ..config.contract import Frontend
from ..config.strict import one_of
from ..errors import ConfigError
from ..models.ensemble import Ensemble, EnsembleMean

# The view of a run of score tables alone, which are not stored: one value per row.
ROWS = "rows"


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """How recordings are divided into rows and windows, see `bcsed.audio.windows.plan_windows`."""

    row_s: int = 5  # seconds per row
    windows: str = "centred"  # or 'sliding'
    stride_s: float | None = None  # of sliding windows
    shifts_s: tuple[float, ...] = (0.0,)  # of centred windows; each member scores once per shift, averaged
    # Of the time steps of a row: as trained ('bundle'), or 'max' or 'prob_max' of `bcsed.models.network.pool`.
    pool: str = "bundle"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shifts_s", tuple(dict.fromkeys(map(float, self.shifts_s))))
        if self.row_s < 1:
            raise ConfigError(f"a row must last at least 1 s, got {self.row_s}.")
        one_of(self, "pool", ("bundle", "max", "prob_max"))

    def plan(
        self, n_samples: int, frontend: Frontend, steps: int, block: tuple[int, int], shift_s: float = 0.0
    ) -> WindowPlan:
        """Plan the windows of a half-open range of rows of a recording of `n_samples`."""
        rows = {"first_row": block[0], "last_row": block[1]}
        return plan_windows(
            n_samples, frontend, steps, self.row_s, kind=self.windows, stride_s=self.stride_s, shift_s=shift_s, **rows
        )


@dataclass(frozen=True, kw_only=True)
class View:
    """One way to score a row: a member (its index), a windowing and a time shift."""

    member: int
    windowing: Windowing
    shift_s: float = 0.0

    @property
    def name(self) -> str:
        """The view's column in stored scores, such as ``0-centred`` or ``1-centred+1.5``."""
        stride = "" if self.windowing.stride_s is None else f"-{self.windowing.stride_s:g}"
        return f"{self.member}-{self.windowing.windows}{stride}{f'{self.shift_s:+g}' if self.shift_s else ''}"

    def pool(self, trained: str) -> str:
        """Return the pooling of a member that was trained with a pooling."""
        return trained if self.windowing.pool == "bundle" or trained == "mean" else self.windowing.pool


def make_views(ensemble: Ensemble, windowing: Windowing) -> tuple[View, ...]:
    """Return the views that score a recording: every member at every shift."""
    unshifted = replace(windowing, shifts_s=(0.0,))
    return tuple(
        View(member=member, windowing=unshifted, shift_s=shift_s)
        for member in range(len(ensemble.members))
        for shift_s in windowing.shifts_s
    )


@dataclass(frozen=True)
class RunSpec:
    """What a run computes; without networks, so that a `Result` does not keep them in memory."""

    row_s: int  # seconds per row
    views: tuple[View, ...]  # requested: every member at every shift
    cheapest: tuple[View, ...]  # of each member, that scores every row: windows that do not overlap
    averaging: EnsembleMean
    settings: Mapping[str, Any] = field(default_factory=dict)  # everything that changes the stored scores

    @property
    def members(self) -> range:
        """The networks' indices; those of tables follow."""
        return range(len(self.cheapest))

    @property
    def tables(self) -> range:
        """The tables' indices."""
        return range(len(self.cheapest), len(self.averaging.weights))

    @property
    def names(self) -> set[str]:
        """The names of the requested views."""
        return {view.name for view in self.views} or {ROWS}

    @property
    def are_scores(self) -> bool:
        """Whether the members compute probabilities; otherwise they compute embeddings."""
        return all(contract.net.pool != "mean" for contract in self.averaging.contracts)

    def views_for(self, names: Collection[str], member: int) -> list[str]:
        """Return the names of a member's usable views among some: the requested ones, or else the cheapest."""
        if member not in self.members:
            return []
        requested = [view.name for view in self.views if view.member == member and view.name in names]
        return requested or [name for name in (self.cheapest[member].name,) if name in names]


def make_spec(ensemble: Ensemble, windowing: Windowing, settings: Mapping[str, Any] | None = None) -> RunSpec:
    """Return the specification of a run of an ensemble."""
    strides_s = [contract.frontend.window_s for contract in ensemble.averaging.contracts]
    cheap = [replace(windowing, windows="sliding", stride_s=stride_s, shifts_s=(0.0,)) for stride_s in strides_s]
    cheapest = tuple(View(member=member, windowing=each) for member, each in enumerate(cheap))
    views = make_views(ensemble, windowing)
    return RunSpec(windowing.row_s, views, cheapest, ensemble.averaging, settings or {})
