"""What a run computes: windowing, views, weights and settings, without the networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..audio.windows import WindowPlan, plan_windows
from ..config.contract import Contract, Frontend
from ..errors import ConfigError
from ..models.ensemble import Ensemble, EnsembleMean


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """How recordings are divided into rows and windows.

    Parameters
    ----------
    row_s : int
        Seconds per row.
    windows : {'centred', 'sliding'}
        See `bcsed.audio.windows.plan_windows`.
    stride_s : float or None
        Stride (s) of sliding windows.
    shifts_s : tuple of float
        Time shifts (s) of centred windows; every member scores once per shift, and the scores are averaged.
    """

    row_s: int = 5
    windows: str = "centred"
    stride_s: float | None = None
    shifts_s: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shifts_s", tuple(dict.fromkeys(map(float, self.shifts_s))))
        if self.row_s < 1:
            raise ConfigError(f"a row must last at least 1 s, got {self.row_s}.")

    def plan(
        self, n_samples: int, frontend: Frontend, steps: int, block: tuple[int, int], shift_s: float = 0.0
    ) -> WindowPlan:
        """Plan the windows of a half-open range of rows of a recording of `n_samples`."""
        return plan_windows(
            n_samples,
            frontend,
            steps,
            self.row_s,
            kind=self.windows,
            stride_s=self.stride_s,
            shift_s=shift_s,
            first_row=block[0],
            last_row=block[1],
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


def make_views(ensemble: Ensemble, windowing: Windowing) -> tuple[View, ...]:
    """Return the views that score a recording: every member at every shift."""
    unshifted = replace(windowing, shifts_s=(0.0,))
    return tuple(
        View(member=member, windowing=unshifted, shift_s=shift_s)
        for member in range(len(ensemble.members))
        for shift_s in windowing.shifts_s
    )


def cheapest_view(member: int, contract: Contract, row_s: int) -> View:
    """Return a member's cheapest view that scores every row: windows that do not overlap."""
    stride_s = contract.frontend.window_s
    return View(member=member, windowing=Windowing(row_s=row_s, windows="sliding", stride_s=stride_s))


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What a run computes; without networks, so that a `Result` does not keep them in memory."""

    windowing: Windowing
    views: tuple[View, ...]  # requested: every member at every shift
    cheapest: tuple[View, ...]  # one per member, see `cheapest_view`
    averaging: EnsembleMean
    settings: Mapping[str, Any] = field(default_factory=dict)  # everything that changes the stored scores

    @property
    def row_s(self) -> int:
        """Seconds per row."""
        return self.windowing.row_s

    @property
    def members(self) -> range:
        """The members' indices."""
        return range(len(self.cheapest))

    def views_for(self, names: Collection[str], member: int) -> list[str]:
        """Return the names of a member's usable views among some: the requested ones, or else the cheapest."""
        requested = [view.name for view in self.views if view.member == member and view.name in names]
        return requested or [name for name in (self.cheapest[member].name,) if name in names]


def make_spec(ensemble: Ensemble, windowing: Windowing, settings: Mapping[str, Any] | None = None) -> RunSpec:
    """Return the specification of a run of an ensemble."""
    contracts = ensemble.averaging.contracts
    return RunSpec(
        windowing=windowing,
        views=make_views(ensemble, windowing),
        cheapest=tuple(cheapest_view(k, contract, windowing.row_s) for k, contract in enumerate(contracts)),
        averaging=ensemble.averaging,
        settings=settings or {},
    )
