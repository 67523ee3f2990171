"""Picture -> feature map: any timm CNN by name, and where its first weights come from."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from .errors import ConfigError

_log = logging.getLogger(__name__)


def build(name: str, in_channels: int, *, pretrained: bool | str | Path = False) -> torch.nn.Module:
    """Build a timm model without its classifier.

    Parameters
    ----------
    name : str
        As in ``timm.list_models()``, with or without the tag of its weights.
    in_channels : int
        Channels of the picture; timm adapts the first convolution's weights to them.
    pretrained : bool, str or Path
        False for random weights, True for timm's own (cached or fetched), or a local file of them in
        safetensors or PyTorch format.

    Raises
    ------
    ConfigError
        If timm has no such model, or the weights cannot be had.
    """
    import timm

    if name.split(".")[0] not in timm.list_models():
        close = ", ".join(timm.list_models(f"*{name.split('.')[0].split('_')[-1]}*")[:5])
        hint = f"; similar names are {close}" if close else ""
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{hint}.")
    options: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0, "global_pool": ""}
    if isinstance(pretrained, bool):
        return _create(name, pretrained, options)
    path = Path(pretrained)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of weights for {name}; {_way_out(name)}")
    return _create(name, True, {**options, "pretrained_cfg_overlay": {"file": str(path)}})


def feature_shape(backbone: torch.nn.Module, in_channels: int, picture: tuple[int, int]) -> tuple[int, int, int]:
    """Return (C, f, t) of a backbone's feature map, found by showing it one picture.

    Raises
    ------
    ConfigError
        If it answers with anything but a map of channels by height by width.
    """
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        shape = backbone.forward_features(torch.zeros(1, in_channels, *picture)).shape  # type: ignore[operator]
    backbone.train(was_training)
    # A CNN shrinks both axes alike; tokens or channels-last maps do not look like this.
    if len(shape) != 4 or shape[2] * picture[1] != shape[3] * picture[0]:
        raise ConfigError(
            f"{type(backbone).__name__} answers a picture of {picture[0]}x{picture[1]} with shape "
            f"{tuple(shape)}, not with a map of channels by height by width; choose a CNN."
        )
    return int(shape[1]), int(shape[2]), int(shape[3])


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> torch.nn.Module:
    import timm
    from safetensors import SafetensorError

    try:
        model: torch.nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    # timm fetches through a hub client whose errors derive from OSError, RuntimeError or ValueError,
    # depending on what is missing: the network, the repository, the file, or a tensor in it.
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        if not pretrained:
            raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ConfigError(f"the weights of {name} could not be had ({reason}); {_way_out(name)}") from error
    _log.info("%s: %s", name, "pretrained weights" if pretrained else "random weights")
    return model


def _way_out(name: str) -> str:
    return (
        f"download model.safetensors of timm/{name} where there is a network and give it as "
        "--pretrained FILE, or start from random weights with --pretrained none."
    )
