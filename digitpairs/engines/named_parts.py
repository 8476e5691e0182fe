"""The sections `logger` and `callbacks`: objects of Lightning by name, each with its `_target_`."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from typing import Any

from digitpairs.checks import InvalidValueError
from digitpairs.engines.base import build_section
from digitpairs.targets import target_arguments

Section = Mapping[str, Any]
# What text in these sections can contain, in braces, and the values with which they are tried.
PLACES = ("run_folder", "sweep_folder", "run_name", "sweep_name")
# Arguments that are given to every class that has them, unless the section does.
_FOLDERS = {"save_dir": "{run_folder}", "dirpath": "{run_folder}/checkpoints"}
# Packages that Lightning imports once an object is made or used, and how they are installed.
_PACKAGES = {
    "WandbLogger": ("wandb", "digitpairs[wandb]"),
    "MLFlowLogger": ("mlflow", "digitpairs[mlflow]"),
    "DeviceStatsMonitor": ("psutil", "psutil"),
}


def named_parts(config: Section, group: str) -> dict[str, dict[str, Any]]:
    """The parts of the group `logger` or `callbacks` by name, without those that are null.

    A config need not have the group. Raises InvalidValueError for a part that names no class.
    """
    parts = {}
    for name, part in (config.get(group) or {}).items():
        if part is None:
            continue
        if not isinstance(part, Mapping) or not isinstance(part.get("_target_"), str):
            accepted = "a mapping with _target_: MODULE.CLASS, or null to leave it out"
            raise InvalidValueError(f"{group}.{name}", part, accepted)
        parts[name] = dict(part)
    return parts


def build_parts(config: Section, group: str, kind: type) -> list[Any]:
    """The objects of the group. Raises InvalidValueError for one that is not of this kind."""
    made: list[Any] = []
    for name, part in named_parts(config, group).items():
        section = f"{group}.{name}"
        check_package(section, part["_target_"])
        built = build_section(section, part)
        if not isinstance(built, kind):
            accepted = f"the name of a class that gives a {kind.__module__}.{kind.__name__}"
            raise InvalidValueError(f"{section}._target_", part["_target_"], accepted)
        made.append(built)
    return made


def try_parts(config: Section, group: str, kind: type) -> list[Any]:
    """As `build_parts`, before there is a folder of the run: in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return build_parts(fill_in(config, dict.fromkeys(PLACES, folder)), group, kind)


def fill_in(config: Section, places: Mapping[str, str]) -> dict[str, Any]:
    """The config with the PLACES in its groups `logger` and `callbacks` filled in."""
    filled = dict(config)
    for group in ("logger", "callbacks"):
        parts = named_parts(config, group)
        filled[group] = {name: _filled(_with_folders(part), places) for name, part in parts.items()}
    return filled


def check_package(section: str, target: str) -> None:
    """Raises InvalidValueError for a class of Lightning that needs a package which is missing."""
    package, requirement = _PACKAGES.get(target.rpartition(".")[2], (None, ""))
    if package is not None and importlib.util.find_spec(package) is None:
        accepted = f"a class whose package is installed: pip install '{requirement}'"
        raise InvalidValueError(f"{section}._target_", target, accepted)


def _with_folders(part: Section) -> dict[str, Any]:
    names = target_arguments(part["_target_"]).names
    return {key: value for key, value in _FOLDERS.items() if key in names} | dict(part)


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, places) for each in value]
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace(f"{{{name}}}", text)
    return value
