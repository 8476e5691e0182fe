"""Clipping of gradients between the backward pass and the optimiser's step.

Each replica is clipped by itself, as a network of its own. In the formulas g are the gradients of
a replica's parameters. Frozen parameters do not count.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from framework.errors import positive
from framework.parameter import Parameter
from framework.settings import Described


class Clip(Described):
    """Base: a function that changes the gradients of parameters."""

    def __call__(self, parameters: Iterable[Parameter]) -> Tensor | None:
        """Clip the gradients, each (replicas, ...)."""
        raise NotImplementedError


class ClipNorm(Clip):
    """g *= min(1, max_norm / (norm + 1e-6)), where norm is that of all g of a replica together.

    Pascanu et al. 2013, algorithm 1; torch's `clip_grad_norm_`. If g has an infinite value, the
    finite ones become 0 and the infinite ones nan; if it has a nan, all become nan. The replica
    then fails, see `Trainer.failures`, and the others go on.

    Args:
        max_norm: the largest norm, above 0.
        norm_type: p of the p-norm, (sum |g|^p)^(1/p); `math.inf` for the largest |g|.
    """

    def __init__(self, max_norm: float, norm_type: float = 2.0) -> None:
        self.max_norm = positive("max_norm", max_norm)
        self.norm_type = norm_type if norm_type == torch.inf else positive("norm_type", norm_type)

    def __call__(self, parameters: Iterable[Parameter]) -> Tensor:
        """Clip the gradients; return the norms before that, (replicas,)."""
        gradients = _of_learned(parameters)
        norms = [torch.linalg.vector_norm(each, self.norm_type, 1) for each in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms, 1), self.norm_type, 1)
        factor = (self.max_norm / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(factor[:, None])
        return norm


class ClipValue(Clip):
    """g = min(max(g, -limit), limit), for each value; torch's `clip_grad_value_`.

    An infinite value becomes +-limit; nan stays nan.
    """

    def __init__(self, limit: float) -> None:
        self.limit = positive("limit", limit)

    def __call__(self, parameters: Iterable[Parameter]) -> None:
        for gradient in _of_learned(parameters):
            gradient.clamp_(-self.limit, self.limit)


def _of_learned(parameters: Iterable[Parameter]) -> list[Tensor]:
    """The gradients of the parameters that learn, as views (replicas, values)."""
    learned = [parameter.grad for parameter in parameters if not parameter.frozen]
    return [gradient.view(len(gradient), -1) for gradient in learned]
