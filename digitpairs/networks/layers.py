"""The layers of all networks: torch's layers, which also compute an array of networks.

In an array, a layer's parameters and buffers have a leading axis of members: a weight is
(members, out, in) instead of (out, in). Its inputs have the same axis, (members, rows, ...).
`stacking.py` stacks the layers of single networks; the layers here compute with stacked values.
Functions and modules elsewhere count axes from the end, and need no second case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integers, number
from digitpairs.networks.stacking import stackable, stackable_if

VECTOR_BYTES = 128  # two AVX-512 vectors: the longest step of torch's elementwise loops


def vector_length(tensor: Tensor) -> int:
    """The largest number of elements that torch's elementwise CPU kernels process at once."""
    return VECTOR_BYTES // tensor.element_size()


class _PaddedToVectors(nn.Module):
    """Mixin: an activation that rounds an element equally at every position in the tensor.

    torch computes the last elements, those that do not fill a vector, and tensors that are not
    contiguous, by functions that differ in the last bit: a member's bits would depend on the
    number of members. Here the elements are passed on in their order in memory, padded to whole
    vectors; outputs and gradients keep the layout of the inputs. An exported network does not pad:
    the number of pairs is open in it.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return super().forward(inputs)
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
    """`nn.Tanh`, see `_PaddedToVectors`."""


@stackable
class Sigmoid(_PaddedToVectors, nn.Sigmoid):
    """`nn.Sigmoid`, see `_PaddedToVectors`."""


@stackable
class SELU(_PaddedToVectors, nn.SELU):
    """`nn.SELU`, see `_PaddedToVectors`."""


@stackable
class GELU(_PaddedToVectors, nn.GELU):
    """`nn.GELU`, see `_PaddedToVectors`."""


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "selu": SELU,
    "gelu": GELU,
    "leaky_relu": nn.LeakyReLU,
}

# A max-pool commutes with a monotonic activation, which then has a quarter of the work after it.
NON_MONOTONIC = {"gelu"}

_SMALL_PRODUCT = 16**3  # multiplications, see `_is_small_in_autocast`

# On these devices members are convolved and normalised one by one, elsewhere all at once.
PER_MEMBER_DEVICES = ("cpu",)


def activation_layer(name: str) -> nn.Module:
    """The activation of this name, a key of ACTIVATIONS. Raises InvalidValueError for others."""
    return ACTIVATIONS[choice("activation", name, ACTIVATIONS)]()


@stackable_if(lambda layer: layer.bias is not None)
class Linear(nn.Linear):
    """`nn.Linear`; in an array (members, rows, in) -> (members, rows, out).

    An array's product is weight times inputs, transposed: its gradient has the weight's layout in
    memory, and autograd need not copy it. `scheme` names how `initialise` draws the weights.
    """

    scheme = "torch"

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(inputs)
        operands = self.bias.unsqueeze(-1), self.weight, inputs.mT
        if _is_small_in_autocast(self.weight, inputs):
            members = zip(*(operand.split(1) for operand in operands))
            return torch.cat([torch.baddbmm(*member) for member in members]).mT
        if len(self.weight) == 1 and 1 in (*self.weight.shape[1:], inputs.shape[1]):
            # BLAS multiplies a lone matrix by a lone vector with another kernel, which rounds
            # differently: one member would not get the bits that it gets in a larger array.
            return torch.baddbmm(*(operand.expand(2, -1, -1) for operand in operands)).mT[:1]
        return torch.baddbmm(*operands).mT


def _is_plain_convolution(layer: nn.Conv2d) -> bool:
    return (
        layer.bias is not None
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and len(set(layer.kernel_size)) == len(set(layer.padding)) == 1
        and layer.padding_mode == "zeros"
    )


@stackable_if(_is_plain_convolution)
class Conv2d(nn.Conv2d):
    """`nn.Conv2d`; in an array (members, rows, in, height, width) -> (members, rows, out, ...)."""

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias, padding = self.weight, self.bias, self.padding
        if weight.dim() == 4:
            return super().forward(inputs)
        assert bias is not None
        if inputs.device.type in PER_MEMBER_DEVICES:
            members = zip(*(_unstack_members(tensor) for tensor in (inputs, weight, bias)))
            return _stack_members([F.conv2d(x, w, b, padding=padding) for x, w, b in members])
        return _batched_convolution(inputs, weight, bias, int(padding[0]))


def _batched_convolution(inputs: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """All members' convolutions as one batched product of their windows with their kernels.

    On a GPU this takes about a third of the time of a grouped convolution.
    """
    kernel = weight.shape[-1]
    windows = F.pad(inputs, (padding,) * 4).unfold(3, kernel, 1).unfold(4, kernel, 1)
    columns = windows.permute(0, 1, 3, 4, 2, 5, 6)  # (members, rows, height, width, in, k, k)
    products = torch.baddbmm(
        bias.unsqueeze(1), columns.flatten(4).flatten(1, 3), weight.flatten(2).mT
    )
    return products.unflatten(1, columns.shape[1:4]).movedim(-1, 2)


def _is_small_in_autocast(weight: Tensor, inputs: Tensor) -> bool:
    """Whether a product of less precision than float32 is computed member by member on a CPU.

    torch has another kernel for up to 16^3 multiplications of all members, which rounds
    differently: the bits of a member with fewer would depend on the number of members.
    """
    if inputs.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return weight[0].numel() * inputs.shape[1] <= _SMALL_PRODUCT


@stackable
class MaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d`; in an array (members, rows, channels, height, width)."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 4:
            return super().forward(inputs)
        return super().forward(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])


@stackable
class Flatten(nn.Flatten):
    """Images (..., channels, height, width) -> (..., features)."""

    def __init__(self) -> None:
        super().__init__(start_dim=-3)


@stackable
class GlobalAveragePool(nn.Module):
    """The mean over the pixels: images (..., channels, height, width) -> (..., channels)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((-2, -1))


