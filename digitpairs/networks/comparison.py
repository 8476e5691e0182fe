"""Networks that compare two images: both as one input, or each image by itself (siamese).

A body (`mlp.py`, `cnn.py`, `resnet.py`) turns images into features; the parts after it are the same
for all networks. Shapes are those of one network; an array's have a leading axis of members.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, boolean, choice
from digitpairs.data.sources import SIDE
from digitpairs.networks.heads import CLASSES, ComparisonPart, digit_part
from digitpairs.networks.stacking import stackable
from digitpairs.targets import class_name, exception_message

# (channels, rows per pair, activation, batch_norm) ->
# the module (rows, channels, 14, 14) -> (rows, features), and the number of features.
# A module, such as a network of torchvision or timm, is a body too: see `_module_body`.
Body = Callable[[int, int, str, bool], tuple[nn.Module, int]]


_BODY = (
    "a body is called with (channels, rows_per_pair, activation, batch_norm), and returns a module "
    "(rows, channels, 14, 14) -> (rows, features) and the number of features"
)


class Prediction(NamedTuple):
    """A network's output for a batch of pairs."""

    # (B, 1), the logit of first <= second; or (B, 2), the logits of first > second and of <=
    comparison: Tensor
    digits: Tensor | None  # (B, 2, 10), the logits of the two digits; None without a digit head


def as_prediction(output: Any) -> Prediction:
    """The output of any network: a tensor is the comparison's logits, a pair has the digits' too.

    Raises TypeError for anything else.
    """
    if isinstance(output, Tensor):
        return Prediction(output, None)
    if not isinstance(output, tuple) or len(output) != 2:
        raise TypeError(f"the network gives a {type(output).__name__}")
    return output if isinstance(output, Prediction) else Prediction(*output)


def compares_posteriors(network: nn.Module) -> bool:
    """Whether the comparison's logit follows from the digit logits without parameters."""
    part = getattr(network, "comparison_part", None)
    return isinstance(part, ComparisonPart) and part.sees == "posterior"


