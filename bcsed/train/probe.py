"""A head on the embeddings of a network (a linear probe), trained in minutes and sealed with it as a bundle."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._version import __version__
from ..config.recipe import Data
from ..config.strict import check_types, one_of, to_dict
from ..data.competitions import detect_competition, read_class_list
from ..data.label_files import read_train
from ..data.labels import NEVER_HELD_OUT, class_priors, make_targets
from ..errors import ConfigError, DataError
from ..files import sha256
from ..models.bundle.bundle import Bundle, load
from ..models.bundle.seal import require_new_folder
from ..models.heads import ProbeHead, SequenceHead, embed_silence, seal_head
from ..predict.pipeline import single_torch_thread
from ..scores.evaluation import Evaluation
from .probe_windows import (
    Windows,
    describe_windows,
    label_windows,
    make_windows,
    name_recordings,
    read_rows,
    read_tables,
)
from .sequence import Index, fit_mixed, fit_sequence, score_windows

Array = npt.NDArray[np.float32]

# Inverse strengths of the penalty of weights that are compared on folds, for embeddings of mean variance 1.
STRENGTHS = (0.03, 0.1, 0.3, 1.0)
# Targets below this share of a window are left out.
_LEAST = 0.02
# Training of the hidden layer: AdamW with one cycle of the learning rate.
_BATCH, _STEPS, _RATE, _DECAY, _DROPOUT = 256, 600, 1e-3, 0.05, 0.3


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How a head on embeddings is trained."""

    #: Multinomial logistic regression; or 'hidden', with one hidden layer of 512 units; or 'sequence', with attention
    #: over consecutive windows, see `bcsed.train.sequence`.
    head: str = "linear"
    strength: float | None = None  #: inverse strength of the linear penalty; None: the best of `STRENGTHS` on folds
    balance: bool = False  #: weigh classes inversely to their number of windows
    #: Share of windows, or of sequences, that are mixed with another; by default 0, and 1 for the head 'sequence'.
    mix: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "head", ("linear", "hidden", "sequence"))
        if not 0 <= self.mixed <= 1:
            raise ConfigError(f"mix must be a share in [0, 1], got {self.mixed:g}.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"the seed must be 0 or more, got {self.seed}.")
        if self.head == "linear" and self.mix:
            raise ConfigError(
                "mix is for the heads 'hidden' and 'sequence'; the linear head is trained on single windows."
            )
        if self.head != "linear" and self.strength is not None:
            raise ConfigError("strength is for the head 'linear'.")
        if self.strength is not None and not self.strength > 0:
            raise ConfigError(f"strength must be positive, got {self.strength:g}.")

    @property
    def mixed(self) -> float:
        """The stated or default share of mixed windows."""
        return float(self.head == "sequence") if self.mix is None else self.mix


def train_probe(
    embeddings: Sequence[str | Path],
    data: str | Path,
    out: str | Path,
    *,
    bundle: str | Path | None = None,
    options: ProbeOptions | None = None,
    pseudolabels: str | Path | None = None,
    labels: Sequence[str | Path] = (),
    noise: Sequence[str | Path] = (),
    log: Callable[[str], None] = print,
) -> tuple[Bundle, Evaluation | None]:
    """Train a head on embeddings, evaluate it out of fold, and seal it with the network that computes them.

    Parameters
    ----------
    embeddings : sequence of str or Path
        Tables of `bcsed.predict.embed` of one bundle: of the clips of `data`, and of pseudolabelled soundscapes.
    data : str or Path
        A competition's folder: labels, classes and groups of the folds.
    out : str or Path
        A new folder for the bundle.
    bundle : str or Path, optional
        The bundle of the embeddings, by default at the path that their table states.
    pseudolabels : str or Path, optional
        Table of pseudolabels of soundscapes, whose values become soft targets of the windows.
    labels : sequence of str or Path
        Labels of soundscapes, as for `bcsed.train.TrainInputs`. A row of which only some classes are known is used if
        one of them calls; the others then count as absent.
    noise : sequence of str or Path
        Tables of `bcsed.predict.embed` of recordings without any of the classes: all windows are negatives.
    log : callable
        Called with a sentence about the choice of the strength.

    Returns the new bundle and the scores of the clips out of fold, None if no clip can be held out. Raises ConfigError,
    DataError or BundleError if the tables are of several or another bundle, or do not fit the data.
    """
    options = options or ProbeOptions()
    require_new_folder(out)
    frame, vectors, metadata = read_tables([*embeddings, *noise])
    path = Path(metadata["bundle"] if bundle is None else bundle)
    if bundle is None and not path.is_dir():
        raise ConfigError(f"the bundle of the embeddings is no longer {path}; name it as --bundle.")
    network = load(path)
    if network.sha256 != metadata["sha256"]:
        raise ConfigError(f"the embeddings were not made by {network.path}; name their --bundle.")
    competition = detect_competition(data)
    classes = read_class_list(data, competition)
    clips = read_train(data, competition, classes)
    targets = make_targets(clips, classes, Data())[0]
    is_noise = (frame["table"] >= len(embeddings)).to_numpy()
    mixed = frame["filename"][is_noise & frame["filename"].isin(clips["filename"])]
    if len(mixed):
        raise DataError(
            f"{mixed.iloc[0]!r} is in a table of noise and a clip of {data}; noise has no clip of the data."
        )
    names = name_recordings(frame, vectors, [*embeddings, *noise], len(embeddings))
    window_s, start_s = network.contract.frontend.window_s, frame["start_s"].to_numpy()
    sources = read_rows(pseudolabels, labels, Path(data), classes, log)
    of_rows = label_windows(sources, len(classes), names, start_s + 0.5 * window_s, log) if sources else None
    windows = make_windows(clips, targets, (names, start_s, vectors), of_rows, is_noise, window_s, options.seed)
    log(describe_windows(windows, len(clips), len(names), classes))
    if noise:
        log(f"{is_noise.sum()} of these windows are of noise, without any class")
    mean, scale = windows.vectors.mean(0), float(np.sqrt(windows.vectors.var(0).mean()))
    windows = replace(windows, vectors=(windows.vectors - mean) / max(scale, 1e-9))
    if options.head == "sequence":
        windows = _add_silence(windows, (embed_silence(network) - mean) / max(scale, 1e-9))
    strength, evaluation = _evaluate(windows, clips, classes, options, log)
    head = _fit(windows, options, strength)
    provenance = {
        **{key: network.provenance[key] for key in ("model", "licence", "source") if key in network.provenance},
        "network": {"bundle": network.name, "fingerprint": network.contract.fingerprint, "sha256": network.sha256},
        "embeddings_sha256": [sha256(Path(path)) for path in (*embeddings, *noise)],
        "probe": {
            **to_dict(options),
            "mix": options.mixed,
            **({"strength": strength} if options.head == "linear" else {}),
        },
        "n_clips": len(np.unique(windows.clip_of[windows.clip_of >= 0])),
        "n_noise_windows": int(is_noise.sum()),
        "trained": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"bcsed": __version__},
    }
    sealed = seal_head(
        network, head.unscaled(mean, scale), out, classes=classes, priors=class_priors(targets), provenance=provenance
    )
    return sealed, evaluation


