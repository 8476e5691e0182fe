"""Results of studies: which runs a study has, which of them are on disk, and what was measured of each.

A study's runs are known from its config; a run on disk belongs to it when its fingerprint says so, in whatever folder it lies. So
results of another config, or of other data, are never taken for it, and parts of a study that were run by themselves are found.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from digitpairs.checks import InvalidValue
from digitpairs.cli import CONF
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs

RELABELLED = "test/relabelled_digit_error"


class Run:
    """A finished run."""

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result

    def value(self, metric: str) -> float | None:
        """A metric of its result; `RELABELLED`; as "test/comparison_error@30" of its 30th epoch, as "...@best" the least of all epochs. None
        for one that it has not, as the digits' error of a network that names none."""
        if metric == RELABELLED:
            return self._relabelled()
        name, _, epoch = metric.partition("@")
        if not epoch:
            return self.result.get(name)
        values = [row[name] for row in self.history if name in row]
        if epoch == "best":
            return min(values, default=None)
        return values[int(epoch) - 1] if int(epoch) <= len(values) else None

    @functools.cached_property
    def history(self) -> list[dict[str, float]]:
        """A row an epoch."""
        with (self.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]

    def _relabelled(self) -> float | None:
        try:
            confusion = json.loads((self.folder / "confusion.json").read_text(encoding="utf-8"))
        except FileNotFoundError:  # a network that names no digits
            return None
        return relabelled_error(np.array(list(confusion.values())))


def relabelled_error(confusions: np.ndarray) -> float:
    """The digits' error in per cent after the best relabelling of the answers: confusions (images, 10, 10), a row a digit.

    A network that is not trained to name digits has no reason to give its answers in their order. The answers for each image are
    assigned to the digits so that as many as possible are right (`scipy.optimize.linear_sum_assignment`).
    """
    from scipy.optimize import linear_sum_assignment

    right = sum(each[linear_sum_assignment(each, maximize=True)].sum() for each in confusions)
    return 100 * (1 - right / confusions.sum())


class Member(NamedTuple):
    """A run that a study asks for."""

    settings: frozenset[str]  # its overrides, such as "variant=wang/mlp_shared"
    seed: int
    run: Run | None  # None while there is no result
    failure: str | None = None  # why it failed, where it did


class Cell(NamedTuple):
    """A metric of one configuration's runs."""

    values: dict[int, float]  # by seed
    expected: int  # how many seeds the study asks for
    finished: int = 0  # runs, whether they have the metric or not

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values()))) if self.values else float("nan")

    @property
    def std(self) -> float:
        """ddof 1; nan below two runs."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.n > 1 else float("nan")


class Study:
    """The runs that `experiment=<name>` asks for."""

    def __init__(self, name: str, members: Sequence[Member]) -> None:
        self.name, self.members = name, members

    def of(self, settings: Iterable[str]) -> list[Member]:
        """Those with all of these settings, of one configuration. InvalidValue where there are none, or several configurations."""
        wanted = set(settings)
        found = [member for member in self.members if wanted <= member.settings]
        if len({member.seed for member in found}) != len(found) or not found:
            raise InvalidValue("settings", " ".join(sorted(wanted)), f"those of one row of {self.name}, and {len(found)} of its runs have them")
        return found

    def varied(self, key: str, settings: Iterable[str] = ()) -> list[str]:
        """The values that a key takes, in their order, as settings `key=value`; among the runs with these settings."""
        wanted = set(settings)
        found = (each for member in self.members if wanted <= member.settings for each in member.settings if each.startswith(f"{key}="))
        return list(dict.fromkeys(found))

    def configurations(self) -> list[frozenset[str]]:
        """The settings of each configuration."""
        return list(dict.fromkeys(member.settings for member in self.members))

    def cell(self, settings: Iterable[str], metric: str) -> Cell:
        """The metric of one configuration."""
        members = self.of(settings)
        finished = [member for member in members if member.run is not None]
        values = {member.seed: value for member in finished if (value := member.run.value(metric)) is not None}
        return Cell(values, len(members), len(finished))


class Results:
    """What lies below the folder of outputs.

    Args:
        output: that folder.
        overrides: settings with which the studies were run beside their own, such as data=digits.
    """

    def __init__(self, output: Path, overrides: Sequence[str] = ()) -> None:
        self.output, self.overrides = output, list(overrides)
        self.runs: dict[str, Run] = {}
        self.failures: dict[str, str] = {}
        if not output.is_dir():
            raise InvalidValue("output", str(output), "a folder that holds sweeps")
        for path in sorted(output.glob("*/*/seed=*/result.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            self.runs[result["fingerprint"]] = Run(path.parent, result)
        for path in sorted(output.glob("*/*/seed=*/failure.json")):
            failure = json.loads(path.read_text(encoding="utf-8"))
            self.failures[failure["fingerprint"]] = failure["reason"]
        self._studies: dict[str, Study] = {}

    def study(self, name: str) -> Study:
        """A study with what there is of it. InvalidValue where an override takes the place of what the study varies."""
        if name not in self._studies:
            self._refuse_varied(name)
            asked_for = compose_command(CONF, [f"experiment={name}", f"output={self.output}", *self.overrides])
            common = {"seed", "output", "experiment", *(each.partition("=")[0] for each in self.overrides)}
            members = []
            for asked, job in zip(asked_for, plan_jobs(asked_for)):
                settings = frozenset(each for each in asked.overrides if each.partition("=")[0] not in common)
                key = fingerprint(job.config)
                members.append(Member(settings, job.seed, self.runs.get(key), self.failures.get(key)))
            self._studies[name] = Study(name, members)
        return self._studies[name]

    def _refuse_varied(self, name: str) -> None:
        """InvalidValue for an override of what the study varies: its rows could not be told apart."""
        grid = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]["sweeper"]["params"]
        for each in self.overrides:
            key, _, value = each.partition("=")
            if key == "experiment" or (key in grid and key != "seed"):
                raise InvalidValue(key, value, f"a setting that the studies do not choose themselves, and {name} does")
