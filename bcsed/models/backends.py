"""Backends: compute windows with a compiled graph or with a torch network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config.contract import Contract
from .bundle.bundle import Bundle, compile_graph, read_graph

if TYPE_CHECKING:
    import torch

    from .network import SedNet

Array = npt.NDArray[np.float32]
# Called with the logits and attention (t, K) of one window, possibly from another thread. The arrays are valid only
# until the callback returns.
OnResult = Callable[[Array, Array], None]

# Windows of at most this many values are computed in pairs: most of the memory traffic is then the heads' weights,
# which are read once for both. 128 x 320 cost 4 to 6 % less; 192 x 768 cost 10 % more, and batches of four more than
# pairs.
PAIRED = 50_000


class Backend:
    """Compute windows in batches and pass the outputs to callbacks; for use by one thread.

    Windows are numbered from 1 in order of submission. They wait until a batch is full, also for windows of other
    recordings; call `flush` before waiting for a window.
    """

    def __init__(self, contract: Contract, steps: int, batch_size: int) -> None:
        self.contract, self.steps, self.batch_size = contract, steps, batch_size
        # Windows that can be computed at once.
        self.max_in_flight = batch_size
        self._n_submitted = 0
        self._windows: list[Array] = []
        self._callbacks: list[OnResult] = []

    def submit(self, window: Array, on_result: OnResult) -> int:
        """Accept a dB window (F, T), possibly a view of an array, and return its number."""
        self._windows.append(window)
        self._callbacks.append(on_result)
        self._n_submitted += 1
        if len(self._windows) == self.batch_size:
            self.flush()
        return self._n_submitted

    def flush(self, number: int | None = None) -> None:
        """Start the waiting windows; with `number`, only if that window is among them."""
        if self._windows and (number is None or number > self._n_submitted - len(self._windows)):
            windows, callbacks = self._windows, self._callbacks
            self._windows, self._callbacks = [], []
            self._start(windows, callbacks)

    def finish(self) -> None:
        """Return when every window has been computed; raise the error of a window that failed."""
        self.flush()

    def _start(self, windows: list[Array], callbacks: list[OnResult]) -> None:
        raise NotImplementedError


class OpenVinoBackend(Backend):
    """Compute windows with a bundle's graph, asynchronously on the CPU; parameters as `bundle.compile_graph`.

    The logits of a bundle `as_embedding` are its embedding, in one time step.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, precision: str = "f32", cache: str | Path | None = None
    ) -> None:
        import openvino

        self.bundle, self.precision, self.cache = bundle, precision, cache
        frontend = bundle.contract.frontend
        is_small = frontend.n_mels * frontend.n_frames <= PAIRED and not frontend.is_wave
        batch_size = 2 if is_small else 1
        super().__init__(bundle.contract, bundle.steps, batch_size)
        graph = read_graph(bundle)
        compiled = compile_graph(graph, frontend, threads=threads, precision=precision, cache=cache, batch=batch_size)
        # Twice the streams, so that no stream waits while another's outputs are copied.
        n_requests = 2 * int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._queue = openvino.AsyncInferQueue(compiled, n_requests)
        self._queue.set_callback(_call_embeddings if bundle.is_embedding else _call_results)
        self.max_in_flight = n_requests * batch_size

    def finish(self) -> None:
        """Wait for all windows."""
        self.flush()
        self._queue.wait_all()

    def _start(self, windows: list[Array], callbacks: list[OnResult]) -> None:
        # The batch size is fixed: the last window fills up an incomplete batch.
        windows = windows + windows[-1:] * (self.batch_size - len(windows))
        # Blocks until a request is idle; it stays the first idle one until it is started, as only one thread starts
        # requests.
        request = self._queue[self._queue.get_idle_request_id()]
        np.stack(windows, out=request.get_input_tensor().data)
        self._queue.start_async(None, callbacks)


# A function, not a method: OpenVINO hides the reference cycle from the garbage collector, so the model would never be
# freed.
def _call_results(request: Any, callbacks: Sequence[OnResult]) -> None:
    logits, attention = (request.get_output_tensor(index).data for index in (0, 1))
    for index, on_result in enumerate(callbacks):
        on_result(logits[index], attention[index])


def _call_embeddings(request: Any, callbacks: Sequence[OnResult]) -> None:
    embeddings = request.get_output_tensor(2).data[:, None]
    attention = np.zeros_like(embeddings[0])
    for index, on_result in enumerate(callbacks):
        on_result(embeddings[index], attention)


class TorchBackend(Backend):
    """Compute windows with a torch network in evaluation mode."""

    def __init__(self, network: SedNet, contract: Contract, device: torch.device, batch_size: int = 16) -> None:
        super().__init__(contract, network.steps, batch_size)
        self.network, self.device = network, device

    def _start(self, windows: list[Array], callbacks: list[OnResult]) -> None:
        import torch

        with torch.inference_mode():
            logits, attention = self.network(torch.from_numpy(np.stack(windows)).to(self.device))
        for index, on_result in enumerate(callbacks):
            on_result(logits[index].cpu().numpy(), attention[index].cpu().numpy())
