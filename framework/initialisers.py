"""Initial weights, drawn from explicit generators, one a replica.

Each takes a weight's shape (without replicas), its fan-in and fan-out (the numbers of inputs and outputs that one unit has) and
a generator, and returns the values, float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Initialiser = Callable[[Sequence[int], int, int, Generator], Tensor]
Generators = Generator | Sequence[Generator]


def xavier(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010, equation 16; for tanh and sigmoid."""
    return _uniform(shape, math.sqrt(6 / (fan_in + fan_out)), generator)


def he(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Normal with variance 2 / fan_in: He et al. 2015, equation 10; for ReLU and its kin."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32) * math.sqrt(2 / fan_in)


def lecun(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Normal with variance 1 / fan_in: LeCun et al. 1998, section 4.6; for SELU (Klambauer et al. 2017)."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32) / math.sqrt(fan_in)


def torch_uniform(shape: Sequence[int], fan_in: int, fan_out: int, generator: Generator) -> Tensor:
    """Uniform in +-1 / sqrt(fan_in), as torch draws the weights and biases of its layers."""
    return _uniform(shape, 1 / math.sqrt(fan_in), generator)


def draw(
    initialise: Initialiser, shape: Sequence[int], fans: tuple[int, int], generators: Generators
) -> Tensor:
    """The values of all replicas, (replicas, *shape), each replica's from its own generator."""
    return torch.stack([initialise(shape, *fans, generator) for generator in as_list(generators)])


def draw_bias(
    outputs: int, fans: tuple[int, int], generators: Generators, initialise: Initialiser
) -> Tensor:
    """Of all replicas, (replicas, 1, outputs): as torch draws them where the weights are drawn so, else 0."""
    if initialise is torch_uniform:
        return draw(torch_uniform, (1, outputs), fans, generators)
    return torch.zeros(len(as_list(generators)), 1, outputs)


def as_list(generators: Generators) -> list[Generator]:
    """One generator stands for one replica."""
    listed = [generators] if isinstance(generators, Generator) else generators
    if (
        not isinstance(listed, (list, tuple))
        or not listed
        or not all(isinstance(each, Generator) for each in listed)
    ):
        raise ValueError(
            f"the generators are {generators!r}, accepted is a torch.Generator, or a list of them, one a replica"
        )
    return list(listed)


def _uniform(shape: Sequence[int], bound: float, generator: Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float32) * (2 * bound) - bound
