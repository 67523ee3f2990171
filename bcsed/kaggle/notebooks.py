"""The three notebooks and their metadata: a folder ready for ``kaggle kernels push``.

A notebook installs bcsed, shows its settings, and calls one function of `bcsed.kaggle`; everything else is in the
package, where it is tested. The folders in ``kaggle_notebooks`` are what `kernel` writes for the owner ``bcsed``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import ConfigError, DataError
from ..files import atomic_write, is_occupied
from .datasets import WHEELS_SLUG, check_owner, write_json

METADATA = "kernel-metadata.json"

_INSTALL = """
import os, subprocess, sys
from glob import glob
VERSION = "{version}"
INPUT = os.environ.get("BCSED_KAGGLE_ROOT", "/kaggle") + "/input"
FOUND = glob(f"{{INPUT}}/*/bcsed-*.whl") + glob(f"{{INPUT}}/datasets/*/*/bcsed-*.whl")
WHEELS = [*filter(lambda path: f"/bcsed-{{VERSION}}-" in path, FOUND)]
assert WHEELS, f"no wheel of bcsed {{VERSION}}: attach its data set; there is {{FOUND or os.listdir(INPUT)}}"
PIP = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
PIP += ["--find-links=" + os.path.dirname(WHEELS[0]), f"bcsed=={{VERSION}}", "openvino", "openvino-telemetry"]
subprocess.run(PIP, check=True)
"""


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """What a notebook says and does.

    Parameters
    ----------
    title : str
        Kaggle makes its address of it.
    told : str
        Markdown: what it does, what to attach, what it leaves.
    settings : mapping of str to (value, str)
        Name to default and what it is; the function's arguments, in capitals.
    call : str
        The last cell.
    gpu : bool
    from_training : bool
        Whether it takes what the training notebook made.
    """

    title: str
    told: str
    settings: Mapping[str, tuple[Any, str]]
    call: str
    gpu: bool = False
    from_training: bool = False


_COMPETITION = ("birdclef-2026", "slug or path of the competition's data")
_BUNDLES: tuple[list[str], str] = ([], "slugs, names or paths; [] for all that are attached")
_WEIGHTS = (None, "one per bundle, or None: all the same")
_HOURS = (8.3, "stops by itself after these, with all that is needed to go on")
_WINDOWS = ("centred", "or sliding, which is faster")
_JOBS = (2, "threads that decode")

NOTEBOOKS: Mapping[str, Notebook] = {
    "train": Notebook(
        title="bcsed train",
        told="""# Train a network with bcsed

Attach the data of the competition, and the data set of wheels (`bcsed kaggle dataset`). For an experiment that hears
pseudolabelled soundscapes, attach the output of the pseudolabel notebook; for pretrained weights, a model or a data set
that holds them: there is no network here.

A session ends after some hours. This one stops before that; attach its output as an input and run it again, and it goes
on. It leaves `run/`, and when all epochs are done `bundle-*/`, which the other notebooks take.""",
        settings={
            "competition": _COMPETITION,
            "experiment": ("exp-39", "a row of `bcsed experiments`"),
            "changes": ([], 'fields to change, such as ["fit.epochs=15"]'),
            "fold": (0, "the fold that is held out, or None"),
            "pretrained": ("none", 'slug or path of weights; "none": a random start'),
            "pseudolabels": ("", "slug or path of a table, if several are attached"),
            "resume": ("auto", '"fresh", or the slug or path of the run to go on with'),
            "hours": _HOURS,
            "processes": (None, "that share every batch; None: one for each GPU"),
            "jobs": (4, "threads that decode, of each"),
        },
        call="kaggle.train({arguments}, say=print)",
        gpu=True,
    ),
    "pseudolabel": Notebook(
        title="bcsed pseudolabel",
        told="""# Pseudolabel soundscapes with bcsed

Attach the data of the competition, the data set of wheels, and the teachers: outputs of the training notebook, or a
data set of `bcsed kaggle dataset --bundles`.

