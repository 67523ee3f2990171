"""Commands for the official Kaggle client: a data set, a notebook."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..files import read_json
from . import options
from .options import Add


def kaggle(_: Namespace) -> int:
    """Write folders that the official Kaggle client uploads: a data set or a notebook."""
    raise AssertionError("argparse requires one of the sub-commands")


def dataset(args: Namespace) -> int:
    """Collect the wheels that Kaggle's image lacks, or pack bundles, as a data set."""
    from ..kaggle import datasets

    out = datasets.dataset(
        args.out,
        args.owner,
        python=args.python or datasets.PYTHONS,
        wheels=args.wheels,
        bundles=args.bundles,
        slug=args.slug,
        with_weights=args.with_weights,
        log=print,
    )
    print(f"upload it: kaggle datasets create -p {out}")
    return 0


def kernel(args: Namespace) -> int:
    """Write a notebook with its settings and its metadata."""
    from ..kaggle import notebooks

    out = notebooks.kernel(
        args.kind,
        args.out,
        args.owner,
        settings=args.set,
        title=args.title,
        datasets=args.dataset,
        kernels=args.kernel or None,
        models=args.model,
        wheels=None if args.wheels == "none" else args.wheels,
    )
    print("".join(read_json(out / f"{args.kind}.ipynb")["cells"][2]["source"]))  # the settings
    print(f"change settings with --set name=value; upload the notebook: kaggle kernels push -p {out}")
    return 0


def _kaggle_options(parser: ArgumentParser, _: Add) -> None:
    commands = parser.add_subparsers(metavar="dataset|kernel", required=True)
    options.add_command(commands, (dataset, _dataset_options, "bcsed kaggle dataset wheels --owner NAME"))
    options.add_command(commands, (kernel, _kernel_options, "bcsed kaggle kernel train out --owner NAME --set fold=1"))


def _dataset_options(_: ArgumentParser, add: Add) -> None:
    add("out", metavar="OUT", help="a new folder")
    add("--owner", required=True, metavar="NAME", help="your Kaggle user name")
    add("--python", nargs="+", metavar="X.Y", help="Python versions (3.12 3.13)")
    add("--wheels", metavar="DIR", help="copy the wheels from this folder; build and download nothing")
    add("--bundles", nargs="+", default=[], metavar="BUNDLE", help="pack these bundles, not wheels")
    add("--slug", default="", metavar="NAME", help="name of the data set (bcsed-wheels, bcsed-bundles)")
    add("--with-weights", action="store_true", help="include the weights that only training needs")


def _kernel_options(_: ArgumentParser, add: Add) -> None:
    add("kind", choices=("train", "pseudolabel", "rounds", "embed", "submit"), help="the notebook")
    add("out", metavar="OUT", help="the folder")
    add("--owner", required=True, metavar="NAME", help="your Kaggle user name")
    add("--title", default="", metavar="TEXT", help="title, which also gives its address (bcsed KIND)")
    add(
        "--wheels",
        default="wheels",
        metavar="DIR",
        help="the data set of wheels that the notebook may install (wheels)",
    )
    options.add_list(add, "--set", "NAME=VALUE", "change settings of the notebook, which are printed")
    options.add_list(add, "--dataset", "OWNER/SLUG", "attach data sets besides the wheels")
    text = "attach the output of notebooks (for bundles NAME/bcsed-train, if there is no --dataset)"
    options.add_list(add, "--kernel", "OWNER/SLUG", text)
    options.add_list(add, "--model", "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION", "attach models")


COMMANDS = ((kaggle, _kaggle_options, "bcsed kaggle dataset wheels --owner NAME"),)
