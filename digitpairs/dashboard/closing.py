"""What TensorBoard shows of a finished sweep in IMAGES and TEXT.

For the best configurations: the wrong pairs and the digits' confusion of the best and of the median
seed, the disk's decision boundary over the training, the config, and where the runs come from.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboard.compat.proto.summary_pb2 import Summary

from digitpairs import files, records
from digitpairs.dashboard.events import EventFile, image_value, text_value
from digitpairs.dashboard.means import MEAN
from digitpairs.dashboard.pictures import Result, best_and_median, error_of, pictures_of
from digitpairs.names import without_seeds

MOST_CONFIGURATIONS = 8  # or the pictures of a grid would take longer than its short runs
SUFFIX = ".pictures"
# By the folder of the configuration, and by that of the run.
Results = Mapping[Path, Mapping[Path, Result]]
PROVENANCE = ("source", "seconds", "array_size", "threads", "commit", "processor", "cores")


def ranked_results(runs: Iterable[Path]) -> Results:
    """The results in these runs' folders, the configuration with the lowest mean test error first.

    Damaged results are left out: the sweep's table names them.
    """
    results: dict[Path, dict[Path, Result]] = defaultdict(dict)
    for run in runs:
        with contextlib.suppress(files.DamagedFileError):
            result = records.read_result(run)
            if result is not None:
                results[run.parent][run] = result
    ranked = sorted(
        results.items(), key=lambda item: statistics.fmean(map(error_of, item[1].values()))
    )
    return dict(ranked)


def write_closing(results: Results) -> list[str]:
    """Write the pictures and texts of the best configurations.

    Returns what could not be read or written, in words.
    """
    faults = []
    for configuration, own in itertools.islice(results.items(), MOST_CONFIGURATIONS):
        try:
            _write(configuration / MEAN, own)
        except (files.DamagedFileError, OSError) as fault:  # such as a full disk
            faults.append(f"TensorBoard has no pictures of {configuration.name}: {fault}")
    return faults


def _write(folder: Path, results: Mapping[Path, Result]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"*{SUFFIX}"):
        old.unlink()
    file = EventFile(folder, SUFFIX)
    for rank, run in best_and_median(results).items():
        seed = results[run]["seed"]
        for name, epoch, picture in pictures_of(run):
            image = picture.image
            tag = f"pictures/{name}, {rank} seed ({seed})"  # after "errors" and "losses"
            file.write(epoch, [image_value(tag, picture.png(), image.width, image.height)])
    file.write(0, list(_texts(results)))


def _texts(results: Mapping[Path, Result]) -> Iterator[Summary.Value]:
    run, result = next(iter(results.items()))
    config = yaml.safe_dump(without_seeds(records.read_config(run)), sort_keys=False)
    yield text_value("config", f"```yaml\n{config}```")
    rows = {key: result[key] for key in PROVENANCE if result.get(key) is not None}
    rows |= {f"version of {name}": version for name, version in result["versions"].items()}
    yield text_value("provenance", _table({**rows, "runs": len(results)}))


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])
