"""The yaml files of the configs: their folders, their names as choices, and their errors."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from digitpairs.checks import DataError, InvalidFlagError, InvalidValueError, suggestion

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED, _CHECKOUT = _PACKAGE / "conf", _PACKAGE.parent / "conf"
CONF = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
PATH_KEYS = ("output", "data.root")  # settings that are paths
CLASS_GROUPS = ("data", "model", "aux", "optimizer", "scheduler", "loss")
NAMED_GROUPS = ("logger", "callbacks")  # of parts by name, each with a class
# Their files set keys of the whole config: Hydra's header `# @package _global_` is implied.
GLOBAL_GROUPS = ("task", "experiment", "variant", "smoke", "smoke_data")
_HYDRA_SECTIONS = ("run", "sweep", "sweeper", "launcher", "job", "help")
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # all values as text


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's reader of yaml files, with file and line in its errors and without hidden files.

    A file of the GLOBAL_GROUPS without a package header gets `_global_`. A section with a class in
    a user's file takes keys that the file lacks: the class decides which it accepts.

    A process parses each file once: Hydra loads the same files for every config that it composes.
    """

    _loaded: ClassVar[dict[Hashable, ConfigResult]] = {}  # by place and content

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        key = (self.provider, path, path.read_bytes() if path.is_file() else None)
        if key not in self._loaded:
            self._loaded[key] = self._load(config_path, path)
        return copy.deepcopy(self._loaded[key])  # Hydra changes what it loads

    def _load(self, config_path: str, path: Path) -> ConfigResult:
        group = config_path.partition("/")[0] if "/" in config_path else ""
        if path.is_file():
            check_choice(group, path)
        try:
            result = super().load_config(config_path)
        except yaml.YAMLError as error:  # such as a duplicate key
            raise DataError(yaml_error_message(path, error)) from None
        except ValueError as error:  # a comment "# @..." that is not a header
            raise DataError(f"{path}:1: {error}") from None
        if group in GLOBAL_GROUPS and result.header["package"] is None:
            result.header["package"] = "_global_"
        if group in (*CLASS_GROUPS, *NAMED_GROUPS) and Path(self.path) != CONF:
            OmegaConf.set_struct(result.config, False)
        return result

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        names = super().list(config_path, results_filter)
        return [name for name in names if not name.startswith(".")]


def install_config_source() -> None:
    """Make Hydra read yaml files with the class above in this process."""
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def help_text(arguments: Sequence[str] = ()) -> str:
    """The text of `--help`, and the user's own choices if the arguments name their folder.

    Hydra would print it after it has listed all config groups.
    """
    text = read(CONF / "hydra" / "help" / "digitpairs.yaml")["template"]
    for folder in own_config_folders(arguments):
        groups = sorted(path.name for path in folder.iterdir() if path.is_dir())
        own = {group: ", ".join(choices(group, [folder])) for group in groups}
        lines = [f"\n  {group:<10} {names}" for group, names in own.items() if names]
        text += f"\n\nYour own choices, in {folder}:{''.join(lines)}"
    return text


def own_config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folder of --config-dir, if the arguments have it.

    Raises InvalidFlagError if it is no folder.
    """
    own = get_args_parser().parse_known_args(list(arguments))[0].config_dir
    if own and not os.path.isdir(own):
        raise InvalidFlagError(f"--config-dir {own} names no folder: {os.path.abspath(own)}")
    return [Path(own)] if own else []


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folders of a command's configs: the user's own before the project's."""
    return [*own_config_folders(arguments), CONF]


def choices(group: str, folders: Sequence[Path]) -> list[str]:
    """The names of the group's choices; those in subfolders, such as "azzano/fcnn", come last."""
    paths = [
        (path, folder)
        for pattern in ("*.yaml", "*/*.yaml", "*/*/*.yaml")
        for folder in folders
        for path in sorted((folder / group).glob(pattern))
    ]
    names = [
        str(path.relative_to(folder / group).with_suffix(""))
        for path, folder in paths
        if not path.name.startswith(".") and path.parent.name != "shared"
    ]
    return list(dict.fromkeys(names))


