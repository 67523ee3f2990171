"""The table of experiments: a name and what it changes.

The numbered rows repeat the table of the BirdCLEF+ 2025 post-mortem that bcsed grew from; `private_lb` and
`public_lb` are its author's leaderboard scores, kept beside what is rebuilt here for comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .contract import FRONTENDS, SHORT_256, TINY_128, WIDE_256, WIDE_384, Frontend, Net
from .recipe import Augment, Data, Fit, Injection
from .strict import read_value, to_dict

GROUPS = ("frontend", "net", "data", "augment", "pseudo", "labelled", "fit")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a training needs to know, but for the data's whereabouts.

    Parameters
    ----------
    name : str
        What the command line calls it.
    signal, net, data, augment, fit
        Groups of settings, see `bcsed.config`.
    pseudo, labelled : Injection
        How excerpts of pseudolabelled and of labelled soundscapes enter a batch.
    hidden, public : str
        Leaderboard scores of the original, '' where there are none.
    note : str
        What it is, in a few words.
    """

    name: str
    frontend: Frontend = WIDE_384
    net: Net = field(default_factory=Net)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    pseudo: Injection = field(default_factory=Injection)
    labelled: Injection = field(default_factory=Injection)
    fit: Fit = field(default_factory=Fit)
    private_lb: str = ""
    public_lb: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.pseudo.share + self.labelled.share > 1:
            raise ConfigError(
                f"pseudo__share {self.pseudo.share:g} and labelled__share {self.labelled.share:g} are more than the "
                "whole batch; a sample takes one excerpt at most."
            )
        if self.data.pseudo_source == "online" and self.pseudo.mode == "substitute":
            raise ConfigError(
                "in-situ labels are not known before the excerpt is drawn, so no window of a class can stand in for "
                "a sample: set pseudo__mode to background or mix."
            )

    def vary(self, name: str, /, **changes: Any) -> Experiment:
        """Return a copy under another name; ``group__field=value`` changes one field of a group.

        The scores and the note belong to the row they stand in and are not inherited.

        Raises
        ------
        ConfigError
            If a group or field does not exist, or the value is refused.

        Examples
        --------
        >>> Experiment(name="a").vary("b", net__backbone="regnety_008", fit__epochs=3).fit.epochs
        3
        """
        own: dict[str, Any] = {"name": name, "private_lb": "", "public_lb": "", "note": ""}
        nested: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            group, _, leaf = key.partition("__")
            if leaf:
                nested.setdefault(group, {})[leaf] = value
            else:
                own[group] = value
        known = [item.name for item in dataclasses.fields(self)]
        for group in (*own, *nested):
            if group not in known:
                raise ConfigError(f"an experiment has no part {group!r}; its parts are {', '.join(known)}.")
        varied = dataclasses.replace(self, **own)
        for group, leaves in nested.items():
            varied = dataclasses.replace(varied, **{group: _replace(varied, group, leaves)})
        return varied


def _replace(experiment: Experiment, group: str, leaves: Mapping[str, Any]) -> Any:
    value = getattr(experiment, group)
    if group not in GROUPS:
        raise ConfigError(f"{group} has no fields; write {group}=value.")
    known = [item.name for item in dataclasses.fields(value)]
    for leaf in leaves:
        if leaf not in known:
            raise ConfigError(f"{group} has no field {leaf!r}; its fields are {', '.join(known)}.")
    return dataclasses.replace(value, **leaves)


_B = "tf_efficientnet_b{}.ns_jft_in1k"
# The original's: 8 of 32 clips get a pseudolabelled background of two joined pieces, as loud as it was recorded.
_BACKGROUNDS = Injection(share=0.25, mode="background", gain=(0.2, 0.8), level="raw", excerpt="pairs")
_BASE = Experiment(
    name="exp-93",
    data=Data(label_target=0.8),
    pseudo=_BACKGROUNDS,
    private_lb=".843",
    public_lb=".844",
    note="26 min; pseudolabelled backgrounds, label_target .8",
)
_REPEAT = Experiment(name="repeat-w384", note="straight repeat: 12 s, hop 500, 384 px")
_TINY = Experiment(
    name="tiny",
    frontend=TINY_128,
    net=Net(backbone="resnet10t"),
    data=Data(pad="repeat"),
    augment=Augment(sumix_draw=(0, 1)),
    # Few steps from random weights: a residual network learns in hundreds where a MobileNet needs thousands.
    fit=Fit(pretrained=False, loss="bce", epochs=18, warmup_epochs=2, cycle_epochs=18),
    note="small and from random weights: the demo and the tests",
)
# Every clip half and half with soft labels, soundscapes drawn by what is in them, twenty seconds at a time.
_NOISY = _BASE.vary(
    "noisy-2025",
    frontend=Frontend(n_frames=1280),
    data=Data(pseudo_soft=True, pad="repeat"),
    pseudo=Injection(share=1.0, mode="mix", level="rms", draw="confidence"),
    augment__mix="mixup",
    fit=Fit(loss="ce", two_way=False, drop_path=(0.15,), epochs=27, warmup_epochs=2, cycle_epochs=5),
    note="the 2025 winner's student: 20 s, soft labels mixed half and half",
)

