"""Conversion of torch networks, optimisers and schedules to `framework`'s.

Several networks of one structure become the replicas of one `framework` network.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule
from digitpairs.networks import PointMLP, SiameseNetwork
from digitpairs.networks.layers import Dropout, Flatten
from digitpairs.streams import stream
from digitpairs.targets import class_name
from digitpairs.training import PairComparison, PointClassification
from digitpairs.training.optimizers import SGD, Adam, AdamW
from digitpairs.training.schedulers import Schedule

_ACTIVATIONS: dict[type[nn.Module], type[fw.Module]] = {
    nn.ReLU: fw.ReLU,
    nn.Tanh: fw.Tanh,
    nn.Sigmoid: fw.Sigmoid,
    nn.SELU: fw.SELU,
    nn.GELU: fw.GELU,
    nn.LeakyReLU: fw.LeakyReLU,
}
_OPTIMIZERS: dict[type, type[fw.Optimizer]] = {
    SGD: fw.SGD,
    Adam: fw.Adam,
    AdamW: fw.AdamW,
}
# The layers with values that are copied, in `framework` and in torch.
_LEARNED = (fw.Linear, fw.Conv2d, fw.BatchNorm)
_TORCH_LEARNED = (nn.Linear, nn.Conv2d, _BatchNorm)
_SUPPORTED = (
    "what `framework` has: siamese networks with sharing, digit_head=per_image, "
    "one comparison output that sees probabilities or logits"
)


def convert_networks(
    networks: Sequence[nn.Module], dropout_streams: Sequence[torch.Generator]
) -> fw.Module:
    """Networks of one structure as one `framework` network of replicas, with copies of the values.

    Raises InvalidValueError for a network with layers or connections that `framework` lacks.
    """
    first = networks[0]
    if isinstance(first, PointMLP):
        return _convert_parts(networks, ["layers"], dropout_streams)
    if not (
        isinstance(first, SiameseNetwork) and first.sharing and first.digit_head == "per_image"
    ):
        raise _unsupported(f"network is not {_SUPPORTED}")
    if not isinstance(first.bodies[0], nn.Sequential):
        raise _unsupported("network's body is not of layers that `framework` has")
    comparison = first.comparison_part
    if comparison.sees not in ("probabilities", "logits") or not _has_one_output(comparison.layers):
        raise _unsupported(f"network's comparison is not {_SUPPORTED}")
    return fw.Siamese(
        _convert_parts(networks, ["bodies.0", "digit_parts.0"], dropout_streams),
        _convert_parts(networks, ["comparison_part.layers"], dropout_streams),
        sees=comparison.sees,
    )


def make_framework_trainer(
    modules: Sequence[PairComparison] | Sequence[PointClassification],
    datamodules: Sequence[PairDataModule] | Sequence[DiskDataModule],
    network: fw.Module,
    loss: fw.Loss[Any],
    measure: fw.metrics.Measure,
) -> fw.Trainer:
    """A trainer of replicas with the modules' optimiser and schedule, and each replica's order."""
    return fw.Trainer(
        network,
        loss,
        convert_optimizer(modules[0].optimizer_recipe, network.parameters()),
        [stream(datamodule.order_seed, "order") for datamodule in datamodules],
        batch_size=datamodules[0].batch_size,
        schedule=convert_schedule(modules[0].schedule),
        measure=measure,
    )


def copy_back(network: fw.Module, networks: Sequence[nn.Module]) -> None:
    """Copies the replicas' parameters and buffers to the networks that they were made from."""
    layers = [layer for _, layer in network.modules() if isinstance(layer, _LEARNED)]
    for replica, target in enumerate(networks):
        torch_layers = [each for each in target.modules() if isinstance(each, _TORCH_LEARNED)]
        for layer, torch_layer in zip(layers, torch_layers, strict=True):
            for name, values in _torch_values(layer, replica):
                tensor = getattr(torch_layer, name).data
                tensor.copy_(values.reshape(tensor.shape))


def convert_optimizer(recipe: object, parameters: Sequence[fw.Parameter]) -> fw.Optimizer:
    """`framework`'s optimiser with the recipe's settings. Raises InvalidValueError for others."""
    if not isinstance(recipe, (SGD, Adam)) or type(recipe) not in _OPTIMIZERS:
        accepted = "adam, adamw or sgd with engine=framework"
        raise InvalidValueError("optimizer", class_name(recipe), accepted)
    return _OPTIMIZERS[type(recipe)](parameters, **recipe.settings)


