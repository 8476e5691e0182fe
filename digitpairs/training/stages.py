"""Training in two stages, as in the coukos report.

The first stage trains the body and the digit head. The second trains the comparison part, with the
rest frozen.
"""

from __future__ import annotations

from torch import nn

from digitpairs.checks import InvalidValueError, number
from digitpairs.losses import Weighting

COMPARISON = "comparison_part"


def check_two_stage(share: float | None, network: nn.Module, aux: Weighting) -> float | None:
    """`share`, the first stage's share of the epochs; None trains everything at once.

    In each stage, the loss has the weights of its scheme. Raises InvalidValueError for a share
    that is not above 0 and below 1, for a network or a loss that gives a stage nothing to learn,
    and for learned weights of the loss.
    """
    if share is None:
        return None
    if number("two_stage", share, at_most=1) in (0, 1):
        raise InvalidValueError("two_stage", share, "a share of the epochs above 0 and below 1")
    comparison = getattr(network, COMPARISON, None)
    has_digits = getattr(network, "has_digits", False) and aux.uses_digits
    if comparison is None or not has_digits or not list(comparison.parameters()):
        accepted = (
            "null unless the network names digits, compares with a part that learns "
            "(not comparison_input=posterior), and has a loss of the digits (not aux=none)"
        )
        raise InvalidValueError("two_stage", share, accepted)
    if list(aux.parameters()):
        accepted = "null with loss weights that are learned (aux=uncertainty)"
        raise InvalidValueError("two_stage", share, accepted)
    return float(share)


def first_epochs(share: float, epochs: int) -> int:
    """The number of epochs of the first stage. Raises InvalidValueError if a stage has none."""
    first = int(share * epochs + 0.5)
    if not 0 < first < epochs:
        accepted = f"a share that leaves each stage an epoch of the {epochs}"
        raise InvalidValueError("two_stage", share, accepted)
    return first


def train_only(network: nn.Module, part: str | None) -> None:
    """Freeze all but the part "digits" or "comparison"; None freezes nothing.

    A frozen part computes as in evaluation: its batch norm keeps its statistics, and its dropout
    drops nothing.
    """
    for name, module in network.named_children():
        trains = part is None or (part == "comparison") == (name == COMPARISON)
        module.requires_grad_(trains).train(trains)
    getattr(network, COMPARISON).detached = part is not None