@stackable
class JointNetwork(nn.Module):
    """Both images as one input of two channels: (B, 2, 14, 14) -> Prediction.

    Args:
        body: `MLPBody`, `CNNBody`, any callable like them, or a module of images, such as a
            network of torchvision or timm.
        digit_head: "joint" (20 logits for both digits) or "none".
        digit_hidden: widths of the digit head's hidden layers.
        comparison_input, comparison_hidden, comparison_outputs, comparison_output_activation:
            `sees`, `hidden`, `outputs` and `output_activation` of `ComparisonPart`.
        activation: a key of `digitpairs.networks.layers.ACTIVATIONS`.
        batch_norm: after every layer but the last of each part.
    """

    def __init__(
        self,
        body: Body,
        *,
        digit_head: str = "none",
        digit_hidden: Sequence[int] = (),
        comparison_input: str = "features",
        comparison_hidden: Sequence[int] = (),
        comparison_outputs: int = 1,
        comparison_output_activation: str | None = None,
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        batch_norm = boolean("batch_norm", batch_norm)
        self.has_digits = choice("digit_head", digit_head, ["joint", "none"]) != "none"
        self.body, features = _build(body, 2, 1, activation, batch_norm)
        self.digit_part = digit_part(digit_head, features, digit_hidden, activation, batch_norm)
        self.comparison_part = ComparisonPart(
            features,
            self.has_digits,
            sees=comparison_input,
            hidden=comparison_hidden,
            outputs=comparison_outputs,
            output_activation=comparison_output_activation,
            activation=activation,
            batch_norm=batch_norm,
        )

    def forward(self, images: Tensor) -> Prediction:
        features = self.body(images)  # (..., B, 2, 14, 14) -> (..., B, features)
        digits = None
        if self.digit_part is not None:
            digits = self.digit_part(features).unflatten(-1, (2, CLASSES))
        return Prediction(self.comparison_part(features, digits), digits)


@stackable
class SiameseNetwork(nn.Module):
    """Each image by itself: (B, 2, 14, 14) -> Prediction.

    Args:
        body: as in `JointNetwork`, like the arguments that are not listed here.
        sharing: whether one body and one digit head see both images, stacked on the batch axis;
            otherwise each image has its own.
        digit_head: "per_image" (10 logits from an image's features), "joint" (20 from the features
            of both images) or "none".
    """

    def __init__(
        self,
        body: Body,
        *,
        sharing: bool = True,
        digit_head: str = "per_image",
        digit_hidden: Sequence[int] = (),
        comparison_input: str = "probabilities",
        comparison_hidden: Sequence[int] = (),
        comparison_outputs: int = 1,
        comparison_output_activation: str | None = None,
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.sharing, batch_norm = boolean("sharing", sharing), boolean("batch_norm", batch_norm)
        self.digit_head = choice("digit_head", digit_head, ["per_image", "joint", "none"])
        self.has_digits = digit_head != "none"
        rows_per_pair, copies = (2, 1) if sharing else (1, 2)
        self.bodies = nn.ModuleList()
        for _ in range(copies):
            module, features = _build(body, 1, rows_per_pair, activation, batch_norm)
            self.bodies.append(module)
        head_settings = (digit_hidden, activation, batch_norm)
        if digit_head == "per_image":
            heads = [digit_part(digit_head, features, *head_settings) for _ in range(copies)]
            self.digit_parts = nn.ModuleList(head for head in heads if head is not None)
        else:
            self.digit_part = digit_part(digit_head, 2 * features, *head_settings)
        self.comparison_part = ComparisonPart(
            2 * features,
            self.has_digits,
            sees=comparison_input,
            hidden=comparison_hidden,
            outputs=comparison_outputs,
            output_activation=comparison_output_activation,
            activation=activation,
            batch_norm=batch_norm,
        )

    def forward(self, images: Tensor) -> Prediction:
        axis = images.dim() - 3  # of the two images
        features = self._per_image(self.bodies, images.unsqueeze(-3), axis)  # (..., B, 2, features)
        digits = None
        if self.digit_head == "per_image":
            digits = self._per_image(self.digit_parts, features, axis)  # (..., B, 2, 10)
        elif self.digit_part is not None:
            digits = self.digit_part(features.flatten(-2)).unflatten(-1, (2, CLASSES))
        sees_features = self.comparison_part.sees == "features"
        pair_features = features.flatten(-2) if sees_features else None
        return Prediction(self.comparison_part(pair_features, digits), digits)

    def _per_image(self, parts: nn.ModuleList, inputs: Tensor, axis: int) -> Tensor:
        """(..., B, 2, inputs) -> (..., B, 2, outputs).

        A shared part computes all 2B rows at once; otherwise each part computes its own image.
        """
        if self.sharing:
            return parts[0](inputs.flatten(axis - 1, axis)).unflatten(axis - 1, (-1, 2))
        return torch.stack([part(half) for part, half in zip(parts, inputs.unbind(axis))], axis)


def _build(
    body: Any, channels: int, rows_per_pair: int, activation: str, batch_norm: bool
) -> tuple[nn.Module, int]:
    """The body's module and its number of features. Raises InvalidValueError for a wrong body."""
    if isinstance(body, Mapping):  # a config without a class
        accepted = "a class, as digitpairs.networks.MLPBody"
        raise InvalidValueError("body._target_", "nothing", accepted)
    if not callable(body):
        accepted = "the settings of a body: its class, and its arguments"
        raise InvalidValueError("body", body, accepted)
    try:
        if isinstance(body, nn.Module):
            made = _module_body(body, channels)
        else:
            made = body(channels, rows_per_pair, activation, batch_norm)
        if not class_name(body).startswith("digitpairs."):
            _check_body(made, channels)
    except InvalidValueError as fault:
        is_of_network = fault.key in ("activation", "batch_norm")
        raise (fault if is_of_network else fault.within("body")) from None
    except Exception as fault:  # a user's class may raise anything
        accepted = f"{exception_message(fault)}; {_BODY}"
        raise InvalidValueError("body._target_", class_name(body), accepted) from fault
    return made


def _module_body(module: nn.Module, channels: int) -> tuple[nn.Module, int]:
    """A copy of the module as a body, whose features are the module's outputs.

    A first convolution of other channels (RGB) gets the mean of its kernels for each channel, in
    proportion: for a gray image it gives what the module gives for the image in gray RGB.
    """
    module = copy.deepcopy(module)
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    if first is not None and first.groups == 1 and first.in_channels != channels:
        mean = first.weight.detach().mean(1, keepdim=True)  # (out, 1, height, width)
        scaled = mean * (first.in_channels / channels)
        first.weight = nn.Parameter(scaled.repeat(1, channels, 1, 1))
        first.in_channels = channels
    with torch.no_grad():
        output = module.eval()(torch.zeros(2, channels, SIDE, SIDE))
    return module, output.shape[-1] if isinstance(output, Tensor) else 0


def _check_body(made: Any, channels: int) -> None:
    """Raises TypeError or ValueError unless the module gives as many features as it should."""
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"it returns a {type(made).__name__}")
    module, features = made
    if not isinstance(module, nn.Module) or not isinstance(features, int):
        raise TypeError(f"it returns ({type(module).__name__}, {type(features).__name__})")
    with torch.no_grad():
        output = module.eval()(torch.zeros(2, channels, SIDE, SIDE))
    module.train()
    if not isinstance(output, Tensor):
        raise TypeError(f"its module gives a {type(output).__name__}")
    if output.shape != (2, features):
        shape = f"{tuple(output.shape)} for images (2, {channels}, {SIDE}, {SIDE})"
        raise ValueError(f"its module gives {shape}, and it says {features} features")
