"""Plans of a noisy student: rounds, their teachers and their students."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..audio.windows import WINDOW_KINDS
from ..config.experiments import Experiment, find_experiment, parse_changes
from ..config.strict import at_least, check_types, from_dict, one_of, read_values
from ..config.versions import upgrade
from ..errors import BcsedError, ConfigError, DataError
from ..files import check_schema, read_json
from ..train.pseudolabels.api import Selection

# Of plan.json and ledger.json; files of schema 1 do not contain a number, their ledger is a list, and some
# values have other names.
SCHEMA = 2

# The member of a preset's teachers that `find_plan` replaces by the path of a bundle.
PROBE = "probe"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Round:
    """The teachers and students of a round.

    Members of the `teacher` are ``previous`` (all students of the round before), ``round-N``, ``round-N/NAME``, or the
    path of a bundle (in presets ``probe``, see `find_plan`) or a score table (Parquet, or a folder of predict); or the
    only member is a CSV file of true labels, whose students show the ceiling of any teacher. Without teachers, students
    are trained on clips only. The fields from `threshold` to `balance` are those of
    `bcsed.train.pseudolabels.Selection`, `windows` and `stride_s` those of `bcsed.predict.Windowing`.
    """

    experiments: tuple[str, ...]  # names, one student each
    seeds: tuple[int, ...] = (0,)  # every experiment is trained once with each
    teacher: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()  # of the members, divided among their students; equal by default
    mean: str = "prob"  # over the members: of probabilities ('prob') or of logits ('logit')
    select: str = "soft"  # 'soft' (students are trained on probabilities, ``data.pseudo_soft``), 'threshold', 'top'
    threshold: float = 0.5
    thresholds: tuple[str, ...] = ()  # as ``class=threshold``
    floor: float = 0.1
    top_n: int = 0
    power: float = 1.0
    balance: float = 0.0
    windows: str = "centred"
    stride_s: float | None = None
    frames: bool = False  # pseudolabels of time steps instead of rows; with sliding windows
    injection: str | None = None  # ``pseudo.mode`` of every student; None: unchanged, also below
    share: float | None = None  # ``pseudo.share``
    cap: float | None = None  # ``pseudo.cap``
    draw: str | None = None  # ``pseudo.draw``
    epochs: int | None = None  # ``fit.epochs``
    set: tuple[str, ...] = ()  # other changes, as ``group.field=value``
    pretrained: str | None = None  # initial weights, see `bcsed.models.pretrained`
    embeddings: tuple[str, ...] = ()  # files of embeddings for students that distil, see `bcsed.train.TrainInputs`

    def __post_init__(self) -> None:
        check_types(self)
        if not self.experiments or not self.seeds:
            raise ConfigError("a round needs at least one experiment and one seed.")
        if self.weights and len(self.weights) != len(self.teacher):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.teacher)} members of the teacher.")
        if not all(weight > 0 for weight in self.weights):
            raise ConfigError(f"weights must be positive, got {self.weights}.")
        if self.epochs is not None:
            at_least(self, 1, "epochs")
        one_of(self, "mean", ("prob", "logit"))
        if any(member.endswith(".csv") for member in self.teacher) and len(self.teacher) > 1:
            members = ", ".join(self.teacher)
            raise ConfigError(
                f"true labels are the only teacher of their round, got {members}; give score tables as Parquet."
            )
        one_of(self, "windows", WINDOW_KINDS)
        if self.windows != "sliding" and (self.frames or self.stride_s is not None):
            raise ConfigError("frames and stride_s of a round need windows=sliding.")
        self.selection()

    def selection(self) -> Selection:
        """Return the selection of pseudolabels."""
        thresholds = read_values(self.thresholds, "thresholds", "class=threshold")
        same = ("threshold", "floor", "top_n", "power", "balance")
        return Selection(kind=self.select, thresholds=thresholds, **{name: getattr(self, name) for name in same})

    @property
    def truth(self) -> str | None:
        """The file of true labels that takes the place of teachers, if there is one."""
        return next((member for member in self.teacher if member.endswith(".csv")), None)

    def names(self) -> tuple[str, ...]:
        """Return the names of the students."""
        return tuple(f"{name}-s{seed}" for name in self.experiments for seed in self.seeds)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rounds, in order."""

    name: str
    rounds: tuple[Round, ...]
    fold: int | None = None  # that every student holds out
    set: tuple[str, ...] = ()  # changes for every student; those of a round take precedence
    # Files for every student, see `bcsed.train.TrainInputs`.
    labels: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    noise: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not self.name.strip():
            raise ConfigError("a plan must have a name.")
        if not self.rounds:
            raise ConfigError(f"the plan {self.name} has no rounds.")
        for number, each in enumerate(self.rounds, 1):
            duplicates = [name for name in each.names() if each.names().count(name) > 1]
            if duplicates:
                raise ConfigError(f"round {number} names the student {duplicates[0]} twice.")
            for member in each.teacher:
                self._check_member(member, number)
            # A misspelt field fails here, before any training.
            for name in each.names():
                n_folds = self.student(number, name).data.n_folds
                if self.fold is not None and not 0 <= self.fold < n_folds:
                    where = f"the plan {self.name!r}: the fold of {name} of round {number}"
                    raise ConfigError(f"{where} must be 0 to {n_folds - 1}, or null; got {self.fold}.")

    def _check_member(self, member: str, number: int) -> None:
        if member == "previous" and number == 1:
            raise ConfigError("round 1 has no previous round to be its teacher.")
        if not member.startswith("round-"):
            return
        earlier, _, name = member.removeprefix("round-").partition("/")
        who = f"the teacher {member!r} of round {number}"
        if not earlier.isdigit() or not 1 <= int(earlier) < number:
            raise ConfigError(f"{who} is not an earlier round.")
        students = self.rounds[int(earlier) - 1].names()
        if name and name not in students:
            raise ConfigError(f"{who} does not exist; the students of that round are {', '.join(students)}.")

    def student(self, number: int, name: str) -> Experiment:
        """Return the experiment of a student of a round, counted from 1."""
        each = self.rounds[number - 1]
        base, _, seed = name.rpartition("-s")
        fields = {
            "pseudo__share": each.share if each.teacher or each.share is not None else 0.0,
            "data__pseudo_soft": each.truth is None if each.teacher and each.select == "soft" else None,
            "pseudo__mode": each.injection,
            "pseudo__cap": each.cap,
            "pseudo__draw": each.draw,
            "fit__epochs": each.epochs,
        }
        changes = {key: value for key, value in fields.items() if value is not None}
        # From the general to the specific: the plan's changes, the fields of the round, the round's changes.
        changes = parse_changes(self.set) | changes | parse_changes(each.set) | {"fit__seed": int(seed)}
        experiment = find_experiment(base).vary(f"{base}-round-{number}", **changes)
        if each.teacher and not experiment.pseudo.share > 0:
            raise ConfigError(f"round {number} has a teacher, but {base} injects nothing: set the round's share.")
        return experiment