def _add_silence(windows: Windows, vector: Array) -> Windows:
    """Return the windows with a last one of silence, which is none of the classes."""
    none = np.eye(windows.targets.shape[1], dtype=np.float32)[-1:]
    return Windows(
        vectors=np.vstack([windows.vectors, vector]),
        targets=np.vstack([windows.targets, none]),
        fold_of=np.append(windows.fold_of, NEVER_HELD_OUT),
        clip_of=np.append(windows.clip_of, -1),
        following=np.append(windows.following, len(windows.following)),
    )


def _evaluate(
    windows: Windows,
    clips: pd.DataFrame,
    classes: Sequence[str],
    options: ProbeOptions,
    log: Callable[[str], None],
) -> tuple[float, Evaluation | None]:
    """Return the strength with the lowest cross-entropy out of fold, and the clips' scores out of fold with it."""
    held_out = windows.fold_of != NEVER_HELD_OUT
    strengths = (options.strength,) if options.strength else STRENGTHS if options.head == "linear" else (1.0,)
    if not held_out.any():
        log("no clip can be held out, so nothing is known about the scores of other clips")
        return options.strength or STRENGTHS[1], None
    best: tuple[float, float, Array] | None = None
    for strength in strengths:
        scores = np.zeros_like(windows.targets)
        for fold in np.unique(windows.fold_of[held_out]):
            head, valid = _fit(windows.select(windows.fold_of != fold), options, strength), windows.fold_of == fold
            held = windows.select(valid)
            if isinstance(head, SequenceHead):
                scores[valid] = score_windows(head, held.vectors, held.following)
            else:
                scores[valid] = head.scores(held.vectors)
        loss = float(-(windows.targets * np.log(scores + 1e-9)).sum(1)[held_out].mean())
        setting = f"strength {strength:g}: " if options.head == "linear" else ""
        log(f"{setting}cross-entropy {loss:.4f} out of fold")
        if best is None or loss < best[0]:
            best = loss, strength, scores
    assert best is not None
    frame = pd.DataFrame(best[2][held_out, :-1]).groupby(windows.clip_of[held_out]).mean()
    rows = frame.index.to_numpy()
    index = pd.Index(classes).get_indexer(clips["label"].iloc[rows])
    evaluation = Evaluation(
        kind="clips",
        ids=tuple(clips["filename"].iloc[rows]),
        files=tuple(clips["recording"].iloc[rows]),
        classes=tuple(classes),
        truth=(np.arange(len(classes)) == index[:, None]).astype(np.uint8),
        scores=frame.to_numpy(np.float32),
    )
    return best[1], evaluation