TABLE: tuple[Experiment, ...] = (
    _BASE.vary(
        "exp-39",
        frontend=WIDE_256,
        data__label_target=1.0,
        pseudo=Injection(),
        private_lb=".770",
        public_lb=".798",
        note="13 min; no backgrounds; made the pseudolabels of all below",
    ),
    _BASE,
    _BASE.vary(
        "exp-94",
        frontend=WIDE_256,
        net__backbone="eca_nfnet_l0",
        private_lb=".850",
        public_lb=".836",
        note="very slow",
    ),
    _BASE.vary(
        "exp-95", frontend=WIDE_256, net__backbone=_B.format(3), private_lb=".850", public_lb=".806", note="B3, 256 px"
    ),
    _BASE.vary("exp-96", net__backbone=_B.format(3), private_lb=".866", public_lb=".840", note="B3, 384 px"),
    _BASE.vary("exp-97", net__backbone="resnest26d", private_lb=".861", public_lb=".838", note="55 min"),
    _BASE.vary("exp-98", net__backbone=_B.format(2), private_lb=".871", public_lb=".842", note="other data"),
    _BASE.vary("exp-99", net__backbone="regnety_008", private_lb=".844", public_lb=".824", note="45 min"),
    _BASE.vary("exp-102", net__backbone=_B.format(1), private_lb=".858", public_lb=".816", note="29 min"),
    _BASE.vary("exp-109", private_lb=".857", public_lb=".822", note="last good one; as exp-93"),
    _BASE.vary(
        "exp-133",
        frontend=WIDE_256,
        data__pseudo_loss_weight=0.6,
        private_lb=".833",
        public_lb=".823",
        note="pseudolabels at weight .6 in the loss",
    ),
    _BASE.vary(
        "exp-167",
        private_lb=".765 / .820",
        public_lb=".742 / .802",
        note="as exp-93 on another table: at most 800 rows a class; newer / old inference code",
    ),
    _BASE.vary("exp-175", net__backbone="resnest14d", private_lb=".852", public_lb=".813", note="44 min"),
    _BASE.vary(
        "exp-177",
        data__pseudo_loss_weight=0.1,
        private_lb=".846",
        public_lb=".823",
        note="pseudolabels at weight .1 in the loss",
    ),
    _REPEAT.vary("repeat-w256", frontend=WIDE_256, note="straight repeat: 12 s, hop 750, 256 px"),
    _REPEAT,
    _REPEAT.vary("repeat-s256", frontend=SHORT_256, note="straight repeat: 8 s, hop 500, 256 px"),
    _NOISY,
    _NOISY.vary(
        "auc-2026",
        pseudo__share=0.5,
        pseudo__mode="substitute",
        pseudo__cap=0.75,
        net__backbone="eca_nfnet_l0",
        fit__loss="auc",
        fit__ema=0.999,
        fit__mixed_precision=False,
        note="soft AUC + .25 BCE, half of the batch replaced by windows of its class",
    ),
    _NOISY.vary(
        "in-situ",
        frontend=WIDE_384,
        data__pseudo_source="online",
        pseudo=Injection(share=0.25, level="rms"),
        augment__mix="sumix",
        fit=Fit(),
        note="the network labels backgrounds as it learns: it failed for the original's author",
    ),
    _TINY,
)
# The post-mortem's questions: arms that differ in one thing, of a row of the table.
_ARMS: Mapping[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "repeat": (
        "repeat-w384",
        {
            "repeat-w384": {"frontend": WIDE_384},
            "repeat-w256": {"frontend": WIDE_256},
            "repeat-s256": {"frontend": SHORT_256},
        },
    ),
    "labels": (
        "exp-93",
        {
            "labels-hard": {},
            "labels-soft": {"data__pseudo_soft": True},
            "labels-weight-.6": {"data__pseudo_loss_weight": 0.6},
            "labels-weight-.1": {"data__pseudo_loss_weight": 0.1},
        },
    ),
    "heads": (
        "repeat-w384",
        {
            "heads-one": {},
            "heads-taxon": {"net__heads": "taxon"},
            "heads-frequency": {"net__heads": "frequency"},
        },
    ),
    "mix": (
        "repeat-w384",
        {
            "mix-none": {"augment__mix": "off"},
            "mix-sumix": {"augment__mix": "sumix"},
            "mix-mixup": {"augment__mix": "mixup"},
            "mix-cutmix": {"augment__mix": "cutmix"},
        },
    ),
}
STUDIES = tuple(_ARMS)


