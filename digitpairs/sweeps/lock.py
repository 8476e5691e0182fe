"""The lock of a sweep's folder, which refuses a second launch of a sweep that is running."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from digitpairs import files
from digitpairs.checks import InvalidValueError

LOCK, HOLDER = ".lock", ".holder.json"
# Errors of file systems without locks: some network file systems, FUSE, archives mounted as folders
NO_LOCKS = {
    getattr(errno, name, None) for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EIO")
}


@contextlib.contextmanager
def sweep_lock(sweep: Path) -> Iterator[None]:
    """Lock the sweep's folder. Raises InvalidValueError if another command has locked it.

    The system releases the lock when this process ends, however it ends. On a file system without
    locks the sweep runs without one, with a warning on standard error.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    lock = FileLock(sweep / LOCK)
    try:
        _acquire(lock, sweep)
    except Timeout:
        holder = describe_holder(sweep)
        accepted = f"a folder where this sweep is not running: {holder} runs it in {sweep}"
        raise InvalidValueError("output", str(sweep.parent), accepted) from None
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock works without the note
            _write_holder(sweep)
        yield
    finally:
        (sweep / HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, sweep: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError) as fault:
        if isinstance(fault, OSError) and fault.errno not in NO_LOCKS:
            raise
        warning = f"warning: {sweep} cannot be locked ({fault}): "
        print(f"{warning}do not start this sweep again while it runs", file=sys.stderr)


def _write_holder(sweep: Path) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    files.write_json(sweep / HOLDER, holder)


def is_locked(sweep: Path) -> bool:
    """Whether a command is running this sweep."""
    lock = FileLock(sweep / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def describe_holder(sweep: Path) -> str:
    """The process that has the lock, as far as its note can be read."""
    note: dict[str, Any] = {}
    with contextlib.suppress(files.DamagedFileError):
        note = files.read_json(sweep / HOLDER) or {}
    process, host, since = (note.get(key, "?") for key in ("process", "host", "since"))
    return f"process {process} on {host} since {since}"
