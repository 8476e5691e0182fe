"""Interpolations of a config, resolved again for each job of a sweep.

OmegaConf parses every interpolation anew, which takes some 6 ms a job. Almost all of them are plain
references such as `${seeds.order}`, which are looked up here; the others are left to OmegaConf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

_REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
_MISSING = "???"
Path = tuple[Any, ...]  # keys of mappings and indices of lists


class ResolvedConfig:
    """A config as plain dicts and lists, with its interpolations resolved.

    After the first call of `container` only values may be set, no sections.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._container: dict[str, Any] = {}
        self._interpolations: dict[Path, str] | None = None  # found at the first use

    def set(self, key: str, value: Any) -> None:
        """Set the value of a dotted key."""
        OmegaConf.update(self._config, key, value)
        if self._interpolations is not None:
            path = tuple(key.split("."))
            self._interpolations.pop(path, None)
            _put(self._container, path, value)

    def container(self) -> dict[str, Any]:
        """The config now. The next call changes what this one returns.

        Raises OmegaConf's errors for a missing value and for an interpolation without a value.
        """
        if self._interpolations is None:
            OmegaConf.to_container(self._config, resolve=True, throw_on_missing=True)
            self._container = cast(dict[str, Any], OmegaConf.to_container(self._config))
            self._interpolations = dict(_interpolations_in(self._container, ()))
        for path, text in self._interpolations.items():
            _put(self._container, path, self._value_of(path, text))
        return self._container

    def _value_of(self, path: Path, text: str) -> Any:
        assert self._interpolations is not None
        reference = _REFERENCE.fullmatch(text)
        target = tuple(reference[1].split(".")) if reference else ()
        if target in self._interpolations:
            return self._value_of(target, self._interpolations[target])
        parents = (target[:length] for length in range(1, len(target)))
        is_own = target and not any(parent in self._interpolations for parent in parents)
        value = _get(self._container, target) if is_own else None
        if isinstance(value, (str, int, float)):
            return value
        return self._by_omegaconf(path)

    def _by_omegaconf(self, path: Path) -> Any:
        *parents, last = path
        node: Any = self._config
        for key in parents:
            node = node[key]
        value = node[last]
        if OmegaConf.is_config(value):
            return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        return value


def _interpolations_in(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _interpolations_in(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _interpolations_in(each, (*path, index))
    elif isinstance(value, str) and "${" in value:
        yield path, value


def is_plain(value: Any) -> bool:
    """Whether a value can be set in a config without composing it again."""
    if isinstance(value, str):
        return "${" not in value and value != _MISSING
    return value is None or isinstance(value, (bool, int, float))


def _get(container: Any, path: Path) -> Any:
    """The value at a path of a container; None if there is none."""
    for key in path:
        container = container.get(key) if isinstance(container, dict) else None
    return container


def _put(container: Any, path: Path, value: Any) -> None:
    *parents, last = path
    for key in parents:
        container = container[int(key) if isinstance(container, list) else key]
    container[int(last) if isinstance(container, list) else last] = value
