"""From torch's layers to `framework`'s: the same networks with the same weights, several of one kind as replicas."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.networks import PointMLP, SiameseNetwork
from digitpairs.networks.layers import Dropout, Flatten
from digitpairs.training.optimizers import SGD, Adam, AdamW
from digitpairs.training.schedulers import Schedule

_ACTIVATIONS = {
    nn.ReLU: fw.ReLU,
    nn.Tanh: fw.Tanh,
    nn.Sigmoid: fw.Sigmoid,
    nn.SELU: fw.SELU,
    nn.GELU: fw.GELU,
    nn.LeakyReLU: fw.LeakyReLU,
}
_OPTIMIZERS = {SGD: fw.SGD, Adam: fw.Adam, AdamW: fw.AdamW}
_SUPPORTED = "what `framework` has: siamese networks with sharing, digit_head=per_image, one comparison output that sees probabilities or logits"


def network_of(
    networks: Sequence[nn.Module], dropout_streams: Sequence[torch.Generator]
) -> fw.Module:
    """The networks, all of one kind, as the replicas of one; their values are copied. InvalidValueError for what `framework` has not."""
    first = networks[0]
    if isinstance(first, PointMLP):
        return _sequence([network.layers for network in networks], dropout_streams)
    if (
        not isinstance(first, SiameseNetwork)
        or not first.sharing
        or first.digit_head != "per_image"
    ):
        raise InvalidValueError(
            "engine", "framework", f"lightning, since this network is not {_SUPPORTED}"
        )
    if not isinstance(first.bodies[0], nn.Sequential):
        raise InvalidValueError(
            "engine",
            "framework",
            "lightning, since this network's body is not of layers that `framework` has",
        )
    comparison = first.comparison_part
    one_output = (
        comparison.sees in ("probabilities", "logits")
        and isinstance(comparison.layers[-1], nn.Linear)
        and comparison.layers[-1].out_features == 1
    )
    if not one_output:
        raise InvalidValueError(
            "engine", "framework", f"lightning, since this network's comparison is not {_SUPPORTED}"
        )
    bodies = [nn.Sequential(*network.bodies[0], *network.digit_parts[0]) for network in networks]
    layers = [network.comparison_part.layers for network in networks]
    return fw.Siamese(
        _sequence(bodies, dropout_streams), _sequence(layers, dropout_streams), sees=comparison.sees
    )


def copy_back(network: fw.Module, networks: Sequence[nn.Module]) -> None:
    """The replicas' parameters and buffers into the networks that they were made from."""
    layers = [
        layer
        for _, layer in network.modules()
        if isinstance(layer, (fw.Linear, fw.Conv2d, fw.BatchNorm))
    ]
    for replica, each in enumerate(networks):
        twins = [
            layer
            for layer in each.modules()
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm))
        ]
        for layer, twin in zip(layers, twins, strict=True):
            for tensor, values in _values(layer, replica):
                getattr(twin, tensor).data.copy_(values.reshape(getattr(twin, tensor).shape))


def optimizer_of(recipe: object, parameters: Sequence[fw.Parameter]) -> fw.optimizers.Optimizer:
    """`framework`'s optimiser with the recipe's settings."""
    if type(recipe) not in _OPTIMIZERS:
        raise InvalidValueError(
            "optimizer", type(recipe).__name__, "adam, adamw or sgd with engine=framework"
        )
    return _OPTIMIZERS[type(recipe)](parameters, **recipe.settings)


def schedule_of(recipe: Schedule) -> fw.schedules.Schedule:
    """`framework`'s schedule with the recipe's settings."""
    kind = getattr(fw.schedules, type(recipe).__name__, None)
    if kind is None:
        raise InvalidValueError(
            "scheduler",
            type(recipe).__name__,
            "one of those in conf/scheduler with engine=framework",
        )
    return kind(
        **{
            key: value
            for key, value in vars(recipe).items()
            if key in inspect.signature(kind).parameters
        }
    )


def _sequence(stacks: Sequence[nn.Sequential], streams: Sequence[torch.Generator]) -> fw.Sequential:
    return fw.Sequential(
        *(
            _layer(layers, streams)
            for layers in zip(*(_flat(stack) for stack in stacks), strict=True)
        )
    )


def _flat(stack: nn.Sequential) -> list[nn.Module]:
    return [
        inner
        for layer in stack
        for inner in (_flat(layer) if isinstance(layer, nn.Sequential) else [layer])
    ]


def _layer(layers: Sequence[nn.Module], streams: Sequence[torch.Generator]) -> fw.Module:
    first, unused = (
        layers[0],
        [torch.Generator() for _ in layers],
    )  # the values drawn from them are replaced below
    if isinstance(first, nn.Linear):
        made: fw.Module = fw.Linear(
            first.in_features, first.out_features, unused, bias=first.bias is not None
        )
    elif isinstance(first, nn.Conv2d):
        made = fw.Conv2d(
            first.in_channels,
            first.out_channels,
            first.kernel_size[0],
            unused,
            padding=first.padding[0],
        )
    elif isinstance(first, nn.modules.batchnorm._BatchNorm):
        made = fw.BatchNorm(first.num_features, len(layers), eps=first.eps, momentum=first.momentum)
    elif isinstance(first, nn.MaxPool2d):
        return fw.MaxPool2d(first.kernel_size)
    elif isinstance(first, Flatten):
        return fw.Flatten()
    elif isinstance(first, Dropout):
        return fw.Dropout(first.probability, streams)
    else:
        return _activation(first)
    made.to(first.weight.dtype)
    for replica, layer in enumerate(layers):
        for name, values in _values(made, replica):
            values.copy_(getattr(layer, name).detach().reshape(values.shape))
    return made


def _activation(layer: nn.Module) -> fw.Module:
    for torchs, ours in _ACTIVATIONS.items():
        if isinstance(layer, torchs):
            return ours()
    raise InvalidValueError(
        "engine", "framework", f"lightning, since `framework` has no {type(layer).__name__}"
    )


def _values(layer: fw.Module, replica: int) -> list[tuple[str, Tensor]]:
    """A replica's tensors of a layer, as views, by the names and with the axes (but for their length) that they have in torch."""
    if isinstance(layer, fw.BatchNorm):
        parts = {
            "weight": layer.scale.data,
            "bias": layer.shift.data,
            "running_mean": layer.running_mean,
            "running_var": layer.running_variance,
        }
        return [(name, part[replica, 0]) for name, part in parts.items()]
    parts = [("weight", layer.weight.data[replica].T)]
    return parts if layer.bias is None else [*parts, ("bias", layer.bias.data[replica, 0])]
