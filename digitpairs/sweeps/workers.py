"""Work in forked processes: they start with everything imported and read that this process has, in some ten milliseconds.

A forked process may not go on with a pool of threads, so this process must not have used one: it keeps to one thread until
here. When it ends, however it ends, its workers end with it.
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
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch

from digitpairs.checks import DigitPairsWarning

# A piece of work: called with a function that says something to the parent; what it returns goes there too.
Work = Callable[[Callable[[Any], None]], Any]


class WorkerMessage(NamedTuple):
    """What comes back of a piece of work."""

    work: int  # its number
    kind: (
        str  # "said", "note" (a warning's text), "returned", "raised" (a traceback) or "died" (how)
    )
    value: Any


def can_fork() -> bool:
    """Whether this system has fork; Windows has not."""
    return "fork" in multiprocessing.get_all_start_methods()


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_in_processes(
    works: Sequence[Work], processes: int, threads: int, tick: float | None = None
) -> Iterator[WorkerMessage | None]:
    """Does the pieces of work in so many processes of so many threads each, and yields what they say, as it comes.

    A process that dies takes only its own piece with it, and another takes its place. With `tick` there is also a None
    after so many seconds without a word. Leaving the iterator early ends all processes.
    """
    cores = available_cores()
    pins = (
        [cores[i * threads : (i + 1) * threads] for i in range(processes)]
        if processes * threads == len(cores)
        else [None] * processes
    )
    left, workers = deque(range(len(works))), []
    lifeline, held_open = os.pipe()
    gc.freeze()  # or a worker's garbage collector would go through, and so copy, all that this process has made
    try:
        for pin in pins[: len(works)]:
            workers.append(_Worker(works, pin, threads, (lifeline, held_open), workers))
            workers[-1].start(left.popleft())
        while any(worker.work is not None for worker in workers):
            busy = [worker for worker in workers if worker.work is not None]
            ready = wait(
                [each for worker in busy for each in (worker.connection, worker.process.sentinel)],
                tick,
            )
            if not ready:
                yield None
            for place, worker in enumerate(workers):
                yield from worker.heard()
                if worker.work is None and left:
                    if not worker.process.is_alive():
                        workers[place] = worker = _Worker(
                            works, worker.pin, threads, (lifeline, held_open), workers
                        )
                    worker.start(left.popleft())
    finally:
        gc.unfreeze()
        for worker in workers:
            worker.process.kill()
        for worker in workers:  # they give their memory back side by side, which takes a while
            worker.end()
        os.close(lifeline)
        os.close(held_open)


class _Worker:
    """A process that does one piece of work after another."""

    def __init__(
        self,
        works: Sequence[Work],
        pin: list[int] | None,
        threads: int,
        lifeline: tuple[int, int],
        others: list[_Worker],
    ) -> None:
        self.pin = pin
        self.work: int | None = None
        self.connection, theirs = multiprocessing.Pipe()
        arguments = (
            works,
            theirs,
            pin,
            threads,
            lifeline,
            [self.connection, *(other.connection for other in others)],
        )
        self.process = multiprocessing.get_context("fork").Process(
            target=_serve, args=arguments, daemon=True
        )
        self.process.start()
        theirs.close()

    def start(self, work: int) -> None:
        self.work = work
        with contextlib.suppress(
            BrokenPipeError
        ):  # it has died already, which its sentinel will tell
            self.connection.send(work)

    def heard(self) -> Iterator[WorkerMessage]:
        """What the process has said since."""
        if self.work is None:
            return
        with contextlib.suppress(EOFError, ConnectionResetError):
            while self.connection.poll():
                kind, value = self.connection.recv()
                yield WorkerMessage(self.work, kind, value)
                if kind in ("returned", "raised"):
                    self.work = None
                    return
        if not self.process.is_alive():
            yield WorkerMessage(self.work, "died", _how(self.process.exitcode))
            self.work = None

    def end(self) -> None:
        self.process.join()
        self.connection.close()


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"its process was ended by {names.get(-exit_code, f'signal {-exit_code}')}"
    return f"its process ended with status {exit_code}"


def _serve(
    works: Sequence[Work],
    connection: Connection,
    pin: list[int] | None,
    threads: int,
    lifeline: tuple[int, int],
    inherited: list[Connection],
) -> None:
    """What a worker's process does; ends when the parent closes the connection, or is there no more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent as well, which ends its workers
    for each in inherited:
        each.close()
    _end_with_parent(*lifeline)
    if pin is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, pin)
    torch.set_num_threads(threads)
    warnings.showwarning = lambda message, category, *place, **_: connection.send(
        ("note", _plain(message, category, *place))
    )
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            work = works[connection.recv()]
            try:
                answer = ("returned", work(lambda value: connection.send(("said", value))))
            except Exception:  # the parent decides what it means
                answer = ("raised", traceback.format_exc())
            connection.send(answer)


def _plain(
    message: Warning | str, category: type[Warning], filename: str, line: int, *_: Any
) -> str:
    if issubclass(category, DigitPairsWarning):
        return f"warning: {message}"
    return warnings.formatwarning(message, category, filename, line).rstrip()


def _end_with_parent(lifeline: int, held_open: int) -> None:
    """Ends this process at once when the last other process that holds the pipe open, the parent, is gone."""
    os.close(held_open)

    def watch() -> None:
        os.read(lifeline, 1)  # nothing is ever written
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
