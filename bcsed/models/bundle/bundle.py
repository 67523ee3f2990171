"""The folder that proves itself: a network, what it was made to hear, and what it answered once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._version import __version__
from ...config.contract import Contract, Frontend
from ...config.strict import to_dict
from ...errors import BundleError
from ...files import atomic_write, read_errors, sha256
from .graph import PRECISIONS as PRECISIONS
from .graph import compile_graph as compile_graph
from .graph import read_graph as read_graph
from .manifest import GRAPH, GRAPH_WEIGHTS, MANIFEST, PROBE, SCHEMA, WEIGHTS, check_files, read_contract, read_manifest

# The picture lies in [0, 1]: this is .008 dB of an 80-dB window. Rounding on another CPU stays far below,
# any change of the signal far above.
PICTURE_TOLERANCE = 1e-4
# Logits and attention scores; float32 kernels of different CPUs agree to about 1e-5.
ANSWER_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose files are all there and unchanged, and agree with one another.

    Parameters
    ----------
    path : Path
    contract : Contract
        Signal, network and classes.
    steps : int
        Steps in which the network answers a window.
    priors : tuple of float
        Share of training clips per class: what is known of a recording that cannot be read.
    recipe, provenance : mapping
        How it was trained, from what, and when; recorded only.
    sha256 : str
        Of the graph's weights: which training this is.
    """

    path: Path
    contract: Contract
    steps: int
    priors: tuple[float, ...]
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name


