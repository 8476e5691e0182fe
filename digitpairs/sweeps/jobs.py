"""The jobs of a sweep: the config of each run, and the folder that follows from it.

    outputs/<common settings>-<digest>/<own settings>-<digest>/seed=3/

A folder is found again by its digest; the settings before it are for people. The digests do not
depend on the seed, so that the seeds of a configuration share a folder. They do not depend on paths
(`output`, the folder of MNIST), on loggers or on how the sweep is run (`sweep`). For the data
source "auto" they depend on the resolved source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from digitpairs import files
from digitpairs.checks import InvalidValueError, folder
from digitpairs.data import sources
from digitpairs.engines import get_engine
from digitpairs.engines.named_parts import named_parts
from digitpairs.names import Origin, flat, text_of
from digitpairs.streams import check_seed
from digitpairs.sweeps.compose import JobRequest
from digitpairs.sweeps.shown_settings import Setting, shown_settings

# Settings that digests leave out at these values. Results from before a setting existed are found.
NEUTRAL_DEFAULTS = {
    "label_smoothing": 0,
    "ensemble_size": 1,
    "ema": None,
    "calibrate": "none",
    "tta": 0,
    "scheduler.delay": 0,
    "data.polarity": "auto",
    "data.redraw": False,
    "data.augmentation.erase": 0,
}


class Job(NamedTuple):
    """One run."""

    config: dict[str, Any]  # resolved, also the source "auto"; without `hydra` and `sweep`
    seed: int
    configuration: str  # the name of the folder of its configuration
    folder: Path
    settings: Mapping[str, Setting]  # what distinguishes it from other runs, for TensorBoard
    origin: Origin
    until: int | None = None  # epochs after which it pauses; None: it does not pause


def plan_jobs(
    requests: Sequence[JobRequest], sweep: str | None = None, until: int | None = None
) -> list[Job]:
    """The jobs of the requests, in their order. No file of the outputs is read or written.

    Args:
        requests: of the jobs.
        sweep: the name of the sweep's folder; None: it follows from the requests.
        until: epochs after which the jobs pause; None: they do not pause.

    Raises InvalidValueError if no source can be found for "auto", or if two jobs are the same.
    """
    configs = [_prepared(_checked(request.config)) for request in requests]
    patterns = [_without_paths(_prepared(request.pattern)) for request in requests]
    digests = [digest(pattern) for pattern in patterns]
    _refuse_equal_numbers(dict(zip(digests, patterns)))
    output = Path(configs[0]["output"])
    names = folder_names(requests)
    if sweep is None:
        sweep = _existing_folders(output)(f"{names.sweep}-{digest(sorted(set(digests)))}")
    existing = _existing_folders(output / sweep)
    folders = {own: f"{name}-{own}" for name, own in zip(names.configurations, digests)}
    folders = {own: existing(name) for own, name in folders.items()}
    shown = shown_settings(requests, configs, digests)
    jobs = [
        _job(config, request, folders[own], settings, sweep)._replace(until=until)
        for config, request, own, settings in zip(configs, requests, digests, shown)
    ]
    _refuse_repetitions(jobs)
    return jobs


def search_folder(base: JobRequest, identity: Any) -> str:
    """The name of the folder of a search, below `output`.

    Args:
        base: the job that all trials have in common, with the defaults of the searched settings.
        identity: what else decides the search's results, as JSON.
    """
    _checked(base.config)
    pattern = _without_paths(_prepared(base.pattern))
    name = _folder_name(["search", folder_names([base]).sweep])
    return _existing_folders(Path(folder("output", base.config["output"])))(
        f"{name}-{digest([pattern, identity])}"
    )


def digest(value: Any) -> str:
    """Eight hexadecimal digits of SHA-256 over the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def fingerprint(config: dict[str, Any]) -> str:
    """Digest of everything that decides a run's result: its config with the seed, without paths."""
    return digest(_without_paths(config))


def _job(
    config: dict[str, Any],
    request: JobRequest,
    configuration: str,
    settings: Mapping[str, Setting],
    sweep: str,
) -> Job:
    seed = check_seed("seed", config["seed"])
    path = Path(config["output"], sweep, configuration, f"seed={seed}")
    return Job(config, seed, configuration, path, settings, request.origin)


def _refuse_repetitions(jobs: Sequence[Job]) -> None:
    outputs = {job.config["output"] for job in jobs}
    if len(outputs) > 1:
        raise InvalidValueError("output", ",".join(sorted(outputs)), "one folder a sweep")
    counts = Counter(job.folder for job in jobs)
    for job in jobs:
        if counts[job.folder] > 1:
            repetition = f"{job.configuration} has it {counts[job.folder]} times"
            accepted = f"each seed once a configuration; {repetition}"
            raise InvalidValueError("seed", job.seed, accepted)


