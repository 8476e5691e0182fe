"""SGD, Adam and AdamW for an array of networks: each member with settings, rates and clipping of its own.

torch's optimisers take one learning rate for a whole tensor. Here every setting is a column (members, 1) beside the
members' values, which lie in one matrix (members, values): a step is a few operations on it, however many members and
layers there are. On CPUs Adam goes row by row instead, since torch has a kernel that does all of its arithmetic in one pass,
where the operations on the matrix take eight. The arithmetic is that of `torch.optim`, as the tests show member by member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from digitpairs.training.optimizers import SGD, Adam, AdamW

Settings = dict[str, Any]


class ArrayOptimizer(torch.optim.Optimizer):
    """Base: the matrix of all values, the members' settings as columns, clipping, and who still moves.

    Args:
        weights: the networks' parameters, stacked, (members, ...) each; their storage becomes the matrix.
        learned: parameters of the losses' weights, likewise; no weight decay falls on them.
        settings: each member's, those of the optimiser's recipe.
        clip_values: bound of each member's gradient, infinite for none.
        clip_algorithm: "norm" or "value", see `PairComparison`.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        learned: Sequence[nn.Parameter],
        settings: Sequence[Settings],
        clip_values: Sequence[float],
        clip_algorithm: str = "norm",
    ) -> None:
        super().__init__([*weights, *learned], defaults={})
        self.parameters = [*weights, *learned]
        self.members = len(settings)
        self.values = torch.cat([parameter.detach().flatten(1) for parameter in self.parameters], 1)  # (members, values)
        for parameter, part in zip(self.parameters, self._parts(self.values)):
            parameter.data = part.view(parameter.shape)
        self.gradient, self.scratch = torch.empty_like(self.values), torch.empty_like(self.values)
        self.decayed = sum(parameter[0].numel() for parameter in weights)  # the columns that weight decay falls on
        self.settings = settings
        self.weight_decay = self.column("weight_decay")
        self.has_decay = any(each["weight_decay"] for each in settings)
        self.clip = self._column(clip_values) if min(clip_values) < float("inf") else None
        self.clip_algorithm = clip_algorithm
        self.still: Tensor | None = None  # (members, 1), true where nothing moves any more; None while all do

    def column(self, name: str, of: Callable[[Any], float] = float) -> Tensor:
        """The members' settings of that name, (members, 1)."""
        return self._column([of(each[name]) for each in self.settings])

    def stop(self, ended: Sequence[bool]) -> None:
        """The members that move no more, from the next epoch on."""
        self.still = torch.tensor(ended, device=self.values.device)[:, None] if any(ended) else None

    def start_epoch(self, rates: Tensor) -> None:
        """The learning rates of the epoch's steps, (steps, members), float64."""
        self.rates = iter(self._on_device(rates))

    def step(self, closure: Callable | None = None) -> None:
        """One step of all members, with the gradients that stand in the parameters' `grad`."""
        self.advance()

    @torch.no_grad()
    def advance(self) -> None:
        """What `step` does, without the hooks that torch puts around that."""
        torch.cat([parameter.grad.flatten(1) for parameter in self.parameters], 1, out=self.gradient)
        if self.clip is not None:
            self._clip()
        self.update(next(self.rates))

    def update(self, rate: Tensor) -> None:
        """The optimiser's own arithmetic, with `rate` (members, 1)."""
        raise NotImplementedError

    def move(self, direction: Tensor, size: Tensor) -> None:
        """values += size * direction, but for the members that stand still; whatever their direction, NaN included."""
        change = torch.mul(direction, size, out=self.scratch)
        if self.still is not None:
            change.masked_fill_(self.still, 0.0)
        self.values.add_(change)

    def add_decay_to_gradient(self) -> None:
        """The gradient of an L2 penalty."""
        if self.has_decay:
            self.gradient[:, : self.decayed].addcmul_(self.values[:, : self.decayed], self.weight_decay)

    def _clip(self) -> None:
        if self.clip_algorithm == "value":
            torch.clamp(self.gradient, -self.clip, self.clip, out=self.gradient)
        else:
            norm = self.gradient.norm(dim=1, keepdim=True)
            self.gradient.mul_((self.clip / (norm + 1e-6)).clamp_max(1))  # as torch.nn.utils.clip_grad_norm_

    def _parts(self, values: Tensor) -> Sequence[Tensor]:
        return values.split([parameter[0].numel() for parameter in self.parameters], 1)

    def _column(self, numbers: Sequence[float]) -> Tensor:
        return self._on_device(torch.tensor(numbers, dtype=torch.float64))

    def _on_device(self, numbers: Tensor) -> Tensor:
        """Float64 (..., members) as columns (..., members, 1) of the values' type."""
        return numbers[..., None].to(self.values)


