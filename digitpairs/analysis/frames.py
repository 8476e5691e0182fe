"""The runs below any folders, as pandas data frames.

`load(*folders).runs` has a row for each run, `.curves` a row for each run and epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from digitpairs import files, records
from digitpairs.analysis.runs import Run, read_run, undamaged
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.names import (
    Origin,
    display_names,
    flat,
    plain_value,
    varied_settings,
    without_seeds,
)

RECIPES = ("experiment", "smoke", "smoke_data")  # groups that only set other settings
TEST_SET = ["source", "test_examples"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run that ended: its result, or the reason of its failure."""

    folder: Path
    run: Run | None
    failure: Mapping[str, Any] | None = None  # the content of its file

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """The config, which is read when it is first used: runs of a group share all but seeds."""
        return records.read_config(self.folder)

    @property
    def seed(self) -> int:
        """The run's seed."""
        record = self.run.result if self.run else self.failure or {}
        return record["seed"] if "seed" in record else self.config["seed"]

    @property
    def origin(self) -> Origin | None:
        """How its config was composed; None for older runs."""
        record = self.run.result if self.run else self.failure
        return records.origin_of(record or {})

    @property
    def fingerprint(self) -> str:
        """The digest of the run's config."""
        return self.run.result["fingerprint"] if self.run else str(self.folder)

    @property
    def configuration(self) -> str:
        """Equal for runs that differ in nothing but the seed.

        The name of a sweep's folder ends in the digest of what its runs have in common. A config
        alone does not tell a seed that is pinned to 0 from one that follows seed=0. Folders of
        other launchers have no digest.
        """
        found = re.search("-([0-9a-f]{8})$", self.folder.parent.name)
        return found[1] if found else json.dumps(without_seeds(self.config), sort_keys=True)


class Runs:
    """Runs and their groups; the runs of a group differ in nothing but the seed.

    The runs of a group have the same test set: data, and number of examples.

    Attributes:
        runs: a row for each run, indexed from 0. Columns: `folder`, `group` (its name), `seed`,
            `failure` (the reason, or NaN), `source`, `test_examples`, the other entries of the
            result, the metrics in per cent or nats, and each setting that differs between groups.
        settings: the names of the columns of `runs` that are settings.
        folder: of the sweep, for the result of `digitpairs.run`; None for runs of any folders.
    """

    folder: Path | None = None

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = list(outcomes)
        groups: dict[str, Outcome] = {}  # the first run of each
        for outcome in outcomes:
            groups.setdefault(outcome.configuration, outcome)
        named = all(outcome.origin for outcome in groups.values())
        settings = {key: _settings(each, named) for key, each in groups.items()}
        self.settings = varied_settings(list(settings.values()))
        names = _group_names(groups)
        self.runs = pd.DataFrame(
            _row(outcome, names[outcome.configuration])
            | {key: plain_value(settings[outcome.configuration].get(key)) for key in self.settings}
            for outcome in outcomes
        )
        _name_test_sets(self.runs)

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """A row for each run and epoch: `run` (the row in `runs`), `epoch` from 1, the metrics."""
        return pd.DataFrame(
            [
                {**row, "epoch": epoch, "run": number}
                for number, outcome in enumerate(self._outcomes)
                if outcome.run is not None
                for epoch, row in enumerate(outcome.run.history, start=1)
            ]
        )

    def run(self, number: int) -> Run | None:
        """The run in a row of `runs`; None if it failed."""
        return self._outcomes[number].run


def load(*folders: str | Path) -> Runs:
    """Read all runs below the folders: outputs, sweeps, configurations or single runs.

    Damaged runs are left out with a warning that names the file. A run that is found twice (the
    same config, in two folders) counts once, with a warning.

    Raises:
        InvalidValueError: for a folder that does not exist or holds no run that has ended.
    """
    outcomes: dict[str, Outcome] = {}
    repeated: list[Path] = []
    for folder in map(Path, folders):
        found = _run_folders(folder)
        if not found:
            needs = "a folder that holds finished runs (folders seed=... with a result.json)"
            raise InvalidValueError("folder", str(folder), needs)
        for outcome in undamaged(found, _outcome):
            if outcomes.setdefault(outcome.fingerprint, outcome) is not outcome:
                repeated.append(outcome.folder)
    if repeated:
        warnings.warn(_repetition(repeated), DigitPairsWarning, stacklevel=2)
    if not outcomes:
        raise InvalidValueError("folder", str(folders[0]), "a folder with at least one whole run")
    return Runs(list(outcomes.values()))


def _run_folders(folder: Path) -> list[Path]:
    """The folders of all ended runs, sorted by configuration and seed."""
    ended = {
        path.parent
        for name in (files.RESULT, files.FAILURE)
        for path in (*folder.glob(name), *folder.rglob(f"seed=*/{name}"))
    }
    return sorted(ended, key=lambda path: (path.parent, len(path.name), path.name))


def _outcome(folder: Path) -> Outcome | None:
    run = read_run(folder)
    failure = None if run is not None else records.read_failure(folder)
    if run is None and failure is None:
        return None
    outcome = Outcome(folder, run, failure)
    if run is None or files.FILES not in run.result:  # without a digest, reading shows its damage
        assert outcome.config is not None
    return outcome


def _repetition(repeated: Sequence[Path]) -> str:
    return (
        f"{len(repeated)} run{'s' * (len(repeated) > 1)} found twice and counted once, "
        f"such as {repeated[0]}"
    )


def _settings(outcome: Outcome, named: bool) -> dict[str, Any]:
    """The settings by dotted key; if all runs are `named`, choices in place of their classes."""
    settings = flat(without_seeds(outcome.config))
    if not named or outcome.origin is None:
        return settings
    choices = {key: value for key, value in outcome.origin.choices.items() if key not in RECIPES}
    return choices | {key: value for key, value in settings.items() if not key.endswith("_target_")}


def _row(outcome: Outcome, name: str) -> dict[str, Any]:
    result = dict(outcome.run.result) if outcome.run else {}
    columns = {
        "folder": str(outcome.folder),
        "group": name,
        "seed": outcome.seed,
        "failure": outcome.failure["reason"] if outcome.failure else None,
        "source": result.get("source"),
        "test_examples": result.get("test_pairs", result.get("test_points")),
    }
    entries = {key: value for key, value in result.items() if isinstance(value, (int, float, str))}
    return entries | columns


def _group_names(groups: Mapping[str, Outcome]) -> dict[str, str]:
    """For each group its name: the settings that tell it from the other groups."""
    folders = {key: f"{key}/{outcome.folder.parent.name}" for key, outcome in groups.items()}
    names = display_names(
        {folders[key]: outcome.config for key, outcome in groups.items()},
        {folders[key]: outcome.origin for key, outcome in groups.items()},
    )
    return {key: names.of[folder] for key, folder in folders.items()}


def _name_test_sets(runs: pd.DataFrame) -> None:
    """Name the test set in the groups of a configuration that was tested on several."""
    tested = runs["source"].notna()
    counts = runs[tested].drop_duplicates(["group", *TEST_SET]).groupby("group").size()
    mixed = tested & runs["group"].map(counts).gt(1)
    examples = runs.loc[mixed, "test_examples"].map("{:.0f}".format)
    runs.loc[mixed, "group"] += " (" + runs.loc[mixed, "source"] + ", " + examples + ")"