def study_arms(name: str, base: Experiment | None = None) -> tuple[Experiment, ...]:
    """Return the arms of a named comparison: experiments that differ in one thing.

    Parameters
    ----------
    name : {'repeat', 'labels', 'heads', 'mix'}
    base : Experiment, optional
        What all arms share; a row of the table by default.

    Raises
    ------
    ConfigError
        If there is no such comparison.

    Examples
    --------
    >>> [arm.augment.mix for arm in study_arms("mix", find_experiment("tiny"))]
    ['off', 'sumix', 'mixup', 'cutmix']
    """
    if name not in _ARMS:
        raise ConfigError(f"there is no comparison {name!r}; there are {', '.join(STUDIES)}.")
    own, arms = _ARMS[name]
    shared = find_experiment(own) if base is None else base
    return tuple(shared.vary(arm, **changes) for arm, changes in arms.items())


def experiment_names() -> tuple[str, ...]:
    """Return the names of the table's rows, in its order."""
    return tuple(row.name for row in TABLE)


def find_experiment(name: str) -> Experiment:
    """Return the row of a name, or the arm of a comparison.

    Raises
    ------
    ConfigError
        If the table has no such row.
    """
    for row in TABLE:
        if row.name == name:
            return row
    arms = [arm for question in STUDIES for arm in study_arms(question) if arm.name == name]
    if arms:
        return arms[0]
    raise ConfigError(f"there is no experiment {name!r}; the table has {', '.join(experiment_names())}.")


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Read changes as the command line writes them, ``group__field=value``, for `Experiment.vary`.

    Raises
    ------
    ConfigError
        If one is of another form, or names a frontend that is no preset.

    Examples
    --------
    >>> parse_changes(["fit__epochs=3", "data__crop=first", "net__heads=taxon"])
    {'fit__epochs': 3, 'data__crop': 'first', 'net__heads': 'taxon'}
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"a change takes group__field=value, got {text!r}.")
        if key == "frontend" and value not in FRONTENDS:
            raise ConfigError(f"there is no frontend {value!r}; presets are {', '.join(FRONTENDS)}.")
        changes[key] = FRONTENDS[value] if key == "frontend" else read_value(value)
    return changes


def difference(first: Experiment, second: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two experiments: ``{'group.field': (first, second)}``."""
    found = {}
    for group in GROUPS:
        left, right = to_dict(getattr(first, group)), to_dict(getattr(second, group))
        found.update({f"{group}.{key}": (left[key], right[key]) for key in left if left[key] != right[key]})
    return found


def frontend_name(frontend: Frontend) -> str:
    """Return the preset's name of a signal, or its measures where it is none."""
    for name, preset in FRONTENDS.items():
        if preset == frontend:
            return name
    height, width = frontend.image_shape
    return f"{height}x{width}/{frontend.window_s:g}s"


def describe() -> list[dict[str, str]]:
    """Return the table as rows of text: name, backbone, signal, start, hidden, public, note."""
    return [
        {
            "name": row.name,
            "backbone": row.net.backbone,
            "frontend": frontend_name(row.frontend),
            "start": "timm's weights" if row.fit.pretrained else "random",
            "private_lb": row.private_lb,
            "public_lb": row.public_lb,
            "note": row.note,
        }
        for row in TABLE
    ]
