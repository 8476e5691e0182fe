"""What files a finished run has: their sizes and digests, kept in its result, show later whether they are still whole."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer
from digitpairs.files import DamagedFileError

# Files of results from before there was an inventory; such results are whole if these are there and not empty.
ALWAYS = (files.CONFIG, files.METRICS, files.CHECKPOINT)
WHOLE = (
    2**20
)  # bytes: of larger files both ends are digested, so that a thousand runs are checked in seconds


def inventory(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size in bytes and digest of the files of these names, and of TensorBoard's events. Others, such as a launcher's log, may
    change.
    """
    paths = [*(folder / name for name in names), *sorted(folder.glob("events.*"))]
    return {path.name: {"bytes": path.stat().st_size, "digest": digest(path)} for path in paths}


def digest(path: Path) -> str:
    """SHA-256 of the file; of one larger than `WHOLE` that of its first and last half of `WHOLE`."""
    sha = hashlib.sha256()
    with files.readable(path), path.open("rb") as file:
        if path.stat().st_size <= WHOLE:
            sha.update(file.read(WHOLE))
        else:
            sha.update(file.read(WHOLE // 2))
            file.seek(-WHOLE // 2, 2)
            sha.update(file.read(WHOLE // 2))
    return sha.hexdigest()


def refuse_damage(
    folder: Path, result: Mapping[str, Any], only: Container[str] | None = None
) -> None:
    """Damaged if a file of the run is not as the result says it was; with `only`, among the files of these names."""
    for name, kept in result.get(files.FILES, dict.fromkeys(ALWAYS)).items():
        if only is None or name in only:
            _refuse_damage(folder / name, kept)


def check_inventory(key: str, value: Any) -> None:
    """InvalidValueError for what `inventory` does not give."""
    if not isinstance(value, Mapping):
        raise InvalidValueError(key, value, "a mapping from files")
    for name, kept in value.items():
        if (
            Path(name).name != name
            or not isinstance(kept, Mapping)
            or not isinstance(kept.get("digest"), str)
        ):
            raise InvalidValueError(f"{key}.{name}", kept, "a file's size and digest")
        integer(f"{key}.{name}.bytes", kept.get("bytes"))


def _refuse_damage(path: Path, kept: Mapping[str, Any] | None) -> None:
    size = files.size_of(path)
    if kept is None and size == 0:
        raise DamagedFileError(path, "it is empty")
    if kept is not None and size != kept["bytes"]:
        raise DamagedFileError(path, f"it has {size} bytes, and had {kept['bytes']}")
    if kept is not None and digest(path) != kept["digest"]:
        raise DamagedFileError(path, "its content has changed")
