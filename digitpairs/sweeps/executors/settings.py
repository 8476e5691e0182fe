"""The settings of the executors: the sections `sweep.ray` and `sweep.slurm`.

This module imports neither Ray nor submitit.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from digitpairs.checks import InvalidValueError, boolean, integer, mapping, number, positive

EXECUTORS = ("local", "ray", "slurm")
# The package that an executor needs, which the extra of the executor's name installs
PACKAGES = {"ray": "ray", "slurm": "submitit"}
_ADDRESS = re.compile(r"auto|[^\s:/]+:\d{1,5}")
_MEMORY = re.compile(r"[1-9]\d*(\.\d+)?[KMGT]?B?", re.IGNORECASE)


class RaySettings(NamedTuple):
    """The section `sweep.ray`."""

    address: str | None = None  # None: a cluster that is started on this machine
    cpus: float | None = None  # of a piece; None: its threads
    gpus: float | None = None  # of a piece, may be a fraction; None: 1 if the runs train on a GPU


class SlurmSettings(NamedTuple):
    """The section `sweep.slurm`."""

    partition: str | None = None
    account: str | None = None
    time: int = 60  # minutes
    memory: str | None = None  # of a job, such as 4GB
    gpus: int = 0  # of a job
    wait: bool = True
    options: Mapping[str, Any] = MappingProxyType({})  # further options of sbatch


def check_executor(executor: str) -> None:
    """Raise InvalidValueError unless the package that the executor needs is installed."""
    package = PACKAGES.get(executor)
    if package is not None and importlib.util.find_spec(package) is None:
        accepted = f'local without {package}: pip install "digitpairs[{executor}]"'
        raise InvalidValueError("sweep.executor", executor, accepted)


def ray_settings(section: Any) -> RaySettings:
    """The checked settings of `sweep.ray`. Raises InvalidValueError."""
    mapping("sweep.ray", section, RaySettings._fields)
    settings = RaySettings(**section)
    address = settings.address
    if address is not None and not (isinstance(address, str) and _ADDRESS.fullmatch(address)):
        accepted = "HOST:PORT of a cluster's head, auto (the cluster of this machine) or null"
        raise InvalidValueError("sweep.ray.address", address, accepted)
    if settings.cpus is not None:
        positive("sweep.ray.cpus", settings.cpus)
    if settings.gpus is not None:
        number("sweep.ray.gpus", settings.gpus)
    return settings


def slurm_settings(section: Any) -> SlurmSettings:
    """The checked settings of `sweep.slurm`. Raises InvalidValueError."""
    mapping("sweep.slurm", section, SlurmSettings._fields)
    options = section.get("options", {})
    if not isinstance(options, Mapping):
        accepted = "a mapping of options of sbatch, such as {qos: high}"
        raise InvalidValueError("sweep.slurm.options", options, accepted)
    settings = SlurmSettings(**section)
    for key in ("partition", "account"):
        value = getattr(settings, key)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidValueError(f"sweep.slurm.{key}", value, "a name of your cluster, or null")
    integer("sweep.slurm.time", settings.time, at_least=1)
    memory = settings.memory
    if memory is not None and not (isinstance(memory, str) and _MEMORY.fullmatch(memory)):
        raise InvalidValueError("sweep.slurm.memory", memory, "a size such as 4GB, or null")
    integer("sweep.slurm.gpus", settings.gpus)
    boolean("sweep.slurm.wait", settings.wait)
    return settings
