"""The files of a run that trains where the sweep's folder does not exist.

The worker writes them to a temporary folder, and they are written to the run's folder by the
process that holds the sweep.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from digitpairs import files
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.run import fail

Contents = Mapping[str, bytes]  # of a run's files, by their paths in its folder


def moved(job: Job, root: Path) -> Job:
    """The job with its folder below another root, with the same names."""
    return job._replace(folder=root.joinpath(*job.folder.parts[-3:]))


def read_run(folder: Path) -> Contents:
    """The contents of all files in a run's folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_run(job: Job, contents: Contents) -> str | None:
    """Write the files to the run's folder, the result last; returns why it failed, if it did."""
    try:
        if job.folder.exists():
            shutil.rmtree(job.folder)
        for name in sorted(contents, key=lambda name: (name == files.RESULT, name)):
            path = job.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, contents[name])
    except OSError as fault:  # most likely a full disk
        return fail(job, f"{type(fault).__name__}: {fault}")
    return None
