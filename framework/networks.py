"""Networks made of the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from framework.errors import at_least_one
from framework.initialisers import Generators, Initialiser, he, lecun, torch_uniform, xavier
from framework.layers import GELU, SELU, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from framework.module import Module, Sequential

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU, "leaky_relu": LeakyReLU, "tanh": Tanh, "sigmoid": Sigmoid, "selu": SELU, "gelu": GELU,
}  # fmt: skip
INITIALISERS: dict[str, Initialiser] = {
    "torch": torch_uniform,
    "xavier": xavier,
    "he": he,
    "lecun": lecun,
}


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    generators: Generators,
    *,
    activation: str = "relu",
    output_activation: str | None = None,
    initialise: str = "torch",
) -> Sequential:
    """Linear layers with an activation after each but the last, which may have one of its own: (R, B, inputs) -> (R, B, outputs)."""
    for name, given, known in (
        ("activation", activation, ACTIVATIONS),
        ("initialise", initialise, INITIALISERS),
    ):
        if given not in known:
            raise ValueError(f"{name} is {given!r}, accepted is one of {', '.join(known)}")
    layers: list[Module] = []
    for width in hidden:
        at_least_one("a hidden width", width)
        layers += [
            Linear(inputs, width, generators, initialise=INITIALISERS[initialise]),
            ACTIVATIONS[activation](),
        ]
        inputs = width
    layers.append(Linear(inputs, outputs, generators, initialise=INITIALISERS[initialise]))
    if output_activation is not None:
        layers.append(ACTIVATIONS[output_activation]())
    return Sequential(*layers)
