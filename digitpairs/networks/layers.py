"""The layers that all networks are made of: torch's own, and the same for an array of networks.

An array's layer holds the values of all members, stacked on a leading axis: a weight (members, out, in) where one
network has (out, in). Its inputs carry the same axis, (members, rows, ...). `stacking.py` makes such layers out of single
ones; here stands what each computes. Functions and modules elsewhere count axes from the end, and need no second case.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integers, number
from digitpairs.networks.stacking import stackable, stackable_if

VECTOR_BYTES = 128  # two AVX-512 vectors: the longest step of torch's elementwise loops


def vector_length(tensor: Tensor) -> int:
    """How many elements of the tensor's type torch's elementwise CPU kernels take at once at most."""
    return VECTOR_BYTES // tensor.element_size()


class _PaddedToVectors:
    """An activation that rounds an element the same wherever it stands in the tensor.

    torch computes the last elements, those that do not fill a vector, and tensors that are not
    contiguous by other functions, which differ in the last bit. Without this, the bits of a member
    would depend on the number of members. The elements are passed on in their order in memory,
    filled up to whole vectors; outputs and gradients keep the inputs' layout.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        axes = sorted(range(inputs.dim()), key=inputs.stride, reverse=True)
        ordered = inputs.permute(axes)
        flat, missing = ordered.flatten(), -inputs.numel() % vector_length(inputs)
        if missing:
            outputs = super().forward(F.pad(flat, (0, missing)))[: len(flat)]
        else:
            outputs = super().forward(flat)
        return outputs.view(ordered.shape).permute([axes.index(axis) for axis in range(len(axes))])


@stackable
class Tanh(_PaddedToVectors, nn.Tanh):
    """torch's, see `_PaddedToVectors`."""


@stackable
class Sigmoid(_PaddedToVectors, nn.Sigmoid):
    """torch's, see `_PaddedToVectors`."""


@stackable
class SELU(_PaddedToVectors, nn.SELU):
    """torch's, see `_PaddedToVectors`."""


@stackable
class GELU(_PaddedToVectors, nn.GELU):
    """torch's, see `_PaddedToVectors`."""


ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "selu": SELU,
    "gelu": GELU,
    "leaky_relu": nn.LeakyReLU,
}


# A max-pool commutes with an activation that never falls. Pooling first, the activation has a quarter of the work.
NON_MONOTONIC = {"gelu"}

# Where members are convolved and normalised one by one: a grouped convolution takes longer there.
PER_MEMBER_DEVICES = ("cpu",)


def activation_layer(name: str) -> nn.Module:
    """The activation of that name (a key of ACTIVATIONS), or InvalidValueError."""
    return ACTIVATIONS[choice("activation", name, ACTIVATIONS)]()


@stackable_if(lambda layer: layer.bias is not None)
class Linear(nn.Linear):
    """torch's; of an array, a product for each member: (members, rows, in) -> (members, rows, out).

    The product is formed as weight times inputs, transposed, so that its gradient lies in memory as the weight does, and
    autograd does not copy it.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(inputs)
        operands = self.bias.unsqueeze(-1), self.weight, inputs.mT
        if len(self.weight) == 1 and 1 in (*self.weight.shape[1:], inputs.shape[1]):
            # BLAS multiplies a lone matrix by a lone vector with another kernel, which rounds
            # differently: one member would not get the bits that it gets in a larger array.
            return torch.baddbmm(*(each.expand(2, -1, -1) for each in operands)).mT[:1]
        return torch.baddbmm(*operands).mT


def _is_plain_convolution(layer: nn.Conv2d) -> bool:
    return (
        layer.bias is not None
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )


@stackable_if(_is_plain_convolution)
class Conv2d(nn.Conv2d):
    """torch's; of an array, (members, rows, in, height, width) -> (members, rows, out, height, width)."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 4:
            return super().forward(inputs)
        if inputs.device.type in PER_MEMBER_DEVICES:
            each = zip(*(_unstack_members(tensor) for tensor in (inputs, self.weight, self.bias)))
            return _stack_members(
                [F.conv2d(rows, weight, bias, padding=self.padding) for rows, weight, bias in each]
            )
        members, weight, bias = len(self.weight), self.weight.flatten(0, 1), self.bias.flatten()
        outputs = F.conv2d(
            merge_members(inputs), weight, bias, padding=self.padding, groups=members
        )
        return split_members(outputs, members)


@stackable
class MaxPool2d(nn.MaxPool2d):
    """torch's, of an array as well."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 4:
            return super().forward(inputs)
        return super().forward(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])


@stackable
class Flatten(nn.Flatten):
    """Images (..., channels, height, width) -> (..., features)."""

    def __init__(self) -> None:
        super().__init__(start_dim=-3)


class _PerMemberBatchNorm:
    """Batch norm, of each member by itself when there are several.

    On a CPU in one call a member: the kernel rounds a channel's sums by the number of channels
    beside it. On a GPU in one call for the channels of all members.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(inputs)
        if self.training:
            self.num_batches_tracked.add_(1)
        values = (self.running_mean, self.running_var, self.weight, self.bias)
        settings = (self.training, self.momentum, self.eps)
        if inputs.device.type in PER_MEMBER_DEVICES:
            members = zip(*(_unstack_members(tensor) for tensor in (inputs, *values)))
            return _stack_members([F.batch_norm(*member, *settings) for member in members])
        flat = [value.view(-1) for value in values]
        return split_members(F.batch_norm(merge_members(inputs), *flat, *settings), len(inputs))


