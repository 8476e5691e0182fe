"""What sweeps of many short runs cost: time, memory, files and bytes, by the number of runs.

    python benchmarks/scale.py                          # 1,000 and 10,000 runs
    python benchmarks/scale.py --runs 1000 100000       # hours
    python benchmarks/scale.py --runs 200 --keep /tmp/scale

Each run trains for one epoch on 20 pairs, so that what is measured is everything around the
training. For each number of runs a row for each command: the sweep, the same command again (which
finds all runs finished), the analysis, and the status. Seconds are wall seconds and CPU seconds of
all processes; memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TINY = ["data=digits", "data.pairs=20", "data.test_pairs=20", "trainer.max_epochs=1"]
MODEL = ["model=siamese_mlp", "model.body.hidden=[2]"]


class Cost(NamedTuple):
    """What a command used."""

    wall: float  # seconds
    cpu: float  # seconds of all its processes
    memory: float  # MiB of the largest process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--keep", type=Path, help="folder for the sweeps; else they are deleted")
    options = parser.parse_args()
    print(f"{'runs':>8} {'command':10} {'wall s':>9} {'CPU s':>9} {'ms a run':>9} {'MiB':>7}")
    for runs in options.runs:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.keep or Path(temporary)) / str(runs)
            for name, cost in costs(runs, folder):
                each = 1000 * cost.wall / runs
                row = f"{cost.wall:9.1f} {cost.cpu:9.1f} {each:9.2f} {cost.memory:7.0f}"
                print(f"{runs:8} {name:10} {row}", flush=True)
            files, size = contents(folder)
            per_run = f"{files / runs:.1f} files and {size / runs / 1000:.0f} kB a run"
            print(f"{runs:8} left       {files} files, {size / 1e6:.0f} MB: {per_run}", flush=True)


def costs(runs: int, folder: Path) -> Iterator[tuple[str, Cost]]:
    """The cost of each command, in this order."""
    arguments = [*MODEL, *TINY, f"seed=0..{runs - 1}", f"output={folder}"]
    sweep = ["-m", "digitpairs", "-m", *arguments]
    for name, command in {
        "sweep": sweep,
        "again": sweep,
        "analysis": ["-m", "digitpairs.analysis", str(folder)],
        "status": ["-m", "digitpairs.status", str(folder)],
    }.items():
        yield name, cost_of([sys.executable, *command])


def cost_of(command: Sequence[str]) -> Cost:
    """Run the command; its output is dropped unless it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(output.read().decode(errors="replace")[-2000:])
    wall = time.perf_counter() - start
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def contents(folder: Path) -> tuple[int, int]:
    """The number of files below the folder and their bytes."""
    sizes = [
        (Path(place) / name).stat().st_size for place, _, names in os.walk(folder) for name in names
    ]
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    main()