def _fit(windows: Windows, options: ProbeOptions, strength: float) -> ProbeHead | SequenceHead:
    vectors, targets = windows.vectors, windows.targets
    weight = np.ones(len(vectors), np.float32)
    if options.balance:
        counts = targets.sum(0)
        weight = (targets / np.maximum(counts, 1e-9)).sum(1).astype(np.float32)
        weight *= len(weight) / weight.sum()
    if options.head == "linear":
        return _fit_linear(vectors, targets, weight, strength)
    if options.head == "sequence":
        return fit_sequence(vectors, targets, weight, windows.following, options.mixed, options.seed)
    return _fit_hidden(vectors, targets, weight, options)


def _fit_linear(vectors: Array, targets: Array, weight: Array, strength: float) -> ProbeHead:
    """Fit scikit-learn's logistic regression; a window with several classes counts for each by its share."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows, columns = np.nonzero(targets >= _LEAST)
    model = LogisticRegression(C=strength, max_iter=200)
    present = np.unique(columns)
    W, b = np.zeros((targets.shape[1], vectors.shape[1])), np.full(targets.shape[1], -20.0)
    if len(present) < 2:
        raise DataError("all windows have the same class; a head needs at least two, or negatives.")
    # One thread: the products are small, and threads that wait for one another take minutes on a busy machine.
    with warnings.catch_warnings(), threadpool_limits(1):
        # The last digits of the weights do not matter for ranks.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors[rows], columns, sample_weight=targets[rows, columns] * weight[rows])
    if len(present) == 2:  # one row for the second class against the first
        W[present[1]], b[present] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        W[present], b[present] = model.coef_, model.intercept_
    return ProbeHead(((W.astype(np.float32), b.astype(np.float32)),))


def _fit_hidden(vectors: Array, targets: Array, weight: Array, options: ProbeOptions) -> ProbeHead:
    """Train one hidden layer on mixed windows, with one thread so that the result does not depend on the machine."""
    import torch
    from torch import nn

    generator, rng = torch.Generator().manual_seed(options.seed), np.random.default_rng(options.seed)
    x, t, w = map(torch.from_numpy, (vectors.astype(np.float32), targets, weight))

    def draw() -> tuple[Index, Index, npt.NDArray[np.floating]]:
        first, second = torch.randint(len(x), (2, min(_BATCH, len(x))), generator=generator).numpy()
        share = rng.uniform(0.5, 1.0, len(first))
        return first, second, np.where(rng.random(len(first)) < options.mixed, share, 1.0)

    with torch.random.fork_rng(), single_torch_thread():
        torch.manual_seed(options.seed)
        net = nn.Sequential(nn.Linear(x.shape[1], 512), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(512, t.shape[1]))
        fit_mixed(net, (x, t, w), draw, rate=_RATE, decay=_DECAY, steps=_STEPS)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    return ProbeHead(tuple((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers))
