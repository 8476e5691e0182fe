"""Results of studies: which runs a study has, which of them are on disk, and what was measured of each.

A study's runs are known from its config; a run on disk belongs to it when its fingerprint says so, in whatever folder it lies. So
results of another config, or of other data, are never taken for it, and parts of a study that were run by themselves are found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from digitpairs import files
from digitpairs.analysis.archive import Archive
from digitpairs.analysis.runs import Run, finished_runs, undamaged
from digitpairs.checks import DataError, InvalidValueError
from digitpairs.cli import CONF
from digitpairs.records import read_failure
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import JobRequest, compose_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs


class Member(NamedTuple):
    """A run that a study asks for."""

    settings: frozenset[str]  # its overrides, such as "variant=wang/mlp_shared"
    seed: int
    run: Run | None  # None while there is no result
    failure: str | None = None  # why it failed, where it did
    fingerprint: str = ""  # of its config


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
        """Ddof 1; nan below two runs."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.n > 1 else float("nan")


class Study:
    """The runs that `experiment=<name>` asks for."""

    def __init__(self, name: str, members: Sequence[Member]) -> None:
        self.name, self.members = name, members

    @property
    def runs(self) -> list[Run]:
        """Those that are there."""
        return [member.run for member in self.members if member.run is not None]

    def of(self, settings: Iterable[str]) -> list[Member]:
        """Those with all of these settings, of one configuration. InvalidValueError where there are none, or several configurations."""
        wanted = set(settings)
        found = [member for member in self.members if wanted <= member.settings]
        if len({member.seed for member in found}) != len(found) or not found:
            raise InvalidValueError(
                "settings",
                " ".join(sorted(wanted)),
                f"those of one row of {self.name}, and {len(found)} of its runs have them",
            )
        return found

    def varied(self, key: str, settings: Iterable[str] = ()) -> list[str]:
        """The values that a key takes, in their order, as settings `key=value`; among the runs with these settings."""
        wanted = set(settings)
        found = (
            each
            for member in self.members
            if wanted <= member.settings
            for each in member.settings
            if each.startswith(f"{key}=")
        )
        return list(dict.fromkeys(found))

    def configurations(self) -> list[frozenset[str]]:
        """The settings of each configuration."""
        return list(dict.fromkeys(member.settings for member in self.members))

    def cell(self, settings: Iterable[str], metric: str) -> Cell:
        """The metric of one configuration; as "test/comparison_error@lowest" of the epoch, one for all runs, whose mean is lowest."""
        members = self.of(settings)
        finished = [member for member in members if member.run is not None]
        name, _, epoch = metric.partition("@")
        if epoch == "lowest":
            metric = f"{name}@{lowest_epoch([member.run.by_epoch(name) for member in finished])}"
        values = {
            member.seed: value
            for member in finished
            if (value := member.run.value(metric)) is not None
        }
        return Cell(values, len(members), len(finished))


def lowest_epoch(curves: Sequence[Sequence[float]]) -> int:
    """The epoch, from 1, whose mean over the curves is lowest, among those that all of them have; 1 where there is none."""
    means = [float(np.mean(values)) for values in zip(*curves)]
    return min(range(len(means)), key=means.__getitem__, default=0) + 1


class Results:
    """What lies below the folder of outputs.

    Args:
        output: that folder.
        overrides: settings with which the studies were run beside their own, such as data=digits.
    """

    def __init__(self, output: Path, overrides: Sequence[str] = ()) -> None:
        self.output, self.overrides = output, list(overrides)
        if not output.is_dir():
            raise InvalidValueError("output", str(output), "a folder that holds sweeps")
        self.runs = {
            run.result["fingerprint"]: run for run in finished_runs(output, "*/*/seed=[0-9]*")
        }
        failed = sorted(path.parent for path in output.glob(f"*/*/seed=[0-9]*/{files.FAILURE}"))
        self.failures = {
            failure["fingerprint"]: failure["reason"] for failure in undamaged(failed, read_failure)
        }
        self._studies: dict[str, Study] = {}

    def study(self, name: str) -> Study:
        """A study with what there is of it. InvalidValueError for an override that is none, that the study varies, or that has several values."""
        if name not in self._studies:
            self._refuse_varied(name)
            requests = compose_command(
                CONF, [f"experiment={name}", f"output={self.output}", *self.overrides]
            )
            self._refuse_several(requests)
            jobs = plan_jobs(requests)
            if self.overrides:
                with contextlib.suppress(
                    DataError
                ):  # the digits need not be here: only what was made of them is read
                    Checker().check(jobs[0].config)
            common = {
                "seed",
                "output",
                "experiment",
                *(each.partition("=")[0] for each in self.overrides),
            }
            members = []
            for asked, job in zip(requests, jobs):
                settings = frozenset(
                    each for each in asked.overrides if each.partition("=")[0] not in common
                )
                key = fingerprint(job.config)
                members.append(
                    Member(settings, job.seed, self.runs.get(key), self.failures.get(key), key)
                )
            self._studies[name] = Study(name, members)
        return self._studies[name]

    def add(self, archive: Archive) -> None:
        """Runs whose folders need not be there; where they are, these count. Before any study is asked for."""
        self.runs, self.failures = archive.with_newer(Archive(self.runs, self.failures))

    def kept_of(self, studies: Iterable[str]) -> Archive:
        """What there is of these studies."""
        members = [member for name in studies for member in self.study(name).members]
        runs = {member.fingerprint: member.run for member in members if member.run is not None}
        return Archive(
            runs,
            {
                member.fingerprint: member.failure
                for member in members
                if member.failure is not None
            },
        )

    def _refuse_varied(self, name: str) -> None:
        """InvalidValueError for an override of what the study varies: its rows could not be told apart."""
        grid = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))[
            "hydra"
        ]["sweeper"]["params"]
        for each in self.overrides:
            key, _, value = each.partition("=")
            if key == "experiment" or (key in grid and key != "seed"):
                raise InvalidValueError(
                    key,
                    value,
                    f"a setting that the studies do not choose themselves, and {name} does",
                )

    def _refuse_several(self, requests: Sequence[JobRequest]) -> None:
        """InvalidValueError for an override with several values but a seed's: runs that differ in it could not be told apart."""
        for each in self.overrides:
            key, _, value = each.partition("=")
            if (
                key != "seed"
                and len(
                    {
                        item
                        for asked in requests
                        for item in asked.overrides
                        if item.partition("=")[0] == key
                    }
                )
                > 1
            ):
                raise InvalidValueError(key, value, "one value here; several are for seed alone")
