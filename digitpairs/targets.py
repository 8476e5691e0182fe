"""The classes that configs name with `_target_`: their import and the arguments that they accept.

This module imports no torch.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from digitpairs.checks import InvalidValueError, suggestion

# Keys of a section with a class that are no arguments of it, as in `hydra.utils.instantiate`.
SPECIAL_KEYS = ("_target_", "_args_", "_partial_")
_OWN_PACKAGES = ("digitpairs", "framework", "hydra_plugins")
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")


class Arguments(NamedTuple):
    """The arguments of a class or function."""

    names: tuple[str, ...]
    required: tuple[str, ...]  # the names without a default
    takes_others: bool  # whether it has **kwargs

    def accept(self, name: str) -> bool:
        """Whether `name` can be passed as a keyword."""
        return self.takes_others or name in self.names


def add_import_folders(folders: Iterable[str | Path]) -> None:
    """Make the modules in these folders importable; installed modules of the same name go first."""
    for folder in map(os.path.abspath, folders):
        if folder not in sys.path:
            sys.path.append(folder)


@functools.cache
def import_target(name: str) -> Callable[..., Any]:
    """Import the class or function with this name, MODULE.CLASS.

    Raises:
        InvalidValueError: for a module or class that does not exist, with the folders that were
            searched; for a module that raises an exception, with its file and line.
    """
    if "." not in name or not all(part.isidentifier() for part in name.split(".")):
        raise InvalidValueError("_target_", name, "the name of a class, as MODULE.CLASS")
    try:
        target = _resolve(name)
    except (Exception, SystemExit) as error:  # a module can raise anything while it is imported
        accepted = f"a class that can be imported: {_import_error_message(name, error)}"
        raise InvalidValueError("_target_", name, accepted) from error
    if not callable(target):
        raise InvalidValueError("_target_", name, "a class, or a function that makes an object")
    return target


@functools.cache
def target_arguments(name: str) -> Arguments:
    """The arguments of the class or function with this name; raises as `import_target` does."""
    target = import_target(name)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # a class in C need not have a signature
        return Arguments((), (), True)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [parameter for parameter in parameters if parameter.kind in kinds]
    required = tuple(
        parameter.name for parameter in named if parameter.default is inspect.Parameter.empty
    )
    takes_others = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return Arguments(tuple(parameter.name for parameter in named), required, takes_others)


def is_of_library(name: str) -> bool:
    """Whether the class or function with this name is of an installed package, not of this one."""
    module = str(getattr(import_target(name), "__module__", name))
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module.partition(".")[0] not in _OWN_PACKAGES and _is_installed(file)


def is_built_in(part: Any) -> bool:
    """Whether all classes that a config names, also within it, are of this package."""
    if isinstance(part, list):
        return all(map(is_built_in, part))
    if not isinstance(part, Mapping):
        return True
    name = str(part.get("_target_", "digitpairs."))
    return name.partition(".")[0] in _OWN_PACKAGES and all(map(is_built_in, part.values()))


def user_modules() -> dict[str, Path]:
    """The files of the imported modules that are neither installed nor of this package, by name."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        own = name.partition(".")[0] in (*_OWN_PACKAGES, "__main__")
        if path.endswith(".py") and not own and not _is_installed(path) and os.path.isabs(path):
            found[name] = Path(path)
    return found


def class_name(made: Any) -> str:
    """The full name of the object's class; of a function, or of a partial call of one, its own."""
    target = made.func if isinstance(made, functools.partial) else made
    target = target if isinstance(target, type) or inspect.isroutine(target) else type(target)
    return f"{target.__module__}.{target.__qualname__}"


def exception_message(error: BaseException) -> str:
    """The exception's message on one line, after the file and line of user code that raised it."""
    message = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and os.path.isfile(error.filename or ""):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _OWN_PACKAGES
        and not _is_installed(frame.f_code.co_filename)
    ]
    return f"{lines[-1]}: {type(error).__name__}: {message}" if lines else message


def _resolve(name: str) -> Any:
    """Like `pkgutil.resolve_name`, which hides the exception of a module within a package."""
    path, *attributes = name.split(".")
    target: Any = importlib.import_module(path)
    for attribute in attributes:
        path = f"{path}.{attribute}"
        try:
            target = getattr(target, attribute)
        except AttributeError:
            if not isinstance(target, ModuleType):
                raise
            target = importlib.import_module(path)
    return target


def _import_error_message(name: str, error: BaseException) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{name}.".startswith(f"{missing}."):
        return exception_message(error)
    parent, _, attribute = missing.rpartition(".")
    if parent:
        module = sys.modules[parent]
        files = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
        place = next((f" ({file})" for file in files if file), "")
        return f"{parent}{place} has no {attribute}{suggestion(attribute, dir(module))}"
    folders = [os.path.abspath(folder) for folder in sys.path if os.path.isdir(folder or ".")]
    searched = [folder for folder in dict.fromkeys(folders) if not _is_installed(folder)]
    return f"there is no module {missing} in {', '.join(searched)}, and none is installed"


def _is_installed(path: str) -> bool:
    """Whether the file or folder belongs to Python or to an installed package."""
    installed = {"site-packages", "dist-packages"}.intersection(Path(path).parts)
    return path.startswith(("<", _STANDARD_LIBRARY)) or bool(installed)
