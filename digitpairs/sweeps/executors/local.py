"""The executor of this machine: forked processes (see `digitpairs.sweeps.workers`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from digitpairs.sweeps.executors.base import TICK, Message, Piece, train_piece
from digitpairs.sweeps.workers import run_in_processes


class LocalExecutor:
    """See `Executor`.

    Args:
        processes: the number of processes, at most.
        threads: the number of threads of each process.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self._processes, self._threads = processes, threads

    def run(self, pieces: Sequence[Piece]) -> Iterator[Message]:
        works = [functools.partial(train_piece, piece) for piece in pieces]
        processes = min(self._processes, len(works))
        for work, kind, value in run_in_processes(works, processes, self._threads, TICK):
            if kind == "tick":
                yield Message("tick", (), None)
            elif kind == "note":
                yield Message("note", list(pieces[work]), value)
            elif kind == "sent":
                yield Message("events", list(pieces[work]), value)
            elif kind in ("died", "raised"):
                yield Message("failed", list(pieces[work]), value)

    def close(self) -> None:
        """The processes end with the iterator of `run`."""
