"""What a noisy student is to do: rounds, their teachers and students."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..config.experiments import Experiment, find_experiment, parse_changes
from ..config.strict import at_least, check_types
from ..errors import ConfigError
from ..train.pseudolabels.selection import Selection

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Who teaches, who learns, and how.

    Parameters
    ----------
    experiments : tuple of str
        Rows of the table, one student each.
    seeds : tuple of int
        Each experiment is trained once with each.
    teacher : tuple of str
        Members: ``previous`` (all students of the round before), ``round-N``, ``round-N/NAME``, or the path of
        a bundle. Without any, students learn from clips alone.
    weights : tuple of float
        One per member, shared by the students that it stands for; equal by default.
    select : {'soft', 'threshold', 'top'}
        Which of the teachers' answers are believed, see `bcsed.train.pseudolabels.Selection`; with 'soft' they keep
        their probabilities (``data.pseudo_soft``).
    threshold, floor, top_n, power
        See `Selection`.
    thresholds : tuple of str
        Exceptions, as ``class=threshold``.
    windows, stride_s
        How teachers look at a recording, see `bcsed.predict.Windowing`.
    injection, share, cap, draw
        The fields ``pseudo.mode``, ``share``, ``cap`` and ``draw`` of every student; None leaves them.
    epochs : int or None
        ``fit.epochs`` of every student; None leaves it.
    set : tuple of str
        Other changes, as ``group.field=value``.
    pretrained : str or None
        Weights to start from, see `bcsed.models.pretrained`.
    """

    experiments: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    teacher: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    select: str = "soft"
    threshold: float = 0.5
    thresholds: tuple[str, ...] = ()
    floor: float = 0.1
    top_n: int = 0
    power: float = 1.0
    windows: str = "centred"
    stride_s: float | None = None
    injection: str | None = None
    share: float | None = None
    cap: float | None = None
    draw: str | None = None
    epochs: int | None = None
    set: tuple[str, ...] = ()
    pretrained: str | None = None

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
        self.selection()

    def selection(self) -> Selection:
        """Return what of the teachers' answers is believed."""
        split = [text.rpartition("=") for text in self.thresholds]
        try:
            exceptions = {name: float(value) for name, _, value in split}
        except ValueError as error:
            raise ConfigError(f"thresholds are written class=threshold, got {self.thresholds}.") from error
        return Selection(
            kind=self.select,
            threshold=self.threshold,
            thresholds=exceptions,
            floor=self.floor,
            top_n=self.top_n,
            power=self.power,
        )

    def names(self) -> tuple[str, ...]:
        """Return the students' names."""
        return tuple(f"{name}-s{seed}" for name in self.experiments for seed in self.seeds)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rounds, in order.

    Parameters
    ----------
    name : str
    rounds : tuple of Round
    fold : int or None
        What every student holds out.
    set : tuple of str
        Changes of every student of every round; a round's own go before.
    """

    name: str
    rounds: tuple[Round, ...]
    fold: int | None = None
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ConfigError(f"the plan {self.name} has no rounds.")
        for number, each in enumerate(self.rounds, 1):
            doubled = [name for name in each.names() if each.names().count(name) > 1]
            if doubled:
                raise ConfigError(f"round {number} names the student {doubled[0]} twice.")
            for member in each.teacher:
                self._check_member(member, number)
            # A misspelt field fails here, not after a night of training.
            for name in each.names():
                self.student(number, name)

    def _check_member(self, member: str, number: int) -> None:
        if member == "previous":
            if number == 1:
                raise ConfigError("round 1 has no round before it to be taught by.")
            return
        if not member.startswith("round-"):
            return
        earlier, _, name = member.removeprefix("round-").partition("/")
        if not earlier.isdigit() or not 1 <= int(earlier) < number:
            raise ConfigError(f"round {number} is taught by {member!r}, which is no earlier round.")
        if name and name not in self.rounds[int(earlier) - 1].names():
            raise ConfigError(
                f"round {number} is taught by {member!r}; the students of that round are "
                f"{', '.join(self.rounds[int(earlier) - 1].names())}."
            )

    def student(self, number: int, name: str) -> Experiment:
        """Return what a student of a round, counted from 1, is trained as."""
        each = self.rounds[number - 1]
        base, _, seed = name.rpartition("-s")
        changes: dict[str, Any] = {}
        if not each.teacher:
            changes["pseudo__share"] = 0.0
        elif each.select == "soft":
            changes["data__pseudo_soft"] = True
        given = {
            "pseudo__mode": each.injection,
            "pseudo__share": each.share,
            "pseudo__cap": each.cap,
            "pseudo__draw": each.draw,
            "fit__epochs": each.epochs,
        }
        changes |= {key: value for key, value in given.items() if value is not None}
        # From the general to the particular: the plan's changes, the round's fields, the round's changes.
        changes = parse_changes(self.set) | changes | parse_changes(each.set) | {"fit__seed": int(seed)}
        made = find_experiment(base).vary(f"{base}-round-{number}", **changes)
        if each.teacher and not made.pseudo.share > 0:
            raise ConfigError(f"round {number} has a teacher, but {base} injects nothing: give the round a share.")
        return made


def _preset(name: str, *rounds: Round) -> Plan:
    return Plan(name=name, rounds=rounds)


def _write_up(name: str, *experiments: str) -> Plan:
    """Let networks that were trained without backgrounds label them, hard at .5, for the post-mortem's network."""
    second = Round(experiments=("exp-93",), teacher=("previous",), select="threshold")
    return _preset(name, Round(experiments=experiments), second)


