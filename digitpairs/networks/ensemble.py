"""Ensembles: networks that train side by side on the same batches, and answer as one."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from digitpairs.checks import InvalidValueError
from digitpairs.networks.comparison import Prediction, as_prediction, compares_posteriors
from digitpairs.networks.heads import posterior_logit
from digitpairs.networks.layers import PER_MEMBER_DEVICES
from digitpairs.networks.stacking import stack, stackable, stacking_signature, why_not_stackable

MOST_NETWORKS = 100


@stackable
class Ensemble(nn.Module):
    """Networks of one structure, each with its own weights: (B, 2, 14, 14) -> Prediction.

    In training, the prediction has an axis of networks, (networks, B, ...), and `loss_parts` gives
    each network its own loss. In evaluation it is the average over the networks, (B, ...).

    The networks are stacked: each tensor is (networks, ...). The tensors of an array of ensembles
    are (members, networks, ...).

    Raises InvalidValueError for networks that cannot be stacked.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.size = len(networks)
        reason = why_not_stackable(networks[0])
        if reason is not None:
            accepted = f"1 for a network that cannot be stacked ({reason})"
            raise InvalidValueError("ensemble_size", self.size, accepted)
        if len(set(map(stacking_signature, networks))) > 1:
            accepted = "networks of one structure"
            raise InvalidValueError("networks", f"{self.size} networks", accepted)
        self.is_convolutional = any(isinstance(each, nn.Conv2d) for each in networks[0].modules())
        self.network = stack(networks)

    def forward(self, images: Tensor) -> Prediction:
        if images.dim() == 4:
            # (B, 2, 14, 14) -> (networks, B, 2, 14, 14)
            prediction = as_prediction(self.network(images.expand(self.size, *images.shape)))
        else:
            prediction = self._of_array(images)
        return prediction if self.training else self.average(prediction)

    def average(self, prediction: Prediction) -> Prediction:
        """The average over the axis of networks, see `average_predictions`."""
        comparisons, digits = prediction
        each = comparisons.unbind(-3)
        each_digits = [None] * len(each) if digits is None else digits.unbind(-4)
        return average_predictions(
            [Prediction(*pair) for pair in zip(each, each_digits)],
            compares_posteriors(self.network),
        )

    def _of_array(self, images: Tensor) -> Prediction:
        """The predictions (members, networks, B, ...) for images (members, B, 2, 14, 14).

        On a CPU, networks with convolutions are computed one after another: their activations fill
        the cache, and several at once take up to a quarter longer.
        """
        if self.is_convolutional and images.device.type in PER_MEMBER_DEVICES:
            each = zip(*(tensor.unbind(1) for _, tensor in self._tensors()))
            comparisons, digits = zip(*(self._computed(tensors, images) for tensors in each))
            joint_digits = None if digits[0] is None else torch.stack(digits, 1)
            return Prediction(torch.stack(comparisons, 1), joint_digits)
        merged = [tensor.flatten(0, 1) for _, tensor in self._tensors()]
        comparison, logits = self._computed(merged, images.repeat_interleave(self.size, 0))
        shape = len(images), self.size
        rows = None if logits is None else logits.unflatten(0, shape)
        return Prediction(comparison.unflatten(0, shape), rows)

    def _tensors(self) -> itertools.chain[tuple[str, Tensor]]:
        return itertools.chain(self.network.named_parameters(), self.network.named_buffers())

    def _computed(self, tensors: Sequence[Tensor], images: Tensor) -> Prediction:
        """The prediction of an array of networks with these parameters and buffers."""
        named = dict(zip((name for name, _ in self._tensors()), tensors))
        return as_prediction(functional_call(self.network, named, (images,), tie_weights=False))


def base_network(network: nn.Module) -> nn.Module:
    """The stacked network of an ensemble; any other network itself."""
    return network.network if isinstance(network, Ensemble) else network


def average_predictions(predictions: Sequence[Prediction], from_digits: bool) -> Prediction:
    """The average of the log posteriors of the digits, and of those of the comparison.

    For a comparison with one output this is the mean of its logit. The mean of log posteriors is a
    geometric mean of posteriors, and counts as logits.

    Args:
        predictions: for the same pairs.
        from_digits: whether the comparison follows from the two digit posteriors. It then follows
            from their averages.
    """
    comparisons, digits = zip(*predictions)
    mean_digits = None if digits[0] is None else _mean_log_posterior(digits)
    if from_digits and mean_digits is not None:
        return Prediction(posterior_logit(mean_digits)[..., None], mean_digits)
    if comparisons[0].shape[-1] == 1:
        return Prediction(_mean(comparisons), mean_digits)
    return Prediction(_mean_log_posterior(comparisons), mean_digits)


def _mean_log_posterior(logits: Sequence[Tensor]) -> Tensor:
    return _mean([each.log_softmax(-1) for each in logits])


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Summed one after another: `Tensor.mean` rounds an element by its place in memory."""
    return functools.reduce(operator.add, tensors) / len(tensors)
