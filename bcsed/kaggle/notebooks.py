"""The five notebooks, their settings and metadata: a folder for ``kaggle kernels push``.

A notebook installs bcsed, lists its settings, and calls one function of `bcsed.kaggle`. The folders in
``kaggle_notebooks`` are those that `kernel` writes for the owner ``bcsed``.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError
from ..files import is_occupied, write_json
from .datasets import WHEELS_SLUG, check_owner, read_wheels

METADATA = "kernel-metadata.json"

_INSTALL = """
import os, subprocess, sys
INPUT = os.environ.get("BCSED_KAGGLE_ROOT", "/kaggle") + "/input"
WHEELS = "{dataset}"  # the data set from which pip installs, if its files have these SHA-256
REQUIREMENTS = \"\"\"
{requirements}\"\"\"
assert REQUIREMENTS.strip(), "write this notebook with `bcsed kaggle kernel`, which adds the SHA-256 of your wheels"
FOLDERS = [f"{{INPUT}}/datasets/{{WHEELS}}", f"{{INPUT}}/{{os.path.basename(WHEELS)}}"]
FOLDER = next(filter(os.path.isdir, FOLDERS), None)
assert FOLDER, f"attach the data set {{WHEELS}}; there is {{os.listdir(INPUT)}}"
PIP = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--only-binary=:all:"]
PIP += ["--require-hashes", "--find-links=" + FOLDER, "--requirement=/dev/stdin"]
subprocess.run(PIP, input=REQUIREMENTS.encode(), check=True)
"""


def _setting(default: Any, comment: str) -> Any:
    return field(default=default, metadata={"comment": comment})


@dataclass(frozen=True, kw_only=True)
class _Settings:
    competition: str = _setting("birdclef-2026", "slug or path of the competition's data")


@dataclass(frozen=True, kw_only=True)
class _TrainingSettings(_Settings):
    resume: str = _setting("auto", '"fresh", or the slug or path of what is continued')
    hours: float = _setting(8.3, "the work stops after these hours and can be continued")
    processes: int | None = _setting(None, "processes that share every batch; None for one per GPU")
    jobs: int = _setting(4, "decoding threads of each process")
    cache_gb: float = _setting(4.0, "memory for decoded recordings of each process")
    on_error: str = _setting("stop", "at an unreadable training recording, or skip")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(_TrainingSettings):
    """Settings of `bcsed.kaggle.train`; ``changes`` are those of ``bcsed train --set``."""

    experiment: str = _setting("exp-39", "a name listed by `bcsed experiments`")
    changes: Sequence[str] = _setting((), 'fields to change, such as ["fit.epochs=15"]')
    fold: int | None = _setting(0, "the held-out fold, or None")
    pretrained: str = _setting("", 'required: file, slug or path of initial weights; "none" for a random start')
    key_map: str = _setting("", 'tensor names of these weights: JSON of prefixes, its file, or "order"')
    allow_mismatch: bool = _setting(False, "start although tensors are missing or unused")
    pseudolabels: str = _setting("", "slug or path of a table, if several are attached")
    teacher: Sequence[str] = _setting((), "files, slugs or paths of a teacher's embeddings, for distillation")
    labels: Sequence[str] = _setting((), "files, slugs or paths of labels of further soundscapes")
    events: Sequence[str] = _setting((), "of annotation tables, for fit.strong_weight")
    noise: str = _setting("", "slug or path of recordings without any class")


@dataclass(frozen=True, kw_only=True)
class RoundsSettings(_TrainingSettings):
    """Settings of `bcsed.kaggle.rounds`; ``changes`` are those of ``bcsed rounds --set``."""

    plan: str = _setting("noisy-student", "a preset of `bcsed rounds`, or file, slug or path of a plan")
    changes: Sequence[str] = _setting((), 'fields of every student to change, such as ["fit.epochs=15"]')
    pretrained: str = _setting("", "required, as for train, for rounds of the plan that name none")
    recordings: Sequence[str] = _setting((), "slugs or paths of labelled soundscapes to evaluate on")
    truth: str = _setting("", "file, slug or path of their labels")
    labels: Sequence[str] = _setting((), "files, slugs or paths of labels of further soundscapes to train on")
    events: Sequence[str] = _setting((), "of annotation tables, for fit.strong_weight")
    noise: str = _setting("", "slug or path of recordings without any class")


@dataclass(frozen=True, kw_only=True)
class _ScoringSettings(_Settings):
    bundles: Sequence[str] = _setting((), "slugs, names or paths of bundles; [] for all that are attached")
    tables: Sequence[str] = _setting((), "score tables to average too: paths, also in working, slugs or names of files")
    missing_rows: str = _setting("refuse", "rows that a table lacks: an error; others: the mean of the other members")
    weights: Sequence[float] | None = _setting(None, "one weight per bundle, then per table; None for equal weights")
    class_weights: Sequence[str] = _setting((), 'for taxa or classes, such as ["2.Aves=0.5"] of the second of these')
    windows: str = _setting("centred", "or sliding, which is faster")
    stride_s: float | None = _setting(None, "stride of sliding windows in seconds; None for half a window")
    pool: str = _setting("bundle", "of a row's time steps: as trained, max or prob_max")
    jobs: int = _setting(2, "decoding threads")


@dataclass(frozen=True, kw_only=True)
class PseudolabelSettings(_ScoringSettings):
    """Settings of `bcsed.kaggle.pseudolabel`; see `bcsed.train.pseudolabels.Selection` for the selection."""

    ensemble_mean: str = _setting("prob", "mean of the teachers: prob or logit")
    select: str = _setting("threshold", "or top, or soft: which probabilities are kept")
    threshold: float = _setting(0.5, "with threshold: the lowest probability")
    class_thresholds: Sequence[str] = _setting((), 'its exceptions, such as ["compot1=0.7"]')
    top_n: int = _setting(0, "with top: rows of each class, the highest")
    min_score: float = _setting(0.1, "with top: the lowest probability")
    power: float = _setting(1.0, "exponent of the probabilities; above 1 sharpens")
    balance: float = _setting(0.0, "scale the odds of each class; at 1 all have the same sum of labels")
    limit: int | None = _setting(None, "number of soundscapes; None for all")
    hours: float = _setting(8.3, "the work stops after these hours and can be continued")


@dataclass(frozen=True, kw_only=True)
class SubmitSettings(_ScoringSettings):
    """Settings of `bcsed.kaggle.submit`; see `bcsed.predict.predict`."""

    ensemble_mean: str = _setting("prob", "mean of the bundles: prob, logit or rank")
    tta_shifts_s: Sequence[float] = _setting((0.0,), "average windows shifted by these seconds, such as [0, 1.5, -1.5]")
    precision: str = _setting("f32", "of the networks; bf16 fails on a CPU without it")
    postprocess: Sequence[str] = _setting((), 'stages, such as ["smooth=0.2,0.6,0.2", "2.top=3"]; 2 alone')
    budget_min: float = _setting(80.0, "minutes from the start within which all rows are written")
    rehearse: int = _setting(20, "number of soundscapes in a rehearsal")


@dataclass(frozen=True, kw_only=True)
class EmbedSettings(_Settings):
    """Settings of `bcsed.kaggle.embed`; see `bcsed.predict.embed.embed`."""

    bundle: str = _setting("", "slug, name or path of the bundle, if several are attached")
    of: str = _setting("clips", "or soundscapes: the training recordings to embed")
    step_s: int | None = _setting(None, "seconds between windows; None for the length of a window")
    jobs: int = _setting(2, "decoding threads")
    hours: float = _setting(8.3, "the work stops after these hours and can be continued")


class Notebook(NamedTuple):
    """A notebook: its text in Markdown, and the class of its settings."""

    text: str
    settings: type
    gpu: bool = False
    uses_training: bool = False  # whether the output of the training notebook is attached by default


NOTEBOOKS: Mapping[str, Notebook] = {
    "train": Notebook(
        """# Train a network with bcsed

