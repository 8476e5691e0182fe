"""Display names of configurations: the settings in which they differ, as typed on the command line.

A folder's name is made for file systems: it has no brackets, and a long name is cut. A display name
takes the typed settings from the folder's name and their values from the runs' configs. Where these
settings do not distinguish two configurations, it adds others in which their configs differ.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from digitpairs import files
from digitpairs.configs import CONF, PATH_KEYS, choices

Config = Mapping[str, Any]
Settings = dict[str, str]  # the text "key=value" by key
_BETWEEN_SETTINGS = re.compile(r",(?=[^,=]*=)")  # in a folder's name; not within a list
_ABSENT = object()


class Names(NamedTuple):
    """The model that all configurations share ("" if none), and their names by folder name."""

    shared: str
    of: dict[str, str]


class Origin(NamedTuple):
    """How a run's config was composed."""

    choices: Mapping[str, str]  # of the config groups, by group
    overrides: Sequence[str]  # without seeds, paths and settings of the sweep


def display_names(
    configs: Mapping[str, Config | None], origins: Mapping[str, Origin | None] | None = None
) -> Names:
    """Names for the configurations in these folders.

    Args:
        configs: the config of one run by folder name; None if it cannot be read.
        origins: how it was composed, by folder name; where it is not known, as for older runs, the
            typed settings are read from the folder's name.
    """
    known = [(origins or {}).get(folder) for folder in configs]
    choices: list[Settings] = [{} for _ in configs]
    if all(known):
        recorded = list(filter(None, known))
        settings = _recorded_settings(recorded, list(configs.values()))
        choices = [{key: f"{key}={each}" for key, each in one.choices.items()} for one in recorded]
    else:
        settings = [_settings_in_name(folder, config) for folder, config in configs.items()]
    models = [each["model"].partition("=")[2] for each in settings]
    if len(configs) == 1:
        return Names("", dict.fromkeys(configs, models[0]))
    if _count_distinct(settings, _distinguishing_keys(settings)) < len(settings):
        differences = _differences([_comparable(config) for config in configs.values()])
        # Typed settings keep their place before the others, and their values.
        settings = [
            typed | choice | difference | choice | typed
            for typed, choice, difference in zip(settings, choices, differences)
        ]
    return Names(models[0] if len(set(models)) == 1 else "", _by_folder(list(configs), settings))