It leaves `pseudolabels.parquet` with its provenance and a figure of the counts, which the training notebook takes. It
stops before the session ends; attach its output as an input and run it again, and it goes on.""",
        settings={
            "competition": _COMPETITION,
            "bundles": _BUNDLES,
            "weights": _WEIGHTS,
            "select": ("threshold", "or top, or soft: which answers are believed"),
            "threshold": (0.5, "of at least this"),
            "top_n": (0, "at most so many rows of each class, the highest"),
            "floor": (0.1, "of answers of at least this"),
            "power": (1.0, "above 1 sharpens"),
            "windows": _WINDOWS,
            "limit": (None, "only the first so many soundscapes"),
            "hours": _HOURS,
            "jobs": _JOBS,
        },
        call="kaggle.pseudolabel({arguments}, say=print)",
        from_training=True,
    ),
    "submit": Notebook(
        title="bcsed submit",
        told="""# Score soundscapes with bcsed

Attach the data of the competition, the data set of wheels, and bundles: outputs of the training notebook, or a data
set of `bcsed kaggle dataset --bundles`. No network, no GPU.

Saving it is a rehearsal: training soundscapes are scored by the same code, and the time is carried over to the full
number. When it is submitted, it runs again over the test recordings, within its budget. It leaves `submission.csv`.""",
        settings={
            "competition": _COMPETITION,
            "bundles": _BUNDLES,
            "weights": _WEIGHTS,
            "mean": ("prob", "of the members: prob, logit or rank"),
            "steps": ([], 'post-processing, such as ["smooth=0.2,0.6,0.2", "top=3"]'),
            "windows": _WINDOWS,
            "stride_s": (None, "of sliding windows, in seconds; None: half a window"),
            "budget_min": (80.0, "minutes from the start in which all has to be done"),
            "rehearse": (20, "soundscapes of a rehearsal"),
            "jobs": _JOBS,
        },
        call="kaggle.submit({arguments}, say=print)",
        from_training=True,
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
) -> Path:
    """Write a folder for ``kaggle kernels push``: a notebook with its settings, and its metadata.

    Parameters
    ----------
    kind : {'train', 'pseudolabel', 'submit'}
    out : str or Path
        The folder; what an earlier call wrote there is replaced.
    owner : str
        Kaggle user name.
    settings : sequence of str
        Settings to change, ``name=value``.
    title : str
        Of the kernel; ``bcsed <kind>`` by default.
    datasets, models : sequence of str
        What to attach beside the wheels, ``owner/slug``.
    kernels : sequence of str, optional
        Notebooks whose output to attach; the owner's training notebook by default, where its bundles are needed.

    Raises
    ------
    ConfigError, DataError
        If there is no such kind or setting, a value is of another type, a name is none that Kaggle takes, or the
        folder holds other things.
    """
    if kind not in NOTEBOOKS:
        raise ConfigError(f"there is no notebook {kind!r}; there are {', '.join(NOTEBOOKS)}.")
    out, notebook = Path(out), NOTEBOOKS[kind]
    values = {name: default for name, (default, _) in notebook.settings.items()}
    values |= _read(notebook, settings)
    told = metadata(
        kind, owner, title=title, competition=values["competition"], datasets=datasets, kernels=kernels, models=models
    )
    mine = {f"{kind}.ipynb", METADATA}
    if is_occupied(out) and not {path.name for path in out.iterdir()} <= mine:
        raise DataError(f"{out} holds other things; name a new folder for the kernel.")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / f"{kind}.ipynb") as temporary:
        temporary.write_text(json.dumps(cells(kind, values), indent=1) + "\n", encoding="utf-8")
    write_json(out / METADATA, told)
    return out


def metadata(
    kind: str,
    owner: str,
    *,
    title: str = "",
    competition: str,
    datasets: Sequence[str] = (),
    kernels: Sequence[str] | None = None,
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what ``kernel-metadata.json`` holds; every key is there, for the client's defaults are not Kaggle's.

    Raises
    ------
    ConfigError
        If a name is none that Kaggle takes.
    """
    check_owner(owner)
    notebook = NOTEBOOKS[kind]
    title = title or notebook.title
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not 5 <= len(title) <= 50 or len(slug) < 5:
        raise ConfigError(f"a notebook's title has 5 to 50 characters, letters and digits among them; got {title!r}.")
    if kernels is None:
        kernels = [f"{owner}/bcsed-train"] if notebook.from_training else []
    for name in (*datasets, *kernels):
        if not re.fullmatch(r"[\w-]+/[\w-]+", name):
            raise ConfigError(f"what is attached is written owner/slug, got {name!r}.")
    for name in models:
        if name.count("/") != 4:
            raise ConfigError(f"a model is written owner/model/framework/variation/version, got {name!r}.")
    return {
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
        # The image in which the notebook was first saved: the wheels are of its Python.
        "docker_image": None,
        "docker_image_pinning_type": "original",
        "keywords": [],
        "dataset_sources": [f"{owner}/{WHEELS_SLUG}", *datasets],
        "competition_sources": [Path(competition).name],
        "kernel_sources": list(kernels),
        "model_sources": list(models),
    }


