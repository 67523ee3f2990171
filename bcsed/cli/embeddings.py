"""Commands for foundation models: adopt, embed, probe."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import ConfigError
from . import options
from .evaluate import describe_interval
from .options import Add
from .predict import print_failures
from .progress import Progress


def adopt(args: Namespace) -> int:
    """Make a bundle of another project's network: a TFLite, ONNX or OpenVINO file."""
    from ..models.adopt import adopt
    from ..models.foreign import ForeignModel
    from ..scores.detections.taxonomy import read_taxonomy

    stated = {
        "scores": args.scores or args.probabilities,
        **{key: getattr(args, key) for key in ("sample_rate", "embedding", "peak", "name", "licence", "source")},
    }
    stated = {key: value for key, value in stated.items() if value is not None}
    if args.window_s is not None:
        if args.sample_rate is None or not 0 < args.window_s < 86_400:
            raise ConfigError(f"--window-s is a positive length with a --sample-rate, got {args.window_s:g}.")
        stated["n_samples"] = round(args.window_s * args.sample_rate)
    if args.probabilities is not None:
        if args.scores is not None:
            raise ConfigError("--scores names logits and --probabilities names probabilities; name one output.")
        stated["are_logits"] = False
    names = None
    if args.taxonomy is not None:
        if args.labels is None:
            raise ConfigError("--taxonomy maps the names in a file of labels; name it as --labels FILE.")
        names = {label: name.scientific for label, name in read_taxonomy(args.taxonomy).items()}
    model = ForeignModel(**stated) if stated else None
    bundle = adopt(args.file, args.out, labels=args.labels, model=model, names=names)
    frontend, provenance = bundle.contract.frontend, bundle.provenance
    if unmatched := provenance["unmatched"]:
        print(f"{len(unmatched)} classes of {args.taxonomy} have no counterpart: {', '.join(unmatched)}")
    parts = [f"{len(bundle.contract.classes)} classes"] if bundle.contract.classes else []
    parts += [f"an embedding of {bundle.n_features} values"] if bundle.n_features else []
    print(
        f"{args.out}: {provenance['model']}, windows of {frontend.window_s:g} s at {frontend.sample_rate} Hz, "
        f"{' and '.join(parts)}\nsource: {provenance['source']}\nlicence: {provenance['licence']}"
    )
    return 0


def embed(args: Namespace) -> int:
    """Write the embeddings of clips or recordings, one vector per window."""
    from ..models.bundle import load
    from ..predict import RunOptions, Workers
    from ..predict.embed import embed

    if (args.recordings is None) == (args.data is None):
        raise ConfigError("name the recordings as --recordings PATH, or a competition's clips as --data DIR.")
    workers = Workers(n=args.workers, backend=args.backend)
    with Progress() as progress:
        result = embed(
            load(args.bundle),
            args.out,
            recordings=args.recordings or (),
            data=args.data,
            step_s=args.step_s,
            options=RunOptions(jobs=args.jobs, workers=workers),
            precision=args.precision,
            progress=progress.counter("recordings"),
        )
    print_failures(result)
    print(
        f"{args.out}: embeddings of {result.n_scored} of {result.n_recordings} recordings in {result.seconds:.1f} s "
        f"({result.n_resumed} from an earlier call); {result.n_failed} failed"
    )
    return 3 if result.n_failed else 0


def probe(args: Namespace) -> int:
    """Train a head on embeddings and seal it with their network as a bundle."""
    from ..scores import metrics
    from ..train.probe import ProbeOptions, train_probe

    settings = ProbeOptions(head=args.head, strength=args.strength, balance=args.balance, mix=args.mix, seed=args.seed)
    with Progress() as progress, progress.elapsed("training"):
        bundle, evaluation = train_probe(
            args.embeddings,
            args.data,
            args.out,
            bundle=args.bundle,
            options=settings,
            pseudolabels=args.pseudolabels,
            labels=args.labels,
            noise=args.noise,
            log=progress.log,
        )
    if evaluation is not None:
        auc, n_classes = metrics.macro_auc(evaluation.truth, evaluation.scores)
        interval = describe_interval(evaluation.truth, evaluation.scores, evaluation.files)
        print(
            f"out of fold: macro ROC-AUC {auc:.4f} over {n_classes} of {len(evaluation.classes)} classes, "
            f"{len(evaluation.ids)} clips{interval}"
        )
    licence = f"; licence of the network: {bundle.provenance['licence']}" if "licence" in bundle.provenance else ""
    size = f"{len(bundle.contract.classes)} classes, windows of {bundle.contract.frontend.window_s:g} s"
    print(f"{args.out}: {size}{licence}")
    return 0


