"""Backends: compute windows with a compiled graph or with a torch network."""

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
# Called with the logits and attention (t, K) of one window, possibly from another thread. The arrays are valid only
# until the callback returns.
OnResult = Callable[[Array, Array], None]

# Windows of at most this many values are computed in pairs: most of the memory traffic is then the heads' weights,
# which are read once for both. 128 x 320 cost 4 to 6 % less; 192 x 768 cost 10 % more, and batches of four more than
# pairs.
PAIRED = 50_000


class Backend(Protocol):
    """Compute windows, now or later, and pass the outputs to callbacks.

    Windows are numbered from 1 in order of submission. Some may wait until a batch is full, also for windows of other
    recordings; call `flush` before waiting for a window.
    """

    contract: Contract
    steps: int
    # Windows that can be computed at once.
    max_in_flight: int

    def submit(self, window: Array, on_result: OnResult) -> int:
        """Accept a dB window (F, T), possibly a view of an array, and return its number."""

    def flush(self, number: int | None = None) -> None:
        """Start the waiting windows, if window `number` is among them or it is None."""

    def finish(self) -> None:
        """Return when every window has been computed; raise the error of a window that failed."""


class OpenVinoBackend:
    """Compute windows with a bundle's graph, asynchronously on the CPU; for use by one thread.

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

        self.bundle, self.precision, self.cache = bundle, precision, cache
        self.contract, self.steps = bundle.contract, bundle.steps
        frontend = bundle.contract.frontend
        self.batch = 2 if frontend.n_mels * frontend.n_frames <= PAIRED else 1
        graph = read_graph(bundle)
        compiled = compile_graph(graph, frontend, threads=threads, precision=precision, cache=cache, batch=self.batch)
        # Twice the streams, so that no stream waits while another's outputs are copied.
        n_requests = 2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._queue = openvino.AsyncInferQueue(compiled, n_requests)
        self._queue.set_callback(_call_results)
        self.max_in_flight = n_requests * self.batch
        self._n_submitted = 0
        self._windows: list[Array] = []
        self._callbacks: list[OnResult] = []

    def submit(self, window: Array, on_result: OnResult) -> int:
        """Queue a window when its batch is full; block while all requests are busy."""
        self._windows.append(window)
        self._callbacks.append(on_result)
        self._n_submitted += 1
        if len(self._windows) == self.batch:
            self.flush()
        return self._n_submitted

    def flush(self, number: int | None = None) -> None:
        """Queue the waiting windows, if window `number` is among them or it is None."""
        if self._windows and (number is None or number > self._n_submitted - len(self._windows)):
            # The batch size is fixed: the last window fills up an incomplete batch.
            windows = self._windows + self._windows[-1:] * (self.batch - len(self._windows))
            callbacks = self._callbacks
            self._windows, self._callbacks = [], []
            # Blocks until a request is idle; it stays the first idle one until it is started, as only one thread
            # starts requests.
            request = self._queue[self._queue.get_idle_request_id()]
            np.stack(windows, out=request.get_input_tensor().data)
            self._queue.start_async(None, callbacks)

    def finish(self) -> None:
        """Wait for all queued windows."""
        self.flush()
        self._queue.wait_all()


def _call_results(request: Any, callbacks: Sequence[OnResult]) -> None:
    logits, attention = (request.get_output_tensor(index).data for index in (0, 1))
    for index, on_result in enumerate(callbacks):
        on_result(logits[index], attention[index])


class TorchBackend:
    """Compute windows in batches with a torch network.

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
        self.steps, self.max_in_flight = network.steps, batch_size
        self._n_submitted = 0
        self._windows: list[Array] = []
        self._callbacks: list[OnResult] = []

    def submit(self, window: Array, on_result: OnResult) -> int:
        """Accept a window; compute when the batch is full."""
        self._n_submitted += 1
        self._windows.append(window)
        self._callbacks.append(on_result)
        if len(self._windows) == self.batch_size:
            self.finish()
        return self._n_submitted

    def flush(self, number: int | None = None) -> None:
        """Compute the waiting windows, if window `number` is among them or it is None."""
        if number is None or number > self._n_submitted - len(self._windows):
            self.finish()

    def finish(self) -> None:
        """Compute the waiting windows."""
        if not self._windows:
            return
        with torch.inference_mode():
            logits, attention = self.network(torch.from_numpy(np.stack(self._windows)).to(self.device))
        for index, on_result in enumerate(self._callbacks):
            on_result(logits[index].cpu().numpy(), attention[index].cpu().numpy())
        self._windows, self._callbacks = [], []
