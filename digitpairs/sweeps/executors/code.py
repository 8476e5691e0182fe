"""The code of this process, for workers on other machines."""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path

import digitpairs
import framework
from digitpairs.targets import user_modules

_PACKAGES = (digitpairs, framework)


def write_code(folder: Path) -> None:
    """Copy this package, `framework` and the user's modules that are loaded to a folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    for package, source in _folders().items():
        shutil.copytree(source, folder / package, ignore=ignored)
    for module, source in user_modules().items():
        is_package = source.name == "__init__.py"
        path = folder.joinpath(*module.split("."), *(["__init__"] if is_package else []))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path.with_name(f"{path.name}.py"))


@functools.cache
def code_digest() -> str:
    """A digest of the code of this package and `framework` that this process has imported."""
    digest = hashlib.sha256()
    for package, source in _folders().items():
        for path in sorted(source.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(source).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _folders() -> dict[str, Path]:
    return {package.__name__: Path(str(package.__file__)).parent for package in _PACKAGES}
