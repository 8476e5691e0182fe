"""An array of networks as one: each parameter and buffer stacked over the members, on a new first axis.

`layers.py` says how each layer computes then. Only modules made of those layers can be stacked.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from digitpairs.networks import layers
from digitpairs.networks.comparison import JointNetwork, SiameseNetwork
from digitpairs.networks.heads import ComparisonPart

_LAYERS = (layers.Linear, layers.Conv2d, layers.MaxPool2d, layers.Flatten, layers.BatchNorm1d, layers.BatchNorm2d, layers.Dropout)
_STRUCTURES = (nn.Sequential, nn.ModuleList, JointNetwork, SiameseNetwork, ComparisonPart)
_KNOWN = {*_LAYERS, *_STRUCTURES, *layers.ACTIVATIONS.values()}


def is_stackable(network: nn.Module) -> bool:
    """Whether the network is made of nothing but what computes as an array as well."""
    return all(type(module) in _KNOWN for module in network.modules())


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """A module like each of these, whose parameters and buffers hold the values of all: (members, ...)."""
    stacked = copy.deepcopy(modules[0])
    parameters, buffers = torch.func.stack_module_state(list(modules))
    for name, value in itertools.chain(parameters.items(), buffers.items()):
        owner, _, leaf = name.rpartition(".")
        setattr(stacked.get_submodule(owner), leaf, nn.Parameter(value.detach()) if name in parameters else value)
    return stacked


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
