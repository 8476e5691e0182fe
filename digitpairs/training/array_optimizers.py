"""SGD, Adam and AdamW for an array of networks, with settings and learning rates for each member.

torch's optimisers take one learning rate for a whole tensor. Here each setting is a tensor
(members,) that broadcasts over the parameters (members, ...): the number of operations in a step
does not depend on the number of members. On CPUs, Adam passes members with equal settings to the
fused kernel of torch's Adam. It calls the kernel directly, since `torch.optim` around it takes as
long again. The arithmetic is that of `torch.optim`; the tests compare them member by member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from digitpairs.networks.layers import vector_length

Settings = dict[str, Any]
FUSED_DEVICES = ("cpu",)


class ArrayOptimizer(torch.optim.Optimizer):
    """Base: the members' settings as tensors, gradient clipping, and frozen members.

    The settings in `shared_settings` must be equal for all members.

    Args:
        weights: the networks' parameters, stacked, (members, ...) each.
        learned: the weightings' parameters, stacked; they get no weight decay.
        settings: of each member's optimiser recipe.
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
        decays = [setting["weight_decay"] for setting in settings]
        self.has_decay, self.weight_decay = any(decays), self.per_member(decays)
        self.clip: Tensor | None = None
        if min(clip_values) < float("inf"):
            self.clip = self.per_member(clip_values)
        self.clip_algorithm = clip_algorithm
        self.frozen: Tensor | None = None  # (members,) bool; None if no member is frozen

    def freeze(self, ended: Sequence[bool]) -> None:
        """Freeze the members that have ended, from the next epoch on."""
        self.frozen = torch.tensor(ended, device=self.parameters[0].device) if any(ended) else None

    def start_epoch(self, rates: Tensor) -> None:
        """Set the learning rates of the epoch's steps, (steps, members), float64."""
        self.rates = iter(self.per_member(rates))  # (members,) each

    # The ignore: no closure is evaluated.
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of all members, with the gradients in the parameters' `grad`."""
        self.step_without_hooks()

    @torch.no_grad()
    def step_without_hooks(self) -> None:
        """`step` without the hooks that torch puts around it."""
        if self.clip is not None:
            self._clip_gradients(self.clip)
        self.update()

    def update(self) -> None:
        """Change the parameters by the optimiser's rule, at the epoch's next rates."""
        raise NotImplementedError

    def apply_change(self, parameter: nn.Parameter, change: Tensor) -> None:
        """Add the change to the members that are not frozen; overwrites `change`.

        A frozen member's change has no effect, even if it is NaN.
        """
        if self.frozen is not None:
            change.masked_fill_(broadcast_members(self.frozen, change), 0.0)
        parameter.add_(change)

    def per_member(self, numbers: Sequence[float] | Tensor) -> Tensor:
        """Numbers in the parameters' type, on their device."""
        return torch.as_tensor(numbers, dtype=torch.float64).to(self.parameters[0])

    def add_decay_to_gradient(self, parameter: nn.Parameter, decays: bool) -> None:
        """Add the gradient of an L2 penalty."""
        if self.has_decay and decays:
            decay = broadcast_members(self.weight_decay, parameter)
            gradient_of(parameter).addcmul_(parameter, decay)

    def _clip_gradients(self, bounds: Tensor) -> None:
        trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        gradients = [gradient_of(parameter) for parameter in trained]
        if self.clip_algorithm == "value":
            for gradient in gradients:
                bound = broadcast_members(bounds, gradient)
                torch.clamp(gradient, -bound, bound, out=gradient)
            return
        norms = [gradient.flatten(1).norm(dim=1) for gradient in gradients]
        norm = torch.stack(norms).norm(dim=0)
        factor = (bounds / (norm + 1e-6)).clamp_max(1)  # as torch.nn.utils.clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(broadcast_members(factor, gradient))


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """The parameter's gradient, which a backward pass has set."""
    assert parameter.grad is not None
    return parameter.grad


