"""The results of the studies: which runs a study has, which have finished, and their metrics.

A study's config defines its runs. A finished run belongs to the study when it has the fingerprint
of one of them, in whatever folder it is. Results of another config, or of other data, are therefore
never used, and parts of a study that were run separately are found.
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

RUN_FOLDERS = "*/*/seed=[0-9]*"  # below the folder of outputs


class Member(NamedTuple):
    """One run of a study."""

    settings: frozenset[str]  # its overrides, such as "variant=wang/mlp_shared"
    seed: int
    run: Run | None  # None while it has not finished
    failure: str | None = None  # the reason, if it failed
    fingerprint: str = ""  # of its config


class Cell(NamedTuple):
    """A metric of one configuration's runs."""

    values: dict[int, float]  # by seed
    expected: int  # number of seeds in the study
    finished: int = 0  # number of finished runs, with or without the metric

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over the seeds; nan without values."""
        return float(np.mean(list(self.values.values()))) if self.values else float("nan")

    @property
    def std(self) -> float:
        """The standard deviation with ddof 1; nan below two values."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.n > 1 else float("nan")


class Study:
    """The runs of `experiment=<name>`."""

    def __init__(self, name: str, members: Sequence[Member]) -> None:
        self.name, self.members = name, members

    @property
    def runs(self) -> list[Run]:
        """The finished runs."""
        return [member.run for member in self.members if member.run is not None]

    def of(self, settings: Iterable[str]) -> list[Member]:
        """The members with all of these settings.

        Raises InvalidValueError unless they belong to exactly one configuration.
        """
        wanted = set(settings)
        members = [member for member in self.members if wanted <= member.settings]
        seeds = {member.seed for member in members}
        if not members or len(seeds) < len(members):
            accepted = f"the settings of one row of {self.name}, and {len(members)} runs have them"
            raise InvalidValueError("settings", " ".join(sorted(wanted)), accepted)
        return members

    def varied(self, key: str, settings: Iterable[str] = ()) -> list[str]:
        """The settings `key=value` of the members with these settings, in their order."""
        wanted = set(settings)
        values = [
            setting
            for member in self.members
            if wanted <= member.settings
            for setting in member.settings
            if setting.startswith(f"{key}=")
        ]
        return list(dict.fromkeys(values))

    def configurations(self) -> list[frozenset[str]]:
        """The settings of each configuration."""
        return list(dict.fromkeys(member.settings for member in self.members))

    def cell(self, settings: Iterable[str], metric: str) -> Cell:
        """The metric of one configuration.

        "test/comparison_error@lowest" is the metric at the epoch whose mean over the runs is
        lowest.
        """
        members = self.of(settings)
        runs = {member.seed: member.run for member in members if member.run is not None}
        name, _, epoch = metric.partition("@")
        if epoch == "lowest":
            metric = f"{name}@{lowest_epoch([run.by_epoch(name) for run in runs.values()])}"
        values = {seed: run.value(metric) for seed, run in runs.items()}
        measured = {seed: value for seed, value in values.items() if value is not None}
        return Cell(measured, len(members), len(runs))


def lowest_epoch(curves: Sequence[Sequence[float]]) -> int:
    """The epoch, from 1, with the lowest mean over the curves; 1 where there is none.

    Only the epochs that all curves have are compared.
    """
    means = [float(np.mean(values)) for values in zip(*curves)]
    return min(range(len(means)), key=means.__getitem__, default=0) + 1


class Results:
    """The finished and the failed runs below a folder of outputs.

    Args:
        output: that folder.
        overrides: settings, such as data=digits, that the studies were run with in addition to
            their own.
    """

    def __init__(self, output: Path, overrides: Sequence[str] = ()) -> None:
        self.output, self.overrides = output, list(overrides)
        if not output.is_dir():
            raise InvalidValueError("output", str(output), "a folder that holds sweeps")
        self.runs = {run.result["fingerprint"]: run for run in finished_runs(output, RUN_FOLDERS)}
        failed = sorted(path.parent for path in output.glob(f"{RUN_FOLDERS}/{files.FAILURE}"))
        self.failures = {
            failure["fingerprint"]: failure["reason"] for failure in undamaged(failed, read_failure)
        }
        self._studies: dict[str, Study] = {}

    def study(self, name: str) -> Study:
        """The study with its finished and failed runs.

        Raises InvalidValueError for an override that is invalid, that the study varies itself, or
        that has several values.
        """
        if name not in self._studies:
            self._studies[name] = Study(name, self._members(name))
        return self._studies[name]

    def add(self, archive: Archive) -> None:
        """Add archived runs; runs found in folders replace them. Call it before `study`."""
        self.runs, self.failures = archive.with_newer(Archive(self.runs, self.failures))

    def archive_of(self, studies: Iterable[str]) -> Archive:
        """The finished and failed runs of these studies."""
        members = [member for name in studies for member in self.study(name).members]
        return Archive(
            {member.fingerprint: member.run for member in members if member.run is not None},
            {
                member.fingerprint: member.failure
                for member in members
                if member.failure is not None
            },
        )

    def _members(self, name: str) -> list[Member]:
        self._refuse_varied(name)
        command = [f"experiment={name}", f"output={self.output}", *self.overrides]
        requests = compose_command(CONF, command)
        self._refuse_several(requests)
        jobs = plan_jobs(requests)
        if self.overrides:
            with contextlib.suppress(DataError):  # the digits are not needed to read results
                Checker().check(jobs[0].config)
        common = {"seed", "output", "experiment", *map(_key, self.overrides)}
        members = []
        for request, job in zip(requests, jobs):
            settings = frozenset(each for each in request.overrides if _key(each) not in common)
            key = fingerprint(job.config)
            run, failure = self.runs.get(key), self.failures.get(key)
            members.append(Member(settings, job.seed, run, failure, key))
        return members

    def _refuse_varied(self, name: str) -> None:
        """Raise InvalidValueError for an override that the study varies: it would merge rows."""
        experiment = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
        grid = yaml.safe_load(experiment)["hydra"]["sweeper"]["params"]
        for override in self.overrides:
            key, _, value = override.partition("=")
            if key == "experiment" or (key in grid and key != "seed"):
                accepted = f"a setting that the studies do not choose themselves, and {name} does"
                raise InvalidValueError(key, value, accepted)

    def _refuse_several(self, requests: Sequence[JobRequest]) -> None:
        """Raise InvalidValueError for several values of a key other than seed: it adds rows."""
        settings = {setting for request in requests for setting in request.overrides}
        for override in self.overrides:
            key, _, value = override.partition("=")
            if key != "seed" and [_key(setting) for setting in settings].count(key) > 1:
                raise InvalidValueError(key, value, "one value here; several are for seed alone")


def _key(setting: str) -> str:
    return setting.partition("=")[0]