Attach the data of the competition and the data set of wheels (`bcsed kaggle dataset`). If the experiment injects
pseudolabelled soundscapes, also attach the output of the pseudolabel notebook. Attach the model or data set of the
initial weights and name them in PRETRAINED; without a name the notebook lists the attached files and stops.

The notebook stops before Kaggle ends the session. To continue, attach its output as an input and run it again. Its
output is `run/` and, when all epochs are trained, `bundle-*/`, which the other notebooks use.""",
        TrainSettings,
        gpu=True,
    ),
    "pseudolabel": Notebook(
        """# Pseudolabel soundscapes with bcsed

Attach the data of the competition, the data set of wheels, and the teachers: outputs of the training notebook, or a
data set of `bcsed kaggle dataset --bundles`.

The output is `pseudolabels.parquet` with its provenance and a figure of the counts, for the training notebook. The
notebook stops before Kaggle ends the session. To continue, attach its output as an input and run it again.""",
        PseudolabelSettings,
        uses_training=True,
    ),
    "rounds": Notebook(
        """# Train in rounds with bcsed

Attach the data of the competition, the data set of wheels (`bcsed kaggle dataset`), and the model or data set of the
initial weights, named in PRETRAINED. In each round of the plan, networks are trained and exported; then they label the
training soundscapes for the next round.

