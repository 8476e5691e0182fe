"""The progress of a sweep: one live display on a terminal, an occasional line elsewhere."""

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
_ERRORS = ("validation/comparison_error", "train/comparison_error")  # shown, the first that exists

Item = TypeVar("Item")


def counted(runs: Sequence[Item], done: str) -> Iterator[Item]:
    """Iterate over the runs, and print at intervals how many are done, such as "checked"."""
    last_line = time.monotonic()
    for count, run in enumerate(runs):
        if time.monotonic() - last_line > PATIENCE_SECONDS:
            last_line = time.monotonic()
            print(f"{count} of {len(runs)} runs {done}", flush=True)
        yield run


class SweepProgress:
    """A listener that shows finished runs, epochs, current errors and the time left.

    Args:
        labels: a name for each run.
        epochs: the maximal number of epochs of each run.
        console: where progress is shown.
        errors: where notes and failures are printed.
    """

    def __init__(
        self, labels: Sequence[str], epochs: Sequence[int], console: Console, errors: Console
    ) -> None:
        self._labels, self._epochs = labels, list(epochs)
        self._console, self._errors = console, errors
        self._rows: dict[int, Mapping[str, float]] = {}  # the last row of each run
        self.done: set[int] = set()  # the indices of runs that have ended
        self._notes: set[str] = set()
        self.failures = 0
        self._started = self._last_line = time.monotonic()
        columns = (
            TextColumn("{task.fields[runs]}"),
            BarColumn(24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        # Automatic refreshing would need a thread, and this process is forked.
        self._display = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._bar = self._display.add_task("", total=sum(self._epochs), runs="", state="")

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._display.stop()

    def epoch(self, index: int, row: Mapping[str, float]) -> None:
        """Show a row of a run's metrics. The row of the test, which is no epoch, is ignored."""
        if "learning_rate" in row:
            self._rows[index] = row
            self.show()

    def ended(self, index: int, failure: str | None) -> None:
        """Count a run whose files are written, and print why it failed, if it did."""
        self.done.add(index)
        if failure is not None:
            self.failures += 1
            self.note(f"{self._labels[index]}: FAILED, {failure}")
        self.show()

    def note(self, text: str) -> None:
        """Print the text, once a sweep."""
        if text not in self._notes:
            self._notes.add(text)
            self._errors.print(text, soft_wrap=True, highlight=False, markup=False)

    def show(self) -> None:
        """Show the current state; without a terminal only every `QUIET_SECONDS`."""
        if self._console.is_terminal:
            self._display.update(
                self._bar, completed=self._epochs_done(), runs=self._runs(), state=self._state()
            )
            self._display.refresh()
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"{self._runs()}, {self._state()}", soft_wrap=True, highlight=False)

    def _epochs_done(self) -> int:
        running = self._rows.keys() - self.done
        in_running = sum(int(self._rows[index]["epoch"]) + 1 for index in running)
        return in_running + sum(self._epochs[index] for index in self.done)

    def _runs(self) -> str:
        return f"{len(self.done)}/{len(self._labels)} runs"

    def _state(self) -> str:
        done, total = self._epochs_done(), sum(self._epochs)
        parts = [f"{done}/{total} epochs", *self._current_errors()]
        if 0 < done < total:
            left = (time.monotonic() - self._started) * (total - done) / done
            parts.append(f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left")
        return ", ".join(parts)

    def _current_errors(self) -> list[str]:
        """Mean and standard deviation of the runs' errors in their last epochs, if any."""
        for name in _ERRORS:
            errors = [row[name] for row in self._rows.values() if name in row]
            if errors:
                text = f"{name.partition('/')[0]} error {statistics.fmean(errors):.2f}"
                if len(errors) > 1:
                    text += f" {plus_minus(self._console)} {statistics.stdev(errors):.2f}"
                return [f"{text} %"]
        return []