# The original's exceptions of the threshold 0.5, for classes of 2025, and its limit of labels per class: without them
# two classes have nearly all labels.
_EXCEPTIONS = ("compot1=0.7", "52884=0.7", "pavpig2=0.6", "65448=0.65")
_LABELLED = Round(experiments=("exp-93",), teacher=("previous",), select="threshold", top_n=800)


def _write_up(name: str, *experiments: str, thresholds: tuple[str, ...] = ()) -> Plan:
    """Train without backgrounds, label at the threshold of the post-mortem, and train its network."""
    second = dataclasses.replace(_LABELLED, thresholds=thresholds)
    return Plan(name=name, rounds=(Round(experiments=experiments), second))


def _noisy_student() -> Plan:
    """Follow the winner of 2025: no threshold, a power per round, half clip and half soundscape.

    The winner's teachers were ensembles of growing backbones; here each round has a single network: add `experiments`.
    """
    first = Round(experiments=("noisy-2025",), epochs=15, set=("fit.drop_path=[]",))
    later = [
        Round(experiments=("noisy-2025",), teacher=("previous",), power=power) for power in (1.0, 1.54, 1.82, 1.67)
    ]
    return Plan(name="noisy-student", rounds=(first, *later))


def _ensemble() -> Plan:
    """Train the best ensemble of the post-mortem, two B1 and a B3, with the labels of one teacher."""
    b1 = dataclasses.replace(_LABELLED, experiments=("exp-102",), seeds=(0, 1), thresholds=_EXCEPTIONS)
    b3 = dataclasses.replace(b1, experiments=("exp-96",), seeds=(0,), teacher=("round-1",))
    return Plan(name="write-up-ensemble", rounds=(Round(experiments=("exp-39",)), b1, b3))


