"""Files from which a training continues."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from framework.settings import is_plain, settings_of


class Stateful(Protocol):
    """A part of a training whose state is saved."""

    def state_dict(self) -> Any: ...
    def check_state(self, state: Any) -> None: ...
    def load_state_dict(self, state: Any) -> None: ...


class Checkpoint:
    """Saves and restores the parts of a training.

    Args:
        settings: must be equal in the file and in this training. They are values by name, or
            objects, of which the class and the settings are compared.
        parts: whose state is saved, by name; None is left out.
    """

    def __init__(self, settings: Mapping[str, Any], parts: Mapping[str, Stateful | None]) -> None:
        self.settings: dict[str, Any] = {}
        for name, value in settings.items():
            self.settings |= _settings_of(name, value)
        self.parts = {name: part for name, part in parts.items() if part is not None}

    def save(self, path: str | Path) -> None:
        """Save the settings and the states; the file is written whole or not at all."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        states = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({"settings": self.settings, **states}, partial)
        os.replace(partial, path)

    def load(self, path: str | Path) -> None:
        """Restore the states.

        KeyError or ValueError if the file was saved with other settings, or a state does not fit
        its part. Nothing is changed then.
        """
        states = torch.load(path, weights_only=True)
        if not isinstance(states, dict) or "settings" not in states:
            raise ValueError(f"{path} is not a checkpoint, accepted is a file that a trainer saved")
        self._check_settings(path, states["settings"])
        for name, part in self.parts.items():
            part.check_state(states[name])
        for name, part in self.parts.items():
            part.load_state_dict(states[name])

    def _check_settings(self, path: str | Path, saved: Mapping[str, Any]) -> None:
        for name in {**saved, **self.settings}:
            if saved.get(name) != self.settings.get(name):
                raise ValueError(
                    f"{path} was saved with {name}={saved.get(name)}, accepted is "
                    f"{self.settings.get(name)} as in this trainer"
                )


class GeneratorStates:
    """The states of the generators from which a training draws."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        self.generators = generators

    def state_dict(self) -> list[Tensor]:
        return [generator.get_state() for generator in self.generators]

    def check_state(self, state: Sequence[Tensor]) -> None:
        saved, accepted = len(state), len(self.generators)
        if saved != accepted:
            raise ValueError(f"the state has {saved} generators, accepted are {accepted}")

    def load_state_dict(self, state: Sequence[Tensor]) -> None:
        for generator, value in zip(self.generators, state):
            generator.set_state(value)


def numbered(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """The settings of groups of parameters: the first by its name, others as in "optimizer.1"."""
    return {f"{name}.{number}" if number else name: each for number, each in enumerate(values)}


def _settings_of(name: str, part: object) -> dict[str, Any]:
    """The class and the settings of an object, with names such as "optimizer.eps"."""
    if is_plain(part):
        return {name: part}
    settings = {
        f"{name}.{key}": list(value) if isinstance(value, tuple) else value
        for key, value in settings_of(part).items()
        if key != "lr"  # which a schedule changes
    }
    return {name: type(part).__name__, **settings}
