"""A search's study: a journal file of Optuna's, asked and told in batches.

The journal is a text file with a line for each change. Compared with SQLite it takes a tenth of the
time and works on network file systems. A kill at any moment loses nothing that was told. Optuna's
dashboard reads the file.
"""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from digitpairs.search.brackets import Bracket, bracket_of
from digitpairs.search.samplers import make_sampler
from digitpairs.search.settings import Settings
from digitpairs.search.space import Space

STANDARD_ERROR = "standard_error"  # attributes of a trial, beside its value
FAILURE = "failure"
OVERRIDES = "overrides"


class SearchStudy:
    """The study in a file, which is made if it does not exist.

    Args:
        path: of the file.
        epochs: of a trial that is not pruned.
    """

    def __init__(self, path: Path, settings: Settings, space: Space, epochs: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.path = path
        self._settings, self._space, self._epochs = settings, space, epochs
        _drop_unfinished_line(path)
        self._storage = JournalStorage(JournalFileBackend(str(path), _NoLock(str(path))))
        self.optuna = optuna.create_study(
            storage=self._storage,
            study_name="search",
            directions=list(map(direction_of, settings.directions)),
            load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),  # brackets prune
        )
        with warnings.catch_warnings():  # of methods that Optuna may change
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.optuna.set_metric_names(list(settings.metrics))
        for trial in self._unfinished():
            if trial.params.keys() != space.distributions.keys():  # it was killed while it asked
                self.fail(trial.number, "it was interrupted before all its settings were chosen")

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.optuna.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        """The trials that have values, by number."""
        return [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]

    def next_batch(self) -> tuple[Bracket, list[FrozenTrial]] | None:
        """The next bracket with its trials; None if no trial is left.

        The bracket of a trial that was asked for and not told comes first. Trials that the bracket
        lacks are asked for. Those that are told already are among the trials.
        """
        unfinished, count = self._unfinished(), len(self.trials())
        number = unfinished[0].number if unfinished else count
        if number >= max(count, self._settings.n_trials):
            return None
        bracket = bracket_of(number, self._settings, self._epochs)
        for missing in range(count, min(bracket.end, self._settings.n_trials)):
            self._ask(missing)
        return bracket, self.trials()[bracket.first : bracket.end]

    def report(self, number: int, epoch: int, value: float) -> None:
        """Keep a trial's value at a rung."""
        trial = self.trials()[number]
        if epoch not in trial.intermediate_values:  # it has it from an earlier launch
            self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def values_at(self, epoch: int, trials: Sequence[FrozenTrial]) -> dict[int, float]:
        """The values at a rung of those trials that have reached it and not failed, by number."""
        numbers = {trial.number for trial in trials}
        return {
            trial.number: trial.intermediate_values[epoch]
            for trial in self.trials()
            if trial.number in numbers
            and trial.state != TrialState.FAIL
            and epoch in trial.intermediate_values
        }

    def complete(
        self, number: int, values: Sequence[float], standard_errors: Sequence[float | None]
    ) -> None:
        """Tell the values of a trial, with their standard errors."""
        errors = standard_errors[0] if len(values) == 1 else list(standard_errors)
        self._set_attribute(number, STANDARD_ERROR, errors)
        self.optuna.tell(number, list(values))

    def prune(self, number: int) -> None:
        """Tell that a trial was pruned; its value is that of its last rung."""
        self.optuna.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """Tell that a trial failed."""
        self._set_attribute(number, FAILURE, reason)
        self.optuna.tell(number, state=TrialState.FAIL)

    def _ask(self, number: int) -> None:
        distributions = self._space.distributions
        self.optuna.sampler = make_sampler(self._settings, distributions, number)
        trial = self.optuna.ask(dict(distributions))
        trial.set_user_attr(OVERRIDES, override_line(self._space, trial.params))

    def _unfinished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if not trial.state.is_finished()]

    def _set_attribute(self, number: int, name: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self.trials()[number]._trial_id, name, value)


def direction_of(name: str) -> StudyDirection:
    """Optuna's direction of this name."""
    return StudyDirection[name.upper()]


class _NoLock(JournalFileSymlinkLock):
    """The search's own lock keeps other searches out; those of Optuna outlive a kill."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_unfinished_line(path: Path) -> None:
    """Cut the end of a line that a crash or a full disk has left without its rest."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def override_line(space: Space, values: Mapping[str, Any]) -> str:
    """The settings as arguments that can be pasted into a shell."""
    return " ".join(map(shlex.quote, space.overrides(values)))