def unknown_choice(
    group: str, name: Any, folders: Sequence[Path], others: Iterable[str] = ()
) -> InvalidValueError:
    """The error that names the group's choices, or `others` if the folders have none.

    For a name in a subfolder it names only the choices of that subfolder.
    """
    known = choices(group, folders) or list(others)
    subfolder, slash, _ = str(name).partition("/")
    in_subfolder = [choice for choice in known if slash and choice.startswith(f"{subfolder}/")]
    accepted = f"one of {', '.join(in_subfolder or known)}{suggestion(str(name), known)}"
    return InvalidValueError(group, name, accepted)


def read_choice(group: str, choice: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The content of the choice's file, with all values as text.

    It is empty for a missing or damaged file, which Hydra reports when it composes the config.
    """
    path = path_of(group, choice, folders)
    if path is not None:
        with contextlib.suppress(DataError):
            return read(path)
    return {}


def path_of(group: str, choice: str, folders: Sequence[Path]) -> Path | None:
    """The file of the choice in the first of the folders that has it; None if there is none."""
    if choice not in choices(group, folders):
        return None
    paths = [folder / group / f"{choice}.yaml" for folder in folders]
    return next(path for path in paths if path.is_file())


def grid_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The grid of a study, from the content of its file; empty for a file without one."""
    section = settings.get("hydra")
    sweeper = section.get("sweeper") if isinstance(section, Mapping) else None
    grid = sweeper.get("params") if isinstance(sweeper, Mapping) else None
    return grid if isinstance(grid, dict) else {}


def check_choice(group: str, path: Path) -> None:
    """Raise DataError for a file that cannot be a choice of the group ("" for the main config)."""
    settings = read(path)
    first = next(line for line in path.read_text("utf-8").splitlines() if line.strip())
    names_class = settings.get("_target_") or "defaults" in settings or "@package" in first
    if group in CLASS_GROUPS and not names_class:
        advice = "write _target_: MODULE.CLASS, or defaults: [CHOICE] to change another choice"
        raise DataError(f"{path}:1: the file names no class: {advice}")


def read(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file, with all values as text.

    Raises DataError, with the file and the line, for a file that is not UTF-8, yaml or a mapping.
    """
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=_LOADER)
        if not isinstance(root, yaml.MappingNode):
            raise DataError(f"{path}:1: the file has no line KEY: VALUE")
        _refuse_empty_sections(path, root)
        return yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise DataError(yaml_error_message(path, error, text)) from None


def yaml_error_message(path: Path, error: yaml.YAMLError, text: str = "") -> str:
    """The file, the line and the error on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{path}:{error.problem_mark.line + 1}: {error.problem}"
    before = text[: getattr(error, "position", 0)]  # a character that yaml does not allow
    line = before.count("\n") + 1
    return f"{path}:{line}: {' '.join(str(error).split())}"


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = f"{path}:{line}: the file is not UTF-8 ({error.reason}): save it as UTF-8"
        raise DataError(message) from None
    if text.startswith("\ufeff"):
        message = f"{path}:1: the file begins with a byte order mark: save it as UTF-8 without one"
        raise DataError(message)
    return text


def _refuse_empty_sections(path: Path, root: yaml.MappingNode) -> None:
    """Raise DataError for a section `hydra`, or a section within it, that has no keys."""
    for key, section in root.value:
        if key.value != "hydra":
            continue
        inner = section.value if isinstance(section, yaml.MappingNode) else [(key, section)]
        for name, value in inner:
            is_section = name.value in ("hydra", *_HYDRA_SECTIONS)
            if is_section and not isinstance(value, yaml.MappingNode):
                line = name.start_mark.line + 1
                advice = "give it some, or remove the line"
                raise DataError(f"{path}:{line}: {name.value} has no keys: {advice}")
