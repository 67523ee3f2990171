"""A head on the embeddings of consecutive windows: the sequences it is trained on, and its training."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..models.heads import Layer, SequenceHead
from ..predict.pipeline import single_torch_thread

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

# Windows that the head receives at once; 3, 5 and 7 were compared on folds of clips.
CONTEXT = 5
_BATCH, _UPDATES, _RATE, _DECAY, _DROPOUT = 64, 300, 1e-3, 0.05, 0.3
_HIDDEN, _QUERY = 256, 64
# Probability that another recording begins at a window, so that classes change within a sequence.
_CHANGE = 1 / 3
# Probability that it is silence, so that scores do not spread from a call into the end of a short recording.
_SILENCE = 0.2
# Least share of the first of two mixed windows; it is drawn for each window, as the levels of calls vary.
_LEAST_SHARE = 0.3
# Windows follow each other if one starts where the other ends, to this share of a window.
_TOLERANCE = 0.1


def find_followers(names: npt.NDArray[np.object_], start_s: npt.NDArray[np.float64], window_s: float) -> Index:
    """Return for each window the one that follows it without a gap in its recording; after the last, the first."""
    following = np.arange(len(names))
    order = np.lexsort((start_s, names))
    for mine in np.split(order, np.flatnonzero(names[order][1:] != names[order][:-1]) + 1):
        open_sequences: list[list[int]] = []
        for window in mine:
            for sequence in open_sequences:
                if abs(start_s[window] - start_s[sequence[-1]] - window_s) <= _TOLERANCE * window_s:
                    sequence.append(window)
                    break
            else:
                open_sequences.append([window])
        for sequence in open_sequences:
            following[sequence] = np.roll(sequence, -1)
    return following


def make_runs(first: Index, following: Index) -> Index:
    """Return the windows of sequences that begin with some windows, (N, `CONTEXT`); short recordings are repeated."""
    runs = [first]
    while len(runs) < CONTEXT:
        runs.append(following[runs[-1]])
    return np.stack(runs, 1)


def score_windows(head: SequenceHead, vectors: Array, following: Index) -> Array:
    """Return probabilities (N, K + 1) of windows: the mean over all positions in a sequence."""
    runs = make_runs(np.arange(len(vectors)), following)
    total = np.zeros((len(vectors), len(head.outer[1])), np.float32)
    for part in np.array_split(runs, -(-len(runs) // 1024)):
        np.add.at(total, part, head.scores(vectors[part]))
    # Each window is once at each position.
    return np.asarray(total / CONTEXT, np.float32)


class _Attention(nn.Module):
    """The network of `SequenceHead`."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.inner, self.value = nn.Linear(n_inputs, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN)
        self.query, self.key = nn.Linear(_HIDDEN, _QUERY), nn.Linear(_HIDDEN, _QUERY)
        self.outer = nn.Linear(2 * _HIDDEN, n_outputs)
        self.position = nn.Parameter(torch.zeros(CONTEXT, CONTEXT))
        self.drop = nn.Dropout(_DROPOUT)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(B, n, E) -> logits (B, n, K + 1)."""
        x = self.drop(self.inner(vectors).relu())
        attention = (self.query(x) @ self.key(x).mT / _QUERY**0.5 + self.position).softmax(-1)
        context = self.drop((attention @ self.value(x)).relu())
        logits: torch.Tensor = self.outer(torch.cat([x, context], -1))
        return logits

    def to_head(self) -> SequenceHead:
        """Return the trained head."""

        def read(layer: nn.Linear, factor: float = 1.0) -> Layer:
            return layer.weight.detach().numpy() * np.float32(factor), layer.bias.detach().numpy() * np.float32(factor)

        query, position = read(self.query, _QUERY**-0.5), self.position.detach().numpy()
        layers = {name: read(getattr(self, name)) for name in ("inner", "key", "value", "outer")}
        return SequenceHead(**layers, query=query, position=position)


def fit_sequence(
    vectors: Array, targets: Array, weight: Array, following: Index, mix: float, seed: int
) -> SequenceHead:
    """Train attention over sequences of windows, `mix` of which are sums of two; the last window is silence."""
    rng, N = np.random.default_rng(seed), len(vectors)
    x, t, w = map(torch.from_numpy, (vectors.astype(np.float32), targets, weight))

    def begin() -> Index:
        return np.where(rng.random(_BATCH) < _SILENCE, N - 1, rng.integers(N, size=_BATCH))

    def draw() -> Index:
        runs = np.empty((CONTEXT, _BATCH), np.int64)
        runs[0] = begin()
        for previous, window in itertools.pairwise(runs):
            changes = rng.random(_BATCH) < _CHANGE
            window[:] = np.where(changes, begin(), following[previous])
        return np.ascontiguousarray(runs.T)

    def draw_pair() -> tuple[Index, Index, npt.NDArray[np.floating]]:
        first, second = draw(), draw()
        return first, second, np.where(rng.random((_BATCH, 1)) < mix, rng.uniform(_LEAST_SHARE, 1.0, first.shape), 1.0)

    with torch.random.fork_rng(), single_torch_thread():
        torch.manual_seed(seed)
        net = _Attention(x.shape[1], t.shape[1])
        fit_mixed(net, (x, t, w), draw_pair, rate=_RATE, decay=_DECAY, steps=_UPDATES)
    return net.eval().to_head()


def fit_mixed(
    net: nn.Module,
    windows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    draw: Callable[[], tuple[Index, Index, npt.NDArray[np.floating]]],
    *,
    rate: float,
    decay: float,
    steps: int,
) -> None:
    """Train a network on sums of two windows each; `windows` are their vectors, targets and loss weights.

    `draw` returns the indices of the first and the second windows of a batch, and the share of the first.
    """
    x, t, w = windows
    adam = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps)
    for _ in range(steps):
        first, second, share = draw()
        part = torch.from_numpy(share.astype(np.float32))[..., None]
        logits = net(part * x[first] + (1 - part) * x[second])
        wanted = part * t[first] + (1 - part) * t[second]
        loss = -((wanted * logits.log_softmax(-1)).sum(-1) * w[first]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        cycle.step()
