"""What an executor is, and what a worker of any executor does with a piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.run import run_jobs

MESSAGE_INTERVAL = 0.1  # seconds between a worker's messages about epochs
TICK = 1.0  # seconds without a message after which an executor yields a "tick"

Piece = Mapping[int, Job]  # the runs that train together, by their index in the sweep
Event = tuple[Any, ...]  # the name of a method of `digitpairs.sweeps.run.Listener`, its arguments


class Message(NamedTuple):
    """A message about a piece.

    The value is
    - of "events" a list of events; the files of a run that has ended are in its folder;
    - of "note" a text for the user;
    - of "failed" the reason why the piece ended before all its runs had;
    - of "tick" None: there was no message for a while.
    """

    kind: Literal["events", "note", "failed", "tick"]
    runs: Sequence[int]  # the indices of the piece's runs; empty if it is not about one piece
    value: Any


class Executor(Protocol):
    """Trains pieces."""

    def run(self, pieces: Sequence[Piece]) -> Iterator[Message]:
        """Train the pieces, and yield messages as they arrive; one that fails stops no other.

        The iterator ends when all pieces have ended. Closing it ends their training.
        """

    def close(self) -> None:
        """Release what the executor holds."""


def train_piece(piece: Piece, send: Callable[[list[Event]], None]) -> None:
    """Train the piece's runs and write their files; the events are sent in batches."""
    sender = _EventSender(send)
    run_jobs(piece, sender)
    sender.flush()


class _EventSender:
    """A listener in a worker that sends events, one batch an interval."""

    def __init__(self, send: Callable[[list[Event]], None]) -> None:
        self._send, self._last_message = send, time.monotonic()
        self._events: list[Event] = []

    def epoch(self, index: int, row: Mapping[str, float]) -> None:
        self._events.append(("epoch", index, row))
        self._flush_if_due()

    def ended(self, index: int, failure: str | None) -> None:
        self._events.append(("ended", index, failure))
        self._flush_if_due()

    def note(self, text: str) -> None:
        self._events.append(("note", text))

    def flush(self) -> None:
        """Send the collected events."""
        self._send(self._events)
        self._events, self._last_message = [], time.monotonic()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._last_message > MESSAGE_INTERVAL:
            self.flush()
