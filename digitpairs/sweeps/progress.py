"""The progress of a sweep: one live display on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from digitpairs.sweeps.state import Snapshot, SweepState
from digitpairs.terminal import plus_minus

QUIET_SECONDS = 10.0  # at least, between lines where the output is no terminal
QUIET_SHARE = 0.05  # of the time so far; the lines of hours fit in a log or a notebook's cell
LIVE_SECONDS = 0.1  # between two states of the display on a terminal
PATIENCE_SECONDS = 2  # between lines before anything trains
MAX_LISTED = 8  # configurations in the display

Item = TypeVar("Item")


def counted(runs: Sequence[Item], done: str) -> Iterator[Item]:
    """Iterate over the runs, and print at intervals how many are done, such as "checked"."""
    last_line = time.monotonic()
    for count, run in enumerate(runs):
        if time.monotonic() - last_line > PATIENCE_SECONDS:
            last_line = time.monotonic()
            print(f"{count} of {len(runs)} runs {done}", flush=True)
        yield run


class ProgressDisplay:
    """Shows finished runs, epochs, the current errors of each configuration and the time left.

    Args:
        state: what is shown.
        console: where progress is shown.
        errors: where notes and failures are printed.
    """

    def __init__(self, state: SweepState, console: Console, errors: Console) -> None:
        self._state, self._console, self._errors = state, console, errors
        self._notes: set[str] = set()
        self._start = self._last_time = time.monotonic()
        columns = (
            TextColumn("{task.fields[runs]}"),
            BarColumn(24),
            TextColumn("{task.fields[rest]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console)
        self._bar = self._bars.add_task("", total=None, runs="", rest="")
        # Automatic refreshing would need a thread, and this process is forked.
        self._live = Live(self._bars, console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_interactive:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print the text, once a sweep."""
        if text not in self._notes:
            self._notes.add(text)
            self._errors.print(text, soft_wrap=True, highlight=False, markup=False)

    def show(self) -> None:
        """Show the state, unless it was shown just before."""
        now = time.monotonic()
        quiet = max(QUIET_SECONDS, QUIET_SHARE * (now - self._start))
        if now - self._last_time <= (LIVE_SECONDS if self._console.is_interactive else quiet):
            return
        self._last_time = now
        snapshot = self._state.snapshot()
        lines = configuration_lines(snapshot, plus_minus(self._console))
        with_error = not (self._console.is_interactive and lines)  # the lines have the errors
        runs, rest = summary(snapshot, plus_minus(self._console), with_error)
        if not self._console.is_interactive:
            self._console.print(f"{runs}, {rest}", soft_wrap=True, highlight=False)
            return
        self._bars.update(
            self._bar,
            total=snapshot.epochs_in_all,
            completed=snapshot.epochs,
            runs=runs,
            rest=rest,
        )
        self._live.update(Group(self._bars, *map(Text, lines)), refresh=True)


def summary(snapshot: Snapshot, sign: str, with_error: bool = True) -> tuple[str, str]:
    """The number of finished runs, and the rest in a line; `sign` stands for "plus or minus".

    `with_error` includes the error of the best configuration.
    """
    parts = [f"{snapshot.epochs}/{snapshot.epochs_in_all} epochs"]
    best = min(
        (each for each in snapshot.configurations if each.mean is not None),
        key=lambda each: each.mean or 0,
        default=None,
    )
    if best is not None and with_error:
        prefix = f"best {best.configuration}: " if len(snapshot.configurations) > 1 else ""
        parts.append(f"{prefix}{_error(best.metric, best.mean, best.std, sign)}")
    if snapshot.seconds_left:
        parts.append(f"{duration(snapshot.seconds_left)} left")
    if snapshot.memory is not None:
        parts.append(f"{snapshot.memory / 2**30:.1f} GiB")
    failed = f", {snapshot.failed} failed" if snapshot.failed else ""
    return f"{snapshot.done}/{snapshot.runs} runs{failed}", ", ".join(parts)


def configuration_lines(snapshot: Snapshot, sign: str, most: int = MAX_LISTED) -> list[str]:
    """A line for each configuration that has begun, if there are several, the best one first."""
    begun = [each for each in snapshot.configurations if each.mean is not None]
    if len(snapshot.configurations) < 2 or not begun:
        return []
    ranked = sorted(begun, key=lambda each: (each.mean, each.configuration))[:most]
    width = max(len(each.configuration) for each in ranked)
    lines = [
        f"{each.configuration:<{width}}  {each.done}/{each.runs} runs  epoch {each.epoch}  "
        f"{_error(each.metric, each.mean, each.std, sign)}"
        for each in ranked
    ]
    others = len(snapshot.configurations) - len(ranked)
    return [*lines, f"and {others} more"] if others else lines


def duration(seconds: float) -> str:
    """A time such as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _error(metric: str | None, mean: float | None, std: float | None, sign: str) -> str:
    split = str(metric).partition("/")[0]
    spread = "" if std is None else f" {sign} {std:.2f}"
    return f"{split} error {mean:.2f}{spread} %"
