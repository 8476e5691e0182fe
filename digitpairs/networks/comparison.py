"""The two ways to compare two images: both as one input, or each by itself (siamese when weights are shared).

A body (`mlp.py`, `cnn.py`) turns images into features; everything after it is the same for all, and is here. Shapes are
those of one network; an array's have the members' axis before them (see `layers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, boolean, choice
from digitpairs.networks.heads import CLASSES, ComparisonPart, digit_part
from digitpairs.networks.stacking import stackable

# (channels, rows per pair, activation, batch_norm) -> the module (rows, channels, 14, 14) -> (rows, features), features
Body = Callable[[int, int, str, bool], tuple[nn.Module, int]]


class Prediction(NamedTuple):
    """What a network says of a batch of pairs."""

    comparison: Tensor  # (B, 1), the logit of "first <= second"; or (B, 2), the logits of "first > second" and of it
    digits: Tensor | None  # (B, 2, 10), the logits of the two digits; None without a digit head


@stackable
class JointNetwork(nn.Module):
    """Both images as one input of two channels: (B, 2, 14, 14) -> Prediction.

    Args:
        body: `MLPBody` or `CNNBody`, or any callable like them.
        digit_head: "joint" (20 logits name both digits at once) or "none".
        digit_hidden: widths of the digit head's hidden layers.
        comparison_input, comparison_hidden, comparison_outputs, comparison_output_activation: see `ComparisonPart` (`sees`,
            `hidden`, `outputs`, `output_activation`).
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
        digits = (
            None
            if self.digit_part is None
            else self.digit_part(features).unflatten(-1, (2, CLASSES))
        )
        return Prediction(self.comparison_part(features, digits), digits)


@stackable
class SiameseNetwork(nn.Module):
    """Each image by itself: (B, 2, 14, 14) -> Prediction.

    With `sharing`, one body (and one digit head) sees both images, stacked on the batch axis; without, each image has
    its own. `digit_head` may be "per_image" (10 logits from an image's features), "joint" (20 from both images') or
    "none"; the other arguments are those of `JointNetwork`.
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
        bodies, features = zip(
            *(_build(body, 1, rows_per_pair, activation, batch_norm) for _ in range(copies))
        )
        self.bodies = nn.ModuleList(bodies)
        if digit_head == "per_image":
            parts = [
                digit_part(digit_head, features[0], digit_hidden, activation, batch_norm)
                for _ in range(copies)
            ]
            self.digit_parts = nn.ModuleList(parts)
        else:
            self.digit_part = digit_part(
                digit_head, 2 * features[0], digit_hidden, activation, batch_norm
            )
        self.comparison_part = ComparisonPart(
            2 * features[0],
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
        features = self._each(
            self.bodies, images.unsqueeze(-3), axis
        )  # (..., B, 2, 1, 14, 14) -> (..., B, 2, features)
        digits = None
        if self.digit_head == "per_image":
            digits = self._each(self.digit_parts, features, axis)  # (..., B, 2, 10)
        elif self.digit_head == "joint":
            digits = self.digit_part(features.flatten(-2)).unflatten(-1, (2, CLASSES))
        seen = (
            features.flatten(-2) if self.comparison_part.sees == "features" else None
        )  # not put together for nothing
        return Prediction(self.comparison_part(seen, digits), digits)

    def _each(self, parts: nn.ModuleList, inputs: Tensor, axis: int) -> Tensor:
        """(..., B, 2, inputs) -> (..., B, 2, outputs): the one part on all 2B rows, or each of the two on its own half."""
        if self.sharing:
            return parts[0](inputs.flatten(axis - 1, axis)).unflatten(axis - 1, (-1, 2))
        return torch.stack([part(half) for part, half in zip(parts, inputs.unbind(axis))], axis)


def _build(body: Body, *settings: Any) -> tuple[nn.Module, int]:
    if isinstance(body, Mapping):  # a config without a class
        raise InvalidValueError(
            "body._target_", "nothing", "a class, as digitpairs.networks.MLPBody"
        )
    if not callable(body):
        raise InvalidValueError(
            "body", body, "the settings of a body: its class, and its arguments"
        )
    try:
        return body(*settings)
    except InvalidValueError as fault:
        raise fault if fault.key in ("activation", "batch_norm") else fault.within("body")
