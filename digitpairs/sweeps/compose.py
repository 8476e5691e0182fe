"""A sweep's configs out of Hydra's, composed once for each combination of choices instead of once a job.

Hydra takes some 50 ms to compose a config. Jobs that differ in plain values alone (a seed, a rate) share one composition, in
which the values are set and the interpolations resolved again.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from digitpairs.arguments import PATH_KEYS, expand_sweep, keys_given, sections_with_target
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.targets import target_arguments

_PLAIN = (bool, int, float, str, type(None))
_WHOLE = re.compile(r"[+-]?\d{1,300}")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.?\d+)(e[+-]?\d+)?", re.IGNORECASE)


class JobRequest(NamedTuple):
    """What was asked for: one job's config, resolved, and how it came about."""

    config: dict[str, Any]
    pattern: dict[str, Any]  # the same with "*" for the seed and all that follows it
    overrides: Sequence[str]
    model: str  # the choice of the group `model`


def compose_sweep(
    loader: ConfigLoader, master: DictConfig, sweep: Iterable[Sequence[str]]
) -> list[JobRequest]:
    """The jobs of a sweep, given their overrides. Raises Hydra's and OmegaConf's errors for what cannot be composed."""
    parse = functools.lru_cache(None)(OverridesParser.create(config_loader=loader).parse_override)
    is_group = functools.lru_cache(None)(
        lambda key: bool(loader.get_group_options(key, results_filter=None))
    )
    bases: dict[tuple, _Base] = {}
    jobs = []
    for overrides in sweep:
        values, choices = [], []
        for override in map(parse, overrides):
            (
                values if _is_plain(override) and not is_group(override.key_or_group) else choices
            ).append(override)
        key = (
            *(each.input_line for each in choices),
            None,
            *(each.key_or_group for each in values),
        )
        if key not in bases:
            keys = keys_given([*choices, *values])
            bases[key] = _Base(loader.load_sweep_config(master, list(overrides)), keys)
        jobs.append(bases[key].with_values(values, overrides))
    return jobs


def compose_command(conf: Path, arguments: Sequence[str]) -> list[JobRequest]:
    """The jobs that `train.py -m` with these arguments would have, for who wants to know of them without running them."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose_sweep(*_expanded(arguments))


def expand_command(conf: Path, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each of those jobs."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        return _expanded(arguments)[2]


def _expanded(arguments: Sequence[str]) -> tuple[ConfigLoader, DictConfig, list[list[str]]]:
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", list(arguments), run_mode=RunMode.MULTIRUN)
    return loader, master, expand_sweep(master.hydra.sweeper.params or {}, arguments, loader)


def compose_one(config: DictConfig, overrides: Sequence[str], model: str) -> JobRequest:
    """The job of a single config."""
    keys = keys_given(OverridesParser.create().parse_overrides(list(overrides)))
    return _Base(config.copy(), keys, model).with_values([], overrides)


class _Base:
    """A composed config, in which values are set for one job after another.

    Args:
        given: the dotted paths of the keys that the overrides set.
    """

    def __init__(
        self, config: DictConfig, given: Collection[str], model: str | None = None
    ) -> None:
        self.given, self.retargeted = given, sections_with_target(given)
        self.model: str = model or config.hydra.runtime.choices.model
        with open_dict(config):
            config.pop("hydra", None)
        self.config = config
        self.patterns: dict[tuple, dict[str, Any]] = {}

    def with_values(self, values: Sequence[Override], overrides: Sequence[str]) -> JobRequest:
        for each in values:
            OmegaConf.update(self.config, each.key_or_group, each.value())
        if self.retargeted:  # `normalize_arguments` puts ++ before their keys
            overrides = [override.removeprefix("++") for override in overrides]
        return JobRequest(self._resolved(), self._pattern(values), overrides, self.model)

    def _resolved(self) -> dict[str, Any]:
        container = OmegaConf.to_container(self.config, resolve=True, throw_on_missing=True)
        config = _read_text(container)
        for section in self.retargeted:
            _leave_out_defaults(config, section, self.given)
        return config

    def _pattern(self, values: Sequence[Override]) -> dict[str, Any]:
        key = tuple(str(each.value()) for each in values if each.key_or_group != "seed")
        if key not in self.patterns:
            seed, self.config.seed = self.config.seed, "*"
            self.patterns[key] = self._resolved()
            self.config.seed = seed
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
    foreign = [key for key in part if key != "_target_" and not arguments.accept(key)]
    left_out = [key for key in foreign if not _is_given(f"{section}.{key}", given)]
    for key in left_out:
        del part[key]
    if left_out:
        message = f"{section}: {part['_target_']} does not accept the defaults"
        warnings.warn(f"{message} {', '.join(left_out)}, which are left out", DigitPairsWarning)


def _is_given(key: str, given: Collection[str]) -> bool:
    """Whether the key, or one within it, is given."""
    return any(f"{each}.".startswith(f"{key}.") for each in given)


def _read_text(value: Any, path: str = "") -> Any:
    """The config in which text that is a number or a truth value, as in an environment variable, is
    read as such. Paths stay text, and keys become text.
    """
    if isinstance(value, dict):
        return {str(key): _read_text(each, f"{path}{key}.") for key, each in value.items()}
    if isinstance(value, list):
        return [_read_text(each, path) for each in value]
    is_path = path.rstrip(".") in PATH_KEYS
    return _number_or_truth(value) if isinstance(value, str) and not is_path else value


def _number_or_truth(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _is_plain(override: Override) -> bool:
    """Whether it sets a number, a word, a list of them or nothing, and no new key."""
    changes = not (
        override.is_add() or override.is_force_add() or override.is_delete() or override.package
    )
    value = override.value()
    return changes and all(
        isinstance(each, _PLAIN) for each in (value if isinstance(value, list) else [value])
    )
