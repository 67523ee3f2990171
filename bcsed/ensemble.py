"""Several networks that answer as one: members, weights, mean; grouped by what they hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .bundle import Bundle, compile_graph, read_graph
from .config import Contract, Signal
from .errors import BundleError, ConfigError

Array = npt.NDArray[np.float32]
# Called with the answers to one window, what and when, (t, K) each; possibly from another thread.
Done = Callable[[Array, Array], None]


class Listener(Protocol):
    """Whatever answers windows: a compiled graph, or a network in training."""

    contract: Contract
    steps: int

    def submit(self, window: Array, done: Done) -> None:
        """Take a dB window (F, T) and call `done` with its answers, now or later."""

    def finish(self) -> None:
        """Return when every window taken has been answered; raise what went wrong with one."""


class GraphListener:
    """A bundle's graph, answering windows asynchronously on the CPU.

    Parameters
    ----------
    bundle : Bundle
    threads : int, optional
        Processor cores to use; all of them by default.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        import openvino

        self.contract, self.steps = bundle.contract, bundle.steps
        compiled = compile_graph(read_graph(bundle), bundle.contract.signal, threads=threads)
        # Twice the streams, so that none waits while another's answer is being taken away.
        n_requests = 2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._queue = openvino.AsyncInferQueue(compiled, n_requests)
        self._queue.set_callback(_hand_over)

    def submit(self, window: Array, done: Done) -> None:
        """Queue a window; waits while all requests are busy."""
        self._queue.start_async([window[None]], done)

    def finish(self) -> None:
        """Wait for all queued windows."""
        self._queue.wait_all()


def _hand_over(request: Any, done: Done) -> None:
    # The request's memory is used again as soon as this returns.
    done(
        np.array(request.get_output_tensor(0).data[0], np.float32),
        np.array(request.get_output_tensor(1).data[0], np.float32),
    )


@dataclass(frozen=True)
class Ensemble:
    """Members that answer the same classes, and how much each counts.

    Parameters
    ----------
    members : tuple of Listener
    weights : tuple of float
        Positive; they need not sum to 1.
    """

    members: tuple[Listener, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        check_members([member.contract for member in self.members])
        check_weights(self.weights, len(self.members))

    @property
    def classes(self) -> tuple[str, ...]:
        """The K classes, the same for every member."""
        return self.members[0].contract.classes

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What is heard, each signal once: members of one signal share its picture."""
        return tuple(dict.fromkeys(member.contract.signal for member in self.members))

    def mean(self, answers: Sequence[Array]) -> Array:
        """Return the weighted mean of the members' probabilities, (R, K) each."""
        return np.average(np.stack(answers), axis=0, weights=self.weights).astype(np.float32)


def from_bundles(
    bundles: Sequence[Bundle], weights: Sequence[float] | None = None, *, threads: int | None = None
) -> Ensemble:
    """Compile bundles into an ensemble; equal weights by default."""
    check_members([bundle.contract for bundle in bundles])
    given = tuple(weights) if weights is not None else (1.0,) * len(bundles)
    check_weights(given, len(bundles))
    return Ensemble(tuple(GraphListener(bundle, threads=threads) for bundle in bundles), given)


def check_members(contracts: Sequence[Contract]) -> None:
    """Refuse an empty ensemble, and members whose class lists differ.

    Raises
    ------
    ConfigError, BundleError
    """
    if not contracts:
        raise ConfigError("an ensemble needs at least one bundle.")
    first = contracts[0].classes
    for place, contract in enumerate(contracts[1:], 2):
        if contract.classes == first:
            continue
        other = set(first) ^ set(contract.classes)
        how = f"{sorted(other)[0]!r} is in only one of them" if other else "their order differs"
        raise BundleError(f"bundles 1 and {place} do not answer the same classes: {how}.")


def check_weights(weights: Sequence[float], n_members: int) -> None:
    """Refuse weights that are not one positive number per member.

    Raises
    ------
    ConfigError
    """
    if len(weights) != n_members:
        raise ConfigError(f"{len(weights)} weights for {n_members} bundles; give one each.")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError(f"weights must be positive numbers, got {', '.join(f'{w:g}' for w in weights)}.")
