"""Runs that have paused before their last epoch, to go on later or to be pruned.

A paused run has `paused.json` and the state from which it goes on. A pruned run has `pruned.json`
in their place: it has no result, and it does not go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digitpairs import files, records
from digitpairs.sweeps.jobs import Job, fingerprint


def epochs_behind(job: Job) -> int:
    """The epochs after which the run has paused or was pruned; 0 for other runs."""
    return int(_read(job).get("epochs", 0))


def epochs_kept(job: Job) -> int:
    """The epochs after which the run goes on: those before its pause, else 0."""
    has_state = all((job.folder / name).exists() for name in (files.PAUSED, files.STATE))
    return epochs_behind(job) if has_state else 0


def seconds_kept(job: Job) -> float:
    """The seconds of training before the pause."""
    return float(_read(job)["seconds"]) if epochs_kept(job) else 0.0


def read_state(job: Job) -> bytes:
    """The state from which a paused run goes on."""
    return (job.folder / files.STATE).read_bytes()


def write_pause(
    job: Job, state: bytes, identity: Mapping[str, Any], row: Mapping[str, float], seconds: float
) -> None:
    """Write that the run has paused after the epoch of this row."""
    files.write_atomically(job.folder / files.STATE, state)
    metrics = {name: value for name, value in row.items() if name.startswith("validation/")}
    content = {**identity, "epochs": int(row["epoch"]) + 1, "seconds": seconds, **metrics}
    files.write_json(job.folder / files.PAUSED, content)


def prune(folder: Path, reason: str) -> None:
    """Make the paused run in the folder a pruned one. Other runs do not change."""
    pause = files.read_json(folder / files.PAUSED)
    if pause is not None:
        files.write_json(folder / files.PRUNED, pause | {"reason": reason})
        remove_pause(folder)


def remove_pause(folder: Path) -> None:
    """Remove the state of a run that does not go on from it."""
    for name in (files.PAUSED, files.STATE):
        (folder / name).unlink(missing_ok=True)


def _read(job: Job) -> dict[str, Any]:
    """The pause of the run; empty if it has none, or one of another config or a damaged one."""
    try:
        pause = records.read_pause(job.folder)
    except files.DamagedFileError:  # the run starts anew
        return {}
    if pause is None or pause["fingerprint"] != fingerprint(job.config):
        return {}
    return pause
