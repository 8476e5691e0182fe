"""What a sweep does with the events of its runs: it shows them and writes their means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from digitpairs import records
from digitpairs.dashboard.means import MeanCurves
from digitpairs.sweeps.jobs import Job
from digitpairs.sweeps.pauses import epochs_kept
from digitpairs.sweeps.progress import ProgressDisplay
from digitpairs.sweeps.state import RunPlan, SweepState
from digitpairs.sweeps.status import StatusFile


class SweepListener:
    """Receives the events of the jobs, which have the indices of the jobs.

    Args:
        jobs: the jobs that are run.
        finished: the jobs of the sweep that were finished before.
        names: the configurations' display names.
        console: where progress is shown.
        sweep: the sweep's folder, for its status; None for none.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        finished: Sequence[Job],
        names: Mapping[str, str],
        console: Console,
        sweep: Path | None,
    ) -> None:
        plans = [
            RunPlan(
                names[job.configuration], job.seed, job.until or job.config["trainer"]["max_epochs"]
            )
            for job in jobs
        ]
        self.state = SweepState(plans)
        self._jobs = jobs
        self._display = ProgressDisplay(self.state, console, Console(stderr=True))
        self._status = StatusFile(sweep, self.state) if sweep else None
        self._means = _mean_curves(jobs, finished)

    def __enter__(self) -> SweepListener:
        self._display.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._display.__exit__(*details)
        if self._status:
            self._status.remove()
        for folder in self._means:
            self._update_means(folder, MeanCurves.write)

    def epoch(self, index: int, row: Mapping[str, float]) -> None:
        """Take a row of a run's metrics. The row of the test, which is no epoch, is ignored."""
        if "learning_rate" in row:
            self.state.epoch(index, row)
            self._update_means(self._folder(index), MeanCurves.add, index, row)
            self.show()

    def ended(self, index: int, failure: str | None) -> None:
        """Take the end of a run whose files are written, and print why it failed, if it did."""
        self.state.ended(index, failure)
        if failure is not None:
            self._update_means(self._folder(index), MeanCurves.drop, index)
            plan = self.state.runs[index]
            self.note(f"{plan.configuration} seed={plan.seed}: FAILED, {failure}")
        self.show()

    def note(self, text: str) -> None:
        """Print the text, once a sweep."""
        self._display.note(text)

    def show(self) -> None:
        """Show the state where it is due."""
        self._display.show()
        if self._status:
            self._status.show()

    def _folder(self, index: int) -> Path:
        return self._jobs[index].folder.parent

    def _update_means(self, folder: Path, update: Callable[..., None], *arguments: Any) -> None:
        """Update the means of a configuration; a disk that is full does not end the sweep."""
        try:
            update(self._means[folder], *arguments)
        except OSError as error:
            self.note(f"TensorBoard's means could not be written: {error}")


def write_means(finished: Sequence[Job]) -> None:
    """Write the means of runs that ended while no command listened."""
    for curves in _mean_curves(finished, finished).values():
        curves.write()


def _mean_curves(jobs: Sequence[Job], finished: Sequence[Job]) -> dict[Path, MeanCurves]:
    """The means by configuration folder, with the rows of earlier launches."""
    folders = {job.folder.parent for job in jobs}
    histories: dict[Path, list[list[dict[str, float]]]] = defaultdict(list)
    for job in finished:
        if job.folder.parent in folders:
            histories[job.folder.parent].append(records.read_metrics(job.folder))
    # Runs of earlier launches have negative numbers; the others have the indices of the jobs.
    numbered = {
        folder: {-1 - number: rows for number, rows in enumerate(histories[folder])}
        for folder in folders
    }
    for index, job in enumerate(jobs):
        if epochs_kept(job):
            numbered[job.folder.parent][index] = records.read_metrics(job.folder)
    return {folder: MeanCurves(folder, rows) for folder, rows in numbered.items()}
