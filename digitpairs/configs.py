"""The yaml files of the configs: their folders, the choices that they are, and their faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

from digitpairs.checks import DataError, InvalidValueError, suggestion

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED, _CHECKOUT = _PACKAGE / "conf", _PACKAGE.parent / "conf"
CONF = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
CLASS_GROUPS = ("data", "model", "aux", "optimizer", "scheduler", "loss")
_HYDRA_SECTIONS = ("run", "sweep", "sweeper", "launcher", "job", "help")
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # all values as text


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's reader of yaml files; its errors name the file and the line, and it does not list
    hidden files.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if path.is_file():
            check_choice(config_path.partition("/")[0] if "/" in config_path else "", path)
        try:
            return super().load_config(config_path)
        except yaml.YAMLError as fault:  # such as a key that is there twice
            raise DataError(damage(path, fault)) from None
        except ValueError as fault:  # a comment "# @..." that is no header
            raise DataError(f"{path}:1: {fault}") from None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        names = super().list(config_path, results_filter)
        return [name for name in names if not name.startswith(".")]


def install_config_source() -> None:
    """From now on Hydra reads yaml files by the class above, in this process."""
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def help_text() -> str:
    """The text of `--help`. Hydra prints the same text, but lists all config groups for it first."""
    return read(CONF / "hydra" / "help" / "digitpairs.yaml")["template"]


def own_config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folder of --config-dir, if the arguments have it."""
    own = get_args_parser().parse_known_args(list(arguments))[0].config_dir
    return [Path(own)] if own else []


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folders of a command's configs: the user's own before the project's."""
    return [*own_config_folders(arguments), CONF]


def choices(group: str, places: Sequence[Path]) -> list[str]:
    """The names of the group's choices; those in subfolders, such as "azzano/fcnn", come last."""
    names = [
        str(path.relative_to(place / group).with_suffix(""))
        for pattern in ("*.yaml", "*/*.yaml")
        for place in places
        for path in sorted((place / group).glob(pattern))
        if not path.name.startswith(".") and path.parent.name != "shared"
    ]
    return list(dict.fromkeys(names))


def unknown_choice(
    group: str, name: Any, places: Sequence[Path], others: Iterable[str] = ()
) -> InvalidValueError:
    """The error that names the group's choices, or `others` where the folders have none. For a name
    in a subfolder it names that subfolder's choices alone.
    """
    known, subfolder = choices(group, places) or list(others), f"{str(name).partition('/')[0]}/"
    beside = [each for each in known if "/" in str(name) and each.startswith(subfolder)]
    accepted = f"one of {', '.join(beside or known)}{suggestion(str(name), known)}"
    return InvalidValueError(group, name, accepted)


def content(group: str, choice: str, places: Sequence[Path]) -> dict[str, Any]:
    """The content of the choice's file, all values as text. It is empty for a file that is missing
    or damaged, which Hydra reports when it composes the config.
    """
    if choice in choices(group, places):
        paths = [place / group / f"{choice}.yaml" for place in places]
        with contextlib.suppress(DataError):
            return read(next(path for path in paths if path.is_file()))
    return {}


def check_choice(group: str, path: Path) -> None:
    """Raises DataError, with the file and the line, for a file that cannot be a choice of the group
    ("" for the main config).
    """
    settings = read(path)
    first = next(line for line in path.read_text("utf-8").splitlines() if line.strip())
    names_class = settings.get("_target_") or "defaults" in settings or "@package" in first
    if group in CLASS_GROUPS and not names_class:
        needs = "write _target_: MODULE.CLASS, or defaults: [CHOICE] to change another choice"
        raise DataError(f"{path}:1: the file names no class: {needs}")


def read(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file, all values as text. Raises DataError, with the file and the line,
    for a file that is no UTF-8, no yaml or no mapping.
    """
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=_LOADER)
        if not isinstance(root, yaml.MappingNode):
            raise DataError(f"{path}:1: the file has no line KEY: VALUE")
        _refuse_empty_sections(path, root)
        return yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as fault:
        raise DataError(damage(path, fault, text)) from None


def damage(path: Path, fault: yaml.YAMLError, text: str = "") -> str:
    """The file, the line and the fault, as one message."""
    if isinstance(fault, yaml.MarkedYAMLError):
        return f"{path}:{fault.problem_mark.line + 1}: {fault.problem}"
    before = text[: getattr(fault, "position", 0)]  # a character that yaml does not allow
    return f"{path}:{before.count(chr(10)) + 1}: {' '.join(str(fault).split())}"


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as fault:
        place = f"{path}:{fault.object[: fault.start].count(10) + 1}"
        message = f"{place}: the file is not UTF-8 ({fault.reason}): save it as UTF-8"
        raise DataError(message) from None
    if text.startswith("\ufeff"):
        message = f"{path}:1: the file begins with a byte order mark: save it as UTF-8 without one"
        raise DataError(message)
    return text


def _refuse_empty_sections(path: Path, root: yaml.MappingNode) -> None:
    """Raises DataError for a section `hydra`, or a section within it, that has no keys."""
    for key, section in root.value:
        if key.value != "hydra":
            continue
        inner = section.value if isinstance(section, yaml.MappingNode) else [(key, section)]
        for name, value in inner:
            is_section = name.value in ("hydra", *_HYDRA_SECTIONS)
            if is_section and not isinstance(value, yaml.MappingNode):
                place = f"{path}:{name.start_mark.line + 1}"
                needs = "give it some, or remove the line"
                raise DataError(f"{place}: {name.value} has no keys: {needs}")
