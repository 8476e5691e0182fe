"""How a sweep gets on: one display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from digitpairs.terminal import plus_minus

QUIET_SECONDS = 10  # between lines, where the output is no terminal
PATIENCE_SECONDS = 2  # between lines before anything trains
_WATCHED = ("validation/comparison_error", "train/comparison_error")


Item = TypeVar("Item")


def counted(runs: Sequence[Item], what: str) -> Iterator[Item]:
    """The runs one by one. Prints now and then how many were `what`, such as "checked"."""
    told = time.monotonic()
    for done, run in enumerate(runs):
        if time.monotonic() - told > PATIENCE_SECONDS:
            told = time.monotonic()
            print(f"{done} of {len(runs)} runs {what}", flush=True)
        yield run


class SweepProgress:
    """Hears of each run's epochs and end, and shows members done, epochs, current errors and the time left.

    Args:
        labels: a name for each run.
        epochs: how many each is to train at most.
        console: where it is shown; notes and failures go to `errors`.
    """

    def __init__(
        self, labels: Sequence[str], epochs: Sequence[int], console: Console, errors: Console
    ) -> None:
        self._labels, self._epochs = labels, list(epochs)
        self._console, self._errors = console, errors
        self._rows: dict[int, Mapping[str, float]] = {}
        self.done: set[int] = set()  # the runs that have ended
        self._notes: set[str] = set()
        self.failures = 0
        self._started = self._last_line = time.monotonic()
        columns = (
            TextColumn("{task.fields[runs]}"),
            BarColumn(24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._display = Progress(
            *columns, console=console, auto_refresh=False, transient=True
        )  # a thread would be forked
        self._bar = self._display.add_task("", total=sum(self._epochs), runs="", state="")

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._display.stop()

    def epoch(self, place: int, row: Mapping[str, float]) -> None:
        """A row of a run's metrics: an epoch's, or at last the test's, which is no step forward."""
        if "learning_rate" in row:
            self._rows[place] = row
            self.show()

    def ended(self, place: int, failure: str | None) -> None:
        """The run's files are written."""
        self.done.add(place)
        if failure is not None:
            self.failures += 1
            self.note(f"{self._labels[place]}: FAILED, {failure}")
        self.show()

    def note(self, text: str) -> None:
        """Something to read, once a sweep."""
        if text not in self._notes:
            self._notes.add(text)
            self._errors.print(text, soft_wrap=True, highlight=False, markup=False)

    def show(self) -> None:
        """The state as it is; where there is no terminal, only if some time has passed."""
        if self._console.is_terminal:
            self._display.update(
                self._bar, completed=self._epochs_done(), runs=self._runs(), state=self._state()
            )
            self._display.refresh()
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"{self._runs()}, {self._state()}", soft_wrap=True, highlight=False)

    def _epochs_done(self) -> int:
        running = (
            int(row["epoch"]) + 1 for place, row in self._rows.items() if place not in self.done
        )
        return sum(running) + sum(self._epochs[place] for place in self.done)

    def _runs(self) -> str:
        return f"{len(self.done)}/{len(self._labels)} runs"

    def _state(self) -> str:
        done, total = self._epochs_done(), sum(self._epochs)
        parts = [f"{done}/{total} epochs"]
        name = next(
            (name for name in _WATCHED if any(name in row for row in self._rows.values())), None
        )
        if name:
            errors = [row[name] for row in self._rows.values() if name in row]
            spread = (
                f" {plus_minus(self._console)} {statistics.stdev(errors):.2f}"
                if len(errors) > 1
                else ""
            )
            parts.append(f"{name.partition('/')[0]} error {statistics.fmean(errors):.2f}{spread} %")
        if 0 < done < total:
            left = (time.monotonic() - self._started) * (total - done) / done
            parts.append(f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left")
        return ", ".join(parts)
