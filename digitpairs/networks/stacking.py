"""Arrays of networks as one network: each tensor is stacked over the members, on a first axis.

A network can be stacked if each of its modules is of a class that is declared `stackable`. The
settings of a module must be equal in all members, except those that its class names in
`member_settings`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_requirements: dict[type[nn.Module], Callable[[Any], bool]] = {}  # of each stackable class


def stackable(module_class: type[ModuleT]) -> type[ModuleT]:
    """Declare that modules of this class also compute with the tensors of several members.

    Parameters, buffers and inputs then have the shape (members, ...), and no member's output may
    depend on another member. Subclasses do not inherit the declaration: they may compute
    something else.
    """
    return stackable_if(lambda module: True)(module_class)


def stackable_if(requirement: Callable[[Any], bool]) -> Callable[[type[ModuleT]], type[ModuleT]]:
    """Declare a class `stackable` for the modules that meet the requirement."""

    def declare(module_class: type[ModuleT]) -> type[ModuleT]:
        _requirements[module_class] = requirement
        return module_class

    return declare


for torch_class in (nn.Sequential, nn.ModuleList, nn.ReLU, nn.LeakyReLU):
    stackable(torch_class)


def why_not_stackable(network: nn.Module) -> str | None:
    """The first module that cannot be stacked, and the reason; None if all can be."""
    for name, module in network.named_modules():
        requirement, owner = _requirements.get(type(module)), type(module)
        if requirement is None:
            class_name = f"{owner.__module__}.{owner.__qualname__}"
            return f"{name or 'it'} is a {class_name}, which is not declared stackable"
        if not requirement(module):
            return f"{name or 'it'} is {module}, with settings that cannot be stacked"
    return None


def stacking_signature(network: nn.Module) -> Hashable:
    """What networks must have in common to be stacked: modules, their settings, and shapes."""
    modules = tuple(
        (name, type(module), _settings(module)) for name, module in network.named_modules()
    )
    return modules, tuple((name, tuple(tensor.shape)) for name, tensor in _tensors(network))


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    settings = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str, tuple))
        and not name.startswith("_")
        and name not in ("training", *_member_settings(module))
    }
    return tuple(sorted(settings.items()))


def _member_settings(module: nn.Module) -> tuple[str, ...]:
    """The names of the settings that may differ between members."""
    return getattr(module, "member_settings", ())


def stack(modules: Sequence[ModuleT]) -> ModuleT:
    """A copy of the first module with the tensors of all modules: (members, ...).

    Each of the `member_settings` that differs becomes the tuple of the members' values.
    """
    stacked = copy.deepcopy(modules[0])
    for (name, first), *others in zip(*(_tensors(module) for module in modules)):
        value = stack_keeping_strides([first, *(tensor for _, tensor in others)])
        if isinstance(first, nn.Parameter):
            value = nn.Parameter(value)
        owner, _, attribute = name.rpartition(".")
        setattr(stacked.get_submodule(owner), attribute, value)
    for name, part in stacked.named_modules():
        for setting in _member_settings(part):
            values = tuple(getattr(each.get_submodule(name), setting) for each in modules)
            setattr(part, setting, values if len(set(values)) > 1 else values[0])
    return stacked


def stack_keeping_strides(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors on a new first axis, each row with the strides of its tensor.

    `torch.stack` forgets which of the axes of one element is the fastest. A convolution of images
    with one channel then computes in the slower of its layouts.
    """
    first = tensors[0].detach()
    strides = (first.numel(), *first.stride())
    rows = torch.empty_strided(
        (len(tensors), *first.shape), strides, dtype=first.dtype, device=first.device
    )
    return torch.stack([tensor.detach() for tensor in tensors], out=rows)


def share_members(stacked: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Let each module's parameters and buffers be views of its rows in the stacked module."""
    _set_members(stacked, modules, lambda row: row)


def release_members(stacked: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Give each module its own copy of its rows, on the CPU."""
    _set_members(stacked, modules, lambda row: row.to("cpu", copy=True).contiguous())


def _set_members(
    stacked: nn.Module, modules: Sequence[nn.Module], convert: Callable[[Tensor], Tensor]
) -> None:
    values = dict(_tensors(stacked))
    for row, module in enumerate(modules):
        for name, tensor in _tensors(module):
            tensor.data = convert(values[name].data[row])


def _tensors(module: nn.Module) -> itertools.chain[tuple[str, Tensor]]:
    return itertools.chain(module.named_parameters(), module.named_buffers())