def probe_wave(frontend: Frontend) -> npt.NDArray[np.float32]:
    """Return the closed-form sound that a bundle is checked with.

    A chirp through the whole band that fades over 100 dB, clicks at uneven distances, a steady tone, and
    one second of nothing.

    Returns
    -------
    ndarray of float32, shape (signal.clip_samples,)
    """
    n, rate = frontend.clip_samples, frontend.sample_rate
    time = np.arange(n) / rate
    length = n / rate
    sweep = np.sin(np.pi * (0.48 * rate) * time**2 / length)
    wave = 0.5 * sweep * 10 ** (-5.0 * time / length) + 0.05 * np.sin(2 * np.pi * 0.031 * rate * time)
    wave[(np.cumsum(np.arange(9)) * n // 40) % n] += 0.9
    wave[n - n // 3 : n - n // 3 + min(rate, n // 4)] = 0.0
    return wave.astype(np.float32)


def probe_picture(frontend: Frontend) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the probe as today's code hears it: the dB window (F, T) and the picture (C, H, W)."""
    import torch

    from ...audio.spectrogram import LogMel
    from ..network import ToImage

    with torch.no_grad():
        db = LogMel(frontend)(torch.from_numpy(probe_wave(frontend))[None])
        return db[0].numpy(), ToImage(frontend)(db)[0].numpy()


def require_new_folder(out: str | Path) -> Path:
    """Return the path of a bundle to be, refusing one that is taken."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} is already there; name a new folder for the bundle.")
    return out


def seal(
    out: str | Path,
    graph: Any,
    weights: Mapping[str, Any] | None,
    *,
    contract: Contract,
    steps: int,
    priors: npt.NDArray[np.float32],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Write a bundle, whole or not at all, and load it.

    Parameters
    ----------
    out : str or Path
        A folder that does not exist yet, or is empty.
    graph : openvino.Model
        Input (B, F, T) in dB; outputs `logits` and `attention`, (B, t, K) each.
    weights : mapping of str to Tensor, optional
        The network's state.
    contract, steps, priors, recipe, provenance
        See `Bundle`.

    Raises
    ------
    BundleError
        If `out` is taken, or the disk refuses.
    """
    import openvino

    out = require_new_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise BundleError(f"{out}: could not be written ({error.strerror}).") from error
    try:
        graph.set_rt_info(contract.fingerprint, ["bcsed", "fingerprint"])
        openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
        _, picture = probe_picture(contract.frontend)
        logits, attention = _answer(compile_graph(graph, contract.frontend), contract.frontend)
        np.savez_compressed(folder / PROBE, picture=picture, logits=logits, attention=attention)
        if weights is not None:
            from safetensors.torch import save_file

            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            save_file(tensors, folder / WEIGHTS, metadata={"fingerprint": contract.fingerprint})
        manifest = {
            "schema": SCHEMA,
            "bcsed": __version__,
            "contract": to_dict(contract),
            "fingerprint": contract.fingerprint,
            "steps": steps,
            "priors": [round(float(value), 8) for value in priors],
            "recipe": dict(recipe),
            "provenance": dict(provenance),
            "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
        }
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        folder.chmod(0o755)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{out}: the bundle could not be written ({str(error).splitlines()[0]}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load(out)


def load(path: str | Path) -> Bundle:
    """Read a bundle; the only door.

    Raises
    ------
    BundleError
        If it is incomplete, of an unknown schema, was changed, contradicts itself, or holds the graph of
        another bundle.
    """
    path = Path(path)
    manifest = read_manifest(path)
    contract = read_contract(path, manifest)
    check_files(path, manifest["files"])
    steps = manifest["steps"]
    if not isinstance(steps, int) or steps < 1 or contract.frontend.n_frames % steps:
        raise BundleError(f"{path}: steps is {steps!r}, which does not divide {contract.frontend.n_frames} frames.")
    priors = manifest["priors"]
    if (
        not isinstance(priors, list)
        or len(priors) != len(contract.classes)
        or not all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in priors)
    ):
        raise BundleError(f"{path}: priors must be {len(contract.classes)} shares in [0, 1].")
    bundle = Bundle(
        path=path,
        contract=contract,
        steps=steps,
        priors=tuple(map(float, priors)),
        recipe=manifest["recipe"],
        provenance=manifest["provenance"],
        sha256=manifest["files"][GRAPH_WEIGHTS],
    )
    _check_graph(bundle)
    return bundle


def check(bundle: Bundle) -> dict[str, float]:
    """Play the probe through today's code and compare: what the network sees first, its answer second.

    Returns
    -------
    dict
        Largest difference of ``picture``, ``what`` and ``when``.

    Raises
    ------
    BundleError
        Naming the first stage that differs.
    """
    probe = bundle.path / PROBE
    with read_errors(probe, "a probe", BundleError), np.load(probe, allow_pickle=False) as stored:
        # Before schema 3 the network's outputs had other names.
        names = {"picture": "picture", "logits": "what", "attention": "when"} if "what" in stored else {}
        then = {name: stored[names.get(name, name)] for name in ("picture", "logits", "attention")}
    _, picture = probe_picture(bundle.contract.frontend)
    found = {"picture": _compare(bundle, "picture", then["picture"], picture, PICTURE_TOLERANCE)}
    logits, attention = _answer(compile_graph(read_graph(bundle), bundle.contract.frontend), bundle.contract.frontend)
    for name, now in (("logits", logits), ("attention", attention)):
        found[name] = _compare(bundle, name, then[name], now, ANSWER_TOLERANCE)
    return found


def probe_difference(bundle: Bundle, precision: str) -> float:
    """Return the largest difference, in logits, between the probe's answers in float32 and in another precision.

    Raises
    ------
    ConfigError
        If this CPU does not compute in it.
    """
    frontend, graph = bundle.contract.frontend, read_graph(bundle)
    (first, _), (second, _) = (
        _answer(compile_graph(graph, frontend, precision=p), frontend) for p in ("f32", precision)
    )
    return float(np.abs(first - second).max())


def read_weights(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's weights as tensors under today's names, for further training.

    Raises
    ------
    BundleError
        If it was sealed without them, or they are none.
    """
    from safetensors.torch import load_file

    from ..network import modern_names

    if not (bundle.path / WEIGHTS).is_file():
        raise BundleError(f"{bundle.path} was sealed without {WEIGHTS}; it can predict but not be trained on.")
    with read_errors(bundle.path / WEIGHTS, "safetensors", BundleError):
        tensors: dict[str, Any] = load_file(bundle.path / WEIGHTS)
    return modern_names(tensors)


def _check_graph(bundle: Bundle) -> None:
    graph, contract = read_graph(bundle), bundle.contract
    found = None
    if graph.has_rt_info(["bcsed", "fingerprint"]):
        found = graph.get_rt_info(["bcsed", "fingerprint"]).astype(str)
    if found != contract.fingerprint:
        raise BundleError(
            f"{bundle.path}: the graph belongs to another bundle: it was made for contract {found}, "
            f"{MANIFEST} says {contract.fingerprint}."
        )
    shape = [dim.get_length() if dim.is_static else None for dim in graph.outputs[0].partial_shape]
    if len(graph.outputs) != 2 or shape[1:] != [bundle.steps, len(contract.classes)]:
        raise BundleError(
            f"{bundle.path}: the graph answers {shape[1:]} (steps, classes), {MANIFEST} says "
            f"{[bundle.steps, len(contract.classes)]}."
        )


def _answer(compiled: Any, frontend: Frontend) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    db, _ = probe_picture(frontend)
    answer = compiled(db[None])
    return np.array(answer[0][0]), np.array(answer[1][0])


def _compare(bundle: Bundle, stage: str, then: npt.NDArray[Any], now: npt.NDArray[Any], tolerance: float) -> float:
    told = {"picture": "what the network sees", "logits": "what the network answers", "attention": "its attention"}
    if then.shape != now.shape:
        raise BundleError(
            f"{bundle.path}: {told[stage]} differs from the day of sealing: the probe's {stage} has shape "
            f"{now.shape}, sealed was {then.shape}."
        )
    # A NaN on either side is a difference too.
    difference = float(np.abs(then.astype(np.float64) - now).max())
    if not difference <= tolerance:
        raise BundleError(
            f"{bundle.path}: {told[stage]} differs from the day of sealing: the probe's {stage} by up to "
            f"{difference:.3g} (allowed {tolerance:g}); this installation does not hear as the bundle's did."
        )
    return difference
