"""Names of configurations for tables, plots and messages: the settings in which they differ, as one types them.

A folder's name is made for file systems: brackets are lost, and a long one is cut. The names here take the settings from it
that were typed, and their values from the runs' configs. Where these settings do not tell two configurations apart,
others in which their configs differ are added.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from digitpairs import files
from digitpairs.configs import CONF, choices

Config = Mapping[str, Any]
Settings = dict[str, str]  # by key the text "key=value"
_BETWEEN_SETTINGS = re.compile(r",(?=[^,=]*=)")  # in a folder's name; not within a list
_ABSENT = object()


class Names(NamedTuple):
    """The model that all configurations have, or nothing, and the name of each by that of its folder."""

    shared: str
    of: dict[str, str]


def display_names(configs: Mapping[str, Config | None]) -> Names:
    """Names for the configurations in these folders, given a config of one run of each; None where it cannot be read."""
    settings = [_typed(folder, config) for folder, config in configs.items()]
    models = [each["model"].partition("=")[2] for each in settings]
    if len(configs) == 1:
        rest = [text for key, text in settings[0].items() if key != "model"]
        return Names("", dict.fromkeys(configs, " ".join([models[0], *rest])))
    if not _unique(settings, _telling_apart(settings)):
        known = [
            _ABSENT if config is None else _anonymous(config, config.get("seed"))
            for config in configs.values()
        ]
        settings = [each | (more | each) for each, more in zip(settings, _differences(known))]
    return Names(models[0] if len(set(models)) == 1 else "", _named(list(configs), settings))


def _named(folders: Sequence[str], settings: Sequence[Settings]) -> dict[str, str]:
    """By folder the settings that tell it apart, or else, where these are no different from another's, the folder."""
    chosen = _telling_apart(settings)
    names = [
        " ".join(each[key] for key in chosen if key in each) or each["model"] for each in settings
    ]
    counts = Counter(names)
    return {folder: folder if counts[name] > 1 else name for folder, name in zip(folders, names)}


def _typed(folder: str, config: Config | None) -> Settings:
    """The settings in a folder's name, with their values from the config; first the model."""
    folder = folder.rpartition("/")[2]
    short, _, digest = folder.rpartition("-")
    short = short if re.fullmatch("[0-9a-f]{8}", digest) else folder
    model, *rest = _BETWEEN_SETTINGS.split(short)
    pairs = [
        ("model", model),
        *((key.lstrip("+"), value) for key, _, value in (each.partition("=") for each in rest)),
    ]
    if len(short) == files.NAME_LENGTH:  # cut, most likely within its last setting
        pairs = pairs[:1] + pairs[1:-1]
    return {key: f"{key}={_value(key, value, config or {})}" for key, value in pairs}


def _value(key: str, in_folder: str, config: Config) -> str:
    """A setting's value as it is typed: out of the config, or for a choice of a group the choice's name."""
    if _is_group(key):
        return _choices(key).get(in_folder, in_folder)
    found: Any = config
    for part in key.split("."):
        found = found.get(part, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return in_folder if found is _ABSENT else text_of(found)


@functools.cache
def _is_group(key: str) -> bool:
    return (CONF / key).is_dir()


@functools.cache
def _choices(group: str) -> dict[str, str]:
    """The names of a group's choices by what folders' names have of them."""
    return {choice.replace("/", "_"): choice for choice in choices(group, [CONF])}


def text_of(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{text_of(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(text_of, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _telling_apart(settings: Sequence[Settings]) -> list[str]:
    """Keys, each of which tells some configurations apart that those before it do not."""
    chosen: list[str] = []
    groups = 1
    for key in dict.fromkeys(itertools.chain.from_iterable(settings)):
        more = len({tuple(each.get(key) for key in [*chosen, key]) for each in settings})
        if more > groups:
            chosen, groups = [*chosen, key], more
    return chosen


def _unique(settings: Sequence[Settings], chosen: Sequence[str]) -> bool:
    return len({tuple(each.get(key) for key in chosen) for each in settings}) == len(settings)


def _anonymous(section: Config, seed: Any, inside: str = "") -> Config:
    """Without the place of the results, and without the seeds that follow the run's."""

    def follows(key: str, value: Any) -> bool:
        return key == "output" or (value == seed and (key.endswith("seed") or inside == "seeds"))

    return {
        key: _anonymous(value, seed, key) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if not follows(key, value)
    }


def _differences(values: Sequence[Any], path: str = "") -> list[Settings]:
    """For each config the settings that not all of them have with the same value."""
    there = [each for each in values if each is not _ABSENT]
    if all(each is not _ABSENT and each == there[0] for each in values):
        return [{} for _ in values]
    if not all(isinstance(each, Mapping) for each in there):
        return [{} if each is _ABSENT else _setting(path, each) for each in values]
    found: list[Settings] = [{} for _ in values]
    for key in dict.fromkeys(itertools.chain.from_iterable(there)):
        inside = [_ABSENT if each is _ABSENT else each.get(key, _ABSENT) for each in values]
        for settings, more in zip(found, _differences(inside, f"{path}.{key}" if path else key)):
            settings.update(more)
    return found


def _setting(path: str, value: Any) -> Settings:
    """A leaf of a config; a class is the value of what it makes: `model.body=CNNBody`."""
    if path.endswith("._target_"):
        path, value = path.removesuffix("._target_"), str(value).rpartition(".")[2]
    return {path: f"{path}={text_of(value)}"}
