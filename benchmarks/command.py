"""The whole command: how soon it trains, what it costs a job, and its memory; prints medians and ratios with their spread.

    python benchmarks/command.py --rounds 5

1. The time from the start of the process to the first training step, beside that of `import pytorch_lightning` alone, in turn.
2. The time a further job takes in a sweep of runs with hardly any training (10 pairs, 1 epoch), beside what a further job takes
   Hydra's own launcher and sweeper with a task that does nothing, in turn. Both as differences between a large and a small sweep.
3. The whole process's time and its peak memory, workers included (proportional set size), for 10 and for 100 seeds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = "import sys, time, pytorch_lightning; open(sys.argv[1], 'w').write(str(time.time()))"
FIRST_STEP = """
import os, runpy, sys, time
import digitpairs.training.module as module
place, step = sys.argv.pop(1), module.ComparisonModule.training_step
def first(self, *arguments):
    if not os.path.exists(place):
        open(place, "w").write(str(time.time()))
    return step(self, *arguments)
module.ComparisonModule.training_step = first
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""
HYDRA_ALONE = """
import hydra
@hydra.main(version_base="1.3", config_path=CONF, config_name="config")
def nothing(config):
    pass
nothing()
""".replace("CONF", repr(str(ROOT / "conf")))
TINY = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[4]",
    "data.pairs=10",
    "data.test_pairs=10",
    "trainer.max_epochs=1",
]


def seconds_until_written(code: str, *arguments: str) -> float:
    """From the start of a Python with this code to the moment that it writes into its first argument."""
    with tempfile.TemporaryDirectory() as folder:
        place, started = Path(folder) / "moment", time.time()
        run([sys.executable, "-c", code, str(place), *arguments])
        return float(place.read_text()) - started


def run(command: list[str]) -> float:
    """Seconds of the whole process."""
    started = time.perf_counter()
    subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def sweep(folder: str, seeds: int, arguments: list[str]) -> list[str]:
    return [
        sys.executable,
        "train.py",
        *arguments,
        "-m",
        f"seed=0..{seeds - 1}",
        f"output={folder}",
    ]


def start(rounds: int) -> None:
    imports, steps = [], []
    for _ in range(rounds):
        imports.append(seconds_until_written(IMPORT))
        with tempfile.TemporaryDirectory() as folder:
            steps.append(
                seconds_until_written(FIRST_STEP, *sweep(folder, 10, ["model=siamese_mlp"])[2:])
            )
    ratios = sorted(step / alone for step, alone in zip(steps, imports))
    print(
        f"first training step after {statistics.median(steps):.2f} s, `import pytorch_lightning` {statistics.median(imports):.2f} s; "
        f"ratio: median {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def overhead(rounds: int, jobs: int, hydra_jobs: int) -> None:
    ours, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            small, large = (run(sweep(f"{folder}/{count}", count, TINY)) for count in (10, jobs))
            ours.append((large - small) / (jobs - 10))
            alone = [
                sys.executable,
                "-c",
                HYDRA_ALONE,
                "-m",
                "hydra/launcher=basic",
                "hydra/sweeper=basic",
                f"hydra.sweep.dir={folder}/hydra",
            ]
            small, large = (run([*alone, f"seed=range({count})"]) for count in (1, hydra_jobs))
            theirs.append((large - small) / (hydra_jobs - 1))
    ratios = sorted(their / our for our, their in zip(ours, theirs))
    print(
        f"a further job of {jobs}: {1000 * statistics.median(ours):.1f} ms ({1000 * min(ours):.1f} to {1000 * max(ours):.1f}), its training included; "
        f"Hydra alone {1000 * statistics.median(theirs):.1f} ms; ratio: median {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})",
        flush=True,
    )


def memory(seeds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            sweep(folder, seeds, ["model=siamese_mlp", "trainer.max_epochs=5"]),
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        started, peak = time.perf_counter(), 0.0
        try:
            while process.poll() is None:
                peak = max(peak, group_memory(process.pid))
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    print(
        f"{seeds} seeds, 5 epochs: {time.perf_counter() - started:.1f} s in all, peak memory {peak / 2**20:.0f} MB",
        flush=True,
    )


def group_memory(group: int) -> float:
    """Bytes of all processes of the group, what they share counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += (
                    sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
                )
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it has ended meanwhile
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--hydra-jobs", type=int, default=30)
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="*",
        default=[10, 100],
        help="of the sweeps whose memory is measured",
    )
    options = parser.parse_args()
    start(options.rounds)
    overhead(max(1, options.rounds // 2), options.jobs, options.hydra_jobs)
    for seeds in options.seeds:
        memory(seeds)


if __name__ == "__main__":
    main()