# Balanced soft labels: any window takes the place of a clip, not only those of the clip's class.
_ANY = "pseudo.same_class=false"


def _rounds() -> Plan:
    """Train three networks supervised, then three with windows that these label in the place of half of the clips."""
    first = Round(experiments=("tiny",), seeds=(0, 1, 2))
    later = dataclasses.replace(
        first, teacher=("previous",), balance=1.0, share=0.5, injection="substitute", set=("pseudo.level=peak", _ANY)
    )
    return Plan(name="rounds", rounds=(first, later))


def _borrowed() -> Plan:
    """Train supervised, then twice with labels of the networks before and of a probe on a foundation model."""
    first = Round(experiments=("tiny",), seeds=(0, 1, 2))
    later = dataclasses.replace(
        first,
        teacher=("previous", PROBE),
        mean="logit",
        balance=1.0,
        share=0.5,
        injection="substitute",
        set=("pseudo.level=peak", _ANY),
    )
    return Plan(name="borrowed", rounds=(first, later, later))


def _tiny() -> Plan:
    """Train supervised, then twice with backgrounds; for the synthetic data."""
    later = Round(experiments=("tiny",), teacher=("previous",), share=0.5, set=("pseudo.level=rms",))
    return Plan(name="tiny", rounds=(Round(experiments=("tiny",)), later, later))


# Functions, so that importing the package checks no experiment.
PRESETS: Mapping[str, Callable[[], Plan]] = {
    "write-up": lambda: _write_up("write-up", "exp-39", thresholds=_EXCEPTIONS),
    "write-up-ensemble": _ensemble,
    "noisy-student": _noisy_student,
    "teacher-small": lambda: _write_up("teacher-small", "exp-39"),
    "teacher-ensemble": lambda: _write_up("teacher-ensemble", "exp-102", "exp-98", "exp-96"),
    "rounds": _rounds,
    "borrowed": _borrowed,
    "tiny": _tiny,
}
# Questions whose arms are plans: the students of the last rounds are compared, of "rounds" those of all rounds.
QUESTIONS: Mapping[str, tuple[str, ...]] = {"teacher": ("teacher-small", "teacher-ensemble"), "rounds": ("rounds",)}


def find_plan(
    name: str,
    changes: Sequence[str] = (),
    *,
    base: str | None = None,
    seeds: Sequence[int] | None = None,
    fold: int | None = None,
    probe: str | Path | None = None,
    embeddings: Sequence[str | Path] = (),
) -> Plan:
    """Return a preset by name, or the plan in a JSON file.

    `changes` are for every student, as ``group.field=value``; they take precedence over those of the plan. `base` is an
    experiment that replaces all others; several students of a round become as many seeds of it. `seeds` are those of
    the students of the last round, `fold` is the one that the students of a preset hold out. `probe` is the bundle of
    the teacher ``probe``, and `embeddings` are those of rounds that name none. ConfigError if there is no such preset
    or file, no round has that teacher, or a field is unknown, of the wrong type or invalid.
    """
    if name not in PRESETS and not Path(name).is_file():
        raise ConfigError(f"there is no plan {name!r}: no such file, and the presets are {', '.join(PRESETS)}.")
    is_preset = name in PRESETS
    plan = dataclasses.replace(PRESETS[name](), fold=fold) if is_preset else read_plan(Path(name), ConfigError)
    if probe is not None and not any(PROBE in each.teacher for each in plan.rounds):
        raise ConfigError(f"no round of the plan {plan.name} has the teacher {PROBE!r}, so {probe} would not be used.")
    rounds = []
    for each in plan.rounds:
        change: dict[str, Any] = {
            "set": (*each.set, *changes),
            "embeddings": each.embeddings or tuple(map(str, embeddings)),
        }
        if probe is not None:
            change["teacher"] = tuple(str(probe) if member == PROBE else member for member in each.teacher)
        if base is not None:
            change |= {"experiments": (base,), "seeds": tuple(range(len(each.names())))}
            if each.teacher and each.share is None:
                # The base may inject nothing by default.
                change["set"] = ("pseudo.share=0.25", *change["set"])
        rounds.append(dataclasses.replace(each, **change))
    if seeds is not None:
        rounds[-1] = dataclasses.replace(rounds[-1], seeds=tuple(seeds))
    return dataclasses.replace(plan, rounds=tuple(rounds))


