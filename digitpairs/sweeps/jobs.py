"""What was asked for: each job's config, and the folder that follows from it.

    outputs/<what was asked>-<digest>/<configuration>-<digest>/seed=3/

Both digests leave the seed out, so that seeds of one configuration stand side by side, and the same command finds its
folder again. They also leave out where things lie on this machine (`output`, the folder of MNIST) and how the sweep is run
(`sweep`), and know which data "auto" stands for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from digitpairs import files
from digitpairs.checks import InvalidValueError, folder
from digitpairs.data import sources
from digitpairs.engines import get_engine
from digitpairs.streams import check_seed
from digitpairs.sweeps.compose import JobRequest

# Settings that are not in the digests at these values: runs from before them are found again.
NEUTRAL_DEFAULTS = {"label_smoothing": 0, "scheduler.delay": 0, "data.polarity": "auto"}


class Job(NamedTuple):
    """One run."""

    config: dict[
        str, Any
    ]  # resolved, with the data that "auto" stands for; without `hydra` and `sweep`
    seed: int
    configuration: str  # the name of the folder of its configuration
    folder: Path


def plan_jobs(requests: Sequence[JobRequest]) -> list[Job]:
    """The jobs for what was asked, in their order.

    Raises InvalidValueError where "auto" stands for nothing or two jobs are one and the same; touches no file of the outputs.
    """
    configs = [_prepared(_checked(each.config)) for each in requests]
    digests = [digest(_without_paths(_prepared(each.pattern))) for each in requests]
    asked = [[item for item in each.overrides if not _is_path_or_seed(item)] for each in requests]
    common = set(asked[0]).intersection(*asked[1:])
    names = [
        _name([each.model, *[item for item in items if item not in common]])
        for each, items in zip(requests, asked)
    ]
    sweep_name = f"{_name(sorted(common) or [names[0]])}-{digest(sorted(set(digests)))}"
    jobs = []
    for config, name, each in zip(configs, names, digests):
        seed = check_seed("seed", config["seed"])
        jobs.append(
            Job(
                config,
                seed,
                f"{name}-{each}",
                Path(config["output"], sweep_name, f"{name}-{each}", f"seed={seed}"),
            )
        )
    _refuse_repetitions(jobs)
    return jobs


def digest(value: Any) -> str:
    """Eight hexadecimal digits of SHA-256 over the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def fingerprint(config: dict[str, Any]) -> str:
    """Digest of what decides a run's result: its config with the seed, without the places."""
    return digest(_without_paths(config))


def _refuse_repetitions(jobs: Sequence[Job]) -> None:
    outputs = {job.config["output"] for job in jobs}
    if len(outputs) > 1:
        raise InvalidValueError("output", ",".join(sorted(outputs)), "one folder a sweep")
    for folder, count in Counter(job.folder for job in jobs).items():
        if count > 1:
            again = next(job for job in jobs if job.folder == folder)
            raise InvalidValueError(
                "seed",
                again.seed,
                f"each seed once a configuration; {again.configuration} was asked for {count} times",
            )


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The config itself. Raises InvalidValueError unless its sections are those of its task."""
    get_engine(config).check_keys({key: value for key, value in config.items() if key != "sweep"})
    return config


def _prepared(config: dict[str, Any]) -> dict[str, Any]:
    """Without how the sweep is run, with whole paths and the data that "auto" stands for."""
    rest = {key: value for key, value in config.items() if key != "sweep"}
    return rest | {"data": _resolved(config["data"]), "output": folder("output", config["output"])}


def _resolved(data: dict[str, Any]) -> dict[str, Any]:
    """The section `data` with its root's whole path, and with what "auto" stands for. That of the
    disk has neither.
    """
    if data.get("root") not in (None, ""):
        data = {**data, "root": folder("data.root", data["root"])}
    if "source" not in data:
        return data
    try:
        return {**data, "source": sources.resolve(data["source"], data.get("root"))}
    except InvalidValueError as fault:
        raise fault.within("data") from None


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """What decides the result, without settings that came later, at the value that leaves results as they were."""
    data = config["data"]
    if data.get("source") in ("mnist", "digits"):
        data = {key: value for key, value in data.items() if key != "root"}
    return _without_neutral_defaults(
        {key: value for key, value in {**config, "data": data}.items() if key != "output"}
    )


def _without_neutral_defaults(config: dict[str, Any], inside: str = "") -> dict[str, Any]:
    paths = {f"{inside}{key}": (key, value) for key, value in config.items()}
    return {
        key: _without_neutral_defaults(value, f"{path}.") if isinstance(value, dict) else value
        for path, (key, value) in paths.items()
        if path not in NEUTRAL_DEFAULTS or value != NEUTRAL_DEFAULTS[path]
    }


def _is_path_or_seed(override: str) -> bool:
    key = override.lstrip("+").split("=", 1)[0]
    return key in ("seed", "output", "data.root") or key.startswith("sweep.")


def _name(parts: Sequence[str]) -> str:
    """A folder's name out of overrides; what a file system or a shell could trip over becomes "_"."""
    return re.sub(r"[^A-Za-z0-9.,=+-]+", "_", ",".join(parts))[: files.NAME_LENGTH]