def convert_schedule(recipe: Schedule) -> fw.schedules.Schedule:
    """`framework`'s schedule with the recipe's settings. Raises InvalidValueError for others."""
    kind = getattr(fw.schedules, type(recipe).__name__, None)
    if kind is None:
        accepted = "one of those in conf/scheduler with engine=framework"
        raise InvalidValueError("scheduler", class_name(recipe), accepted)
    arguments = inspect.signature(kind).parameters
    return kind(**{key: value for key, value in vars(recipe).items() if key in arguments})


def _unsupported(reason: str) -> InvalidValueError:
    return InvalidValueError("engine", "framework", f"lightning, since this {reason}")


def _has_one_output(layers: nn.Sequential) -> bool:
    return isinstance(layers[-1], nn.Linear) and layers[-1].out_features == 1


def _convert_parts(
    networks: Sequence[nn.Module], parts: Sequence[str], streams: Sequence[torch.Generator]
) -> fw.Sequential:
    """The named submodules of the networks, one after another."""
    stacks = [
        [layer for part in parts for layer in _single_layers(network.get_submodule(part))]
        for network in networks
    ]
    return fw.Sequential(*(_convert_layer(layers, streams) for layers in zip(*stacks, strict=True)))


def _single_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers within nested nn.Sequential."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            yield from _single_layers(layer)
    else:
        yield module


def _convert_layer(layers: Sequence[nn.Module], streams: Sequence[torch.Generator]) -> fw.Module:
    """One layer of all networks as a `framework` layer of replicas."""
    first = layers[0]
    if isinstance(first, nn.MaxPool2d) and isinstance(first.kernel_size, int):
        return fw.MaxPool2d(first.kernel_size)
    if isinstance(first, Flatten):
        return fw.Flatten()
    if isinstance(first, Dropout):
        return fw.Dropout(first.probability, streams)
    for torch_class, framework_class in _ACTIVATIONS.items():
        if isinstance(first, torch_class):
            return framework_class()
    converted = _new_learned_layer(first, len(layers))
    converted.to(first.get_parameter("weight").dtype)
    for replica, layer in enumerate(layers):
        for name, values in _torch_values(converted, replica):
            values.copy_(getattr(layer, name).detach().reshape(values.shape))
    return converted


def _new_learned_layer(layer: nn.Module, replicas: int) -> fw.Linear | fw.Conv2d | fw.BatchNorm:
    """A layer of the same shape, whose random values are still to be replaced."""
    generators = [torch.Generator() for _ in range(replicas)]
    if isinstance(layer, nn.Linear):
        bias = layer.bias is not None
        return fw.Linear(layer.in_features, layer.out_features, generators, bias=bias)
    if isinstance(layer, nn.Conv2d):
        channels, padding = (layer.in_channels, layer.out_channels), int(layer.padding[0])
        return fw.Conv2d(*channels, layer.kernel_size[0], generators, padding=padding)
    if isinstance(layer, _BatchNorm) and layer.momentum is not None:
        return fw.BatchNorm(layer.num_features, replicas, eps=layer.eps, momentum=layer.momentum)
    name = type(layer).__name__
    raise InvalidValueError("engine", "framework", f"lightning, since `framework` has no {name}")


def _torch_values(
    layer: fw.Linear | fw.Conv2d | fw.BatchNorm, replica: int
) -> list[tuple[str, Tensor]]:
    """Views of a replica's tensors by their names in torch, with torch's order of the axes."""
    if isinstance(layer, fw.BatchNorm):
        assert layer.scale is not None and layer.shift is not None  # of a torch layer with both
        return [
            ("weight", layer.scale.data[replica, 0]),
            ("bias", layer.shift.data[replica, 0]),
            ("running_mean", layer.running_mean[replica, 0]),
            ("running_var", layer.running_variance[replica, 0]),
        ]
    values = [("weight", layer.weight.data[replica].T)]
    if layer.bias is not None:
        values.append(("bias", layer.bias.data[replica, 0]))
    return values
