"""Frozen values that say what the network hears, what it is, and how it learns.

**Contract** (`Frontend`, `Net`, the class list): whatever changes a value that the network receives or
returns. It has one `fingerprint`, is stored with the weights, and prediction refuses a contradiction.
**Recipe** (`Data`, `Augment`, `Injection`, `Fit`): how the weights came about. It is recorded, and not needed to run.

All of them are checked when made, in the user's units, and travel as strict JSON: `from_dict` takes
exactly the known keys.
"""

from .contract import FRONTENDS, SHORT_256, TINY_128, WIDE_256, WIDE_384, Contract, Frontend, Net
from .recipe import Augment, Data, Fit, Injection
from .strict import from_dict, read_value, to_dict

__all__ = [
    "SHORT_256",
    "FRONTENDS",
    "TINY_128",
    "WIDE_256",
    "WIDE_384",
    "Augment",
    "Contract",
    "Data",
    "Fit",
    "Injection",
    "Net",
    "Frontend",
    "from_dict",
    "read_value",
    "to_dict",
]
