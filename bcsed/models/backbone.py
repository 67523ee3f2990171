"""Build timm CNNs by name, with random or pretrained weights."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError

_log = logging.getLogger(__name__)


def build_backbone(
    name: str, in_channels: int, *, pretrained: bool | str | Path = False, drop_path: Sequence[float] = ()
) -> torch.nn.Module:
    """Build a timm model without its classifier; ConfigError if timm lacks the model, weights or drop path.

    `pretrained` is False for random weights, True for timm's own (cached or downloaded), or a local file of them in
    safetensors or PyTorch format. timm adapts the first convolution to the channels of the image.

    `drop_path` are probabilities of dropping a residual branch in training (stochastic depth, Huang et al. 2016): none
    for no drop path, one for timm's linear ramp from 0 at the first block, several for one per stage. Blocks without
    a shortcut are not affected.
    """
    import timm

    if name.split(".")[0] not in timm.list_models():
        close = ", ".join(timm.list_models(f"*{name.split('.')[0].split('_')[-1]}*")[:5])
        hint = f"; similar names are {close}" if close else ""
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{hint}.")
    invalid = [rate for rate in drop_path if not 0 <= rate < 1]
    if invalid:
        raise ConfigError(f"drop_path must be probabilities in [0, 1), got {invalid[0]:g}.")
    options: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0, "global_pool": ""}
    if len(drop_path) == 1 and drop_path[0] > 0:
        options["drop_path_rate"] = drop_path[0]
    if not isinstance(pretrained, bool):
        path = Path(pretrained)
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file of weights for {name}; {_weights_hint(name)}")
        options["pretrained_cfg_overlay"] = {"file": str(path)}
    model = _create(name, bool(pretrained), options)
    if any(drop_path) or len(drop_path) > 1:
        stages = _stages(model)
        if not stages:
            raise ConfigError(_no_drop_path(name))
        if len(drop_path) > 1:
            _set_drop_path(name, stages, drop_path)
    return model


def drop_last_conv(backbone: torch.nn.Module, name: str) -> None:
    """Replace the last 1x1 convolution of a timm network, which networks of features only do not have."""
    modules = {layer: getattr(backbone, layer, None) for layer in ("conv_head", "final_conv", "bn2")}
    layers = [layer for layer, module in modules.items() if not isinstance(module, (torch.nn.Identity, type(None)))]
    if not {"conv_head", "final_conv"} & {*layers}:
        raise ConfigError(f"timm's {name} has no last 1x1 convolution; leave net.last_conv at true.")
    for layer in layers:
        setattr(backbone, layer, torch.nn.Identity())


def feature_shape(backbone: torch.nn.Module, in_channels: int, image_shape: tuple[int, int]) -> tuple[int, int, int]:
    """Return (C, f, t) of a backbone's feature map for an image of zeros; ConfigError if it is not such a map."""
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        shape = backbone.forward_features(torch.zeros(1, in_channels, *image_shape)).shape  # type: ignore[operator]
    backbone.train(was_training)
    # A CNN reduces both axes by the same factor; tokens and channels-last maps do not.
    if len(shape) != 4 or shape[2] * image_shape[1] != shape[3] * image_shape[0]:
        raise ConfigError(
            f"{type(backbone).__name__} returns shape {tuple(shape)} for an image of {image_shape[0]}x{image_shape[1]} "
            "pixels, not a map of channels by height by width; choose a CNN."
        )
    return int(shape[1]), int(shape[2]), int(shape[3])


def _stages(model: torch.nn.Module) -> dict[str, list[torch.nn.Module]]:
    """Return the blocks that support drop path, by stage: layer1, blocks.0, stages.0, s1, ..."""
    stages: dict[str, list[torch.nn.Module]] = {}
    for name, block in model.named_modules():
        # Without a rate, timm sets it to None or an identity.
        if hasattr(block, "drop_path"):
            parts = name.split(".")
            numbered = next((index for index, part in enumerate(parts) if part[-1:].isdigit()), len(parts))
            stages.setdefault(".".join(parts[: numbered + 1]), []).append(block)
    return stages


def _set_drop_path(name: str, stages: dict[str, list[torch.nn.Module]], rates: Sequence[float]) -> None:
    from timm.layers.drop import DropPath

    if len(rates) != len(stages):
        raise ConfigError(
            f"drop_path has {len(rates)} values, {name} has {len(stages)} stages ({', '.join(stages)}); give one "
            "value per stage, or a single one for timm's ramp."
        )
    for blocks, rate in zip(stages.values(), rates, strict=True):
        for block in blocks:
            block.drop_path = DropPath(rate)


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> torch.nn.Module:
    import timm
    from safetensors import SafetensorError

    try:
        model: torch.nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise ConfigError(_no_drop_path(name)) from error
    # The errors of timm's hub client derive from OSError, RuntimeError or ValueError, depending on what is missing:
    # the connection, the repository, the file, or a tensor in it.
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        if not pretrained:
            raise
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ConfigError(f"the weights of {name} could not be loaded ({reason}); {_weights_hint(name)}") from error
    _log.info("%s: %s", name, "pretrained weights" if pretrained else "random weights")
    return model


def _no_drop_path(name: str) -> str:
    return f"timm's {name} has no drop path; leave drop_path empty, or choose a residual backbone."


def _weights_hint(name: str) -> str:
    return (
        f"download model.safetensors of timm/{name} on a computer with internet access and pass it as "
        "--pretrained FILE, or start from random weights with --pretrained none."
    )
