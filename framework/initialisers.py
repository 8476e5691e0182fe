"""Initial weights, drawn from explicit generators, one for each replica.

An initialiser takes the shape of a weight (without replicas), its fan-in and fan-out (the numbers
of inputs and outputs of one unit) and a generator. It returns float32 values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Initialiser = Callable[[Sequence[int], int, int, Generator], Tensor]
Generators = Generator | Sequence[Generator]


def xavier(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Uniform between +-sqrt(6 / (fan_in + fan_out)), for tanh and sigmoid.

    Glorot and Bengio 2010, equation 16.
    """
    return _uniform(shape, math.sqrt(6 / (fan_in + fan_out)), generator)


def he(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Normal with variance 2 / fan_in, for ReLU and its variants: He et al. 2015, equation 10."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32) * math.sqrt(2 / fan_in)


def lecun(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Normal with variance 1 / fan_in, for SELU (Klambauer et al. 2017).

    LeCun et al. 1998, section 4.6.
    """
    return torch.randn(*shape, generator=generator, dtype=torch.float32) / math.sqrt(fan_in)


def torch_uniform(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Uniform between +-1 / sqrt(fan_in), the default of torch for weights and biases."""
    return _uniform(shape, 1 / math.sqrt(fan_in), generator)


def draw(
    initialise: Initialiser, shape: Sequence[int], fans: tuple[int, int], generators: Generators
) -> Tensor:
    """Draw a weight of all replicas, (replicas, *shape), each from its own generator."""
    if not callable(initialise):
        raise ValueError(
            f"initialise is {initialise!r}, accepted is a function such as framework.he"
        )
    return torch.stack([initialise(shape, *fans, generator) for generator in as_list(generators)])


def draw_bias(
    outputs: int, fans: tuple[int, int], generators: Generators, initialise: Initialiser
) -> Tensor:
    """Biases of all replicas, (replicas, 1, outputs): torch's for `torch_uniform`, else 0."""
    if initialise is torch_uniform:
        return draw(torch_uniform, (1, outputs), fans, generators)
    return torch.zeros(len(as_list(generators)), 1, outputs)


def as_list(generators: Generators) -> list[Generator]:
    """The generators as a list, with one item for one replica."""
    listed = [generators] if isinstance(generators, Generator) else generators
    is_list = isinstance(listed, (list, tuple)) and len(listed) > 0
    if not is_list or not all(isinstance(item, Generator) for item in listed):
        raise ValueError(
            f"the generators are {generators!r}, accepted is a torch.Generator, or a list with "
            "one for each replica"
        )
    return list(listed)


def _uniform(shape: Sequence[int], bound: float, generator: Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float32) * (2 * bound) - bound