def _adopt_options(_: ArgumentParser, add: Add) -> None:
    add("file", metavar="FILE", help="*.tflite, *.onnx with its weights inside, or *.xml of OpenVINO with its *.bin")
    add("--out", required=True, metavar="BUNDLE", help="a new folder")
    add("--labels", metavar="FILE", help="the classes of the scores in order, a name per line")
    add("--taxonomy", metavar="FILE", help="keep the classes of this taxonomy.csv, by their scientific names")
    text = "of the input; not needed for BirdNET V2.4 and Perch v2, like all options below"
    add("--sample-rate", type=int, metavar="HZ", help=text)
    add("--window-s", type=float, metavar="S", help="length of a window, if the input does not state it")
    add("--scores", metavar="NAME", help="the output, or inner tensor, of one logit per class")
    add("--probabilities", metavar="NAME", help="the same, if they are probabilities")
    add("--embedding", metavar="NAME", help="the output or inner tensor that is the embedding, or last")
    add("--peak", type=float, metavar="X", help="scale each window to this peak (as recorded)")
    for name, text in (("name", "of the network"), ("licence", "of its weights"), ("source", "of the file")):
        add(f"--{name}", metavar="TEXT", help=text)


def _embed_options(_: ArgumentParser, add: Add) -> None:
    add("bundle", metavar="BUNDLE", help="adopted, or exported by export")
    add("--out", required=True, metavar="FILE", help="the table to write, *.parquet; continued if interrupted")
    add("--recordings", nargs="+", metavar="PATH", help="files and folders, also s3://... and the like")
    add("--data", metavar="DIR", help="instead of recordings, the clips of a competition's folder")
    add("--step-s", type=int, metavar="S", help="seconds between windows (the length of a window, rounded down)")
    add("--precision", choices=("f32", "bf16"), default="f32", help="of the network (%(default)s)")
    options.add_jobs(add)
    options.add_workers(add)


def _probe_options(_: ArgumentParser, add: Add) -> None:
    add("embeddings", nargs="+", metavar="FILE", help="tables written by embed: clips, and pseudolabelled soundscapes")
    add("--data", required=True, metavar="DIR", help="folder of the competition")
    add("--out", required=True, metavar="BUNDLE", help="a new folder")
    add("--bundle", metavar="BUNDLE", help="the network of the embeddings, if it was moved")
    text = "one layer; two; or two with attention to the windows before and after (%(default)s)"
    add("--head", choices=("linear", "hidden", "sequence"), default="linear", help=text)
    add("--strength", type=float, metavar="C", help="inverse strength of the penalty (the best on folds of clips)")
    add("--balance", action="store_true", help="weigh classes inversely to their number of windows")
    add("--mix", type=float, metavar="SHARE", help="share of windows mixed with another (0, for sequence 1)")
    add("--pseudolabels", metavar="FILE", help="table of pseudolabels of soundscapes, as soft targets")
    options.add_list(add, "--labels", "FILE", "labels of soundscapes, written by label or review read")
    options.add_list(add, "--noise", "FILE", "tables of embeddings of recordings without any class: negatives")
    options.add_seed(add, "seed of folds and head")


COMMANDS = (
    (adopt, _adopt_options, "bcsed adopt BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite --labels LABELS.txt --out birdnet"),
    (embed, _embed_options, "bcsed embed birdnet --data DIR --out clips.parquet"),
    (probe, _probe_options, "bcsed probe clips.parquet --data DIR --out probe"),
)
