"""The probe: a fixed sound with its sealed image and outputs, to detect changed preprocessing or arithmetic."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import numpy.typing as npt

from ...config.contract import Frontend
from ...errors import BundleError
from ...files import read_errors
from .bundle import Bundle, compile_graph, read_graph
from .manifest import PROBE

Array = npt.NDArray[np.float32]

# The image lies in [0, 1]: this is .008 dB of an 80-dB window. Rounding on another CPU stays far below, any change
# of the front end far above.
IMAGE_TOLERANCE = 1e-4
# Logits and attention scores; float32 kernels of different CPUs agree to about 1e-5.
OUTPUT_TOLERANCE = 1e-3
# For compiling the graph and computing one window, which takes seconds.
LIMIT_S = 300.0
# The names of the arrays before schema 3.
_OLD_NAMES = {"image": "picture", "logits": "what", "attention": "when"}
_MEANING = {
    "image": "the network's input",
    "logits": "the network's output",
    **{name: f"the network's {name}" for name in ("attention", "embedding")},
}


def probe_wave(frontend: Frontend) -> Array:
    """Compute the probe's sound, of the length of a clip, in closed form.

    A chirp through the whole band that fades over 100 dB, clicks at uneven distances, a steady tone, and one second
    of silence.
    """
    n, rate = frontend.clip_samples, frontend.sample_rate
    time = np.arange(n) / rate
    length = n / rate
    sweep = np.sin(np.pi * (0.48 * rate) * time**2 / length)
    wave = 0.5 * sweep * 10 ** (-5.0 * time / length) + 0.05 * np.sin(2 * np.pi * 0.031 * rate * time)
    wave[(np.cumsum(np.arange(9)) * n // 40) % n] += 0.9
    wave[n - n // 3 : n - n // 3 + min(rate, n // 4)] = 0.0
    return wave.astype(np.float32)


def compute_probe(frontend: Frontend) -> tuple[Array, Array]:
    """Compute the probe's dB window (F, T) and image (C, H, W) with today's code."""
    import torch

    from ...audio.spectrogram import LogMel
    from ..network import ToImage

    with torch.no_grad():
        db = LogMel(frontend)(torch.from_numpy(probe_wave(frontend))[None])
        return db[0].numpy(), ToImage(frontend)(db)[0].numpy()


def run_probe(compiled: Any, frontend: Frontend) -> tuple[Array, ...]:
    """Return a compiled graph's logits and attention (t, K), and its embedding (E,) if it has one, for the probe."""
    return tuple(np.array(output[0]) for output in compiled(compute_probe(frontend)[0][None]).values())


def check(bundle: Bundle) -> dict[str, float]:
    """Compute the probe with today's code and compare with the sealed arrays: first the image, then the outputs.

    Returns the largest difference of ``image``, ``logits``, ``attention`` and, if sealed, ``embedding``. Raises
    BundleError with the name of the first stage that differs.
    """
    probe, frontend = bundle.path / PROBE, bundle.contract.frontend
    with (
        read_errors(probe, "a probe", BundleError),
        probe.open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        names = {name: old if old in stored else name for name, old in _OLD_NAMES.items()}
        if bundle.n_features and "embedding" in stored:
            names["embedding"] = "embedding"
        for name, key in names.items():
            _check_header(bundle, stored, name, key)
        sealed = {name: stored[key] for name, key in names.items()}
    differences = {"image": _compare(bundle, "image", sealed["image"], compute_probe(frontend)[1], IMAGE_TOLERANCE)}
    outputs = run_limited(bundle.path, lambda: run_probe(compile_graph(read_graph(bundle), frontend), frontend))
    for name, output in zip([name for name in sealed if name != "image"], outputs, strict=False):
        differences[name] = _compare(bundle, name, sealed[name], output, OUTPUT_TOLERANCE)
    return differences


def _check_header(bundle: Bundle, stored: Any, name: str, key: str) -> None:
    """Refuse an array of another shape or type before it is unpacked, which could take all memory."""
    frontend, outputs = bundle.contract.frontend, (bundle.steps, len(bundle.contract.classes))
    image = (frontend.n_channels, *frontend.image_shape)
    expected = {"image": image, "embedding": (bundle.n_features,)}.get(name, outputs)
    with stored.zip.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    if shape != expected or dtype != np.float32:
        raise BundleError(
            f"{bundle.path}: {PROBE} has {name} of {dtype} {shape}, but the bundle has float32 {expected}."
        )


def run_limited(path: Path, run: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
    """Return the result of a function, or raise BundleError if it takes longer than `LIMIT_S`."""
    results: Queue[tuple[Array, ...] | Exception] = Queue()

    def act() -> None:
        try:
            results.put(run())
        except Exception as error:
            results.put(error)

    threading.Thread(target=act, daemon=True).start()
    try:
        result = results.get(timeout=LIMIT_S)
    except Empty:
        # OpenVINO would wait for its threads at the end of the process.
        atexit.register(os._exit, 1)
        raise BundleError(f"{path}: the network did not compute the probe within {LIMIT_S:g} s.") from None
    if isinstance(result, RuntimeError):
        reason = str(result).splitlines()[-1]
        raise BundleError(f"{path}: OpenVINO cannot compute the network ({reason}).") from result
    if isinstance(result, Exception):
        raise result
    return result


def probe_difference(bundle: Bundle, precision: str) -> float:
    """Return the largest difference between the probe's logits in float32 and in another precision.

    Raises ConfigError if this CPU does not support the precision.
    """
    frontend, graph = bundle.contract.frontend, read_graph(bundle)
    exact, other = (run_probe(compile_graph(graph, frontend, precision=p), frontend)[0] for p in ("f32", precision))
    return float(np.abs(exact - other).max(initial=0.0))


def _compare(bundle: Bundle, name: str, sealed: npt.NDArray[Any], computed: Array, tolerance: float) -> float:
    changed = f"{bundle.path}: {_MEANING[name]} has changed since sealing: the probe's {name}"
    if sealed.shape != computed.shape:
        raise BundleError(f"{changed} has shape {computed.shape}, sealed with {sealed.shape}.")
    # Written so that a NaN on either side is a difference too.
    difference = float(np.abs(sealed.astype(np.float64) - computed).max(initial=0.0))
    if not difference <= tolerance:
        raise BundleError(
            f"{changed} differs by up to {difference:.3g} (allowed {tolerance:g}); this installation computes a "
            f"different {'spectrogram' if name == 'image' else 'output'} than the one that created the bundle."
        )
    return difference
