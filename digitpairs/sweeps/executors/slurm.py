"""The executor on Slurm: a piece is a job, and the pieces are submitted as a job array.

The sweep's folder is shared with the nodes: jobs write their runs' files there. A submission has a
folder below it (see `slurm_jobs`). Jobs outlive the command; a later command finds the submissions
that have not been collected.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from digitpairs import files
from digitpairs.checks import InvalidValueError, one_of
from digitpairs.sweeps import provenance
from digitpairs.sweeps.executors.base import Message, Piece
from digitpairs.sweeps.executors.code import write_code
from digitpairs.sweeps.executors.settings import SlurmSettings
from digitpairs.sweeps.executors.slurm_jobs import NOTE, Submission, Work, run_name, slurm_answer
from digitpairs.sweeps.jobs import Job

FOLDER = ".slurm"  # of the submissions, in the sweep's folder
POLL_SECONDS = 1.0  # between two readings of the jobs' events
QUEUE_SECONDS = 5.0  # between two questions to Slurm
MOST_JOBS = 1000  # of an array; Slurm's default limit is 1001
COMMANDS = ("sbatch", "srun", "sinfo", "squeue", "scontrol")


def reach(settings: SlurmSettings) -> None:
    """Raise InvalidValueError if Slurm does not answer or has no such partition."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        accepted = f"local on a machine without Slurm's commands ({', '.join(missing)})"
        raise InvalidValueError("sweep.executor", "slurm", accepted)
    _cores(settings)


