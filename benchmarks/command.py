"""The whole command: time to the first training step, time per job, memory.

    python benchmarks/command.py --rounds 5

It prints medians and ratios with their range:

1. The time from the start of the process to the first training step, and the time of
   `import pytorch_lightning` alone, measured alternately.
2. The time of a further job in a sweep with hardly any training (10 pairs, 1 epoch), and the time
   of a further job in Hydra's own launcher and sweeper with a task that does nothing, measured
   alternately. Both are differences between a large and a small sweep.
3. The time of the whole process and its peak memory, workers included (proportional set size), for
   10 and for 100 seeds.
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
SILENT = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SMALL_SWEEP = 10  # jobs
IMPORT = "import sys, time, pytorch_lightning; open(sys.argv[1], 'w').write(str(time.time()))"
FIRST_STEP = """
import os, runpy, sys, time
import digitpairs.training.module as module
path, step = sys.argv.pop(1), module.ComparisonModule.training_step
def timed_step(self, *arguments):
    if not os.path.exists(path):
        open(path, "w").write(str(time.time()))
    return step(self, *arguments)
module.ComparisonModule.training_step = timed_step
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
    """Time from the start of Python until the code writes the time into its first argument."""
    with tempfile.TemporaryDirectory() as folder:
        path, started = Path(folder) / "time", time.time()
        run([sys.executable, "-c", code, str(path), *arguments])
        return float(path.read_text()) - started


def run(command: list[str]) -> float:
    """Seconds of the whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, **SILENT)
    return time.perf_counter() - started


def sweep(folder: str, seeds: int, settings: list[str]) -> list[str]:
    """The arguments of train.py for a sweep over seeds."""
    return [*settings, "-m", f"seed=0..{seeds - 1}", f"output={folder}"]


def train(folder: str, seeds: int, settings: list[str]) -> list[str]:
    return [sys.executable, "train.py", *sweep(folder, seeds, settings)]


def ratios_of(numerators: list[float], denominators: list[float], decimals: int) -> str:
    """The median of the ratios and their range."""
    ratios = [above / below for above, below in zip(numerators, denominators)]
    median, low, high = (
        f"{value:.{decimals}f}" for value in (statistics.median(ratios), min(ratios), max(ratios))
    )
    return f"ratio: median {median} ({low} to {high})"


def start(rounds: int) -> None:
    imports, steps = [], []
    for _ in range(rounds):
        imports.append(seconds_until_written(IMPORT))
        with tempfile.TemporaryDirectory() as folder:
            arguments = sweep(folder, 10, ["model=siamese_mlp"])
            steps.append(seconds_until_written(FIRST_STEP, *arguments))
    print(
        f"first training step after {statistics.median(steps):.2f} s,"
        f" `import pytorch_lightning` {statistics.median(imports):.2f} s;"
        f" {ratios_of(steps, imports, decimals=2)}",
        flush=True,
    )


def overhead(rounds: int, jobs: int, hydra_jobs: int) -> None:
    ours, hydras = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            small = run(train(f"{folder}/small", SMALL_SWEEP, TINY))
            large = run(train(f"{folder}/large", jobs, TINY))
            ours.append(1000 * (large - small) / (jobs - SMALL_SWEEP))
            hydra = [sys.executable, "-c", HYDRA_ALONE, "-m", f"hydra.sweep.dir={folder}/hydra"]
            hydra += ["hydra/launcher=basic", "hydra/sweeper=basic"]
            small = run([*hydra, "seed=range(1)"])
            large = run([*hydra, f"seed=range({hydra_jobs})"])
            hydras.append(1000 * (large - small) / (hydra_jobs - 1))
    print(
        f"a further job of {jobs}: {statistics.median(ours):.1f} ms"
        f" ({min(ours):.1f} to {max(ours):.1f}), its training included;"
        f" Hydra alone {statistics.median(hydras):.1f} ms; {ratios_of(hydras, ours, decimals=1)}",
        flush=True,
    )


def memory(seeds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = train(folder, seeds, ["model=siamese_mlp", "trainer.max_epochs=5"])
        process = subprocess.Popen(command, start_new_session=True, **SILENT)
        started, peak = time.perf_counter(), 0.0
        try:
            while process.poll() is None:
                peak = max(peak, group_memory(process.pid))
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    print(
        f"{seeds} seeds, 5 epochs: {time.perf_counter() - started:.1f} s in all,"
        f" peak memory {peak / 2**20:.0f} MB",
        flush=True,
    )


def group_memory(group: int) -> float:
    """Bytes of all processes of the group; shared memory counts once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) != group:
                continue
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # the process has ended
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
        help="numbers of seeds for which memory is measured",
    )
    options = parser.parse_args()
    start(options.rounds)
    overhead(max(1, options.rounds // 2), options.jobs, options.hydra_jobs)
    for seeds in options.seeds:
        memory(seeds)


if __name__ == "__main__":
    main()
