"""An array of networks as one: each parameter and buffer stacked over the members, on a new first axis.

`layers.py` says how each layer computes then. Only modules made of those layers can be stacked.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from digitpairs.networks import layers
from digitpairs.networks.comparison import JointNetwork, SiameseNetwork
from digitpairs.networks.heads import ComparisonPart

_LAYERS = (
    layers.Linear,
    layers.Conv2d,
    layers.MaxPool2d,
    layers.Flatten,
    layers.BatchNorm1d,
    layers.BatchNorm2d,
    layers.Dropout,
)
_STRUCTURES = (nn.Sequential, nn.ModuleList, JointNetwork, SiameseNetwork, ComparisonPart)
_KNOWN = {*_LAYERS, *_STRUCTURES, *layers.ACTIVATIONS.values()}

# What the layers leave out when they compute as an array.
_SIMPLE: dict[type, Callable[[nn.Module], bool]] = {
    layers.Linear: lambda layer: layer.bias is not None,
    layers.Conv2d: lambda layer: (
        layer.bias is not None
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    ),
    layers.BatchNorm1d: lambda layer: (
        layer.affine and layer.track_running_stats and layer.momentum is not None
    ),
    layers.BatchNorm2d: lambda layer: (
        layer.affine and layer.track_running_stats and layer.momentum is not None
    ),
}


def is_stackable(network: nn.Module) -> bool:
    """Whether the network is made of nothing but what computes as an array as well."""
    return all(
        type(module) in _KNOWN and _SIMPLE.get(type(module), lambda _: True)(module)
        for module in network.modules()
    )


def stacking_signature(network: nn.Module) -> Hashable:
    """What networks have in common that compute the same but for their values: their modules, with all their settings, and shapes."""
    modules = tuple(
        (name, type(module), _settings(module)) for name, module in network.named_modules()
    )
    return modules, tuple((name, tuple(tensor.shape)) for name, tensor in _tensors(network))


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    plain = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str, tuple))
    }
    return tuple(
        sorted(
            (name, value)
            for name, value in plain.items()
            if not name.startswith("_") and name != "training"
        )
    )


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """A module like each of these, whose parameters and buffers hold the values of all: (members, ...)."""
    stacked = copy.deepcopy(modules[0])
    for (name, first), *others in zip(*(_tensors(module) for module in modules)):
        value = _stack_keeping_strides([first, *(tensor for _, tensor in others)])
        owner, _, leaf = name.rpartition(".")
        setattr(
            stacked.get_submodule(owner),
            leaf,
            nn.Parameter(value) if isinstance(first, nn.Parameter) else value,
        )
    return stacked


def _stack_keeping_strides(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors on a new first axis, each row with the strides of the tensor that it holds.

    `torch.stack` forgets which of the axes of one element is the fastest. A convolution of images
    with one channel then computes in the slower of its layouts.
    """
    first = tensors[0].detach()
    strides = (first.numel(), *first.stride())
    rows = torch.empty_strided(
        (len(tensors), *first.shape), strides, dtype=first.dtype, device=first.device
    )
    return torch.stack([tensor.detach() for tensor in tensors], out=rows)


def share(stacked: nn.Module, modules: Sequence[nn.Module]) -> None:
    """From now on each module's parameters and buffers are rows of the stacked module's: what changes there changes here."""
    _set_rows(stacked, modules, lambda row: row)


def release(stacked: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Each module gets values of its own again, on the CPU: copies of its rows."""
    _set_rows(stacked, modules, lambda row: row.to("cpu", copy=True).contiguous())


def _set_rows(stacked: nn.Module, modules: Sequence[nn.Module], make) -> None:
    values = dict(_tensors(stacked))
    for row, module in enumerate(modules):
        for name, tensor in _tensors(module):
            tensor.data = make(values[name].data[row])


def _tensors(module: nn.Module) -> itertools.chain[tuple[str, Tensor]]:
    return itertools.chain(module.named_parameters(), module.named_buffers())
