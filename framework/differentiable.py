"""What modules and losses have in common: a forward pass keeps what its backward pass needs."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor

from framework.errors import tensor_error
from framework.settings import Described

Own = TypeVar("Own", bound="Differentiable")


class Differentiable(Described):
    """Base of modules and losses: `forward` keeps the values that `backward` needs.

    `forward` calls `keep(values, y)` and `backward` gets them from `take(dy)`. Each backward pass
    belongs to one forward pass. RuntimeError for a second forward pass before the backward pass,
    and for a backward pass without a forward pass. Nothing is kept during evaluation. `kept` shows
    the values between the two.

    Attributes:
        training: whether `forward` computes as in training, such as with dropout's mask.
        keeps: whether `forward` keeps values, because a backward pass may follow. It differs from
            `training` for a module that stays in evaluation, see `Module.stay_in_eval`.
    """

    training = True
    keeps = True
    _kept: Any = None

    def train(self: Own, mode: bool = True) -> Own:
        """Switch to training or, with False, to evaluation; discard the values kept."""
        self.training, self.keeps, self._kept = mode, mode, None
        return self

    def eval(self: Own) -> Own:
        """Switch to evaluation: `train(False)`."""
        return self.train(False)

    @property
    def kept(self) -> Any:
        """The values that `forward` has kept and `backward` has not taken yet, else None."""
        return None if self._kept is None else self._kept[0]

    def keep(self, kept: Any, y: Tensor | None = None) -> None:
        """Keep the values that `backward` needs, and the shape of the output y."""
        if self.keeps:
            if self._kept is not None:
                raise RuntimeError(
                    f"{type(self).__name__}: a second forward before the backward of the first, "
                    "which would lose its values. After an error between the two, train() discards "
                    "them. A network that needs a layer twice has two layers, which may share "
                    "parameters: second.weight = first.weight"
                )
            shape = None if y is None else y.shape
            self.__dict__["_kept"] = (kept, shape)  # without the cost of __setattr__

    def take(self, dy: Tensor | None = None) -> Any:
        """Return the values that `forward` kept, once.

        ValueError if dy does not have the shape of y. `backward` may then be called again.
        """
        if self._kept is None:
            reason = "no forward came before it, or another backward has used its values"
            if not self.keeps:
                reason = "forward keeps nothing during evaluation; call train() first"
            raise RuntimeError(f"{type(self).__name__}: backward cannot be computed, {reason}")
        kept, shape = self._kept
        if dy is not None and shape is not None and dy.shape != shape:
            accepted = f"{tuple(shape)}, as the output"
            raise tensor_error(f"the output's gradient of {type(self).__name__}", dy, accepted)
        self.__dict__["_kept"] = None
        return kept
