"""The table of experiments: a name and what it changes.

The numbered rows repeat the table of the BirdCLEF+ 2025 post-mortem that bcsed grew from; `hidden` and
`public` are its author's leaderboard scores, kept beside what is rebuilt here for comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import (
    SHORT_256,
    SIGNALS,
    TINY_128,
    WIDE_256,
    WIDE_384,
    Augment,
    Data,
    Fit,
    Net,
    Signal,
    to_dict,
)
from .errors import ConfigError

GROUPS = ("signal", "net", "data", "augment", "fit")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a training needs to know, but for the data's whereabouts.

    Parameters
    ----------
    name : str
        What the command line calls it.
    signal, net, data, augment, fit
        The five groups of settings, see `bcsed.config`.
    hidden, public : str
        Leaderboard scores of the original, '' where there are none.
    note : str
        What it is, in a few words.
    """

    name: str
    signal: Signal = WIDE_384
    net: Net = field(default_factory=Net)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    fit: Fit = field(default_factory=Fit)
    hidden: str = ""
    public: str = ""
    note: str = ""

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
        own: dict[str, Any] = {"name": name, "hidden": "", "public": "", "note": ""}
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
_BASE = Experiment(
    name="exp-93",
    data=Data(label_target=0.8),
    hidden=".843",
    public=".844",
    note="26 min; pseudolabelled backgrounds, label_target .8",
)
_REPEAT = Experiment(name="repeat-w384", note="straight repeat: 12 s, hop 500, 384 px")
_TINY = Experiment(
    name="tiny",
    signal=TINY_128,
    net=Net(backbone="resnet10t"),
    data=Data(pad="repeat"),
    augment=Augment(sumix_draw=(0, 1)),
    # Few steps from random weights: a residual network learns in hundreds where a MobileNet needs thousands.
    fit=Fit(pretrained=False, loss="bce", epochs=18, warmup_epochs=2, cycle_epochs=18),
    note="small and from random weights: the demo and the tests",
)

TABLE: tuple[Experiment, ...] = (
    _BASE.vary(
        "exp-39",
        signal=WIDE_256,
        data__label_target=1.0,
        hidden=".770",
        public=".798",
        note="13 min; no backgrounds; made the pseudolabels of all below",
    ),
    _BASE,
    _BASE.vary(
        "exp-94",
        signal=WIDE_256,
        net__backbone="eca_nfnet_l0",
        hidden=".850",
        public=".836",
        note="very slow",
    ),
    _BASE.vary("exp-95", signal=WIDE_256, net__backbone=_B.format(3), hidden=".850", public=".806", note="B3, 256 px"),
    _BASE.vary("exp-96", net__backbone=_B.format(3), hidden=".866", public=".840", note="B3, 384 px"),
    _BASE.vary("exp-97", net__backbone="resnest26d", hidden=".861", public=".838", note="55 min"),
    _BASE.vary("exp-98", net__backbone=_B.format(2), hidden=".871", public=".842", note="other data"),
    _BASE.vary("exp-99", net__backbone="regnety_008", hidden=".844", public=".824", note="45 min"),
    _BASE.vary("exp-102", net__backbone=_B.format(1), hidden=".858", public=".816", note="29 min"),
    _BASE.vary("exp-109", hidden=".857", public=".822", note="last good one"),
    _BASE.vary(
        "exp-133",
        signal=WIDE_256,
        hidden=".833",
        public=".823",
        note="pseudolabels at weight .6 in the loss",
    ),
    _BASE.vary(
        "exp-167",
        hidden=".765 / .820",
        public=".742 / .802",
        note="new pseudolabels, at most 800 per class; newer / old inference code",
    ),
    _BASE.vary("exp-175", net__backbone="resnest14d", hidden=".852", public=".813", note="44 min"),
    _BASE.vary("exp-177", hidden=".846", public=".823", note="pseudolabels at weight .1 in the loss"),
    _REPEAT.vary("repeat-w256", signal=WIDE_256, note="straight repeat: 12 s, hop 750, 256 px"),
    _REPEAT,
    _REPEAT.vary("repeat-s256", signal=SHORT_256, note="straight repeat: 8 s, hop 500, 256 px"),
    _TINY,
)


def names() -> tuple[str, ...]:
    """Return the names of the table's rows, in its order."""
    return tuple(row.name for row in TABLE)


def find(name: str) -> Experiment:
    """Return the row of a name.

    Raises
    ------
    ConfigError
        If the table has no such row.
    """
    for row in TABLE:
        if row.name == name:
            return row
    raise ConfigError(f"there is no experiment {name!r}; the table has {', '.join(names())}.")


def difference(first: Experiment, second: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two experiments: ``{'group.field': (first, second)}``."""
    found = {}
    for group in GROUPS:
        left, right = to_dict(getattr(first, group)), to_dict(getattr(second, group))
        found.update({f"{group}.{key}": (left[key], right[key]) for key in left if left[key] != right[key]})
    return found


def signal_name(signal: Signal) -> str:
    """Return the preset's name of a signal, or its measures where it is none."""
    for name, preset in SIGNALS.items():
        if preset == signal:
            return name
    height, width = signal.picture
    return f"{height}x{width}/{signal.window_s:g}s"


def describe() -> list[dict[str, str]]:
    """Return the table as rows of text: name, backbone, signal, start, hidden, public, note."""
    return [
        {
            "name": row.name,
            "backbone": row.net.backbone,
            "signal": signal_name(row.signal),
            "start": "timm's weights" if row.fit.pretrained else "random",
            "hidden": row.hidden,
            "public": row.public,
            "note": row.note,
        }
        for row in TABLE
    ]


__all__ = ["TABLE", "WIDE_384", "Experiment", "describe", "difference", "find", "names", "signal_name"]
