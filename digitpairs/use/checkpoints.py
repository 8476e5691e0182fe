"""Checkpoints of pairs of digits: where they are, and the networks in them.

A checkpoint may come from anywhere. It is loaded without running code of its own: torch reads
numbers and settings only, and the settings may name classes of `digitpairs` only.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from digitpairs import files
from digitpairs.checks import DataError, InvalidValueError
from digitpairs.targets import import_target
from digitpairs.training import PairComparison
from digitpairs.use.comparer import Comparer

ACCEPTED = (
    f"a {files.CHECKPOINT} of task=pairs, the folder of a run, or the folder of a sweep with one "
    "configuration, whose seeds are an ensemble"
)
_TRUSTED_MODULES = ("digitpairs.networks.", "digitpairs.losses.")


def load(path: str | Path, trust_classes: bool = False) -> Comparer:
    """The trained networks of a run or of a sweep's seeds.

    Args:
        path: a checkpoint, the folder of a run, of a configuration (its seeds become an ensemble),
            or of a sweep with a single configuration.
        trust_classes: whether the checkpoint may name classes from outside `digitpairs`. They are
            imported and called, which runs their code. They must be importable, as in training.

    Raises DataError, which names the file and what is accepted.
    """
    paths = find_checkpoints(Path(path))
    names = [each.parent.name if len(paths) > 1 else str(path) for each in paths]
    return Comparer([read_checkpoint(each, trust_classes) for each in paths], names)


def find_checkpoints(path: Path) -> list[Path]:
    """The checkpoints of `path`, by seed; a single one if `path` is a file or the folder of a run.

    Raises DataError if there are none, or if they belong to several configurations.
    """
    if not path.is_dir():
        return [path]
    if (path / files.CHECKPOINT).exists():
        return [path / files.CHECKPOINT]
    levels = (f"{'*/' * level}seed=*/{files.CHECKPOINT}" for level in range(3))
    found = [checkpoint for pattern in levels for checkpoint in path.glob(pattern)]
    configurations = sorted({checkpoint.parent.parent for checkpoint in found})
    if not found:
        raise DataError(f"{path} has no {files.CHECKPOINT}: accepted is {ACCEPTED}")
    if len(configurations) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in configurations[:5])
        more = ", ..." if len(configurations) > 5 else ""
        count = f"{len(configurations)} configurations"
        raise DataError(f"{path} has {count}: name the folder of one of them ({names}{more})")
    return sorted(found, key=_seed_order)


def read_checkpoint(path: Path, trust_classes: bool = False) -> PairComparison:
    """The module of a checkpoint, in evaluation mode; raises as `load` does."""
    content = _read(path)
    settings, state = _settings(path, content), content["state_dict"]
    for key, name in _targets(settings):
        if not (trust_classes or _is_own(name)):
            raise DataError(
                f"{path} names the class {name} ({key}), which is not part of digitpairs: loading "
                "it runs its code. For a checkpoint that you trust, pass trust_classes=True "
                "(--trust-classes), with the class importable as in training"
            )
    try:
        module = PairComparison(**settings)
        module.load_state_dict(state)
    except (InvalidValueError, RuntimeError) as fault:
        message = " ".join(str(fault).split())
        raise DataError(f"{path} does not fit this version or its classes: {message}") from fault
    return module.eval()


def _read(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint of pairs."""
    files.size_of(path)
    try:
        with path.open("rb") as file:
            content = _load_numbers_and_settings(file)
    except PermissionError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror})") from fault
    except Exception as fault:  # a damaged file makes torch raise errors of almost any class
        raise DataError(f"{path} {_fault(fault)}: accepted is {ACCEPTED}") from fault
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise DataError(f"{path} is no checkpoint of Lightning's: accepted is {ACCEPTED}")
    return content


def _load_numbers_and_settings(file: BinaryIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about pickles of other protocols
        content = torch.load(file, map_location="cpu", weights_only=True)
    if zipfile.is_zipfile(file) and (damaged := zipfile.ZipFile(file).testzip()):
        raise zipfile.BadZipFile(damaged)  # torch does not compare the checksums
    return content


def _fault(fault: Exception) -> str:
    """Why torch cannot load a file, in words."""
    code = re.search(r"GLOBAL ([\w.]+)", str(fault))
    if isinstance(fault, pickle.UnpicklingError) and code:
        return f"is refused, since loading it would run code of its own ({code[1]})"
    return "is no file of torch.save, or it is damaged or cut off"


def _settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the checkpoint's answers, as arguments of `PairComparison`."""
    saved = content.get(PairComparison.CHECKPOINT_HYPER_PARAMS_KEY)
    saved = saved if isinstance(saved, Mapping) else {}
    if "loss" in saved:
        raise DataError(f"{path} is of task=disk: accepted is {ACCEPTED}")
    if not {"mean", "std"} <= content["state_dict"].keys():
        raise DataError(f"{path} is of another LightningModule: accepted is {ACCEPTED}")
    if not isinstance(saved.get("network"), Mapping) or "aux" not in saved:
        raise DataError(
            f"{path} was trained with a network object, which it does not hold: load it by "
            "PairComparison.load_from_checkpoint(path, network=...), and use "
            "digitpairs.use.Comparer([model])"
        )
    # checkpoints of earlier versions lack these
    later = {"ensemble_size": 1, "calibrate": "none", "tta": 0}
    settings = {key: saved.get(key, default) for key, default in later.items()}
    return {"network": saved["network"], "aux": saved["aux"], **settings}


def _targets(part: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The names of all classes in a config, with their keys."""
    items = part.items() if isinstance(part, Mapping) else enumerate(part)
    for name, value in items:
        if name == "_target_":
            yield f"{key}{name}", value
        elif isinstance(value, (Mapping, list, tuple)):
            yield from _targets(value, f"{key}{name}.")


def _is_own(name: Any) -> bool:
    """Whether this is the name of a class of the networks or losses of `digitpairs`."""
    if not str(name).startswith("digitpairs."):
        return False
    try:
        target = import_target(name)
    except InvalidValueError:
        return True  # there is no such class, which `PairComparison` reports
    return isinstance(target, type) and target.__module__.startswith(_TRUSTED_MODULES)


def _seed_order(checkpoint: Path) -> tuple[int, str]:
    seed = checkpoint.parent.name.removeprefix("seed=")
    return int(seed) if seed.isdigit() else -1, seed