def _noisy_student() -> Plan:
    """Follow the 2025 winner: powers between the rounds, no threshold, half of the clip and half of the place."""
    first = Round(experiments=("noisy-2025",))
    later = [
        Round(experiments=("noisy-2025",), teacher=("previous",), power=power, epochs=32)
        for power in (1.0, 1.54, 1.82, 1.67)
    ]
    return _preset("noisy-student", first, *later)


def _tiny() -> Plan:
    """For the sample: supervised, then backgrounds, then backgrounds again."""
    taught = Round(experiments=("tiny",), teacher=("previous",), share=0.5, set=("pseudo.level=rms",))
    return _preset("tiny", Round(experiments=("tiny",)), taught, taught)


# Built when asked for: importing the package checks no experiment.
PRESETS: Mapping[str, Callable[[], Plan]] = {
    "write-up": lambda: _write_up("write-up", "exp-39"),
    "noisy-student": _noisy_student,
    "teacher-small": lambda: _write_up("teacher-small", "exp-39"),
    "teacher-ensemble": lambda: _write_up("teacher-ensemble", "exp-102", "exp-98", "exp-96"),
    "tiny": _tiny,
}
# Questions whose arms are plans: the students of the last rounds are compared.
QUESTIONS: Mapping[str, tuple[str, ...]] = {"teacher": ("teacher-small", "teacher-ensemble")}


def find_plan(
    name: str,
    changes: Sequence[str] = (),
    *,
    base: str | None = None,
    seeds: Sequence[int] | None = None,
    fold: int | None = None,
) -> Plan:
    """Return a preset by name, or the plan in a JSON file.

    Parameters
    ----------
    name : str
        A preset, or a path.
    changes : sequence of str
        Changes of every student, as ``group.field=value``.
    base : str, optional
        An experiment that takes the place of all others; several of a round become as many seeds of it.
    seeds : sequence of int, optional
        Seeds of the last round's students.
    fold : int or None
        What a preset's students hold out.

    Raises
    ------
    ConfigError
        If there is no such preset or file, or a field is unknown, of the wrong type or makes no sense.
    """
    if name in PRESETS:
        plan = dataclasses.replace(PRESETS[name](), fold=fold)
    else:
        plan = _read(Path(name))
    rounds = list(plan.rounds)
    if base is not None:
        rounds = [
            dataclasses.replace(each, experiments=(base,), seeds=tuple(range(len(each.experiments))), set=_share(each))
            for each in rounds
        ]
    if seeds is not None:
        rounds[-1] = dataclasses.replace(rounds[-1], seeds=tuple(seeds))
    # What is asked for now goes before what any round says.
    rounds = [dataclasses.replace(each, set=(*each.set, *changes)) for each in rounds]
    return dataclasses.replace(plan, rounds=tuple(rounds))


def _share(each: Round) -> tuple[str, ...]:
    """Return a round's changes for a base that may inject nothing by itself."""
    return ("pseudo.share=0.25", *each.set) if each.teacher and each.share is None else each.set


def _read(file: Path) -> Plan:
    if not file.is_file():
        raise ConfigError(f"there is no plan {str(file)!r}: no such file, and the presets are {', '.join(PRESETS)}.")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not readable as JSON ({error}).") from error
    if not isinstance(values, dict) or not isinstance(values.get("rounds"), list):
        raise ConfigError(f'{file} must hold {{"name": ..., "rounds": [{{"experiments": [...]}}, ...]}}.')
    rounds = [_build(Round, each, f"{file}, round {number}") for number, each in enumerate(values["rounds"], 1)]
    return _build(Plan, {"name": file.stem, **values, "rounds": rounds}, str(file))


def _build(kind: type[T], values: Any, where: str) -> T:
    """Build a value from the fields that are given; others keep their defaults, unknown ones are refused."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be an object with named fields.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"{where} has no field {unknown[0]!r}; its fields are {', '.join(fields)}.")
    lacking = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in values]
    if lacking:
        raise ConfigError(f"{where} lacks {', '.join(lacking)}.")
    made = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**made)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