class ArraySGD(ArrayOptimizer):
    """`torch.optim.SGD` for each member. Whether with Nesterov's momentum is the same for all."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.momentum, self.nesterov = self.column("momentum"), self.settings[0]["nesterov"]
        self.buffer = torch.zeros_like(self.values) if any(each["momentum"] for each in self.settings) else None

    def update(self, rate: Tensor) -> None:
        self.add_decay_to_gradient()
        direction = self.gradient
        if self.buffer is not None:
            self.buffer.mul_(self.momentum).add_(self.gradient)
            direction = self.gradient.addcmul_(self.buffer, self.momentum) if self.nesterov else self.buffer
        self.move(direction, -rate)


ROW_BY_ROW_DEVICES = ("cpu",)


class ArrayAdam(ArrayOptimizer):
    """`torch.optim.Adam` for each member."""

    row_update = staticmethod(adam)  # torch's function for some tensors of equal settings

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)  # the moments
        self.eps = self.column("eps")
        self.new1, self.new2 = (self.column("betas", lambda betas, i=i: 1 - betas[i]) for i in (0, 1))
        self.betas = torch.tensor([each["betas"] for each in self.settings], dtype=torch.float64)  # (members, 2)
        self.steps = 0
        self.by_row = self.values.device.type in ROW_BY_ROW_DEVICES
        if self.by_row:
            self.rows = [self._row(member) for member in range(self.members)]

    def start_epoch(self, rates: Tensor) -> None:
        """The rates, and what corrects the moments' bias in each of the steps."""
        if self.by_row:
            self.rates, self.groups = iter(rates.tolist()), self._alike(rates)
            return
        steps = torch.arange(self.steps + 1, self.steps + 1 + len(rates), dtype=torch.float64)[:, None, None]
        correction1, correction2 = (1 - self.betas**steps).unbind(-1)  # (steps, members) each
        self.corrections = iter(zip(self._on_device(1 / correction1), self._on_device(correction2.rsqrt())))
        self.steps += len(rates)
        super().start_epoch(rates)

    def update(self, rate: Tensor | Sequence[float]) -> None:
        if self.by_row:
            self._update_rows(rate)
        else:
            self._update_matrix(rate)

    def _row(self, member: int) -> list[tuple[float, list[Tensor]]]:
        """Of a member: weight decay and values, gradient, moments, step, of its weights and of what does not decay."""
        ends = [(self.settings[member]["weight_decay"], 0, self.decayed), (0.0, self.decayed, self.values.shape[1])]
        matrices = (self.values, self.gradient, self.first, self.second)
        return [(decay, [*(each[member, start:stop] for each in matrices), torch.zeros(())]) for decay, start, stop in ends if start < stop]

    def _alike(self, rates: Tensor) -> list[tuple[int, float, Settings, list[list[Tensor]]]]:
        """Rows whose rates and settings are the same throughout the epoch: torch's function takes them together."""
        alike: dict[tuple, tuple[int, float, Settings, list[list[Tensor]]]] = {}
        for member, (parts, setting) in enumerate(zip(self.rows, self.settings)):
            if self.still is None or not self.still[member]:
                for decay, tensors in parts:
                    key = (decay, setting["betas"], setting["eps"], *rates[:, member].tolist())
                    alike.setdefault(key, (member, decay, setting, []))[-1].append(tensors)
        return list(alike.values())

    def _update_rows(self, rates: Sequence[float]) -> None:
        for member, decay, setting, rows in self.groups:
            values, gradients, firsts, seconds, steps = map(list, zip(*rows))
            beta1, beta2 = setting["betas"]
            self.row_update(
                values, gradients, firsts, seconds, [], steps, lr=rates[member], weight_decay=decay, beta1=beta1, beta2=beta2,
                eps=setting["eps"], amsgrad=False, maximize=False, fused=True,
            )  # fmt: skip

    def _update_matrix(self, rate: Tensor) -> None:
        self.decay(rate)
        correction1, correction2 = next(self.corrections)
        self.first.lerp_(self.gradient, self.new1)
        self.second.lerp_(torch.mul(self.gradient, self.gradient, out=self.scratch), self.new2)
        torch.rsqrt(self.second, out=self.scratch)  # infinite where nothing has moved yet, and its inverse 0, as it should be;
        torch.div(correction2, self.scratch, out=self.scratch).add_(self.eps)  # torch.sqrt takes several times as long on CPUs
        self.move(torch.div(self.first, self.scratch, out=self.scratch), -rate * correction1)

    def decay(self, rate: Tensor) -> None:
        """Weight decay, before the gradient is used."""
        self.add_decay_to_gradient()


class ArrayAdamW(ArrayAdam):
    """`torch.optim.AdamW` for each member."""

    row_update = staticmethod(adamw)

    def decay(self, rate: Tensor) -> None:
        if self.has_decay:
            shrink = 1 - rate * self.weight_decay
            if self.still is not None:
                shrink = torch.where(self.still, 1.0, shrink)
            self.values[:, : self.decayed].mul_(shrink)


ARRAY_OPTIMIZERS: dict[type, type[ArrayOptimizer]] = {SGD: ArraySGD, Adam: ArrayAdam, AdamW: ArrayAdamW}
