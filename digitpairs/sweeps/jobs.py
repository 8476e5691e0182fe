"""What was asked for: each job's config, and the folder that follows from it.

    outputs/<what was asked>-<digest>/<configuration>-<digest>/seed=3/

Both digests leave the seed out, so that seeds of one configuration stand side by side, and the same command finds its
folder again. They also leave out where things lie on this machine (`output`, the folder of MNIST), and know which data
"auto" stands for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict

from digitpairs.checks import InvalidValue
from digitpairs.data import sources
from digitpairs.streams import check_seed

_NAME_LENGTH = 120  # of a folder, without its digest; file systems take 255 bytes


class Asked(NamedTuple):
    """A config as Hydra composed it, the overrides that made it, and the choice of the group `model`."""

    config: DictConfig
    overrides: Sequence[str]
    model: str


class Job(NamedTuple):
    """One run."""

    config: dict[str, Any]  # resolved, with the data that "auto" stands for; without `hydra`
    seed: int
    configuration: str  # the name of the folder of its configuration
    folder: Path


def plan_jobs(asked_for: Sequence[Asked]) -> list[Job]:
    """The jobs for Hydra's configs, in their order.

    Raises InvalidValue or OmegaConf's errors for what cannot be read, and InvalidValue where two jobs are one and the
    same; touches no file of the outputs.
    """
    configs = [_prepared(each.config) for each in asked_for]
    asked = [[item for item in each.overrides if not _concerns_place_or_seed(item)] for each in asked_for]
    common = [item for item in asked[0] if all(item in each for each in asked)]
    names = [_name([each.model, *[item for item in items if item not in common]]) for each, items in zip(asked_for, asked)]
    digests = [digest(config.without_seed) for config in configs]
    sweep_digest = digest(sorted(set(digests)))
    sweep = Path(configs[0].resolved["output"]) / f"{_name(sorted(common) or [names[0]])}-{sweep_digest}"
    jobs = [
        Job(config.resolved, config.seed, f"{name}-{each}", sweep / f"{name}-{each}" / f"seed={config.seed}")
        for config, name, each in zip(configs, names, digests)
    ]
    _refuse_repetitions(jobs)
    return jobs


def digest(value: Any) -> str:
    """Eight hexadecimal digits of SHA-256 over the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def fingerprint(config: dict[str, Any]) -> str:
    """Digest of what decides a run's result: its config with the seed, without the places."""
    return digest(_without_places(config))


def _refuse_repetitions(jobs: Sequence[Job]) -> None:
    outputs = {job.config["output"] for job in jobs}
    if len(outputs) > 1:
        raise InvalidValue("output", ",".join(sorted(outputs)), "one folder a sweep")
    for (folder, count) in Counter(job.folder for job in jobs).items():
        if count > 1:
            again = next(job for job in jobs if job.folder == folder)
            raise InvalidValue("seed", again.seed, f"each seed once a configuration; {again.configuration} was asked for {count} times")


class _Prepared(NamedTuple):
    resolved: dict[str, Any]
    without_seed: dict[str, Any]
    seed: int


def _prepared(config: DictConfig) -> _Prepared:
    task = config.copy()
    with open_dict(task):
        task.pop("hydra", None)
        task.data.source = _resolved_source(task.data)
    resolved = OmegaConf.to_container(task, resolve=True, throw_on_missing=True)
    seed = check_seed("seed", resolved["seed"])
    task.seed = "*"  # what follows the seed is no part of the configuration, what is pinned is
    without_seed = _without_places(OmegaConf.to_container(task, resolve=True))
    return _Prepared(resolved, without_seed, seed)


def _resolved_source(data: DictConfig) -> str:
    try:
        return sources.resolve(data.source, data.root)
    except InvalidValue as fault:
        raise fault.within("data") from None


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    data = config["data"]
    if data["source"] in ("mnist", "digits"):
        data = {key: value for key, value in data.items() if key != "root"}
    return {**{key: value for key, value in config.items() if key != "output"}, "data": data}


def _concerns_place_or_seed(override: str) -> bool:
    return override.lstrip("+").split("=", 1)[0] in ("seed", "output", "data.root")


def _name(parts: Sequence[str]) -> str:
    """A folder's name out of overrides; what a file system or a shell could trip over becomes "_"."""
    return re.sub(r"[^A-Za-z0-9.,=+-]+", "_", ",".join(parts))[:_NAME_LENGTH]
