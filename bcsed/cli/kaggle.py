"""The commands that make folders for Kaggle's own client: a data set of wheels or bundles, a notebook."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def kaggle(options: argparse.Namespace) -> int:
    """Make folders that the official kaggle client pushes: a data set, a notebook."""
    status: int = options.make(options)
    return status


def kaggle_options(parser: argparse.ArgumentParser) -> None:
    """Add the two folders, each with its options."""
    kinds = parser.add_subparsers(metavar="dataset|kernel", required=True)

    def kind(make: Callable[[argparse.Namespace], int], name: str) -> Callable[..., Any]:
        told = (make.__doc__ or "").strip()
        made = kinds.add_parser(name, help=told, description=told)
        made.set_defaults(make=make)
        return made.add_argument

    add = kind(_dataset, "dataset")
    add("out", metavar="OUT", help="a new folder")
    add("--owner", required=True, metavar="NAME", help="your Kaggle user name")
    add("--python", nargs="+", default=["3.12"], metavar="X.Y", help="versions of Python to take wheels for (3.12)")
    add("--wheels", metavar="DIR", help="take wheels from here instead of building and downloading them")
    add("--bundles", nargs="+", default=[], metavar="BUNDLE", help="pack these bundles instead of wheels")
    add("--slug", default="", metavar="NAME", help="the data set's name (bcsed-wheels, bcsed-bundles)")
    add("--with-weights", action="store_true", help="bundles keep what only further training needs")
    add = kind(_kernel, "kernel")
    add("kind", choices=("train", "pseudolabel", "submit"))
    add("out", metavar="OUT", help="the folder")
    add("--owner", required=True, metavar="NAME", help="your Kaggle user name")
    add("--set", action="append", default=[], metavar="name=value", help="change a setting of the notebook")
    add("--title", default="", metavar="TEXT", help="its title, from which Kaggle makes its address (bcsed KIND)")
    add("--dataset", action="append", default=[], metavar="OWNER/SLUG", help="attach a data set beside the wheels")
    add("--kernel", action="append", metavar="OWNER/SLUG", help="attach a notebook's output (NAME/bcsed-train)")
    add("--model", action="append", default=[], metavar="O/M/F/V/N", help="attach a model")


def _dataset(options: argparse.Namespace) -> int:
    """Gather the wheels that Kaggle lacks, or pack bundles, as a data set."""
    from ..kaggle.datasets import dataset

    out = dataset(
        options.out,
        options.owner,
        python=options.python,
        wheels=options.wheels,
        bundles=options.bundles,
        slug=options.slug,
        with_weights=options.with_weights,
        say=print,
    )
    print(f"push it: kaggle datasets create -p {out}")
    return 0


def _kernel(options: argparse.Namespace) -> int:
    """Write a notebook with its settings and its metadata."""
    from ..kaggle.notebooks import kernel

    out = kernel(
        options.kind,
        options.out,
        options.owner,
        settings=options.set,
        title=options.title,
        datasets=options.dataset,
        kernels=options.kernel,
        models=options.model,
    )
    print(f"push it: kaggle kernels push -p {out}")
    return 0
