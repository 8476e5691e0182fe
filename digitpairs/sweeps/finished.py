"""Which of a sweep's runs are finished: those whose folder holds their result and every file that the result lists."""

from __future__ import annotations

from collections.abc import Sequence

from digitpairs.checks import InvalidValueError
from digitpairs.files import DamagedFileError
from digitpairs.inventory import refuse_damage
from digitpairs.records import read_result
from digitpairs.sweeps.jobs import Job, fingerprint


def unfinished_jobs(jobs: Sequence[Job]) -> dict[int, DamagedFileError | None]:
    """The places of the jobs to do, with the damage of those that were finished once.

    Raises InvalidValueError where a folder holds the result of another config, or cannot be emptied since it is a link.
    """
    todo: dict[int, DamagedFileError | None] = {}
    for place, job in enumerate(jobs):
        try:
            if not _is_whole(job):
                todo[place] = None
        except DamagedFileError as damage:
            todo[place] = damage
        if place in todo and job.folder.is_symlink():
            accepted = (
                f"a folder for each run to do, and {job.folder} is a symbolic link: remove it"
            )
            raise InvalidValueError("output", job.config["output"], accepted)
    return todo


def is_finished(job: Job) -> bool:
    """Whether the run needs not be done again."""
    return not unfinished_jobs([job])


def _is_whole(job: Job) -> bool:
    """Whether there is a result. Raises Damaged where it, or a file that it lists, is not as it was written."""
    result = read_result(job.folder)
    if result is None:
        return False
    if result["fingerprint"] != fingerprint(job.config):
        accepted = (
            f"a folder without results of other configs, and {job.folder} holds one: rename it"
        )
        raise InvalidValueError("output", job.config["output"], accepted)
    refuse_damage(job.folder, result)
    return True
