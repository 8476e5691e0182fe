"""A table of a network's layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from framework.data import tensors_in
from framework.errors import at_least_one
from framework.module import Module


def summary(network: Module[Any], shape: Sequence[int]) -> str:
    """Make a table of the layers: the shape of the output, and the number of parameters.

    Shapes are those of one row of one replica, and the numbers those of one replica.

    Args:
        network: is not changed; a copy computes the outputs for an input of zeros.
        shape: of the input without the axes of replicas and rows, such as (1, 14, 14).
    """
    network = copy.deepcopy(network).eval()
    outputs: dict[str, str] = {}
    modules = dict(network.modules())
    for name, module in modules.items():
        vars(module)["forward"] = _recorded(module.forward, name, outputs)
    sizes = [at_least_one("a size of the input", size) for size in shape]
    like = next((parameter.data for parameter in network.parameters()), torch.zeros(1))
    with torch.no_grad():
        network.forward(like.new_zeros(len(like), 1, *sizes))
    rows = [("layer", "output", "parameters"), ("input", str(tuple(sizes)), "")]
    for name, module in modules.items():
        if not module.children():
            title = f"{name} {type(module).__name__}".strip()
            rows.append((title, outputs.get(name, "not used"), f"{module.size:,}"))
    rows.append(("all", outputs[""], f"{network.size:,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        f"{layer:{widths[0]}}  {output:{widths[1]}}  {number:>{widths[2]}}".rstrip()
        for layer, output, number in rows
    )


def _recorded(
    forward: Callable[[Tensor], Any], name: str, outputs: dict[str, str]
) -> Callable[[Tensor], Any]:
    """`forward`, which also notes the shape of its output."""

    def recording(x: Tensor) -> Any:
        y = forward(x)
        outputs[name] = " and ".join(str(tuple(part.shape[2:])) for part in tensors_in(y))
        return y

    return recording