def add_files(
    plan: Plan,
    *,
    labels: Sequence[str | Path] = (),
    events: Sequence[str | Path] = (),
    noise: str | Path | None = None,
) -> Plan:
    """Add files for every student to those of a plan; ConfigError if it already names another folder of noise."""
    if noise is not None and plan.noise not in (None, str(noise)):
        raise ConfigError(f"the plan {plan.name} has the folder of noise {plan.noise}, so {noise} would not be used.")
    return dataclasses.replace(
        plan,
        labels=tuple(dict.fromkeys((*plan.labels, *map(str, labels)))),
        events=tuple(dict.fromkeys((*plan.events, *map(str, events)))),
        noise=plan.noise if noise is None else str(noise),
    )


def rounds_study(plan: Plan, seeds: Sequence[int], oracle: str | Path | None) -> Plan:
    """Train every round with all seeds, and add one in which true labels take the place of pseudolabels."""
    rounds = [dataclasses.replace(each, seeds=tuple(seeds)) for each in plan.rounds]
    if oracle is not None:
        if not str(oracle).endswith(".csv") or not Path(oracle).is_file():
            raise ConfigError(f"{oracle}: there is no such CSV file of true labels of the soundscapes.")
        # The ceiling is that of windows of the clip's class: its labels are certain.
        changes = tuple(change for change in rounds[-1].set if change != _ANY)
        rounds.append(dataclasses.replace(rounds[-1], teacher=(str(Path(oracle).resolve()),), set=changes))
    return dataclasses.replace(plan, rounds=tuple(rounds))


def _read_values(file: Path, refused: type[BcsedError]) -> dict[str, Any]:
    """Return the values of a plan file of any schema in today's words, without the number."""
    values = read_json(file, refused)
    check_schema(values, file, (1, SCHEMA), refused)
    plan = {key: value for key, value in values.items() if key != "schema"}
    for each in plan["rounds"] if isinstance(plan.get("rounds"), list) else ():
        if isinstance(each, dict) and "draw" in each:
            each["draw"] = upgrade({"pseudo": {"draw": each["draw"]}})["pseudo"]["draw"]
    return plan


def read_plan(file: Path, refused: type[BcsedError] = DataError) -> Plan:
    """Read a plan file of any schema; fields that it lacks have their defaults."""
    values = _read_values(file, refused)
    if not isinstance(values.get("rounds"), list):
        raise refused(f'{file} must contain {{"name": ..., "rounds": [{{"experiments": [...]}}, ...]}}.')
    rounds = [_build(Round, each, f"{file}, round {number}") for number, each in enumerate(values["rounds"], 1)]
    return _build(Plan, {"name": file.stem, **values, "rounds": rounds}, str(file))


def _build(kind: type[T], values: Any, where: str) -> T:
    """Build a value from some of its fields; the others have their defaults, and unknown ones are refused."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    try:
        return from_dict(kind, {**defaults, **values} if isinstance(values, Mapping) else values, where)
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}: {error}") from error
