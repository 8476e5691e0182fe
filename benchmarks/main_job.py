"""The main job against what a user would otherwise run, in turn, in one process; prints ratios with their spread.

    python benchmarks/main_job.py --rounds 7 --seeds 2

Timed from the composed jobs to the last result on disk, imports and the reading of MNIST excluded on all sides; each
contender with torch's default number of threads. One round runs all contenders one after another, and a ratio is formed
within its round, since the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contenders import CONF, plain_loop, stock_lightning  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402

from digitpairs.data import sources  # noqa: E402
from digitpairs.sweeps import files  # noqa: E402
from digitpairs.sweeps.jobs import Asked, plan_jobs  # noqa: E402
from digitpairs.sweeps.run import run  # noqa: E402

CASES = {"siamese_mlp": 50, "siamese_cnn": 100}  # batch sizes


def this_project(source, name: str, batch_size: int, epochs: int, seeds: range, folder: Path) -> Callable[[], None]:
    """The project's runs one after another, metrics, events, checkpoints and results included; composed beforehand."""
    composed = []
    with initialize_config_dir(CONF, version_base="1.3"):
        for seed in seeds:
            overrides = [
                f"model={name}", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu",
                f"data.source={source.name}", f"output={folder}", f"seed={seed}",
            ]  # fmt: skip
            composed.append(Asked(compose("config", overrides=overrides), overrides, name))

    def execute() -> None:
        for job in plan_jobs(composed):
            job.folder.mkdir(parents=True)
            files.write_json(job.folder / files.RESULT, run(job))

    return execute


@contextlib.contextmanager
def without_lightnings_cuda_check():
    """The plain loop's user has not imported Lightning, which slows every step of torch's Adam where there is no GPU."""
    key = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.pop(key, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[key] = before


def measure(task: Callable[[], None]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def one_round(source, name: str, batch_size: int, epochs: int, seeds: range, stock: bool) -> dict[str, float]:
    """Seconds of each contender."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (source, name, batch_size, epochs, seeds)
        with without_lightnings_cuda_check():
            seconds = {"plain": measure(lambda: plain_loop(*arguments, Path(folder) / "plain"))}
        seconds["this project"] = measure(this_project(*arguments, Path(folder) / "ours"))
        if stock:
            seconds["stock Lightning"] = measure(lambda: stock_lightning(*arguments, Path(folder) / "stock"))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--model", choices=CASES, action="append")
    parser.add_argument("--no-stock", action="store_true", help="leave stock Lightning out, which takes the longest")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the contenders' are not the matter here
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    source = sources.load(sources.resolve("auto"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, {source.name}")
    for name in options.model or CASES:
        one_round(source, name, CASES[name], 1, range(1), not options.no_stock)  # warm-up
        rounds = [
            one_round(source, name, CASES[name], options.epochs, range(options.seeds), not options.no_stock)
            for _ in range(options.rounds)
        ]
        print(f"\n{name}, batch {CASES[name]}, {options.epochs} epochs, {options.seeds} seeds a round, {options.rounds} rounds")
        for contender in rounds[0]:
            seconds = [each[contender] / options.seeds for each in rounds]
            ratios = sorted(each[contender] / each["plain"] for each in rounds)
            print(
                f"  {contender:16} {statistics.median(seconds):6.3f} s a seed; to the plain loop: "
                f"median {statistics.median(ratios):5.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