class _PerMemberBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Mixin: batch norm, in an array with each member's own statistics.

    A CPU takes one call for each member, since its kernel rounds a channel's sums by the number
    of channels beside it. A GPU takes one call for the channels of all members.
    """

    running_mean: Tensor  # in an array, these four are not None
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(inputs)
        if self.training:
            self.num_batches_tracked.add_(1)
        values = (inputs, self.running_mean, self.running_var, self.weight, self.bias)
        if inputs.device.type in PER_MEMBER_DEVICES:
            members = zip(*(_unstack_members(tensor) for tensor in values))
            return _stack_members([self._normalise(*member) for member in members])
        merged = self._normalise(merge_members(inputs), *(value.view(-1) for value in values[1:]))
        return split_members(merged, len(inputs))

    def _normalise(
        self, inputs: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        return F.batch_norm(
            inputs, mean, variance, weight, bias, self.training, self.momentum, self.eps
        )


def _is_plain_batch_norm(layer: nn.modules.batchnorm._BatchNorm) -> bool:
    return layer.affine and layer.track_running_stats and layer.momentum is not None


@stackable_if(_is_plain_batch_norm)
class BatchNorm1d(_PerMemberBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d`; in an array (members, rows, features)."""


@stackable_if(_is_plain_batch_norm)
class BatchNorm2d(_PerMemberBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d`; in an array (members, rows, channels, height, width)."""


def _stack_members(members: list[Tensor]) -> Tensor:
    """The members' tensors on a new first axis; a single one without a copy."""
    return torch.stack(members) if len(members) > 1 else members[0].unsqueeze(0)


def _unstack_members(tensor: Tensor) -> Sequence[Tensor]:
    """The inverse of `_stack_members`; the gradient of a single one is not copied either."""
    return tensor.unbind() if len(tensor) > 1 else (tensor.squeeze(0),)


def merge_members(inputs: Tensor) -> Tensor:
    """(members, rows, channels, ...) -> (rows, members * channels, ...)."""
    return inputs.transpose(0, 1).flatten(1, 2)


def split_members(outputs: Tensor, members: int) -> Tensor:
    """(rows, members * channels, ...) -> (members, rows, channels, ...)."""
    return outputs.unflatten(1, (members, -1)).transpose(0, 1)


@stackable
class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014); `draw_masks` draws its mask before each step.

    torch's dropout draws from the global generator inside `forward`. Here the mask is a buffer: it
    comes from the run's own stream, and an array stacks it like any other buffer.

    Args:
        probability: of dropping a unit, 0 to below 1; a tuple for members that differ.
        units: number of units, the size of the input's last axis.
        rows_per_pair: 2 if both images of a pair are stacked on the batch axis, else 1.
    """

    mask: Tensor
    probability: Any  # a float, or a tuple of them
    member_settings = ("probability",)

    def __init__(self, probability: float, units: int, rows_per_pair: int = 1) -> None:
        super().__init__()
        self.probability, self.units, self.rows_per_pair = probability, units, rows_per_pair
        self.register_buffer("mask", torch.ones(1, units), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.mask if self.training else inputs

    def draw_mask(self, pairs: int, generators: Sequence[torch.Generator]) -> None:
        """Draw a new mask: 0 with the probability, else 1 / (1 - probability).

        The mask is (pairs * rows_per_pair, units) from a network's one generator. It has the axes
        of an array and of an ensemble before these, with a generator for each of their networks.
        """
        shape = (pairs * self.rows_per_pair, self.units)
        draw = _uniform if self.mask.device.type in PER_MEMBER_DEVICES else _hashed_uniform
        uniform = draw(shape, generators, self.mask.device)
        # This comparison takes a third of the time of `bernoulli_`.
        kept = uniform.view(*self.mask.shape[:-2], *shape) < self._keep(uniform)
        self.mask = kept.to(self.mask).div_(self._keep(self.mask))

    def _keep(self, like: Tensor) -> float | Tensor:
        """The probability of keeping a unit; for members that differ, (members, 1, ...)."""
        if not isinstance(self.probability, tuple):
            return 1 - self.probability
        keep = [1 - probability for probability in self.probability]
        per_member = torch.tensor(keep, dtype=torch.float64).to(like)
        return per_member.view(-1, *[1] * (self.mask.dim() - 1))

    def extra_repr(self) -> str:
        return f"probability={self.probability}, units={self.units}"


@stackable
class DropPath(Dropout):
    """Stochastic depth (Huang et al. 2016): `Dropout` of whole images (rows, channels, ...).

    Args:
        probability, rows_per_pair: as in `Dropout`.
    """

    def __init__(self, probability: float, rows_per_pair: int = 1) -> None:
        super().__init__(probability, 1, rows_per_pair)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.mask[..., None, None] if self.training else inputs


def _uniform(
    shape: tuple[int, int], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """Numbers from 0 to below 1, (generators, *shape); float32 in every precision."""
    uniform = torch.empty(len(generators), *shape, dtype=torch.float32, device=device)
    for row, generator in zip(uniform, generators):
        torch.rand(shape, generator=generator, out=row)
    return uniform


def _hashed_uniform(
    shape: tuple[int, int], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """As `_uniform`, computed on the device: one number of each generator is hashed with a counter.

    For a thousand members on a GPU, drawing on the CPU takes ten times as long as the whole step.
    The hash is SplitMix64 (Steele, Lea and Flood 2014), in int64 products that wrap around.
    """
    seeds = [torch.randint(2**62, (1,), generator=generator) for generator in generators]
    counter = torch.arange(math.prod(shape), device=device)
    bits = torch.cat(seeds).to(device)[:, None] + counter * -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        # `>>` repeats the sign bit, which a logical shift does not.
        bits = (bits ^ (bits >> shift & (1 << 64 - shift) - 1)) * factor
    return ((bits >> 40 & 2**24 - 1).float() / 2**24).view(-1, *shape)


def dropout_layers(network: nn.Module) -> list[Dropout]:
    """The network's dropout layers, in the order in which their masks are drawn."""
    return [layer for layer in network.modules() if isinstance(layer, Dropout)]


def draw_masks(
    layers: Sequence[Dropout], pairs: int, generators: Sequence[torch.Generator]
) -> None:
    """Draw each layer's masks for a mini-batch of `pairs` pairs, from each member's generator."""
    for layer in layers:
        layer.draw_mask(pairs, generators)


def dropout_layer(probability: float, units: int, rows_per_pair: int) -> list[nn.Module]:
    """The dropout layer in a list; an empty list if the probability is 0.

    Raises InvalidValueError unless 0 <= probability < 1.
    """
    _check_probability("dropout", probability)
    return [Dropout(probability, units, rows_per_pair)] if probability else []


def drop_path_layer(probability: float, rows_per_pair: int) -> list[nn.Module]:
    """The layer `DropPath` in a list; an empty list if the probability is 0.

    Raises InvalidValueError unless 0 <= probability < 1.
    """
    _check_probability("drop_path", probability)
    return [DropPath(probability, rows_per_pair)] if probability else []


def _check_probability(key: str, probability: float) -> None:
    if number(key, probability, at_most=1) == 1:
        raise InvalidValueError(key, probability, "a probability from 0 to below 1")


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
    """Hidden layers: for each width linear, batch norm, activation, dropout.

    Returns the layers and the number of units of the last. `key` names the widths in errors.
    """
    choice("activation", activation, ACTIVATIONS)
    dropout_layer(dropout, 1, rows_per_pair)  # both are checked even if there are no layers
    layers: list[nn.Module] = []
    for width in integers(key, widths):
        layers.append(Linear(inputs, width))
        if batch_norm:
            layers.append(BatchNorm1d(width))
        layers.append(activation_layer(activation))
        layers += dropout_layer(dropout, width, rows_per_pair)
        inputs = width
    return layers, inputs
