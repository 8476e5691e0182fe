"""The base class of the engines, and the functions that they share."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from digitpairs.checks import InvalidValueError, mapping, suggestion
from digitpairs.streams import check_seed
from digitpairs.training import build

Section = Mapping[str, Any]
Result = TypeVar("Result")

VALUE, SETTINGS = "a value", "settings"
# The top-level keys of every config, each a single value or a mapping of settings. An engine
# declares its other keys in `own_keys`.
COMMON_KEYS = {
    "task": VALUE,
    "engine": VALUE,
    "data": SETTINGS,
    "model": SETTINGS,
    "optimizer": SETTINGS,
    "scheduler": SETTINGS,
    "early_stopping": SETTINGS,
    "trainer": SETTINGS,
    "seed": VALUE,
    "seeds": SETTINGS,
    "output": VALUE,
}
# Sections that a config need not have.
OPTIONAL_KEYS = {"logger": SETTINGS, "callbacks": SETTINGS}
MODULE_SEEDS = ("weights", "dropout", "aux")  # keys of `seeds` for the LightningModule
SEEDS = (*MODULE_SEEDS, "order", "augmentation")  # all keys of `seeds`


class Cached(Protocol):
    """Computes a function of a named section once for each value, and caches the result."""

    def __call__(self, name: str, section: Any, compute: Callable[[Any], Result], /) -> Result: ...


class Run(NamedTuple):
    """The results of a run after training and test."""

    history: Sequence[Mapping[str, float]]  # a row for each epoch
    test_metrics: Mapping[str, float]
    final_row: Mapping[str, float]  # of the epoch whose weights the run has
    failure: tuple[int, str] | None  # the epoch and the reason
    source: str  # of the data
    sizes: tuple[int, int]  # numbers of training and test rows
    parameters: int
    checkpoint: Callable[[], bytes]
    files: Mapping[str, bytes] = MappingProxyType({})  # further files of the run, by name
    pause: bytes | None = None  # the state of a run that has paused, which is not tested


class Stretch(NamedTuple):
    """The epochs that runs train now; by default all of them."""

    pauses: Sequence[bytes] = ()  # the states of the runs to go on from, see `Run.pause`
    until: int | None = None  # epochs after which runs pause


class Engine:
    """Base class of the engines. A subclass is registered in `digitpairs.engines`."""

    # Top-level keys of the config beside COMMON_KEYS, each VALUE or SETTINGS.
    own_keys: Mapping[str, str] = {}
    # The largest number of runs that train at once; None if the fastest number is measured.
    most_members: int | None = 100
    # Whether runs that can train with others can also pause, and go on as if they had not.
    can_pause = False

    def check(self, config: Section, cached: Cached) -> Hashable | None:
        """Checks the config of a run, and returns a key: runs with equal keys can train at once.

        The key is None for a run that can only train alone. `check_keys` is called before. Nothing
        is written. Raises InvalidValueError or DataError for a config that cannot be run.
        """
        raise NotImplementedError

    def why_alone(self, config: Section, cached: Cached) -> str | None:
        """The part of a checked run that keeps it from training with others; None if unknown."""
        return None

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        """Trains and tests the runs of these configs at once; each logger gets its run's rows."""
        raise NotImplementedError

    def train_stretch(
        self, configs: Sequence[Section], loggers: Sequence[Logger], stretch: Stretch
    ) -> list[Run]:
        """As `train`, for some of the epochs; only for engines with `can_pause`."""
        raise NotImplementedError

    def check_keys(self, config: Section) -> None:
        """Checks the top-level keys and the seeds.

        Raises InvalidValueError for a key that is missing, unknown, or not a mapping of settings,
        and for an invalid seed.
        """
        keys = {**COMMON_KEYS, **OPTIONAL_KEYS, **self.own_keys}
        for key in config:
            if key not in keys:
                accepted = f"one of the keys {', '.join(keys)}{suggestion(key, keys)}"
                raise InvalidValueError(key, config[key], accepted)
        for key, kind in keys.items():
            value = config.get(key, "nothing")
            if key in OPTIONAL_KEYS and config.get(key) is None:
                continue
            if key not in config or (kind == SETTINGS and not isinstance(value, Mapping)):
                raise InvalidValueError(key, value, f"{kind}, as --cfg job shows")
        check_seed("seed", config["seed"])
        mapping("seeds", config["seeds"], SEEDS, SEEDS)
        for key, seed in config["seeds"].items():
            check_seed(f"seeds.{key}", seed)
        for key, seed in config["data"].items():
            if key.endswith("seed"):
                check_seed(f"data.{key}", seed)


def module_seeds(config: Section) -> dict[str, Any]:
    """The seeds of a run as keyword arguments of its LightningModule."""
    seeds = {f"{purpose}_seed": config["seeds"][purpose] for purpose in MODULE_SEEDS}
    return {"seed": config["seed"], **seeds}


def without_seed_keys(config: Section) -> str:
    """The config without seeds and output as text, equal for runs that differ only in these."""
    rest = {key: value for key, value in config.items() if key not in ("seed", "seeds", "output")}
    return json.dumps(rest | {"data": data_without_seeds(config["data"])}, sort_keys=True)


def data_without_seeds(section: Section) -> dict[str, Any]:
    """The section `data` without its seeds, which do not decide whether the data are available."""
    return {key: value for key, value in section.items() if not key.endswith("seed")}


def leaves_single_row(rows: int, batch_size: int) -> bool:
    """Whether a mini-batch of an epoch has a single row, on which batch norm cannot train."""
    return batch_size == 1 or rows % batch_size == 1


@contextlib.contextmanager
def prefixed_errors(section: str, top_level: Sequence[str] = ()) -> Iterator[None]:
    """Prefixes the keys of InvalidValueError with the section: `c` within `aux` is `aux.c`.

    Keys in `top_level` are not prefixed.
    """
    try:
        yield
    except InvalidValueError as fault:
        raise (fault if fault.key in top_level else fault.within(section)) from None


def build_section(section: str, part: Any, top_level: Sequence[str] = ()) -> Any:
    """The object of a section of the config, with `prefixed_errors`."""
    with prefixed_errors(section, top_level):
        if isinstance(part, Mapping) and "_target_" not in part:
            raise InvalidValueError("_target_", "nothing", "the name of a class, as MODULE.CLASS")
        return build(part)


def lightning_checkpoint(module: pl.LightningModule, epochs: int) -> bytes:
    """A checkpoint in Lightning's format, with weights and settings, for `load_from_checkpoint`."""
    content = {
        "epoch": epochs,
        "global_step": epochs,  # as Lightning counts here, see ComparisonModule.training_step
        "pytorch-lightning_version": pl.__version__,
        "state_dict": module.state_dict(),
        module.CHECKPOINT_HYPER_PARAMS_NAME: "kwargs",
        module.CHECKPOINT_HYPER_PARAMS_KEY: dict(module.hparams),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