def jobs_at_once(settings: SlurmSettings, threads: int) -> int:
    """The number of jobs for which the partition has cores."""
    return max(1, _cores(settings) // threads)


def settle_submissions(sweep: Path) -> bool:
    """Close the submissions whose runs are all finished; returns whether there were any open."""
    notes = sorted((sweep / FOLDER).glob(f"*/{NOTE}"))
    for note in notes:
        submission = Submission(note.parent, {})
        if all((sweep / name / files.RESULT).exists() for name in submission.names()):
            submission.close()
    return bool(notes)


def refuse_submissions(sweep: Path, executor: str) -> None:
    """Raise InvalidValueError if Slurm may have jobs of the sweep and another executor is chosen.

    Two workers would write the files of the same runs.
    """
    notes = sorted((sweep / FOLDER).glob(f"*/{NOTE}"))
    if notes and executor != "slurm":
        folders = ", ".join(str(note.parent) for note in notes)
        accepted = (
            "slurm, since jobs of this sweep were submitted: it collects them (or end them by "
            f"scancel --name and remove {folders})"
        )
        raise InvalidValueError("sweep.executor", executor, accepted)


class SlurmExecutor:
    """See `Executor`. Closing the iterator leaves the jobs in Slurm's queue.

    Args:
        settings: of the jobs.
        jobs: the number of jobs of an array at once.
        threads: the number of threads of each job.
        sweep: the sweep's folder.
    """

    def __init__(self, settings: SlurmSettings, jobs: int, threads: int, sweep: Path) -> None:
        self._settings, self._jobs, self._threads = settings, jobs, threads
        self._folder = sweep.absolute() / FOLDER

    def run(self, pieces: Sequence[Piece]) -> Iterator[Message]:
        wanted = {run_name(job): (index, job) for piece in pieces for index, job in piece.items()}
        notes = sorted(self._folder.glob(f"*/{NOTE}"))
        submissions = [Submission(note.parent, wanted) for note in notes]
        for each in submissions:
            yield Message("note", (), f"jobs of this sweep are in Slurm already: {each}")
        submitted = {name for each in submissions for name in each.names()}
        rest = [[job for job in each.values() if run_name(job) not in submitted] for each in pieces]
        rest = [piece for piece in rest if piece]
        for start in range(0, len(rest), MOST_JOBS):
            folder = self._submit(rest[start : start + MOST_JOBS])
            submissions.append(Submission(folder, wanted))
        yield from self._collect(submissions)

    def close(self) -> None:
        """The jobs are Slurm's."""

    def _collect(self, submissions: Sequence[Submission]) -> Iterator[Message]:
        """The messages of the jobs until all have ended; without `wait`, of those that have."""
        asked = -QUEUE_SECONDS
        while submissions := [each for each in submissions if each.waiting]:
            for each in submissions:
                yield from each.new_events()
            if time.monotonic() - asked >= QUEUE_SECONDS:
                asked = time.monotonic()
                for each in submissions:
                    yield from each.ended_jobs()
                if not self._settings.wait:
                    break
            yield Message("tick", (), None)
            time.sleep(POLL_SECONDS)
        for each in submissions:
            if each.waiting:
                yield Message("note", (), f"Slurm has {each}; the same command collects them")

    def _submit(self, pieces: Sequence[Sequence[Job]]) -> Path:
        """Submit an array; returns its folder. Raises InvalidValueError if sbatch refuses it."""
        import submitit
        from submitit.core.utils import FailedJobError

        folder = self._folder / f"digitpairs-{uuid.uuid4().hex[:8]}"
        write_code(folder / "code")
        # The note is written first: whenever this process is killed, the jobs are found by name.
        names = [[run_name(job) for job in piece] for piece in pieces]
        note = {"pieces": names, "collected": [], "ids": {}}
        files.write_json(folder / NOTE, note)
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**self._parameters(folder))
        works = [Work(each, folder, number, self._threads) for number, each in enumerate(pieces)]
        try:
            # submitit prints what sbatch says, too
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(work) for work in works]
        except FailedJobError as error:
            shutil.rmtree(folder)
            settings = {key: value for key, value in self._settings._asdict().items() if value}
            accepted = f"settings that sbatch takes: {str(error).strip().splitlines()[-1]}"
            raise InvalidValueError("sweep.slurm", settings, accepted) from None
        ids = {str(number): job.job_id for number, job in enumerate(jobs)}
        files.write_json(folder / NOTE, note | {"ids": ids})
        return folder

    def _parameters(self, folder: Path) -> dict[str, Any]:
        """The arguments of submitit for a submission."""
        settings = self._settings
        # The jobs start in the copy of the code, where Python finds it first.
        options = {"chdir": str(folder / "code"), "requeue": True, **settings.options}
        if settings.memory is not None:
            options["mem"] = settings.memory
        parameters = {
            "job_name": folder.name,
            "time": settings.time,
            "partition": settings.partition,
            "account": settings.account,
            "gpus_per_node": settings.gpus or None,
            "cpus_per_task": self._threads,
            "array_parallelism": self._jobs,
            "signal_delay_s": min(300, 30 * settings.time),
            "stderr_to_stdout": True,
            "setup": [f"export {provenance.COMMIT}={provenance.provenance()['commit'] or ''}"],
            "srun_args": [f"--cpus-per-task={self._threads}"],
            "additional_parameters": options,
        }
        return {key: value for key, value in parameters.items() if value is not None}


def _cores(settings: SlurmSettings) -> int:
    """The number of cores of the partition. Raises InvalidValueError for no such partition."""
    cores = {}
    try:
        for line in slurm_answer("sinfo", "-h", "-o", "%P %C").splitlines():
            name, counts = line.split()
            cores[name] = int(counts.split("/")[-1])
    except (OSError, subprocess.SubprocessError) as fault:
        accepted = f"local, unless Slurm answers: {fault}"
        raise InvalidValueError("sweep.executor", "slurm", accepted) from None
    default = next((name for name in cores if name.endswith("*")), None)
    names = [name.rstrip("*") for name in cores]
    if settings.partition is None and default is None:
        accepted = f"{one_of(names, '')}, since Slurm has no default partition"
        raise InvalidValueError("sweep.slurm.partition", None, accepted)
    for name, count in cores.items():
        if name == default and settings.partition is None or name.rstrip("*") == settings.partition:
            return count
    raise InvalidValueError(
        "sweep.slurm.partition", settings.partition, one_of(names, str(settings.partition))
    )
