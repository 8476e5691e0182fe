"""What a training needs before its first step."""

from __future__ import annotations

import copy
from typing import Any

import torch

from framework.batches import Batches
from framework.data import Data
from framework.errors import at_least_one, shape_of
from framework.module import Module
from framework.normalisation import BatchNorm
from framework.optimizer import Optimizer
from framework.record import Record


def check_parameters(network: Module[Any], optimizer: Optimizer, replicas: int) -> None:
    """ValueError unless the optimiser has all parameters that learn, each of so many replicas."""
    if optimizer.retired:
        raise ValueError(
            "the optimiser has lost a parameter, which was frozen, replaced or given to another, "
            "accepted is an optimiser made afterwards"
        )
    for name, parameter in network.named_parameters():
        if len(parameter.data) != replicas:
            raise ValueError(
                f"{name} is {shape_of(parameter.data)}, accepted are {replicas} replicas, "
                "one for each generator"
            )
        if not (parameter.frozen or optimizer.has(parameter)):
            raise ValueError(
                f"the optimiser does not have {name}, accepted is an optimiser of the "
                "network's parameters, made after they were replaced"
            )


def check_epochs(epochs: int, record: Record) -> None:
    """ValueError unless there is something to train until so many epochs are done."""
    at_least_one("epochs", epochs)
    if epochs <= record.epochs:
        raise ValueError(
            f"epochs is {epochs}, accepted is more than {record.epochs}, the number of epochs "
            "that are done"
        )
    if not record.training:
        raise ValueError("every replica has ended in an earlier fit, accepted is a new trainer")


def check_repeats(data: object, epochs: int) -> None:
    """ValueError if the data are an iterator, which cannot begin again for a second epoch."""
    batches = Batches.of(data)
    if batches is not None:
        batches.check_epochs(epochs)


def check_single_row(network: Module[Any], train: Data, batch_size: int, rows: int) -> None:
    """ValueError if the last batch of so many rows has one, and the network cannot train on it.

    Batch norm over rows cannot train on one row; batch norm over pixels can. A forward pass of a
    copy of the network shows which it is.
    """
    single = batch_size == 1 or rows % batch_size == 1
    if single and any(isinstance(module, BatchNorm) for _, module in network.modules()):
        with torch.no_grad():
            twin = copy.deepcopy(network)
            twin.train()
            twin.forward(next(train.batches(1)).inputs)
