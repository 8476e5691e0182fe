"""Which of a sweep's runs are finished: those whose folder holds their result and every file that the result lists."""

from __future__ import annotations

from collections.abc import Sequence

from digitpairs.checks import InvalidValue
from digitpairs.files import Damaged
from digitpairs.inventory import refuse_harm
from digitpairs.records import read_result
from digitpairs.sweeps.jobs import Job, fingerprint


def unfinished(jobs: Sequence[Job]) -> dict[int, Damaged | None]:
    """The places of the jobs to do, with the damage of those that were finished once.

    Raises InvalidValue where a folder holds the result of another config, or cannot be emptied since it is a link.
    """
    todo: dict[int, Damaged | None] = {}
    for place, job in enumerate(jobs):
        try:
            if not _is_whole(job):
                todo[place] = None
        except Damaged as damage:
            todo[place] = damage
        if place in todo and job.folder.is_symlink():
            accepted = (
                f"a folder for each run to do, and {job.folder} is a symbolic link: remove it"
            )
            raise InvalidValue("output", job.config["output"], accepted)
    return todo


def is_finished(job: Job) -> bool:
    """Whether the run needs not be done again."""
    return not unfinished([job])


def _is_whole(job: Job) -> bool:
    """Whether there is a result. Raises Damaged where it, or a file that it lists, is not as it was written."""
    result = read_result(job.folder)
    if result is None:
        return False
    if result["fingerprint"] != fingerprint(job.config):
        accepted = (
            f"a folder without results of other configs, and {job.folder} holds one: rename it"
        )
        raise InvalidValue("output", job.config["output"], accepted)
    refuse_harm(job.folder, result)
    return True
