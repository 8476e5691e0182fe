"""SGD, Adam and AdamW for an array of networks: each member with settings, rates and clipping of its own.

torch's optimisers take one learning rate for a whole tensor. Here every setting is a column, one number a member, against
parameters (members, ...): a step is a few operations on each, however many members there are. On CPUs Adam hands the members
whose settings are the same to the kernel of torch's own Adam instead, which does all of its arithmetic in one pass over the
memory; directly, since what `torch.optim` does around it takes as long again. The arithmetic is that of `torch.optim` in either case, as the tests show member by member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from digitpairs.networks.layers import vector_length

Settings = dict[str, Any]
FUSED_DEVICES = ("cpu",)


class ArrayOptimizer(torch.optim.Optimizer):
    """Base: the members' settings as columns, clipping, and who still moves.

    The settings named in `shared_settings` must be the same for all members.

    Args:
        weights: the networks' parameters, stacked, (members, ...) each.
        learned: parameters of the losses' weights, likewise; no weight decay falls on them.
        settings: each member's, those of the optimiser's recipe.
        clip_values: bound of each member's gradient, infinite for none.
        clip_algorithm: "norm" or "value", see `PairComparison`.
    """

    shared_settings: tuple[str, ...] = ()

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        learned: Sequence[nn.Parameter],
        settings: Sequence[Settings],
        clip_values: Sequence[float],
        clip_algorithm: str = "norm",
    ) -> None:
        super().__init__([*weights, *learned], defaults={})
        self.parameters: list[nn.Parameter] = [*weights, *learned]
        self.decaying = [True] * len(weights) + [False] * len(learned)
        self.settings = settings
        self.has_decay = any(each["weight_decay"] for each in settings)
        self.weight_decay = self.column([each["weight_decay"] for each in settings])
        self.clip = self.column(clip_values) if min(clip_values) < float("inf") else None
        self.clip_algorithm = clip_algorithm
        self.still: Tensor | None = (
            None  # (members,), true where nothing moves any more; None while all do
        )

    def stop(self, ended: Sequence[bool]) -> None:
        """The members that move no more, from the next epoch on."""
        self.still = torch.tensor(ended, device=self.parameters[0].device) if any(ended) else None

    def start_epoch(self, rates: Tensor) -> None:
        """The learning rates of the epoch's steps, (steps, members), float64."""
        self.rates = iter(self.column(rates))

    def step(self, closure: Callable | None = None) -> None:
        """One step of all members, with the gradients that stand in the parameters' `grad`."""
        self.advance()

    @torch.no_grad()
    def advance(self) -> None:
        """What `step` does, without the hooks that torch puts around that."""
        if self.clip is not None:
            self._clip()
        self.update(next(self.rates))

    def update(self, rate: Tensor) -> None:
        """The optimiser's own arithmetic, with each member's `rate` (members,)."""
        raise NotImplementedError

    def move(self, parameter: nn.Parameter, change: Tensor) -> None:
        """Adds the change (which may be overwritten), but where members stand still; whatever it is there, NaN included."""
        if self.still is not None:
            change.masked_fill_(broadcast_members(self.still, change), 0.0)
        parameter.add_(change)

    def column(self, numbers: Sequence[float] | Tensor) -> Tensor:
        """Numbers in the parameters' type, on their device."""
        return torch.as_tensor(numbers, dtype=torch.float64).to(self.parameters[0])

    def add_decay_to_gradient(self, parameter: nn.Parameter, decays: bool) -> None:
        """The gradient of an L2 penalty."""
        if self.has_decay and decays:
            parameter.grad.addcmul_(parameter, broadcast_members(self.weight_decay, parameter))

    def _clip(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters if parameter.requires_grad]
        if self.clip_algorithm == "value":
            for each in gradients:
                bound = broadcast_members(self.clip, each)
                torch.clamp(each, -bound, bound, out=each)
        else:
            norm = torch.stack([each.flatten(1).norm(dim=1) for each in gradients]).norm(dim=0)
            share = (self.clip / (norm + 1e-6)).clamp_max(1)  # as torch.nn.utils.clip_grad_norm_
            for each in gradients:
                each.mul_(broadcast_members(share, each))


