"""The lock of a sweep's folder: a second launch of the same sweep is refused while the first one runs."""

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
# What file systems without locks answer: some network file systems, FUSE and archives mounted as folders.
NO_LOCKS = {
    getattr(errno, name, None) for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EIO")
}


@contextlib.contextmanager
def sweep_lock(sweep: Path) -> Iterator[None]:
    """Holds the sweep's folder; InvalidValueError if another command does.

    The system releases the lock when this process ends, however it ends. On a file system without locks the sweep runs
    without one, and says so.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    lock = FileLock(sweep / LOCK)
    try:
        _acquire(lock, sweep)
    except Timeout:
        raise InvalidValueError(
            "output",
            str(sweep.parent),
            f"a folder where this very sweep is not running: {_holder(sweep)} runs it in {sweep}",
        ) from None
    try:
        holder = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the note
            files.write_json(sweep / HOLDER, holder)
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
        said = f"warning: {sweep} cannot be locked ({fault}): do not start the same sweep a second time while this one runs"
        print(said, file=sys.stderr)


def _holder(sweep: Path) -> str:
    """Who holds the lock, as far as its note can be read."""
    holder: dict[str, Any] = {}
    with contextlib.suppress(files.DamagedFileError):
        holder = files.read_json(sweep / HOLDER) or {}
    return f"process {holder.get('process', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