def _refuse_equal_numbers(patterns: Mapping[str, dict[str, Any]]) -> None:
    """Raise InvalidValueError for two configs that differ only in the type of a number: 5, 5.0.

    They would train the same runs in two folders.
    """
    known: dict[str, dict[str, Any]] = {}
    for pattern in patterns.values():
        first = known.setdefault(digest(_with_whole_numbers(pattern)), pattern)
        if first is not pattern:
            settings, others = flat(first), flat(pattern)
            key = next(key for key in settings if digest(settings[key]) != digest(others[key]))
            values = f"{text_of(settings[key])},{text_of(others[key])}"
            raise InvalidValueError(key, values, "each number once, and these are equal")


def _with_whole_numbers(value: Any) -> Any:
    """The value with 5 in place of 5.0, also within mappings and lists."""
    if isinstance(value, dict):
        return {key: _with_whole_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The config itself. Raises InvalidValueError unless it has the sections of its task."""
    get_engine(config).check_keys({key: value for key, value in config.items() if key != "sweep"})
    return config


def _prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The config without `sweep`, with full paths and the source that "auto" resolves to."""
    rest = {key: value for key, value in config.items() if key != "sweep"}
    return rest | {"data": _resolved(config["data"]), "output": folder("output", config["output"])}


def _resolved(data: dict[str, Any]) -> dict[str, Any]:
    """The section `data` with the full path of `root` and the resolved `source`, if it has them."""
    if data.get("root") not in (None, ""):
        data = {**data, "root": folder("data.root", data["root"])}
    if "source" not in data:
        return data
    try:
        return {**data, "source": sources.resolve(data["source"], data.get("root"))}
    except InvalidValueError as fault:
        raise fault.within("data") from None


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the result, without loggers and without `NEUTRAL_DEFAULTS`."""
    data = config["data"]
    if data.get("source") in ("mnist", "digits"):
        data = {key: value for key, value in data.items() if key != "root"}
    settings = {key: value for key, value in config.items() if key not in ("output", "logger")}
    if not named_parts(config, "callbacks"):
        settings.pop("callbacks", None)
    return _without_neutral_defaults(settings | {"data": data})


def _without_neutral_defaults(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    kept = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            kept[key] = _without_neutral_defaults(value, f"{path}.")
        elif path not in NEUTRAL_DEFAULTS or value != NEUTRAL_DEFAULTS[path]:
            kept[key] = value
    return kept


class FolderNames(NamedTuple):
    """The names of a sweep's folders, without digests."""

    sweep: str
    configurations: list[str]  # of each request


def folder_names(requests: Sequence[JobRequest]) -> FolderNames:
    """The settings that all requests share, and those of each request, with the model first.

    A key is shortened to its last part where that is clear: `lr=0.1` for `optimizer.lr=0.1`.
    """
    models = [request.origin.choices["model"] for request in requests]
    settings = [set(_without_model(request)) for request in requests]
    common = set.intersection(*settings)
    own = [
        [override for override in _without_model(request) if override not in common]
        for request in requests
    ]
    short = _short_keys([*common, *(override for each in own for override in each)])
    shared_model = models[:1] if len(set(models)) == 1 else []
    sweep = [*shared_model, *sorted(map(short, common))]
    return FolderNames(
        _folder_name(sweep or ["models"]),
        [
            _folder_name([*([] if shared_model else [model]), *map(short, each)] or [model])
            for model, each in zip(models, own)
        ],
    )


def _without_model(request: JobRequest) -> list[str]:
    return [each for each in request.origin.overrides if not each.startswith("model=")]


def _short_keys(overrides: Iterable[str]) -> Callable[[str], str]:
    """A function that shortens the key of an override, unless other keys end alike."""
    keys = {override.partition("=")[0] for override in overrides}
    ends = Counter(key.rpartition(".")[2] for key in keys)

    def shorten(override: str) -> str:
        key, _, value = override.partition("=")
        end = key.rpartition(".")[2]
        return f"{end if ends[end] == 1 else key}={value}"

    return shorten


def _existing_folders(parent: Path) -> Callable[[str], str]:
    """A function that returns the name of the folder with the digest of a name.

    Without such a folder it returns the name itself. The folder `parent` is listed once.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(parent.glob("*-*")):
        found[path.name.rpartition("-")[2]].append(path.name)

    def existing(name: str) -> str:
        names = found.get(name.rpartition("-")[2], [name])
        return name if name in names else names[0]

    return existing


def _folder_name(parts: Sequence[str]) -> str:
    """A folder's name; characters that are special to file systems or shells become "_"."""
    return re.sub(r"[^A-Za-z0-9.,=+-]+", "_", ",".join(parts))[: files.NAME_LENGTH]