def broadcast_members(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Numbers (members,) in a shape that broadcasts with a tensor (members, ...)."""
    return numbers.view(-1, *[1] * (tensor.dim() - 1))


class ArraySGD(ArrayOptimizer):
    """`torch.optim.SGD` for each member."""

    shared_settings = ("nesterov",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        momenta = [setting["momentum"] for setting in self.settings]
        self.nesterov, self.momentum = self.settings[0]["nesterov"], self.per_member(momenta)
        if any(momenta):
            for parameter in self.parameters:
                self.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}

    def update(self) -> None:
        rate = next(self.rates)
        for parameter, decays in zip(self.parameters, self.decaying):
            if not parameter.requires_grad:
                continue
            self.add_decay_to_gradient(parameter, decays)
            direction = gradient_of(parameter)
            buffer = self.state[parameter].get("momentum_buffer")
            if buffer is not None:
                momentum = broadcast_members(self.momentum, buffer)
                buffer.mul_(momentum).add_(direction)
                direction = direction.addcmul_(buffer, momentum) if self.nesterov else buffer
            self.apply_change(parameter, direction * -broadcast_members(rate, direction))


class ArrayAdam(ArrayOptimizer):
    """`torch.optim.Adam` for each member."""

    fused_kernel = staticmethod(torch._fused_adam_)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for parameter in self.parameters:  # torch's names, for its `state_dict`
            self.state[parameter] = {
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.eps = self.per_member([setting["eps"] for setting in self.settings])
        betas = [setting["betas"] for setting in self.settings]
        self.betas = torch.tensor(betas, dtype=torch.float64)  # (members, 2)
        self.one_minus_beta1, self.one_minus_beta2 = self.per_member(1 - self.betas).unbind(1)
        self.param_groups[0] |= {"steps": 0, "learning": [True] * len(self.parameters)}
        self.is_fused = self.parameters[0].device.type in FUSED_DEVICES

    def start_epoch(self, rates: Tensor) -> None:
        """Set the learning rates and bias corrections of the epoch's steps.

        If the epoch trains other parameters than the last one, their steps count from 0.
        """
        counts = self.param_groups[0]
        learning = [parameter.requires_grad for parameter in self.parameters]
        if learning != counts["learning"]:
            counts |= {"learning": learning, "steps": 0}
        if self.is_fused:
            self.fused_calls = self._fused_calls(rates.cpu(), counts["steps"])
            self.fused_rates = iter(rates.tolist())
        else:
            first = counts["steps"] + 1
            steps = torch.arange(first, first + len(rates), dtype=torch.float64)[:, None, None]
            bias1, bias2 = (1 - self.betas**steps).unbind(-1)  # of the moments, (steps, members)
            self.corrections = zip(self.per_member(1 / bias1), self.per_member(bias2.rsqrt()))
            super().start_epoch(rates)
        counts["steps"] += len(rates)

    def update(self) -> None:
        if self.is_fused:
            self._update_fused(next(self.fused_rates))
            return
        rate, (correction1, correction2) = next(self.rates), next(self.corrections)
        for parameter, decays in zip(self.parameters, self.decaying):
            if not parameter.requires_grad:
                continue
            gradient, (first, second) = gradient_of(parameter), self.moments(parameter)
            self.decay(parameter, decays, rate)
            first.lerp_(gradient, broadcast_members(self.one_minus_beta1, first))
            second.lerp_(gradient * gradient, broadcast_members(self.one_minus_beta2, second))
            root = second.sqrt().mul_(broadcast_members(correction2, second))
            root.add_(broadcast_members(self.eps, second))
            size = broadcast_members(-rate * correction1, parameter)
            self.apply_change(parameter, torch.div(first, root, out=root).mul_(size))

    def decay(self, parameter: nn.Parameter, decays: bool, rate: Tensor) -> None:
        """Apply the weight decay, before the gradient is used."""
        self.add_decay_to_gradient(parameter, decays)

    def moments(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Averages of the gradient and of its square, of the parameter's shape."""
        state = self.state[parameter]
        return state["exp_avg"], state["exp_avg_sq"]

    def _update_fused(self, rates: Sequence[float]) -> None:
        for call in self.fused_calls:
            gradients = [
                gradient
                for parameter, rows in call.parameters
                for gradient in select_rows(gradient_of(parameter), rows)
            ]
            call.step.add_(1)
            self.fused_kernel(
                call.values,
                gradients,
                call.first_moments,
                call.second_moments,
                [],
                [call.step] * len(gradients),
                lr=rates[call.member],  # type: ignore[arg-type]  # torch's stub lacks floats
                amsgrad=False,
                maximize=False,
                **call.settings,
            )

    def _fused_calls(self, rates: Tensor, steps_done: int) -> list[_FusedCall]:
        """A call for each group of equal members and each of: with weight decay, without."""
        return [
            self._fused_call(group, decays, steps_done)
            for group in self._equal_members(rates)
            for decays in sorted(set(self.decaying))
        ]

    def _fused_call(self, group: Sequence[int], decays: bool, steps_done: int) -> _FusedCall:
        setting = self.settings[group[0]]
        beta1, beta2 = setting["betas"]
        decay = setting["weight_decay"] * decays
        settings = {"beta1": beta1, "beta2": beta2, "eps": setting["eps"], "weight_decay": decay}
        call = _FusedCall(group[0], settings, torch.tensor(float(steps_done)))
        for parameter, parameter_decays in zip(self.parameters, self.decaying):
            if parameter_decays == decays and parameter.requires_grad:
                rows = kernel_rows(parameter, group)
                first, second = self.moments(parameter)
                call.parameters.append((parameter, rows))
                call.values.extend(select_rows(parameter.detach(), rows))
                call.first_moments.extend(select_rows(first, rows))
                call.second_moments.extend(select_rows(second, rows))
        return call

    def _equal_members(self, rates: Tensor) -> list[list[int]]:
        """The members that are not frozen, grouped by their settings and rates in this epoch."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for member, setting in enumerate(self.settings):
            if self.frozen is None or not self.frozen[member]:
                values = setting["betas"], setting["eps"], setting["weight_decay"]
                groups.setdefault((*values, *rates[:, member].tolist()), []).append(member)
        return list(groups.values())


@dataclass
class _FusedCall:
    """The kernel's arguments for a group of members; parameters with the group's rows."""

    member: int  # the first of the group
    settings: Settings
    step: Tensor  # () float32, the number of steps done
    parameters: list[tuple[nn.Parameter, Sequence[int] | None]] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    first_moments: list[Tensor] = field(default_factory=list)
    second_moments: list[Tensor] = field(default_factory=list)


def kernel_rows(tensor: Tensor, group: Sequence[int]) -> Sequence[int] | None:
    """The group's rows of a tensor (members, ...), or None if a kernel can take the whole tensor.

    Fused kernels round the last elements, those that do not fill a vector, differently: a member's
    values must not end within a vector, or its bits would depend on the array.
    """
    fills_vectors = tensor[0].numel() % vector_length(tensor) == 0
    return None if len(group) == len(tensor) and fills_vectors else group


def select_rows(tensor: Tensor, rows: Sequence[int] | None) -> Sequence[Tensor]:
    """Each of the rows as a tensor; for None the whole tensor as one."""
    if rows is None:
        return [tensor]
    members = tensor.unbind()
    return [members[row] for row in rows]


class ArrayAdamW(ArrayAdam):
    """`torch.optim.AdamW` for each member."""

    fused_kernel = staticmethod(torch._fused_adamw_)

    def decay(self, parameter: nn.Parameter, decays: bool, rate: Tensor) -> None:
        if self.has_decay and decays:
            factor = 1 - rate * self.weight_decay
            if self.frozen is not None:
                factor = factor.masked_fill(self.frozen, 1.0)
            parameter.mul_(broadcast_members(factor, parameter))
