"""What an executor adds to a piece: Ray on this machine beside local processes.

    python benchmarks/executors.py --rounds 5

A piece is one run of 10 pairs and one epoch. Each executor trains the pieces one after another in
one process, in rounds that alternate. The time of a piece runs from the first end of a run to the
last, so that the start of Ray and of its worker is left out. The difference is what Ray adds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SETTINGS = ["data=digits", "model=siamese_mlp", "data.pairs=10", "data.test_pairs=10"]
EXECUTORS = ("local", "ray")


def main() -> None:
    arguments = parsed_arguments()
    if arguments.only:
        print(seconds_of_a_piece(arguments.only, arguments.pieces))
        return
    added = []
    for number in range(arguments.rounds):
        local, ray = (measured(executor, arguments.pieces) for executor in EXECUTORS)
        added.append(1000 * (ray - local))
        print(f"round {number}: local {1000 * local:.1f} ms, ray {1000 * ray:.1f} ms a piece")
    spread = f"{min(added):.1f} to {max(added):.1f}, n = {len(added)}"
    print(f"Ray adds {statistics.median(added):.1f} ms a piece ({spread})")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=60)
    parser.add_argument("--only", choices=EXECUTORS, help="one measurement, in this process")
    return parser.parse_args()


def measured(executor: str, pieces: int) -> float:
    """Seconds of a piece, in a process of its own: one that used Ray cannot fork workers."""
    command = [sys.executable, __file__, "--only", executor, "--pieces", str(pieces)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return float(subprocess.check_output(command, text=True, env=environment).split()[-1])


def seconds_of_a_piece(executor: str, pieces: int) -> float:
    from digitpairs.cli import CONF
    from digitpairs.sweeps.compose import compose_command
    from digitpairs.sweeps.jobs import plan_jobs

    with tempfile.TemporaryDirectory() as output:
        settings = [*SETTINGS, "trainer.max_epochs=1", f"output={output}"]
        jobs = plan_jobs(compose_command(CONF, [*settings, f"seed=range({pieces})"]))
        ends = []
        with contextlib.closing(started(executor)) as running:
            for message in running.run([{index: job} for index, job in enumerate(jobs)]):
                if message.kind == "events" and any(event[0] == "ended" for event in message.value):
                    ends.append(time.perf_counter())
                assert message.kind != "failed", message.value
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def started(executor: str):
    from digitpairs.sweeps.executors.local import LocalExecutor
    from digitpairs.sweeps.executors.ray import Cluster, RayExecutor

    if executor == "local":
        return LocalExecutor(processes=1, threads=1)
    return RayExecutor(Cluster(address=None, cpus=1, gpus=0, tasks=1), tasks=1, threads=1)


if __name__ == "__main__":
    main()
