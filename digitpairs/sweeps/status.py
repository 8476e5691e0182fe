"""The file with a sweep's state, from which `python -m digitpairs.status` shows it elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from digitpairs import files
from digitpairs.checks import InvalidValueError, integer, number
from digitpairs.sweeps.state import Progress, Snapshot, SweepState

STATUS = ".status.json"
SECONDS = 2.0  # between two writings


class StatusFile:
    """Writes the state to the sweep's folder from time to time.

    The file is removed at the end; one that is left is of a command that was killed.
    """

    def __init__(self, sweep: Path, state: SweepState) -> None:
        self._path, self._state = sweep / STATUS, state
        self._written = time.monotonic()

    def show(self) -> None:
        """Write the state, unless it was written just before."""
        if time.monotonic() - self._written > SECONDS:
            self._written = time.monotonic()
            self._write()

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Replace the file; unlike results it need not survive a crash of the machine."""
        snapshot = self._state.snapshot()
        content = snapshot._asdict() | {
            "configurations": [each._asdict() for each in snapshot.configurations],
            "written": time.time(),
        }
        temporary = self._path.with_name(f"{STATUS}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(self._path)
        except OSError:  # a full disk: the runs, which need it as well, report it
            temporary.unlink(missing_ok=True)


def read_status(sweep: Path) -> tuple[Snapshot, float] | None:
    """The state of a sweep and the seconds since it was written; None if there is none.

    Raises DamagedFileError for a file that the program has not written like this.
    """
    path = sweep / STATUS
    content = files.read_json(path)
    if content is None:
        return None
    try:
        age = time.time() - number("written", content.pop("written", None))
        rows = [Progress(**each) for each in content.pop("configurations", [])]
        snapshot = Snapshot(**content, configurations=rows)
        for key in ("runs", "done", "failed", "epochs", "epochs_in_all"):
            integer(key, getattr(snapshot, key))
    except (TypeError, AttributeError, InvalidValueError) as error:
        raise files.DamagedFileError(path, error) from None
    return snapshot, age
