"""Conversion of torch networks, optimisers and schedules to `framework`'s.

Several networks of one structure become the replicas of one `framework` network.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule
from digitpairs.engines.framework_layers import LEARNED, TORCH_LEARNED, convert_layer, torch_values
from digitpairs.networks import PointMLP, SiameseNetwork
from digitpairs.streams import stream
from digitpairs.targets import class_name
from digitpairs.training import PairComparison, PointClassification
from digitpairs.training.optimizers import SGD, Adam, AdamW
from digitpairs.training.schedulers import Schedule

_OPTIMIZERS: dict[type, type[fw.Optimizer]] = {
    SGD: fw.SGD,
    Adam: fw.Adam,
    AdamW: fw.AdamW,
}
_CLIPS: dict[str, type[fw.ClipNorm] | type[fw.ClipValue]] = {
    "norm": fw.ClipNorm,
    "value": fw.ClipValue,
}
_SUPPORTED = (
    "what `framework` has: siamese networks with sharing, digit_head=per_image, "
    "one comparison output that sees probabilities or logits, or comparison_input=posterior"
)


def convert_networks(
    networks: Sequence[nn.Module], dropout_streams: Sequence[torch.Generator]
) -> fw.Module:
    """Networks of one structure as one `framework` network of replicas, with copies of the values.

    Raises InvalidValueError for a network with layers or connections that `framework` lacks.
    """
    first = networks[0]
    _check_no_sharing(first)
    if isinstance(first, PointMLP):
        return _convert_parts(networks, ["layers"], dropout_streams)
    if not (
        isinstance(first, SiameseNetwork) and first.sharing and first.digit_head == "per_image"
    ):
        raise _unsupported(f"network is not {_SUPPORTED}")
    if not _is_sequence(first.bodies[0]):
        raise _unsupported("network's body is not of layers that `framework` has")
    comparison = first.comparison_part
    is_learned = comparison.sees in ("probabilities", "logits")
    if comparison.sees != "posterior" and not (is_learned and _has_one_output(comparison.layers)):
        raise _unsupported(f"network's comparison is not {_SUPPORTED}")
    body = _convert_parts(networks, ["bodies.0", "digit_parts.0"], dropout_streams)
    if not is_learned:
        return fw.Siamese(body, fw.PosteriorComparison(), sees="logits")
    compare = _convert_parts(networks, ["comparison_part.layers"], dropout_streams)
    return fw.Siamese(body, compare, sees=comparison.sees)


def make_framework_trainer(
    modules: Sequence[PairComparison] | Sequence[PointClassification],
    datamodules: Sequence[PairDataModule] | Sequence[DiskDataModule],
    network: fw.Module,
    loss: fw.Loss[Any],
    measure: fw.metrics.Measure,
    clip: fw.Clip | None = None,
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
        clip=clip,
    )


def copy_back(network: fw.Module, networks: Sequence[nn.Module]) -> None:
    """Copies the replicas' parameters and buffers to the networks that they were made from."""
    layers = [layer for _, layer in network.modules() if isinstance(layer, LEARNED)]
    for replica, target in enumerate(networks):
        torch_layers = [each for each in target.modules() if isinstance(each, TORCH_LEARNED)]
        for layer, torch_layer in zip(layers, torch_layers, strict=True):
            for name, values in torch_values(layer, replica):
                tensor = getattr(torch_layer, name).data
                tensor.copy_(values.reshape(tensor.shape))


def convert_optimizer(recipe: object, parameters: Sequence[fw.Parameter]) -> fw.Optimizer:
    """`framework`'s optimiser with the recipe's settings. Raises InvalidValueError for others."""
    if not isinstance(recipe, (SGD, Adam)) or type(recipe) not in _OPTIMIZERS:
        accepted = "adam, adamw or sgd with engine=framework"
        raise InvalidValueError("optimizer", class_name(recipe), accepted)
    return _OPTIMIZERS[type(recipe)](parameters, **recipe.settings)


def convert_clipping(module: PairComparison) -> fw.Clip | None:
    """`framework`'s clipping with the module's bound; None without one."""
    if module.clip_value is None:
        return None
    return _CLIPS[module.clip_algorithm](module.clip_value)


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


def _check_no_sharing(network: nn.Module) -> None:
    """Raises InvalidValueError if a parameter has several uses, which would become several."""
    uses = [parameter for _, parameter in network.named_parameters(remove_duplicate=False)]
    if len(uses) > len(set(uses)):
        raise _unsupported("network has a parameter in several layers")


def _is_sequence(module: nn.Module) -> bool:
    """Whether this is nn.Sequential, or a class of it that computes nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


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
    return fw.Sequential(*(convert_layer(layers, streams) for layers in zip(*stacks, strict=True)))


def _single_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers within nested nn.Sequential."""
    if _is_sequence(module):
        assert isinstance(module, nn.Sequential)
        for layer in module:
            yield from _single_layers(layer)
    else:
        yield module
