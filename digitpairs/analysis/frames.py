"""The runs below any folders, as pandas data frames.

`load(*folders).runs` has a row for each run, `.curves` a row for each run and epoch.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from digitpairs import files, records
from digitpairs.analysis.runs import Run, read_run, undamaged
from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.names import display_names, text_of
from digitpairs.sweeps.jobs import digest

PLACES = ("output", "data.root")  # settings that do not change a result
SEEDS = ("seed", "data.seed", "data.order_seed", "data.augmentation_seed")


class Outcome(NamedTuple):
    """A run that ended: its config, and its result or the reason of its failure."""

    folder: Path
    config: Mapping[str, Any]  # by dotted key
    run: Run | None
    failure: str | None = None

    @property
    def fingerprint(self) -> str:
        """The digest of the run's config."""
        return self.run.result["fingerprint"] if self.run else str(self.folder)


class Runs:
    """Runs and their groups; a group has all runs whose configs differ in nothing but the seed.

    Attributes:
        runs: a row for each run, indexed from 0. Columns: `folder`, `group` (its name), `seed`,
            `failure` (the reason, or NaN), `source`, `test_examples`, the other entries of the
            result, the metrics in per cent or nats, and each setting that differs between groups.
        settings: the names of the columns of `runs` that are settings.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = list(outcomes)
        self.settings = _varied(outcomes)
        names = _group_names(outcomes)
        self.runs = pd.DataFrame(
            _row(outcome, name, self.settings)
            for outcome, name in zip(outcomes, names, strict=True)
        )

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """A row for each run and epoch: `run` (the row in `runs`), `epoch` from 1, the metrics."""
        frames = []
        for number, outcome in enumerate(self._outcomes):
            if outcome.run is not None:
                frame = pd.DataFrame(outcome.run.history)
                frame["epoch"] = range(1, len(frame) + 1)
                frames.append(frame.assign(run=number))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def run(self, number: int) -> Run | None:
        """The run in a row of `runs`; None if it failed."""
        return self._outcomes[number].run

    def config(self, number: int) -> Mapping[str, Any]:
        """The config of the run in a row of `runs`, by dotted key."""
        return self._outcomes[number].config


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
    if run is not None:
        return Outcome(folder, flat(records.read_config(folder)), run)
    failure = records.read_failure(folder)
    if failure is None:
        return None
    return Outcome(folder, flat(records.read_config(folder)), None, failure["reason"])


def _repetition(repeated: Sequence[Path]) -> str:
    return (
        f"{len(repeated)} run{'s' * (len(repeated) > 1)} found twice and counted once, "
        f"such as {repeated[0]}"
    )


def flat(section: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A config by dotted key: {"model": {"hidden": [4]}} -> {"model.hidden": [4]}."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    root: dict[str, Any] = {}
    for key, value in config.items():
        *sections, leaf = key.split(".")
        inside = root
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[leaf] = value
    return root


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are equal in all runs of a group.

    A stream's seed that was pinned to another number than the run's stays: it is a setting.
    """
    seed = config.get("seed")
    streams = {key for key in config if key in SEEDS or key.startswith("seeds.")}
    following = {key for key in streams if config[key] == seed}
    return {k: v for k, v in config.items() if k not in following and k not in PLACES}


def _row(outcome: Outcome, name: str, settings: Sequence[str]) -> dict[str, Any]:
    result = dict(outcome.run.result) if outcome.run else {}
    examples = result.get("test_pairs", result.get("test_points"))
    columns = {
        "folder": str(outcome.folder),
        "group": name,
        "seed": outcome.config["seed"],
        "failure": outcome.failure,
        "source": result.get("source"),
        "test_examples": examples,
    }
    entries = {key: value for key, value in result.items() if isinstance(value, (int, float, str))}
    return entries | columns | {key: _plain(outcome.config.get(key)) for key in settings}


def _group_names(outcomes: Sequence[Outcome]) -> list[str]:
    """For each run the name of its group: the settings that tell it from the other groups."""
    digests = [digest(_without_seed(outcome.config)) for outcome in outcomes]
    first = dict(zip(reversed(digests), reversed(outcomes), strict=True))
    folders = {key: f"{key}/{outcome.folder.parent.name}" for key, outcome in first.items()}
    names = display_names({folders[key]: nested(each.config) for key, each in first.items()})
    return [names.of[folders[key]] for key in digests]


def _varied(outcomes: Iterable[Outcome]) -> list[str]:
    """The settings that differ between groups, in the order of the configs."""
    values: dict[str, set[str]] = {}
    configs = [_without_seed(outcome.config) for outcome in outcomes]
    for key in dict.fromkeys(key for config in configs for key in config):
        values[key] = {json.dumps(config.get(key)) for config in configs}
    return [key for key, different in values.items() if len(different) > 1]


def _plain(value: Any) -> Any:
    """A setting's value as a number, a truth value or text."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else text_of(value)
