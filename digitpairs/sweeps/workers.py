"""Work in forked processes, which start in about ten milliseconds with all imports and data.

A process with a pool of threads cannot be forked safely: the parent must not have used more than
one thread. When the parent ends, however it ends, its workers end too.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from digitpairs.checks import DigitPairsWarning

# A piece of work. It is called with a function that sends a value to the parent.
Work = Callable[[Callable[[Any], None]], Any]


class WorkerMessage(NamedTuple):
    """A message about a piece of work."""

    work: int  # the index of the piece
    # "sent" (by the work), "note" (a warning's text), "returned", "raised" (with a traceback),
    # "died" (with the way in which the process ended) or "tick" (no piece has sent a message)
    kind: str
    value: Any


def can_fork() -> bool:
    """Whether this system has fork; Windows does not."""
    return "fork" in multiprocessing.get_all_start_methods()


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_in_processes(
    works: Sequence[Work], processes: int, threads: int, tick: float | None = None
) -> Generator[WorkerMessage, None, None]:
    """Run the pieces of work in processes, and yield their messages as they arrive.

    A process that dies takes only its own piece with it, and a new process replaces it. Closing the
    iterator ends all processes.

    Args:
        works: the pieces of work.
        processes: the number of processes.
        threads: the number of threads of each process.
        tick: the seconds without a message after which there is a message of this kind.
    """
    todo = deque(range(len(works)))
    workers: list[_Worker] = []
    lifeline = os.pipe()
    gc.freeze()  # or the garbage collectors of the workers would copy the parent's memory
    try:
        for cores in _cores_of_workers(processes, threads)[: len(works)]:
            workers.append(_Worker(works, cores, threads, lifeline, workers))
            workers[-1].start(todo.popleft())
        while any(worker.work is not None for worker in workers):
            if not _wait_for_any(workers, tick):
                yield WorkerMessage(-1, "tick", None)
            for index, worker in enumerate(workers):
                yield from worker.messages()
                if worker.work is None and todo:
                    if not worker.process.is_alive():
                        worker = _Worker(works, worker.cores, threads, lifeline, workers)
                        workers[index] = worker
                    worker.start(todo.popleft())
    finally:
        gc.unfreeze()
        for worker in workers:
            worker.process.kill()
        for worker in workers:  # after all are killed: they free their memory at the same time
            worker.end()
        for end in lifeline:
            os.close(end)


def call_in_process(function: Callable[[], Any], seconds: float) -> Any:
    """The function's return value, computed in a forked process.

    Raises RuntimeError if the function raises, the process dies or there is no answer in time.
    """
    messages = run_in_processes([lambda send: function()], 1, 1, tick=seconds)
    with contextlib.closing(messages):
        for message in messages:
            if message.kind == "returned":
                return message.value
            if message.kind in ("raised", "died"):
                raise RuntimeError(message.value.splitlines()[-1])
            if message.kind == "tick":
                break
    raise RuntimeError(f"no answer within {seconds:g} seconds")


class _Worker:
    """A process that does one piece of work after another (see `_serve`).

    It inherits, and closes, the connections of the other workers.
    """

    def __init__(
        self,
        works: Sequence[Work],
        cores: list[int] | None,
        threads: int,
        lifeline: tuple[int, int],
        others: Sequence[_Worker],
    ) -> None:
        self.cores = cores
        self.work: int | None = None  # the index of the piece that it does
        self.connection, theirs = multiprocessing.Pipe()
        inherited = [self.connection, *(other.connection for other in others)]
        self.process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(works, theirs, cores, threads, lifeline, inherited), daemon=True
        )
        self.process.start()
        theirs.close()

    def start(self, work: int) -> None:
        self.work = work
        with contextlib.suppress(BrokenPipeError):  # it has died, as its sentinel will show
            self.connection.send(work)

    def messages(self) -> Iterator[WorkerMessage]:
        """The messages that have arrived since the last call."""
        work = self.work
        if work is None:
            return
        with contextlib.suppress(EOFError, ConnectionResetError):
            while self.connection.poll():
                kind, value = self.connection.recv()
                yield WorkerMessage(work, kind, value)
                if kind in ("returned", "raised"):
                    self.work = None
                    return
        if not self.process.is_alive():
            yield WorkerMessage(work, "died", _describe_exit(self.process.exitcode))
            self.work = None

    def end(self) -> None:
        self.process.join()
        self.connection.close()


def _cores_of_workers(processes: int, threads: int) -> list[list[int] | None]:
    """For each process the cores to pin it to; None if the processes do not fill the machine."""
    cores = available_cores()
    if processes * threads != len(cores):
        return [None] * processes
    return [cores[start : start + threads] for start in range(0, len(cores), threads)]


def _wait_for_any(workers: Sequence[_Worker], timeout: float | None) -> bool:
    """Wait until a busy worker has sent a message or died; False after the timeout."""
    events: list[Any] = []
    for worker in workers:
        if worker.work is not None:
            events += [worker.connection, worker.process.sentinel]
    return bool(wait(events, timeout))


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"its process was ended by {names.get(-exit_code, f'signal {-exit_code}')}"
    return f"its process ended with status {exit_code}"


def _serve(
    works: Sequence[Work],
    connection: Connection,
    cores: list[int] | None,
    threads: int,
    lifeline: tuple[int, int],
    inherited: list[Connection],
) -> None:
    """The main function of a worker. It returns when the parent closes the connection."""
    # Ctrl-C reaches the parent as well, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in inherited:
        each.close()
    _end_with_parent(*lifeline)
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)

    def send_warning(
        message: Warning | str, category: type[Warning], *place: Any, **_: Any
    ) -> None:
        connection.send(("note", format_warning(message, category, *place)))

    warnings.showwarning = send_warning
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            work = works[connection.recv()]
            try:
                answer = ("returned", work(lambda value: connection.send(("sent", value))))
            except Exception:  # the parent decides what it means
                answer = ("raised", traceback.format_exc())
            connection.send(answer)


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, line: int, *_: Any
) -> str:
    """A warning as a note for the user; one of this package is a line."""
    if issubclass(category, DigitPairsWarning):
        return f"warning: {message}"
    return warnings.formatwarning(message, category, filename, line).rstrip()


def _end_with_parent(read_end: int, write_end: int) -> None:
    """End this process as soon as the parent, which holds the pipe's write end open, is gone."""
    os.close(write_end)

    def watch() -> None:
        os.read(read_end, 1)  # returns when no process has the write end open
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
