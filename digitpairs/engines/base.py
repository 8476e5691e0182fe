"""What all engines have in common."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from digitpairs.checks import InvalidValueError, mapping, suggestion
from digitpairs.streams import check_seed
from digitpairs.training import build

Section = Mapping[str, Any]
# Does a piece of work once for each value of a named section, and gives its outcome again.
Once = Callable[[str, Any, Callable[[Any], Any]], Any]
COMMON_SECTIONS = (
    "task",
    "engine",
    "data",
    "model",
    "optimizer",
    "scheduler",
    "early_stopping",
    "trainer",
    "seed",
    "seeds",
    "output",
)
# The sections that are single values
COMMON_VALUES = ("task", "engine", "seed", "output", "two_stage", "label_smoothing")
STREAMS_OF_TRAINING = ("weights", "dropout", "aux")
STREAMS = (*STREAMS_OF_TRAINING, "order", "augmentation")


class Run(NamedTuple):
    """What is left of a run after training and test."""

    history: Sequence[Mapping[str, float]]  # a row an epoch
    test_metrics: Mapping[str, float]
    final_row: Mapping[str, float]  # of the epoch whose weights the run has
    failure: tuple[int, str] | None  # the epoch and the reason
    source: str  # of the data
    sizes: tuple[int, int]  # training and test rows
    parameters: int
    checkpoint: Callable[[], bytes]
    files: Mapping[str, bytes] = MappingProxyType({})  # others that it leaves, by name


class Engine:
    """Base of the engines."""

    own_sections: tuple[str, ...] = ()  # of the config, beside the common ones
    # How many runs train at once at most; None: what is fastest is measured.
    most_members: int | None = 100

    def check(self, config: Section, once: Once) -> Hashable | None:
        """What runs that can train at once have in common; None for a run that trains by itself.

        Raises InvalidValueError or DataError for a config that cannot be run. `check_keys` comes first.
        Nothing is written.
        """
        raise NotImplementedError

    def train(self, configs: Sequence[Section], loggers: Sequence[Logger]) -> list[Run]:
        """Trains and tests the runs of these configs, at once if they are several; the loggers get their rows."""
        raise NotImplementedError

    def check_keys(self, config: Section) -> None:
        """Raises InvalidValueError for a section that is missing, unknown or no mapping, or a seed that
        is none.
        """
        sections = (*COMMON_SECTIONS, *self.own_sections)
        for key in config:
            if key not in sections:
                raise InvalidValueError(
                    key,
                    config[key],
                    f"one of the keys {', '.join(sections)}{suggestion(key, sections)}",
                )
        for key in sections:
            kind = "a value" if key in COMMON_VALUES else "settings"
            if key not in config or not (key in COMMON_VALUES or isinstance(config[key], Mapping)):
                raise InvalidValueError(
                    key, config.get(key, "nothing"), f"{kind}, as --cfg job shows"
                )
        check_seed("seed", config["seed"])
        mapping("seeds", config["seeds"], STREAMS, STREAMS)
        for section in ("seeds", "data"):
            for key, seed in config[section].items():
                if section == "seeds" or key.endswith("seed"):
                    check_seed(f"{section}.{key}", seed)


def stream_seeds(config: Section) -> dict[str, int]:
    """The seeds of a run's streams, as arguments of its module."""
    return {"seed": config["seed"]} | {
        f"{purpose}_seed": config["seeds"][purpose] for purpose in STREAMS_OF_TRAINING
    }


def without_seed_keys(config: Section) -> str:
    """What runs have in common that differ in their seeds alone, as text."""
    rest = {key: value for key, value in config.items() if key not in ("seed", "seeds", "output")}
    return json.dumps(rest | {"data": data_without_seeds(config["data"])}, sort_keys=True)


def data_without_seeds(section: Section) -> dict[str, Any]:
    """What decides whether data can be had."""
    return {key: value for key, value in section.items() if not key.endswith("seed")}


@contextlib.contextmanager
def naming(section: str, but: Sequence[str] = ()) -> Iterator[None]:
    """Errors of a part, with the key that the user wrote: `c` within aux is `aux.c`; keys in `but` are whole already."""
    try:
        yield
    except InvalidValueError as fault:
        raise (fault if fault.key in but else fault.within(section)) from None


def built(section: str, part: Any, but: Sequence[str] = ()) -> Any:
    """The object of a section, its errors named."""
    with naming(section, but):
        if isinstance(part, Mapping) and "_target_" not in part:
            raise InvalidValueError("_target_", "nothing", "the name of a class, as MODULE.CLASS")
        return build(part)


def lightning_checkpoint(module: pl.LightningModule, epochs: int) -> bytes:
    """What the module's class reads by `load_from_checkpoint`: weights and settings, in Lightning's format."""
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
