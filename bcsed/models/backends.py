"""Whatever answers windows: a compiled graph, or a network in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..config.contract import Contract
from .bundle.bundle import Bundle
from .bundle.graph import compile_graph, read_graph

if TYPE_CHECKING:
    from .network import SedNet

Array = npt.NDArray[np.float32]
# Called with the answers to one window, what and when, (t, K) each; possibly from another thread. They are good
# until it returns.
OnResult = Callable[[Array, Array], None]

# Windows of at most so many values go to the network in pairs: the heads' weights, most of what is then read, are
# read once for two. 128 x 320 cost 4 to 6 % less so; 192 x 768 cost 10 % more, and four together more than two.
PAIRED = 50_000


class Backend(Protocol):
    """Whatever answers windows: a compiled graph, or a network in training.

    Windows are numbered from 1 as they come. Some may be held back until there are more of them, of whatever
    recording; who waits for a window's answer says so with `flush`.
    """

    contract: Contract
    steps: int
    # Windows that it can be busy with at once.
    ahead: int

    def submit(self, window: Array, done: OnResult) -> int:
        """Take a dB window (F, T), possibly a view, and call `done` with its answers, now or later.

        Returns the window's number.
        """

    def flush(self, number: int | None = None) -> None:
        """Begin with windows that are held back, if that one is among them."""

    def finish(self) -> None:
        """Return when every window taken has been answered; raise what went wrong with one."""


class OpenVinoBackend:
    """A bundle's graph, answering windows asynchronously on the CPU; for use by one thread.

    Parameters
    ----------
    bundle : Bundle
    threads, precision, cache
        See `bcsed.models.bundle.compile_graph`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        precision: str = "f32",
        cache: str | Path | None = None,
    ) -> None:
        import openvino

        self.contract, self.steps = bundle.contract, bundle.steps
        frontend = bundle.contract.frontend
        self.batch = 2 if frontend.n_mels * frontend.n_frames <= PAIRED else 1
        compiled = compile_graph(
            read_graph(bundle),
            frontend,
            threads=threads,
            precision=precision,
            cache=cache,
            batch=self.batch,
        )
        # Twice the streams, so that none waits while another's answer is being taken away.
        n_requests = 2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._queue = openvino.AsyncInferQueue(compiled, n_requests)
        self._queue.set_callback(_hand_over)
        self.ahead = n_requests * self.batch

        self._n_taken = 0
        self._windows: list[Array] = []
        self._done: list[OnResult] = []

    def submit(self, window: Array, done: OnResult) -> int:
        """Queue a window, if in pairs as soon as there is another; waits while all requests are busy."""
        self._windows.append(window)
        self._done.append(done)
        self._n_taken += 1
        if len(self._windows) == self.batch:
            self.flush()
        return self._n_taken

    def flush(self, number: int | None = None) -> None:
        """Queue windows that wait for others, if that one is among them."""
        if self._windows and (number is None or number > self._n_taken - len(self._windows)):
            # The shape is fixed: a window without company is looked at twice.
            lacking = self.batch - len(self._windows)
            windows, done = self._windows + self._windows[-1:] * lacking, self._done
            self._windows, self._done = [], []
            # Waits for a request, which stays the first idle one until it is started: one thread starts them.
            request = self._queue[self._queue.get_idle_request_id()]
            np.stack(windows, out=request.get_input_tensor().data)
            self._queue.start_async(None, done)

    def finish(self) -> None:
        """Wait for all queued windows."""
        self.flush()
        self._queue.wait_all()


def _hand_over(request: Any, done: Sequence[OnResult]) -> None:
    logits, attention = (request.get_output_tensor(place).data for place in (0, 1))
    for place, each in enumerate(done):
        each(logits[place], attention[place])


class TorchBackend:
    """A network in training, answering windows in batches as they come.

    Parameters
    ----------
    network : SedNet
        In evaluation mode.
    contract : Contract
    device : torch.device
    batch_size : int
    """

    def __init__(self, network: SedNet, contract: Contract, device: torch.device, batch_size: int = 16) -> None:
        self.network, self.contract, self.device, self.batch_size = network, contract, device, batch_size
        self.steps, self.ahead = network.steps, batch_size
        self._n_taken = 0
        self._windows: list[Array] = []
        self._done: list[OnResult] = []

    def submit(self, window: Array, done: OnResult) -> int:
        """Take a window; answer when a batch is full."""
        self._n_taken += 1
        self._windows.append(window)
        self._done.append(done)
        if len(self._windows) == self.batch_size:
            self.finish()
        return self._n_taken

    def flush(self, number: int | None = None) -> None:
        """Answer the windows taken so far, if that one is among those that wait."""
        if number is None or number > self._n_taken - len(self._windows):
            self.finish()

    def finish(self) -> None:
        """Answer the windows taken so far."""
        if not self._windows:
            return
        with torch.inference_mode():
            logits, attention = self.network(torch.from_numpy(np.stack(self._windows)).to(self.device))
        for place, done in enumerate(self._done):
            done(logits[place].cpu().numpy(), attention[place].cpu().numpy())
        self._windows, self._done = [], []
