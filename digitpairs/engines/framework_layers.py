"""Conversion of torch layers to `framework`'s, with all their settings and values.

A layer, or a setting of a layer, that `framework` does not have is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.networks.layers import Dropout

# The layers with values that are copied, in `framework` and in torch.
LEARNED = (fw.Linear, fw.Conv2d, fw.BatchNorm, fw.LayerNorm)
TORCH_LEARNED = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
# Classes elsewhere may compute something else.
_MODULES = ("torch.nn.modules.", "digitpairs.networks.")
# Torch's settings that `framework` does not vary, by class and name, with the accepted values.
_FIXED: dict[type[nn.Module], dict[str, tuple[Any, ...]]] = {
    nn.Conv2d: {"padding_mode": ("zeros",)},
    nn.BatchNorm1d: {"track_running_stats": (True,)},
    nn.BatchNorm2d: {"track_running_stats": (True,)},
    nn.MaxPool2d: {"dilation": (1, (1, 1)), "return_indices": (False,)},
    nn.Flatten: {"start_dim": (1, -3), "end_dim": (-1,)},
    nn.GELU: {"approximate": ("none",)},
    nn.Softmax: {"dim": (-1,)},
}


def convert_layer(layers: Sequence[nn.Module], streams: Sequence[torch.Generator]) -> fw.Module:
    """One layer of several networks as a layer of replicas. Raises InvalidValueError for others."""
    first = layers[0]
    _check_layer(first)
    if isinstance(first, Dropout):
        return fw.Dropout(first.probability, streams)
    make = next((make for kind, make in _MAKE.items() if isinstance(first, kind)), None)
    if make is None:
        raise _unsupported(f"has no {type(first).__name__}")
    converted = make(first, [torch.Generator() for _ in layers])
    state = [*first.parameters(), *first.buffers()]
    if not state:
        return converted
    converted.to(state[0].dtype)
    for replica, layer in enumerate(layers):
        for name, values in torch_values(converted, replica):
            values.copy_(getattr(layer, name).detach().reshape(values.shape))
    for ours, theirs in zip(converted.parameters(), first.parameters(), strict=True):
        ours.freeze(not theirs.requires_grad)
    return converted


def torch_values(layer: fw.Module, replica: int) -> list[tuple[str, Tensor]]:
    """Views of a replica's tensors by their names in torch, with torch's order of the axes."""
    if isinstance(layer, (fw.Linear, fw.Conv2d)):
        values = [("weight", layer.weight.data[replica].T)]
        return values + _named("bias", layer.bias, replica)
    assert isinstance(layer, (fw.BatchNorm, fw.LayerNorm))
    values = _named("weight", layer.scale, replica) + _named("bias", layer.shift, replica)
    if isinstance(layer, fw.BatchNorm):
        values.append(("running_mean", layer.running_mean[replica, 0]))
        values.append(("running_var", layer.running_variance[replica, 0]))
        if layer.momentum is None:
            values.append(("num_batches_tracked", layer.batches[replica, 0]))
    return values


def _named(name: str, parameter: fw.Parameter | None, replica: int) -> list[tuple[str, Tensor]]:
    return [] if parameter is None else [(name, parameter.data[replica, 0])]


def _check_layer(layer: nn.Module) -> None:
    """Raises InvalidValueError for what `framework` would compute otherwise than torch."""
    name = type(layer).__name__
    if not type(layer).__module__.startswith(_MODULES):
        raise _unsupported(f"has no {name} of {type(layer).__module__}")
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise _unsupported(f"does not call the hooks of {name}")
    for kind, settings in _FIXED.items():
        for setting, accepted in settings.items() if isinstance(layer, kind) else ():
            value = getattr(layer, setting)
            if value not in accepted:
                raise _unsupported(f"has {name} only with {setting}={accepted[0]}, not {value!r}")


def _unsupported(reason: str) -> InvalidValueError:
    return InvalidValueError("engine", "framework", f"lightning, since `framework` {reason}")


def _convolution(layer: nn.Conv2d, generators: list[torch.Generator]) -> fw.Module:
    padding: Any = 0 if layer.padding == "valid" else layer.padding
    return fw.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # of two numbers, whatever torch's type says
        generators,
        stride=layer.stride,  # type: ignore[arg-type]  # likewise
        padding=padding,
        dilation=layer.dilation,  # type: ignore[arg-type]  # likewise
        groups=layer.groups,
        bias=layer.bias is not None,
    )


def _batch_norm(layer: Any, generators: list[torch.Generator]) -> fw.Module:
    replicas, settings = len(generators), {"eps": layer.eps, "affine": layer.affine}
    return fw.BatchNorm(layer.num_features, replicas, momentum=layer.momentum, **settings)


def _layer_norm(layer: nn.LayerNorm, generators: list[torch.Generator]) -> fw.Module:
    if layer.weight is not None and layer.bias is None:
        raise _unsupported("has LayerNorm only with bias=True, not False")
    affine = layer.elementwise_affine
    return fw.LayerNorm(layer.normalized_shape, len(generators), eps=layer.eps, affine=affine)


_Make = Callable[[Any, list[torch.Generator]], fw.Module]
_MAKE: dict[type[nn.Module], _Make] = {
    nn.Linear: lambda layer, generators: fw.Linear(
        layer.in_features, layer.out_features, generators, bias=layer.bias is not None
    ),
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.MaxPool2d: lambda layer, _: fw.MaxPool2d(
        layer.kernel_size, layer.stride, padding=layer.padding, ceil_mode=layer.ceil_mode
    ),
    nn.AvgPool2d: lambda layer, _: fw.AvgPool2d(
        layer.kernel_size,
        layer.stride,
        padding=layer.padding,
        ceil_mode=layer.ceil_mode,
        count_include_pad=layer.count_include_pad,
        divisor=layer.divisor_override,
    ),
    nn.Flatten: lambda *_: fw.Flatten(),
    nn.ReLU: lambda *_: fw.ReLU(),
    nn.LeakyReLU: lambda layer, _: fw.LeakyReLU(layer.negative_slope),
    nn.Tanh: lambda *_: fw.Tanh(),
    nn.Sigmoid: lambda *_: fw.Sigmoid(),
    nn.SELU: lambda *_: fw.SELU(),
    nn.GELU: lambda *_: fw.GELU(),
    nn.Softmax: lambda *_: fw.Softmax(),
}
