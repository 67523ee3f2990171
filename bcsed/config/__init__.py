"""Frozen settings, checked when they are created and stored as strict JSON.

**Contract** (`Frontend`, `Net`, the class list): everything that changes the input or the output of the network. It
has one `fingerprint` and is stored with the weights; prediction refuses a contract that contradicts it.
**Recipe** (`Data`, `Augment`, `Injection`, `Fit`): how the weights are trained; it is not needed for prediction.
"""

from .contract import FRONTENDS, SHORT_256, TINY_128, WIDE_256, WIDE_384, Contract, Frontend, Net
from .recipe import Augment, Data, Fit, Injection
from .strict import from_dict, to_dict

__all__ = [
    "FRONTENDS",
    "SHORT_256",
    "TINY_128",
    "WIDE_256",
    "WIDE_384",
    "Augment",
    "Contract",
    "Data",
    "Fit",
    "Frontend",
    "Injection",
    "Net",
    "from_dict",
    "to_dict",
]
