"""Networks made of the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from framework.activations import GELU, SELU, LeakyReLU, ReLU, Sigmoid, Tanh
from framework.errors import at_least_one
from framework.initialisers import Generators, Initialiser, he, lecun, torch_uniform, xavier
from framework.layers import Linear
from framework.module import Layer
from framework.sequential import Sequential

ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "selu": SELU,
    "gelu": GELU,
}
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
    """Make a multilayer perceptron with hidden layers of these widths.

    (R, B, inputs) -> (R, B, outputs). The activations are keys of `ACTIVATIONS`, and `initialise`
    is one of `INITIALISERS`; `generators` as for `Linear`.
    """
    _check_key("activation", activation, ACTIVATIONS)
    _check_key("initialise", initialise, INITIALISERS)
    if not isinstance(hidden, (list, tuple)):
        raise ValueError(f"hidden is {hidden!r}, accepted is a list of widths, such as [64, 64]")
    layers: list[Layer] = []
    for width in hidden:
        at_least_one("a hidden width", width)
        layers.append(Linear(inputs, width, generators, initialise=INITIALISERS[initialise]))
        layers.append(ACTIVATIONS[activation]())
        inputs = width
    layers.append(Linear(inputs, outputs, generators, initialise=INITIALISERS[initialise]))
    if output_activation is not None:
        _check_key("output_activation", output_activation, ACTIVATIONS)
        layers.append(ACTIVATIONS[output_activation]())
    return Sequential(*layers)


def _check_key(name: str, value: str, accepted: Mapping[str, object]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}, accepted is one of {', '.join(accepted)}")