def broadcast_members(column: Tensor, tensor: Tensor) -> Tensor:
    """One number a member, (members,), in the shape that goes with (members, ...)."""
    return column.view(-1, *[1] * (tensor.dim() - 1))


class ArraySGD(ArrayOptimizer):
    """`torch.optim.SGD` for each member."""

    shared_settings = ("nesterov",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.nesterov = self.settings[0]["nesterov"]
        self.momentum = self.column([each["momentum"] for each in self.settings])
        if any(each["momentum"] for each in self.settings):
            for each in self.parameters:
                self.state[each] = {"momentum_buffer": torch.zeros_like(each)}

    def update(self, rate: Tensor) -> None:
        for parameter, decays in zip(self.parameters, self.decaying):
            if not parameter.requires_grad:
                continue
            self.add_decay_to_gradient(parameter, decays)
            direction, buffer = parameter.grad, self.state[parameter].get("momentum_buffer")
            if buffer is not None:
                momentum = broadcast_members(self.momentum, buffer)
                buffer.mul_(momentum).add_(direction)
                direction = direction.addcmul_(buffer, momentum) if self.nesterov else buffer
            self.move(parameter, direction * -broadcast_members(rate, direction))


class ArrayAdam(ArrayOptimizer):
    """`torch.optim.Adam` for each member."""

    fused = staticmethod(torch._fused_adam_)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for each in self.parameters:  # by torch's names, where torch's `state_dict` looks for them
            self.state[each] = {
                "exp_avg": torch.zeros_like(each),
                "exp_avg_sq": torch.zeros_like(each),
            }
        self.eps = self.column([each["eps"] for each in self.settings])
        self.betas = torch.tensor(
            [each["betas"] for each in self.settings], dtype=torch.float64
        )  # (members, 2)
        self.new1, self.new2 = self.column(1 - self.betas).unbind(1)
        self.param_groups[0] |= {"steps": 0, "learning": [True] * len(self.parameters)}
        self.in_one_pass = self.parameters[0].device.type in FUSED_DEVICES

    def start_epoch(self, rates: Tensor) -> None:
        """The rates, and what goes with them through the epoch. Where other parameters learn than before, they begin with it."""
        counts = self.param_groups[0]
        learning = [parameter.requires_grad for parameter in self.parameters]
        if learning != counts["learning"]:
            counts |= {"learning": learning, "steps": 0}
        if self.in_one_pass:
            self.passes = self._fused_calls(rates.cpu(), counts["steps"])
            self.rates = iter(rates.tolist())
        else:
            first = counts["steps"] + 1
            steps = torch.arange(first, first + len(rates), dtype=torch.float64)[:, None, None]
            correction1, correction2 = (1 - self.betas**steps).unbind(
                -1
            )  # of the moments' bias, (steps, members) each
            self.corrections = iter(
                zip(self.column(1 / correction1), self.column(correction2.rsqrt()))
            )
            super().start_epoch(rates)
        counts["steps"] += len(rates)

    @property
    def moments(self) -> list[tuple[Tensor, Tensor]]:
        """Averages of each parameter's gradient and of its square, of the parameter's shape."""
        return [
            (self.state[each]["exp_avg"], self.state[each]["exp_avg_sq"])
            for each in self.parameters
        ]

    def update(self, rate: Tensor | Sequence[float]) -> None:
        if self.in_one_pass:
            self._update_fused(rate)
            return
        correction1, correction2 = next(self.corrections)
        for parameter, decays, (first, second) in zip(self.parameters, self.decaying, self.moments):
            if not parameter.requires_grad:
                continue
            gradient, size = parameter.grad, broadcast_members(-rate * correction1, parameter)
            self.decay(parameter, decays, rate)
            first.lerp_(gradient, broadcast_members(self.new1, first))
            second.lerp_(gradient * gradient, broadcast_members(self.new2, second))
            root = (
                second.sqrt()
                .mul_(broadcast_members(correction2, second))
                .add_(broadcast_members(self.eps, second))
            )
            self.move(parameter, torch.div(first, root, out=root).mul_(size))

    def decay(self, parameter: nn.Parameter, decays: bool, rate: Tensor) -> None:
        """Weight decay, before the gradient is used."""
        self.add_decay_to_gradient(parameter, decays)

    def _equal_settings(self, rates: Tensor) -> list[list[int]]:
        """The members that move, those together whose settings, and rates in this epoch, are the same."""
        alike: dict[tuple, list[int]] = {}
        for member, setting in enumerate(self.settings):
            if self.still is None or not self.still[member]:
                key = (
                    setting["betas"],
                    setting["eps"],
                    setting["weight_decay"],
                    *rates[:, member].tolist(),
                )
                alike.setdefault(key, []).append(member)
        return list(alike.values())

    def _fused_calls(self, rates: Tensor, steps_done: int) -> list[_FusedCall]:
        """One for each group of members that are alike, and within it for what decays and what does not."""
        passes = []
        for group in self._equal_settings(rates):
            setting = self.settings[group[0]]
            for decays in sorted(set(self.decaying)):
                mine = [
                    (parameter, *moments, self._rows(parameter, group))
                    for parameter, moments, each in zip(
                        self.parameters, self.moments, self.decaying
                    )
                    if each == decays and parameter.requires_grad
                ]
                tensors = [
                    [part for each in mine for part in _parts(each[place].detach(), each[-1])]
                    for place in range(3)
                ]
                steps = torch.tensor(float(steps_done))
                shared = {
                    "beta1": setting["betas"][0],
                    "beta2": setting["betas"][1],
                    "eps": setting["eps"],
                    "weight_decay": setting["weight_decay"] * decays,
                }
                gradients = [(parameter, rows) for parameter, *_, rows in mine]
                passes.append(_FusedCall(group[0], gradients, *tensors, steps, shared))
        return passes

    def _rows(self, parameter: nn.Parameter, group: Sequence[int]) -> Sequence[int] | None:
        """The group's rows of a parameter, or None where the kernel may take it whole.

        The kernel rounds the last elements, those that do not fill a vector, differently: a
        member's values must not end within a vector, or its bits would follow from the array.
        """
        whole = (
            len(group) == len(self.settings)
            and parameter[0].numel() % vector_length(parameter) == 0
        )
        return None if whole else group

    def _update_fused(self, rates: Sequence[float]) -> None:
        for each in self.passes:
            gradients = [
                part for parameter, rows in each.gradients for part in _parts(parameter.grad, rows)
            ]
            each.steps.add_(1)
            self.fused(
                each.values, gradients, each.firsts, each.seconds, [], [each.steps] * len(gradients), lr=rates[each.member],
                **each.settings, amsgrad=False, maximize=False,
            )  # fmt: skip


class _FusedCall(NamedTuple):
    """What one call of the kernel takes."""

    member: int  # one of those whose rate it is
    gradients: list[tuple[nn.Parameter, Sequence[int] | None]]  # whose, and which rows; None: all
    values: list[Tensor]
    firsts: list[Tensor]
    seconds: list[Tensor]
    steps: Tensor  # () float32, the number of the step
    settings: Settings


def _parts(tensor: Tensor, rows: Sequence[int] | None) -> Sequence[Tensor]:
    """These rows of the tensor, each by itself; the whole tensor for None."""
    if rows is None:
        return [tensor]
    members = tensor.unbind()
    return [members[row] for row in rows]


class ArrayAdamW(ArrayAdam):
    """`torch.optim.AdamW` for each member."""

    fused = staticmethod(torch._fused_adamw_)

    def decay(self, parameter: nn.Parameter, decays: bool, rate: Tensor) -> None:
        if self.has_decay and decays:
            shrink = 1 - rate * self.weight_decay
            if self.still is not None:
                shrink = shrink.masked_fill(self.still, 1.0)
            parameter.mul_(broadcast_members(shrink, parameter))