def text_of(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{text_of(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(text_of, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def flat(section: Config, path: str = "") -> dict[str, Any]:
    """A config by dotted key: {"model": {"hidden": [4]}} -> {"model.hidden": [4]}."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def varied_settings(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that differ between `flat` configs, without paths, in the configs' order."""
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: {json.dumps(config.get(key)) for config in configs} for key in keys}
    return [key for key in keys if key not in PATH_KEYS and len(values[key]) > 1]


def plain_value(value: Any) -> bool | int | float | str | None:
    """A setting's value as a number, a truth value or text."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else text_of(value)


def is_path_or_seed(override: str) -> bool:
    """Whether an override is no part of names: a seed, a path, a logger, a setting of the sweep."""
    key = override.lstrip("+~").split("=", 1)[0]
    return key in ("seed", "logger", *PATH_KEYS) or key.startswith(("sweep.", "logger.", "logger/"))


def _by_folder(folders: Sequence[str], settings: Sequence[Settings]) -> dict[str, str]:
    """The distinguishing settings by folder; the folder's name where two have the same ones."""
    keys = _distinguishing_keys(settings)
    names = [
        " ".join(each[key] for key in keys if key in each) or each["model"] for each in settings
    ]
    counts = Counter(names)
    return {folder: folder if counts[name] > 1 else name for folder, name in zip(folders, names)}


def _recorded_settings(
    origins: Sequence[Origin], configs: Sequence[Config | None]
) -> list[Settings]:
    """The model and all settings that were typed for any of the configs."""
    typed = [override for origin in origins for override in origin.overrides]
    keys = dict.fromkeys(["model", *(each.lstrip("+").partition("=")[0] for each in typed)])
    return [
        {
            key: f"{key}={value}"
            for key in keys
            if (value := _recorded_value(key, origin, config)) is not None
        }
        for origin, config in zip(origins, configs)
    ]


def _recorded_value(key: str, origin: Origin, config: Config | None) -> str | None:
    """A config group's choice, or a setting's value; None if the config lacks it."""
    if key in origin.choices:
        return origin.choices[key]
    value = _value_at(config, key)
    if value is not _ABSENT:
        return text_of(value)
    typed = (override.lstrip("+").partition("=") for override in origin.overrides)
    return next((text for name, _, text in typed if name == key), None)


def _settings_in_name(folder: str, config: Config | None) -> Settings:
    """The settings in a folder's name, with their values from the config.

    Older folders' names begin with the model and have whole keys.
    """
    folder = folder.rpartition("/")[2]
    short, _, digest = folder.rpartition("-")
    if not re.fullmatch("[0-9a-f]{8}", digest):
        short = folder
    overrides = _BETWEEN_SETTINGS.split(short)
    if "=" not in overrides[0]:
        overrides[0] = f"model={overrides[0]}"
    if len(short) == files.NAME_LENGTH:  # cut, most likely within its last setting
        overrides = overrides[:-1]
    values = {"model": ""}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key.lstrip("+")] = value
    return {key: f"{key}={_typed_value(key, value, config)}" for key, value in values.items()}


def _typed_value(key: str, in_folder: str, config: Config | None) -> str:
    """A setting's value from the config; for a config group the name of its choice."""
    if (CONF / key).is_dir():
        return _choices(key).get(in_folder, in_folder)
    value = _value_at(config, key)
    return in_folder if value is _ABSENT else text_of(value)


def _value_at(config: Config | None, key: str) -> Any:
    """The value of a dotted key, or _ABSENT."""
    value: Any = config
    for part in key.split("."):
        value = _child(value, part)
    return value


@functools.cache
def _choices(group: str) -> dict[str, str]:
    """The names of a group's choices, by their form in a folder's name."""
    return {choice.replace("/", "_"): choice for choice in choices(group, [CONF])}


def _distinguishing_keys(settings: Sequence[Settings]) -> list[str]:
    """Keys, each of which distinguishes some configurations that the keys before it do not."""
    chosen: list[str] = []
    groups = 1
    for key in dict.fromkeys(itertools.chain.from_iterable(settings)):
        refined = _count_distinct(settings, [*chosen, key])
        if refined > groups:
            chosen, groups = [*chosen, key], refined
    return chosen


def _count_distinct(settings: Sequence[Settings], keys: Sequence[str]) -> int:
    """The number of configurations that differ in at least one of the keys."""
    return len({tuple(map(each.get, keys)) for each in settings})


def _comparable(config: Config | None) -> Any:
    return _ABSENT if config is None else without_seeds(config)


def without_seeds(config: Config) -> Config:
    """The config without `output` and the seeds that follow the run's seed."""
    return _drop_seeds(config, config.get("seed"))


def _drop_seeds(section: Config, seed: Any, name: str = "") -> Config:
    def is_dropped(key: str, value: Any) -> bool:
        is_seed = key.endswith("seed") or name == "seeds"
        return key == "output" or (is_seed and value == seed)

    kept = {key: value for key, value in section.items() if not is_dropped(key, value)}
    sections = {key: value for key, value in kept.items() if isinstance(value, Mapping)}
    return kept | {key: _drop_seeds(value, seed, key) for key, value in sections.items()}


def _differences(values: Sequence[Any], path: str = "") -> list[Settings]:
    """For each config, the settings whose value is not the same in all configs."""
    present = [value for value in values if value is not _ABSENT]
    if len(present) == len(values) and all(value == present[0] for value in present):
        return [{} for _ in values]
    if not all(isinstance(value, Mapping) for value in present):
        return [_setting(path, value) for value in values]
    differences: list[Settings] = [{} for _ in values]
    for key in dict.fromkeys(itertools.chain.from_iterable(present)):
        children = [_child(value, key) for value in values]
        child_path = f"{path}.{key}" if path else key
        for settings, more in zip(differences, _differences(children, child_path)):
            settings.update(more)
    return differences


def _child(value: Any, key: str) -> Any:
    return value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT


def _setting(path: str, value: Any) -> Settings:
    """The setting of a leaf. A class is the value of its section: `model.body=CNNBody`."""
    if value is _ABSENT:
        return {}
    if path.endswith("._target_"):
        path, value = path.removesuffix("._target_"), str(value).rpartition(".")[2]
    return {path: f"{path}={text_of(value)}"}
