"""Jobs of Slurm: what a job does, and what the command sees of it.

The folder of a submission has
    submission.json   the names of the runs of each job, the numbers of the collected jobs, and
                      Slurm's ids of the jobs by number; no ids if the command was killed just then
    code/             a copy of the code, which the jobs run
    N.events          the events of job N, a JSON list a line
    *.ckpt            the fits that were stopped before a time limit
    *_log.out         the jobs' output
and submitit's files. The folder's name is the name of its jobs in Slurm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from digitpairs import files
from digitpairs.engines.interruption import FitInterrupted, Interruption, interruptible
from digitpairs.sweeps.executors.base import Event, Message, train_piece
from digitpairs.sweeps.finished import is_finished
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.run import fail
from digitpairs.sweeps.workers import format_warning

NOTE = "submission.json"
LIMIT_SIGNAL = signal.SIGUSR2  # which submitit lets Slurm send before the time limit
COMMAND_SECONDS = 15  # until a command of Slurm has answered
_RETURNED = "returned"  # the last event of a job


def run_name(job: Job) -> str:
    """The name of a run within its sweep."""
    return "/".join(job.folder.parts[-2:])


def slurm_answer(*command: str, accepted: Collection[int] = (0,)) -> str:
    """What a command of Slurm prints.

    Raises OSError or SubprocessError if it fails: unless its exit status is accepted.
    """
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": COMMAND_SECONDS}
    ended = subprocess.run(command, check=False, **options)
    if ended.returncode not in accepted:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise subprocess.SubprocessError(f"{command[0]}: {lines[-1]}")
    return ended.stdout


class Work:
    """What a job does: it trains the runs of a piece that are not finished.

    A job that Slurm starts again, after the death of its node or at its time limit, keeps what was
    finished before. Before the time limit, fits that can go on later are stopped after an epoch,
    and the job queues itself again.

    Args:
        piece: the runs.
        folder: of the submission.
        number: of the job in the submission.
        threads: of the job.
    """

    def __init__(self, piece: Sequence[Job], folder: Path, number: int, threads: int) -> None:
        self.piece = [job._replace(folder=job.folder.absolute()) for job in piece]
        self.events, self.threads = folder / f"{number}.events", threads
        self.working_folder = os.getcwd()

    def __call__(self) -> None:
        os.chdir(self.working_folder)  # paths in configs are relative to it
        torch.set_num_threads(self.threads)
        warnings.showwarning = self._send_warning
        with self.events.open("a") as file:
            file.write("\n")  # ends a line that was cut when the job was killed
        rest = {index: job for index, job in enumerate(self.piece) if not is_finished(job)}
        interruption = Interruption(self.events.parent)
        signal.signal(LIMIT_SIGNAL, lambda *_: setattr(interruption, "requested", True))
        try:
            with interruptible(interruption):
                if rest:
                    train_piece(rest, self._send)
        except FitInterrupted:
            # Slurm ends this process, and may end `scontrol` with it before that has ended itself.
            slurm_answer("scontrol", "requeue", _own_id(), accepted=(0, -signal.SIGTERM))
            raise SystemExit(1) from None
        self._send([(_RETURNED,)])

    def _send(self, events: Sequence[Event]) -> None:
        with self.events.open("a") as file:
            file.write(json.dumps(events) + "\n")

    def _send_warning(self, *warning: Any, **_: Any) -> None:
        self._send([("note", format_warning(*warning))])


class Submission:
    """A job array, as the command that collects it sees it.

    Args:
        folder: of the submission.
        wanted: the indices and jobs of the runs that the command has to collect, by their names.
    """

    def __init__(self, folder: Path, wanted: Mapping[str, tuple[int, Job]]) -> None:
        self._folder, self._wanted = folder, wanted
        note = files.read_json(folder / NOTE)
        if note is None or not {"pieces", "collected", "ids"} <= note.keys():
            raise files.DamagedFileError(folder / NOTE, "it is no submission's")
        self._pieces: list[list[str]] = note["pieces"]
        self._collected: list[int] = note["collected"]
        self._offsets = dict.fromkeys(self.waiting, 0)
        self._returned: set[int] = set()
        self._ended: set[int] = set()  # the indices of runs
        self._absent: set[int] = set()  # jobs that Slurm did not have when it was last asked
        self._ids = {int(number): job for number, job in note["ids"].items()}

    def __str__(self) -> str:
        count = len(self.waiting)
        return f"{count} job{'s' if count > 1 else ''} named {self._folder.name}"

    @property
    def waiting(self) -> list[int]:
        """The numbers of the jobs that are not collected."""
        collected = set(self._collected)
        return [number for number in range(len(self._pieces)) if number not in collected]

    def names(self) -> set[str]:
        """The names of the runs of the jobs that are not collected."""
        return {name for number in self.waiting for name in self._pieces[number]}

    def new_events(self) -> Iterator[Message]:
        """The events that have been written since the last call."""
        for number in self.waiting:
            yield from self._new_events(number)

    def ended_jobs(self) -> Iterator[Message]:
        """Collect the jobs that have ended, after a question to Slurm.

        A job that has neither returned nor is in Slurm's queue, twice in a row, has failed: its
        last events need a moment on a network's file system.
        """
        try:
            present = self._jobs_in_queue()
        except (OSError, subprocess.SubprocessError) as fault:  # Slurm may come back
            yield Message("note", (), f"Slurm does not answer: {fault}")
            return
        absent = {number for number in self.waiting if number not in present}
        for number in self.waiting:
            yield from self._new_events(number)
            if number in self._returned or number in absent & self._absent:
                yield from self._collect(number)
        self._absent = absent
        if not self.waiting:
            self.close()

    def close(self) -> None:
        """Let no later command look at the submission."""
        (self._folder / NOTE).rename(self._folder / f"collected-{NOTE}")

    def _collect(self, number: int) -> Iterator[Message]:
        self._collected.append(number)
        note = {"pieces": self._pieces, "collected": self._collected, "ids": self._ids}
        files.write_json(self._folder / NOTE, note)
        runs = self._runs(number)
        rest = [index for index in runs if index not in self._ended]
        if rest and self._was_cancelled(number):
            jobs = dict(self._wanted.values())
            failed = [index for index in rest if not is_finished(jobs[index])]
            reason = f"cancelled; {self._last_line(number)}"
            yield Message("events", runs, [("ended", i, fail(jobs[i], reason)) for i in failed])
            rest = [index for index in rest if index not in failed]
        if rest:
            yield Message("failed", runs, self._last_line(number))

    def _new_events(self, number: int) -> Iterator[Message]:
        path = self._folder / f"{number}.events"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._offsets[number])
            *lines, _ = file.read().split(b"\n")  # the last one is not complete
        self._offsets[number] += sum(len(line) + 1 for line in lines)
        events = [event for line in lines for event in _parsed(line)]
        if [_RETURNED] in events:
            self._returned.add(number)
        translated = [each for event in events if (each := self._translated(number, event))]
        if translated:
            yield Message("events", self._runs(number), translated)

    def _translated(self, number: int, event: Sequence[Any]) -> Event | None:
        """The event with the run's index in this command; None if it does not concern it."""
        if event[0] == "note":
            return tuple(event)
        if event[0] == _RETURNED:
            return None
        kind, position, value = event
        name = self._pieces[number][position]
        if name not in self._wanted:
            return None
        index, job = self._wanted[name]
        if kind == "ended" and value is None and not is_finished(job):
            return None
        if kind == "ended":
            self._ended.add(index)
        return kind, index, value

    def _runs(self, number: int) -> list[int]:
        """The indices of the job's runs."""
        return [self._wanted[name][0] for name in self._pieces[number] if name in self._wanted]

    def _jobs_in_queue(self) -> set[int]:
        """The numbers of the jobs that wait or run."""
        answer = slurm_answer("squeue", "-h", "-r", "-o", "%i", "--name", self._folder.name)
        for job in answer.split():
            self._ids[int(job.partition("_")[2] or 0)] = job
        return {int(job.partition("_")[2] or 0) for job in answer.split()}

    def _state(self, number: int) -> str | None:
        """Slurm's word for the state of a job that has ended; None if Slurm has forgotten it."""
        if number not in self._ids:
            return None
        try:
            answer = slurm_answer("scontrol", "show", "job", "-o", self._ids[number])
        except (OSError, subprocess.SubprocessError):
            return None
        words = dict(word.partition("=")[::2] for word in answer.split())
        return words.get("JobState")

    def _was_cancelled(self, number: int) -> bool:
        """Whether the job was cancelled. Slurm has no record of one that it had not started."""
        state = self._state(number)
        is_forgotten = state is None and number in self._ids
        return state == "CANCELLED" or (is_forgotten and not self._log(number).exists())

    def _log(self, number: int) -> Path:
        return self._folder / f"{self._ids.get(number)}_0_log.out"

    def _last_line(self, number: int) -> str:
        """The last line of the job's log, for its failure."""
        job, path = self._ids.get(number), self._log(number)
        if job is None or not path.exists():
            return f"Slurm's job {job or f'{number} of {self._folder.name}'} left no log"
        lines = path.read_text(errors="replace").strip().splitlines() or [""]
        return f"Slurm's job {job} ended: {lines[-1].strip()}"


def _own_id() -> str:
    """Slurm's id of the job in which this process runs."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _parsed(line: bytes) -> list[Any]:
    """The events of a line; none of one that was cut."""
    try:
        return json.loads(line)
    except ValueError:
        return []
