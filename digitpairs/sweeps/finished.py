"""Which runs of a sweep are finished: those with a result and every file that the result lists.

Where runs pause, a run that has paused at that epoch or later is finished as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from digitpairs.checks import InvalidValueError
from digitpairs.files import DamagedFileError
from digitpairs.inventory import refuse_damage
from digitpairs.records import read_result
from digitpairs.sweeps.jobs import Job, fingerprint
from digitpairs.sweeps.pauses import epochs_behind


def unfinished_jobs(jobs: Sequence[Job]) -> dict[int, DamagedFileError | None]:
    """The indices of the unfinished jobs, with the damage if a finished run has damaged files.

    Raises InvalidValueError if a folder holds the result of another config, or if the folder of an
    unfinished run is a symbolic link, which cannot be emptied.
    """
    unfinished: dict[int, DamagedFileError | None] = {}
    for index, job in enumerate(jobs):
        try:
            if not _has_result(job) and not _has_paused(job):
                unfinished[index] = None
        except DamagedFileError as damage:
            unfinished[index] = damage
        if index in unfinished and job.folder.is_symlink():
            accepted = f"a folder for each run, and {job.folder} is a symbolic link: remove it"
            raise InvalidValueError("output", job.config["output"], accepted)
    return unfinished


def is_finished(job: Job) -> bool:
    """Whether the run has its result and all its files."""
    return not unfinished_jobs([job])


def _has_paused(job: Job) -> bool:
    return job.until is not None and epochs_behind(job) >= job.until


def _has_result(job: Job) -> bool:
    """Whether there is a result. Raises DamagedFileError if it or a listed file is damaged."""
    result = read_result(job.folder)
    if result is None:
        return False
    if result["fingerprint"] != fingerprint(job.config):
        accepted = f"a folder without results of other configs, and {job.folder} holds one"
        raise InvalidValueError("output", job.config["output"], f"{accepted}: rename it")
    refuse_damage(job.folder, result)
    return True