def _is_plain_batch_norm(layer: BatchNorm1d | BatchNorm2d) -> bool:
    return layer.affine and layer.track_running_stats and layer.momentum is not None


@stackable_if(_is_plain_batch_norm)
class BatchNorm1d(_PerMemberBatchNorm, nn.BatchNorm1d):
    """torch's; of an array, (members, rows, features)."""


@stackable_if(_is_plain_batch_norm)
class BatchNorm2d(_PerMemberBatchNorm, nn.BatchNorm2d):
    """torch's; of an array, (members, rows, channels, height, width)."""


def _stack_members(members: Sequence[Tensor]) -> Tensor:
    """The members' tensors on a new first axis; a single one without a copy."""
    return torch.stack(members) if len(members) > 1 else members[0].unsqueeze(0)


def _unstack_members(tensor: Tensor) -> Sequence[Tensor]:
    """The way back; a single one whose gradient is not copied either."""
    return tensor.unbind() if len(tensor) > 1 else (tensor.squeeze(0),)


def merge_members(inputs: Tensor) -> Tensor:
    """(members, rows, channels, ...) -> (rows, members * channels, ...)."""
    return inputs.transpose(0, 1).flatten(1, 2)


def split_members(outputs: Tensor, members: int) -> Tensor:
    """The way back: (rows, members * channels, ...) -> (members, rows, channels, ...)."""
    return outputs.unflatten(1, (members, -1)).transpose(0, 1)


@stackable
class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) whose mask is a buffer, drawn before each step by `draw_masks`.

    torch's own draws from the global generator inside `forward`; a mask that is a buffer comes from the run's own
    stream, and can be stacked like any other buffer when an array of networks trains at once.

    Args:
        probability: of dropping a unit, 0 to below 1.
        units: number of units, the size of the input's last axis.
        rows_per_pair: 2 where both images of a pair are stacked on the batch axis, else 1.
    """

    def __init__(self, probability: float, units: int, rows_per_pair: int = 1) -> None:
        super().__init__()
        self.probability, self.units, self.rows_per_pair = probability, units, rows_per_pair
        self.register_buffer("mask", torch.ones(1, units), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.mask if self.training else inputs

    def draw_mask(self, pairs: int, generators: Sequence[torch.Generator]) -> None:
        """A new mask: 0 with the probability, else 1 / (1 - probability).

        (pairs * rows_per_pair, units) from the one generator of a network, and with a leading axis from as many as an
        array has members.
        """
        keep, shape = 1 - self.probability, (pairs * self.rows_per_pair, self.units)
        uniform = torch.empty(
            len(generators), *shape, dtype=torch.float32
        )  # the same masks in every precision
        for row, generator in zip(uniform, generators):
            torch.rand(shape, generator=generator, out=row)
        kept = (
            uniform if self.mask.dim() == 3 else uniform[0]
        ) < keep  # in a third of bernoulli_'s time
        self.mask = kept.to(self.mask).div_(keep)

    def extra_repr(self) -> str:
        return f"probability={self.probability}, units={self.units}"


def dropout_layers(network: nn.Module) -> list[Dropout]:
    """The network's dropout layers, in the order in which their masks are drawn."""
    return [layer for layer in network.modules() if isinstance(layer, Dropout)]


def draw_masks(
    layers: Sequence[Dropout], pairs: int, generators: Sequence[torch.Generator]
) -> None:
    """Masks for a mini-batch of `pairs` pairs, in each of the layers, from each member's generator (one, of one network)."""
    for layer in layers:
        layer.draw_mask(pairs, generators)


def dropout_layer(probability: float, units: int, rows_per_pair: int) -> list[nn.Module]:
    """The dropout layer as a list: empty where the probability is 0. InvalidValueError unless 0 <= probability < 1."""
    if number("dropout", probability, at_most=1) == 1:
        raise InvalidValueError("dropout", probability, "a probability from 0 to below 1")
    return [Dropout(probability, units, rows_per_pair)] if probability else []


def linear_stack(
    inputs: int,
    widths: Sequence[int],
    *,
    key: str,
    activation: str,
    batch_norm: bool,
    dropout: float = 0.0,
    rows_per_pair: int = 1,
) -> tuple[list[nn.Module], int]:
    """Hidden layers, each linear, batch norm, activation, dropout, as a list; and the number of units that come out.

    `key` names the widths' setting in errors.
    """
    layers: list[nn.Module] = []
    choice("activation", activation, ACTIVATIONS)
    dropout_layer(dropout, 1, rows_per_pair)  # both are checked where there are no layers, too
    for width in integers(key, widths):
        layers.append(Linear(inputs, width))
        layers += [BatchNorm1d(width)] if batch_norm else []
        layers.append(activation_layer(activation))
        layers += dropout_layer(dropout, width, rows_per_pair)
        inputs = width
    return layers, inputs