def cells(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook as the JSON that Jupyter reads, without outputs."""
    notebook = NOTEBOOKS[kind]
    lines = [f"{name.upper()} = {_python(values[name])}  # {told}" for name, (_, told) in notebook.settings.items()]
    names = [f"{name}={name.upper()}" for name in notebook.settings]
    arguments = ",\n    ".join(", ".join(names[place : place + 4]) for place in range(0, len(names), 4))
    call = notebook.call.format(arguments=f"\n    {arguments}").replace(", say=print)", ", say=print,\n)")
    parts = [
        ("markdown", notebook.told),
        ("code", _INSTALL.format(version=__version__).strip()),
        ("code", "\n".join(["# Settings: what you edit.", *lines])),
        ("code", f"from bcsed import kaggle\n{call}"),
    ]
    return {
        "cells": [_cell(place, form, text) for place, (form, text) in enumerate(parts)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(place: int, form: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": form, "id": f"cell-{place}", "metadata": {}}
    if form == "code":
        cell |= {"execution_count": None, "outputs": []}
    return {**cell, "source": text.splitlines(keepends=True)}


def _read(notebook: Notebook, settings: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is Python where it can be read as such, and text where not."""
    read: dict[str, Any] = {}
    for text in settings:
        name, equals, told = text.partition("=")
        name = name.strip().lower()
        if not equals or name not in notebook.settings:
            raise ConfigError(f"--set takes name=value of {', '.join(notebook.settings)}; got {text!r}.")
        try:
            value = ast.literal_eval(told)
        except (ValueError, SyntaxError):
            value = told
        read[name] = _of_type(name, value, told, notebook.settings[name][0])
    return read


def _of_type(name: str, value: Any, told: str, default: Any) -> Any:
    if isinstance(default, str):
        return told if not isinstance(value, str) else value
    if isinstance(default, list):
        value = list(value) if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(item, str) for item in value):
            return value
        raise ConfigError(f'{name} is a list of names, such as ["a", "b"]; got {told!r}.')
    if name == "weights":
        good = value is None or (isinstance(value, (list, tuple)) and all(map(_is_number, value)))
        value = list(value) if isinstance(value, tuple) else value
    elif isinstance(default, float):
        good = _is_number(value)
    else:
        # A number, or None for a setting that may be left open.
        good = (value is None and name in ("fold", "limit", "stride_s", "processes")) or _is_number(value)
        good = good and (value is None or name == "stride_s" or isinstance(value, int))
    if not good:
        raise ConfigError(f"{name} cannot be {told!r}; its default is {default!r}.")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _python(value: Any) -> str:
    # Double quotes, as everywhere in the notebooks.
    return json.dumps(value) if isinstance(value, (str, list)) else repr(value)
