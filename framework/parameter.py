"""Parameters: values that are learned, and their gradients."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from framework.errors import shape_of, tensor_error


class Owner(Protocol):
    """An optimiser, as its parameters see it."""

    retired: bool  # whether it has lost a parameter, and can make no step any more


class Parameter:
    """Values that are learned, and their gradient; both have the shape (replicas, ...).

    Assigning to `data` or `grad` copies the values into the existing tensor, because an optimiser
    updates that tensor. ValueError for values of another shape or type. A copied or unpickled
    parameter has no optimiser, unless the optimiser is copied with it.

    An optimiser leaves out a parameter that is `frozen`, and nothing uses its gradient.
    """

    frozen = False  # changed by `freeze`

    def __init__(self, data: Tensor) -> None:
        if not isinstance(data, Tensor) or not data.is_floating_point() or not data.dim():
            described = shape_of(data) if isinstance(data, Tensor) else repr(data)
            accepted = "a tensor (replicas, ...) of floating-point numbers"
            raise ValueError(f"a parameter is {described}, accepted is {accepted}")
        data = data.detach()  # the weight of a torch layer records what happens to it
        self._data, self._grad = data, data.new_zeros(data.shape)
        self.owner: Owner | None = None  # the optimiser whose vectors contain both tensors

    def __repr__(self) -> str:
        return f"Parameter({shape_of(self._data)})"

    @property
    def data(self) -> Tensor:
        return self._data

    @data.setter
    def data(self, values: Tensor) -> None:
        _copy("data", values, self._data)

    @property
    def grad(self) -> Tensor:
        return self._grad

    @grad.setter
    def grad(self, values: Tensor) -> None:
        _copy("grad", values, self._grad)

    def rebind(self, data: Tensor, grad: Tensor, owner: Owner | None = None) -> None:
        """Replace both tensors by tensors of the same size that belong to `owner`.

        The previous owner is retired.
        """
        if self.owner is not None:
            self.owner.retired = True
        shape = self._data.shape
        self._data, self._grad, self.owner = data.view(shape), grad.view(shape), owner

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the values or, with False, let them learn again; retire the optimiser."""
        if frozen != self.frozen:
            self.frozen = frozen
            self.rebind(self._data, self._grad)

    def __getstate__(self) -> dict[str, Any]:
        """Copies, because pickling a view would save the optimiser's whole vector."""
        tensors = {"_data": self._data.clone(), "_grad": self._grad.clone()}
        return {**tensors, "frozen": self.frozen, "owner": None}


def _copy(name: str, values: Any, target: Tensor) -> None:
    accepted = shape_of(target)
    if not isinstance(values, Tensor):
        raise ValueError(
            f"the {name} of a parameter is {values!r}, accepted is a tensor {accepted}"
        )
    if shape_of(values) != accepted:
        raise tensor_error(f"the {name} of a parameter", values, accepted)
    target.copy_(values.detach())
