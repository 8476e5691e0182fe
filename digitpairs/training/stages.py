"""Training in two stages, as in the coukos report: first the part that names the digits, then the comparison on it, frozen."""

from __future__ import annotations

from torch import nn

from digitpairs.checks import InvalidValueError, number
from digitpairs.losses import Weighting

COMPARISON = "comparison_part"


def check_two_stage(share: float | None, network: nn.Module, aux: Weighting) -> float | None:
    """The share of the epochs that the first stage has, above 0 and below 1, or None for training all at once.

    Raises InvalidValueError for another one, for a network or a loss that leaves a stage nothing to learn, and for loss weights that are learned
    too. A stage's loss keeps the weights of its scheme.
    """
    if share is None:
        return None
    if number("two_stage", share, at_most=1) in (0, 1):
        raise InvalidValueError("two_stage", share, "a share of the epochs above 0 and below 1")
    part = getattr(network, COMPARISON, None)
    if (
        part is None
        or not getattr(network, "has_digits", False)
        or not list(part.parameters())
        or not aux.uses_digits
    ):
        needs = "null unless the network names digits, compares with a part that learns, and has a loss of the digits (not aux=none)"
        raise InvalidValueError("two_stage", share, needs)
    if list(aux.parameters()):
        raise InvalidValueError(
            "two_stage", share, "null with loss weights that are learned (aux=uncertainty)"
        )
    return float(share)


def first_epochs(share: float, epochs: int) -> int:
    """How many epochs the first stage has. InvalidValueError unless each stage has one."""
    first = int(share * epochs + 0.5)
    if not 0 < first < epochs:
        raise InvalidValueError(
            "two_stage", share, f"a share that leaves each stage an epoch of the {epochs}"
        )
    return first


def train_only(network: nn.Module, part: str | None) -> None:
    """From now on only the "digits" part or the "comparison" part learns, or (None) all.

    What does not learn computes as in evaluation: its batch norm keeps its statistics, its dropout drops nothing.
    """
    for name, module in network.named_children():
        learns = part is None or (part == "comparison") == (name == COMPARISON)
        module.requires_grad_(learns).train(learns)
    getattr(network, COMPARISON).detached = part is not None
