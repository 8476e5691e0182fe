"""The inventory of a finished run: sizes and digests of its files, kept in its result.

It shows later whether the files have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer
from digitpairs.files import DamagedFileError

# The files of older results, which have no inventory; they must exist and not be empty.
REQUIRED = (files.CONFIG, files.METRICS, files.CHECKPOINT)
# Bytes that are digested. Of a larger file both ends are, so that 1000 runs are checked in seconds.
DIGESTED_BYTES = 2**20


def inventory(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size in bytes and digest of the named files and of TensorBoard's events.

    Other files, such as a launcher's log, may change.
    """
    paths = [*(folder / name for name in names), *sorted(folder.glob("events.*"))]
    return {path.name: {"bytes": path.stat().st_size, "digest": digest(path)} for path in paths}


def digest(path: Path) -> str:
    """SHA-256 of the file, or of both ends of one larger than `DIGESTED_BYTES`."""
    sha = hashlib.sha256()
    with files.read_errors_as_damage(path), path.open("rb") as file:
        if path.stat().st_size <= DIGESTED_BYTES:
            sha.update(file.read(DIGESTED_BYTES))
        else:
            sha.update(file.read(DIGESTED_BYTES // 2))
            file.seek(-DIGESTED_BYTES // 2, 2)
            sha.update(file.read(DIGESTED_BYTES // 2))
    return sha.hexdigest()


def refuse_damage(
    folder: Path, result: Mapping[str, Any], only: Container[str] | None = None
) -> None:
    """Raise DamagedFileError if a file of the run differs from the result's inventory.

    With `only`, the files with other names are not checked.
    """
    for name, entry in result.get(files.FILES, dict.fromkeys(REQUIRED)).items():
        if only is None or name in only:
            _refuse_damage(folder / name, entry)


def check_inventory(key: str, value: Any) -> None:
    """Raise InvalidValueError for a value that `inventory` does not return."""
    if not isinstance(value, Mapping):
        raise InvalidValueError(key, value, "a mapping from files")
    for name, entry in value.items():
        is_file_name = Path(name).name == name
        has_digest = isinstance(entry, Mapping) and isinstance(entry.get("digest"), str)
        if not is_file_name or not has_digest:
            raise InvalidValueError(f"{key}.{name}", entry, "a file's size and digest")
        integer(f"{key}.{name}.bytes", entry.get("bytes"))


def _refuse_damage(path: Path, entry: Mapping[str, Any] | None) -> None:
    size = files.size_of(path)
    if entry is None and size == 0:
        raise DamagedFileError(path, "it is empty")
    if entry is not None and size != entry["bytes"]:
        raise DamagedFileError(path, f"it has {size} bytes, and had {entry['bytes']}")
    if entry is not None and digest(path) != entry["digest"]:
        raise DamagedFileError(path, "its content has changed")
