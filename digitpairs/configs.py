"""The yaml files of the configs: the folders they lie in, the choices they are, and what can be wrong with one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser

from digitpairs.checks import DataError, InvalidValue, did_you_mean

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS_OF_CLASSES = ("data", "model", "aux", "optimizer", "scheduler", "loss")
_SECTIONS_OF_HYDRA = ("run", "sweep", "sweeper", "launcher", "job", "help")
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # all values as text


def folders(arguments: Sequence[str]) -> list[Path]:
    """The folders of the command line's configs: the user's own (--config-dir), then the project's."""
    own = get_args_parser().parse_known_args(list(arguments))[0].config_dir
    return [Path(own), CONF] if own else [CONF]


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


def no_such_choice(group: str, name: Any, places: Sequence[Path], others: Iterable[str] = ()) -> InvalidValue:
    """Names the group's choices (`others` where no folder has any); for a name in a subfolder, those of that subfolder."""
    known, folder = choices(group, places) or list(others), str(name).partition("/")[0]
    beside = [choice for choice in known if "/" in str(name) and choice.startswith(f"{folder}/")]
    return InvalidValue(group, name, f"one of {', '.join(beside or known)}{did_you_mean(str(name), known)}")


def content(group: str, choice: str, places: Sequence[Path]) -> dict[str, Any]:
    """The content of the choice's file, all values as text; empty for a file that is missing or damaged, as Hydra tells then."""
    if choice in choices(group, places):
        with contextlib.suppress(DataError):
            return next(read(path) for place in places if (path := place / group / f"{choice}.yaml").is_file())
    return {}


def check_choice(group: str, path: Path) -> None:
    """DataError, with the file and the line, for a file that cannot be a choice of the group ("" for the main config)."""
    settings = read(path)
    first = next((line for line in path.read_text("utf-8").splitlines() if line.strip()), "")
    if group in GROUPS_OF_CLASSES and not (settings.get("_target_") or "defaults" in settings or "@package" in first):
        needs = "write _target_: MODULE.CLASS, or defaults: [CHOICE] to change another choice"
        raise DataError(f"{path}:1: the file names no class: {needs}")


def read(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file, all values as text. DataError, with the file and the line, for anything else."""
    text = ""
    try:
        text = path.read_bytes().decode("utf-8")
        root = yaml.compose(text, Loader=_LOADER)
        if text.startswith("\ufeff"):
            raise DataError(f"{path}:1: the file begins with a byte order mark: save it as UTF-8 without one")
        if not isinstance(root, yaml.MappingNode):
            raise DataError(f"{path}:1: the file has no line KEY: VALUE")
        _refuse_empty_sections(path, root)
        return yaml.load(text, Loader=_LOADER)
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: the file is not UTF-8 ({fault.reason}): save it as UTF-8") from None
    except yaml.YAMLError as fault:
        raise DataError(damage(path, fault, text)) from None


def damage(path: Path, fault: yaml.YAMLError, text: str = "") -> str:
    """The file, the line and the fault, as one message."""
    if isinstance(fault, yaml.MarkedYAMLError):
        return f"{path}:{fault.problem_mark.line + 1}: {fault.problem}"
    line = text[: getattr(fault, "position", 0)].count("\n") + 1  # of a character that yaml does not allow
    return f"{path}:{line}: {' '.join(str(fault).split())}"


def _refuse_empty_sections(path: Path, root: yaml.MappingNode) -> None:
    """DataError where the section `hydra`, or a section within it, has no keys."""
    for key, section in root.value:
        if key.value != "hydra":
            continue
        inner = section.value if isinstance(section, yaml.MappingNode) else [(key, section)]
        for name, value in inner:
            if name.value in ("hydra", *_SECTIONS_OF_HYDRA) and not isinstance(value, yaml.MappingNode):
                raise DataError(f"{path}:{name.start_mark.line + 1}: {name.value} has no keys: give it some, or remove the line")
