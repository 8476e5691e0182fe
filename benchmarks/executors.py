"""What an executor adds to a piece: Ray on this machine beside local processes.

    python benchmarks/executors.py --rounds 5

A piece is one run of 10 pairs and one epoch. Both executors train equal pieces at the same time, so
that the load of the machine is the same, each one after another in one process. The time of a piece
is the median time between two ends of runs; the start of Ray and of its worker is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SETTINGS = ["data=digits", "model=siamese_mlp", "data.pairs=10", "data.test_pairs=10"]


def main() -> None:
    arguments = parsed_arguments()
    if arguments.one:
        print(*seconds_of_a_piece(arguments.pieces))
        return
    added = []
    for number in range(arguments.rounds):
        local, ray = measured(arguments.pieces)
        added.append(1000 * (ray - local))
        print(
            f"round {number}: local {1000 * local:.1f} ms, ray {1000 * ray:.1f} ms a piece",
            flush=True,
        )
    spread = f"{min(added):.1f} to {max(added):.1f}, n = {len(added)}"
    print(f"Ray adds {statistics.median(added):.1f} ms a piece ({spread})")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--one", action="store_true", help="one round, in this process")
    return parser.parse_args()


def measured(pieces: int) -> list[float]:
    """Seconds of a piece, in a new process: one that used Ray cannot fork workers."""
    command = [sys.executable, __file__, "--one", "--pieces", str(pieces)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.check_output(command, text=True, env=environment)
    return [float(word) for word in output.split()[-2:]]


def seconds_of_a_piece(pieces: int) -> list[float]:
    """The seconds of a piece by local processes, and by Ray."""
    from digitpairs.sweeps.executors.local import LocalExecutor
    from digitpairs.sweeps.executors.ray import Cluster, RayExecutor

    with tempfile.TemporaryDirectory() as output, ThreadPoolExecutor(2) as threads:
        local = ends(LocalExecutor(processes=1, threads=1), f"{output}/local", pieces)
        next(local)  # its process is forked before Ray has threads
        cluster = Cluster(address=None, cpus=1, gpus=0, tasks=1)
        ray = ends(RayExecutor(cluster, tasks=1, threads=1), f"{output}/ray", pieces)
        next(ray)
        return list(threads.map(seconds_between, (local, ray)))


def ends(executor, output: str, pieces: int) -> Iterator[float]:
    """The times at which the runs end."""
    from digitpairs.cli import CONF
    from digitpairs.sweeps.compose import compose_command
    from digitpairs.sweeps.jobs import plan_jobs

    settings = [*SETTINGS, "trainer.max_epochs=1", f"output={output}", f"seed=range({pieces})"]
    jobs = plan_jobs(compose_command(CONF, settings))
    with contextlib.closing(executor):
        for message in executor.run([{index: job} for index, job in enumerate(jobs)]):
            assert message.kind != "failed", message.value
            if message.kind == "events" and any(event[0] == "ended" for event in message.value):
                yield time.perf_counter()


def seconds_between(moments: Iterator[float]) -> float:
    found: Sequence[float] = list(moments)
    return statistics.median(after - before for before, after in itertools.pairwise(found))


if __name__ == "__main__":
    main()