The notebook stops before Kaggle ends the session. To continue, attach its output as an input and run it again. Its
output is `rounds/` with a ledger and, of each student, a run and a bundle.""",
        RoundsSettings,
        gpu=True,
    ),
    "embed": Notebook(
        """# Embed clips or soundscapes with bcsed

Attach the data of the competition, the data set of wheels, and a bundle: a foundation model of `bcsed adopt` in a data
set of `bcsed kaggle dataset --bundles`, or an output of the training notebook.

The output is `embeddings.parquet`, for `bcsed probe` and as TEACHER of the training notebook. The notebook stops before
Kaggle ends the session. To continue, attach its output as an input and run it again.""",
        EmbedSettings,
    ),
    "submit": Notebook(
        """# Score soundscapes with bcsed

Attach the data of the competition, the data set of wheels, and bundles: outputs of the training notebook, or a data
set of `bcsed kaggle dataset --bundles`. The notebook needs neither a network nor a GPU.

When it is saved, it rehearses: it scores training soundscapes with the same code and estimates the time for all test
recordings. When it is submitted, it scores the test recordings within its budget. The output is `submission.csv`.

Scores of another network are averaged too: write them with `row_id` and a column per class in a cell before the last
one, and name the file in TABLES.""",
        SubmitSettings,
        uses_training=True,
    ),
}


def kernel(
    kind: str,
    out: str | Path,
    owner: str,
    *,
    settings: Sequence[str] = (),
    title: str = "",
    datasets: Sequence[str] = (),
    kernels: Sequence[str] | None = None,
    models: Sequence[str] = (),
    wheels: str | Path | None = None,
) -> Path:
    """Write a folder for ``kaggle kernels push``: a notebook with its settings, and its metadata.

    Parameters
    ----------
    kind : {'train', 'pseudolabel', 'rounds', 'embed', 'submit'}
    out : str or Path
        The folder; files of an earlier call are replaced.
    settings : sequence of str
        Settings to change, ``name=value``.
    title : str
        ``bcsed <kind>`` by default.
    datasets, models : sequence of str
        Inputs to attach besides the wheels, ``owner/slug``.
    kernels : sequence of str, optional
        Notebooks whose output is attached; by default the owner's training notebook, if its bundles are needed and
        there are no `datasets`, which may contain bundles.
    wheels : str or Path, optional
        The folder of the data set of wheels, whose name and SHA-256 the notebook gets. Without it, the notebook is a
        template that installs nothing.

    Raises ConfigError or DataError if the kind or a setting is unknown, a value has another type, Kaggle does not
    accept a name, the wheels were changed or are of another version, or the folder contains other files.
    """
    if kind not in NOTEBOOKS:
        raise ConfigError(f"there is no notebook {kind!r}; there are {', '.join(NOTEBOOKS)}.")
    out, notebook = Path(out), NOTEBOOKS[kind]
    values = _read_settings(notebook.settings, settings)
    check_owner(owner)
    title = title or f"bcsed {kind}"
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not 5 <= len(title) <= 50 or len(slug) < 5:
        raise ConfigError(f"the title of a notebook has 5 to 50 characters, with 5 letters or digits; got {title!r}.")
    if kernels is None:
        kernels = [f"{owner}/bcsed-train"] if notebook.uses_training and not datasets else []
    for name in (*datasets, *kernels):
        if not re.fullmatch(r"[\w-]+/[\w-]+", name):
            raise ConfigError(f"an input is written owner/slug, got {name!r}.")
    for name in models:
        if name.count("/") != 4:
            raise ConfigError(f"a model is written owner/model/framework/variation/version, got {name!r}.")
    dataset, requirements = (f"{owner}/{WHEELS_SLUG}", "") if wheels is None else read_wheels(Path(wheels))
    if is_occupied(out) and not {path.name for path in out.iterdir()} <= {f"{kind}.ipynb", METADATA}:
        raise DataError(f"{out} contains other files; name a new folder for the kernel.")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{kind}.ipynb", make_notebook(kind, values, dataset, requirements))
    # With every key, because the client's defaults differ from Kaggle's.
    description = {
        "id": f"{owner}/{slug}",
        "title": title,
        "code_file": f"{kind}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": notebook.gpu,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4" if notebook.gpu else None,
        # Keep the image in which the notebook was first saved: the wheels are for its Python.
        "docker_image": None,
        "docker_image_pinning_type": "original",
        "keywords": [],
        "dataset_sources": [dataset, *datasets],
        "competition_sources": [Path(values["competition"]).name],
        "kernel_sources": list(kernels),
        "model_sources": list(models),
    }
    write_json(out / METADATA, description)
    return out


def make_notebook(kind: str, values: Mapping[str, Any], dataset: str, requirements: str) -> dict[str, Any]:
    """Return a notebook as Jupyter's JSON, without outputs; it installs pip's `requirements` from a data set."""
    notebook = NOTEBOOKS[kind]
    # Those of the session come last.
    session = _TrainingSettings.__annotations__
    fields = sorted(dataclasses.fields(notebook.settings), key=lambda field: field.name in session)
    lines = [f"{field.name.upper()} = {_format(values[field.name])}  # {field.metadata['comment']}" for field in fields]
    names = [f"{field.name}={field.name.upper()}" for field in fields]
    arguments = "".join(f"    {', '.join(names[start : start + 5])},\n" for start in range(0, len(names), 5))
    call = f"kaggle.{kind}(kaggle.{notebook.settings.__name__}(\n{arguments}), log=print)"
    cells = (
        ("markdown", notebook.text),
        ("code", _INSTALL.format(dataset=dataset, requirements=requirements).strip()),
        ("code", "\n".join(["# Settings to edit.", *lines])),
        ("code", f"from bcsed import kaggle\n{call}"),
    )
    return {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    outputs: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    source = text.splitlines(keepends=True)
    return {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, **outputs, "source": source}


def _read_settings(settings: type, texts: Sequence[str]) -> dict[str, Any]:
    """Return the values of all settings: defaults, and those of ``name=value``."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    values: dict[str, Any] = {name: field.default for name, field in fields.items()}
    changed = set[str]()
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().lower()
        if not equals or name not in fields:
            raise ConfigError(f"--set takes name=value of {', '.join(fields)}; got {text!r}.")
        setting = _read_value(fields[name], value)
        if name in changed and not isinstance(setting, list):
            raise ConfigError(f"the setting {name} is changed twice; change it once.")
        values[name] = [*(values[name] or ()), *setting] if name in changed else setting
        changed.add(name)
    return values


def _read_value(field: dataclasses.Field[Any], text: str) -> Any:
    """Read a Python literal, or a plain text, and check its type."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if field.type == "str":
        return value if isinstance(value, str) else text
    if field.type == "Sequence[str]":
        value = list(value) if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(item, str) for item in value):
            raise ConfigError(f'{field.name} is a list of names, such as ["a", "b"]; got {text!r}.')
        return value
    base, _, optional = str(field.type).partition(" | ")
    is_list = isinstance(value, (list, tuple))
    types = {"int": (int,), "bool": (bool,)}.get(base, (int, float))
    numbers = value if is_list else [value]
    valid = is_list == (base == "Sequence[float]") and all(type(number) in types for number in numbers)
    if not valid and not (optional and value is None):
        raise ConfigError(f"{field.name} cannot be {text!r}; its default is {field.default!r}.")
    return list(value) if isinstance(value, tuple) else value


def _format(value: Any) -> str:
    """Return a Python literal with double quotes."""
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value) if isinstance(value, (str, list)) else repr(value)
