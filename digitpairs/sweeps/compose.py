"""Composition of a sweep's configs: once for each combination of choices instead of once a job.

Hydra takes about 50 ms to compose a config. Jobs that differ only in plain values (a seed, a
learning rate) share one composition, in which the values are set and the interpolations resolved
for each job.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from digitpairs.arguments import expand_sweep
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.configs import PATH_KEYS, install_config_source
from digitpairs.names import Origin, is_path_or_seed
from digitpairs.overrides import keys_given, sections_with_target
from digitpairs.sweeps.interpolations import ResolvedConfig, is_plain
from digitpairs.targets import SPECIAL_KEYS, is_of_library, target_arguments

_INTEGER = re.compile(r"[+-]?\d{1,300}")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.?\d+)(e[+-]?\d+)?", re.IGNORECASE)


class JobRequest(NamedTuple):
    """The resolved config of one job, and how it was composed."""

    config: dict[str, Any]
    pattern: dict[str, Any]  # the config with "*" for the seed and all values that follow it
    overrides: Sequence[str]
    choices: Mapping[str, str]  # of the config groups, by group

    @property
    def origin(self) -> Origin:
        """What the run's files and names say of it."""
        named = [override for override in self.overrides if not is_path_or_seed(override)]
        return Origin(self.choices, named)


def compose_sweep(
    loader: ConfigLoader, master: DictConfig, sweep: Iterable[Sequence[str]]
) -> list[JobRequest]:
    """Compose the jobs of a sweep, given the overrides of each.

    Raises the errors of Hydra and OmegaConf for a config that cannot be composed.
    """
    parse = functools.cache(OverridesParser.create(config_loader=loader).parse_override)

    @functools.cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key, results_filter=None))

    bases: dict[Hashable, _Base] = {}
    requests = []
    for overrides in sweep:
        values: list[Override] = []
        choices: list[Override] = []
        for override in map(parse, overrides):
            is_value = _is_plain(override) and not is_group(override.key_or_group)
            (values if is_value else choices).append(override)
        key = (
            tuple(choice.input_line for choice in choices),
            tuple(value.key_or_group for value in values),
        )
        if key not in bases:
            keys = keys_given([*choices, *values])
            bases[key] = _Base(loader.load_sweep_config(master, list(overrides)), keys)
        requests.append(bases[key].request(values, overrides))
    return requests


def compose_command(conf: Path, arguments: Sequence[str]) -> list[JobRequest]:
    """The jobs of `train.py -m` with these arguments, without running them."""
    install_config_source()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose_sweep(*_load_and_expand(arguments))


def expand_command(conf: Path, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of `train.py -m` with these arguments."""
    install_config_source()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return _load_and_expand(arguments)[2]


def compose_one(
    config: DictConfig, overrides: Sequence[str], choices: Mapping[str, Any]
) -> JobRequest:
    """The job of a config that Hydra has composed with these choices of config groups."""
    keys = keys_given(OverridesParser.create().parse_overrides(list(overrides)))
    return _Base(config.copy(), keys, choices).request([], overrides)


def _load_and_expand(arguments: Sequence[str]) -> tuple[ConfigLoader, DictConfig, list[list[str]]]:
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", list(arguments), run_mode=RunMode.MULTIRUN)
    return loader, master, expand_sweep(master.hydra.sweeper.params or {}, arguments, loader)


class _Base:
    """A composed config, in which values are set for one job after another.

    Args:
        given: the dotted paths of the keys that the overrides set.
    """

    def __init__(
        self,
        config: DictConfig,
        given: Collection[str],
        choices: Mapping[str, Any] | None = None,
    ) -> None:
        self.given, self.retargeted = given, sections_with_target(given)
        choices = config.hydra.runtime.choices if choices is None else choices
        self.choices = {
            str(group): str(choice)
            for group, choice in choices.items()
            if choice is not None and not str(group).startswith("hydra/")
        }
        with open_dict(config):
            config.pop("hydra", None)
        self.config = ResolvedConfig(config)
        self.patterns: dict[tuple[str, ...], dict[str, Any]] = {}

    def request(self, values: Sequence[Override], overrides: Sequence[str]) -> JobRequest:
        """The job with these values; `overrides` are all of its overrides."""
        for override in values:
            self.config.set(override.key_or_group, override.value())
        if self.retargeted:  # `normalize_arguments` puts ++ before their keys
            overrides = [override.removeprefix("++") for override in overrides]
        return JobRequest(self._resolved(), self._pattern(values), overrides, self.choices)

    def _resolved(self) -> dict[str, Any]:
        config = _with_parsed_text(self.config.container())
        for section in self.retargeted:
            _leave_out_defaults(config, section, self.given)
        return config

    def _pattern(self, values: Sequence[Override]) -> dict[str, Any]:
        key = tuple(str(each.value()) for each in values if each.key_or_group != "seed")
        if key not in self.patterns:
            seed = self.config.container()["seed"]
            self.config.set("seed", "*")
            self.patterns[key] = self._resolved()
            self.config.set("seed", seed)
        return self.patterns[key]


def _leave_out_defaults(config: dict[str, Any], section: str, given: Collection[str]) -> None:
    """Remove from a section the keys that its class does not accept and that are not given.

    They are defaults of the class that the section had before its `_target_` was given. Warns of
    them. Raises InvalidValueError for a class that cannot be imported.
    """
    part: Any = config
    for key in section.split("."):
        part = part.get(key) if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
        return
    try:
        arguments = target_arguments(part["_target_"])
    except InvalidValueError as error:
        raise error.within(section) from None
    if is_of_library(part["_target_"]):  # its **kwargs do not mean the defaults of this project
        arguments = arguments._replace(takes_others=False)
    foreign = [key for key in part if key not in SPECIAL_KEYS and not arguments.accept(key)]
    left_out = [key for key in foreign if not _is_given(f"{section}.{key}", given)]
    for key in left_out:
        del part[key]
    if left_out:
        message = f"{section}: {part['_target_']} does not accept the defaults"
        message += f" {', '.join(left_out)}, which are left out"
        warnings.warn(message, DigitPairsWarning, stacklevel=2)


def _is_given(key: str, given: Collection[str]) -> bool:
    """Whether the key, or one within it, is given."""
    return any(f"{each}.".startswith(f"{key}.") for each in given)


def _with_parsed_text(value: Any, path: str = "") -> Any:
    """The config with numbers and booleans in place of text that spells them.

    Such text comes from environment variables. Paths stay text, and keys become text.
    """
    if isinstance(value, dict):
        return {str(key): _with_parsed_text(each, f"{path}{key}.") for key, each in value.items()}
    if isinstance(value, list):
        return [_with_parsed_text(each, path) for each in value]
    if isinstance(value, str) and path.rstrip(".") not in PATH_KEYS:
        return _parsed(value)
    return value


def _parsed(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _is_plain(override: Override) -> bool:
    """Whether it sets an existing key to a number, a word, null, or a list of them."""
    if override.is_add() or override.is_force_add() or override.is_delete() or override.package:
        return False
    value = override.value()
    values = value if isinstance(value, list) else [value]
    return all(map(is_plain, values))
