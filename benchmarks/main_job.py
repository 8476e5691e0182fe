"""The main job against a plain loop and stock Lightning, in one process; prints ratios.

    python benchmarks/main_job.py --rounds 5

The time runs from the composed jobs to the last result on disk, without imports and without reading
MNIST. The loops use torch's default number of threads. A round runs all contenders one after
another, and ratios are formed within a round, since the speed of the machine drifts. The loops take
the same time for every seed, so they run a few seeds; this project trains all seeds of the round at
once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
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
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from contenders import CONF, plain_loop, stock_lightning
from hydra import compose, initialize_config_dir

from digitpairs.cli import run_and_print_table
from digitpairs.data import sources
from digitpairs.sweeps.compose import compose_one


class Case(NamedTuple):
    """A network and its batch size."""

    model: str
    batch_size: int


CASES = [Case("siamese_mlp", 50), Case("siamese_mlp", 5), Case("siamese_cnn", 100)]


def this_project(source, case: Case, epochs: int, seeds: range, folder: Path) -> Callable[[], None]:
    """The project's sweep, from its checks to its table; the jobs are composed beforehand."""
    composed = []
    with initialize_config_dir(CONF, version_base="1.3"):
        for seed in seeds:
            overrides = [
                f"model={case.model}",
                f"data.batch_size={case.batch_size}",
                f"trainer.max_epochs={epochs}",
                "trainer.accelerator=cpu",
                f"data.source={source.name}",
                f"output={folder}",
                f"seed={seed}",
            ]
            config = compose("config", overrides=overrides)
            composed.append(compose_one(config, overrides, {"model": case.model}))

    def execute() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert run_and_print_table(composed) == 0

    return execute


@contextlib.contextmanager
def without_lightnings_cuda_check():
    """Removes a variable that Lightning sets on import.

    Without a GPU it slows down every step of torch's Adam, and a plain loop does not import
    Lightning.
    """
    key = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.pop(key, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[key] = before


def measure(task: Callable[[], None], seeds: int) -> float:
    """Seconds per seed."""
    start = time.perf_counter()
    task()
    return (time.perf_counter() - start) / seeds


def one_round(
    source, case: Case, epochs: int, loop_seeds: int, sweeps: list[int], stock: bool
) -> dict[str, float]:
    """Seconds per seed of each contender; this project runs a sweep for each number of seeds."""
    seconds = {}
    loop = (source, case.model, case.batch_size, epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with without_lightnings_cuda_check():
            task = functools.partial(plain_loop, *loop, range(loop_seeds), folder / "plain")
            seconds["plain loop"] = measure(task, loop_seeds)
        for count in sweeps:
            task = this_project(source, case, epochs, range(count), folder / f"ours{count}")
            seconds[f"this project, {count} seeds"] = measure(task, count)
        if stock:
            task = functools.partial(stock_lightning, *loop, range(1), folder / "stock")
            seconds["stock Lightning"] = measure(task, 1)
    return seconds


def report(rounds: list[dict[str, float]]) -> None:
    for contender in rounds[0]:
        times = [seconds[contender] for seconds in rounds]
        line = f"  {contender:26} {statistics.median(times):7.3f} s a seed"
        for other in rounds[0]:
            if other != contender and contender.startswith("this"):
                ratios = [seconds[other] / seconds[contender] for seconds in rounds]
                median, low, high = statistics.median(ratios), min(ratios), max(ratios)
                line += f"; {other}: {median:.2f} ({low:.2f} to {high:.2f})"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of this project's sweep")
    parser.add_argument(
        "--loop-seeds", type=int, default=2, help="seeds of the plain loop; stock Lightning has one"
    )
    parser.add_argument("--many", type=int, help="seeds of a second sweep of this project")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--case", help="run one case alone, such as siamese_mlp:50")
    parser.add_argument(
        "--no-stock", action="store_true", help="leave out stock Lightning, the slowest contender"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the contenders' warnings
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    source = sources.load(sources.resolve("auto"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    threads = f"{torch.get_num_threads()} threads"
    print(f"{machine}, {threads}, torch {torch.__version__}, {source.name}")
    loop_seeds = min(options.loop_seeds, options.seeds)
    sweeps = [options.seeds, *([options.many] if options.many else [])]
    stock, epochs = not options.no_stock, options.epochs
    for case in CASES:
        if options.case not in (None, f"{case.model}:{case.batch_size}"):
            continue
        one_round(source, case, 1, loop_seeds, [max(2, options.seeds)], stock)  # warm-up
        rounds = [
            one_round(source, case, epochs, loop_seeds, sweeps, stock)
            for _ in range(options.rounds)
        ]
        heading = f"{case.model}, batch {case.batch_size}, {epochs} epochs, {len(rounds)} rounds"
        print(f"\n{heading}; times as fast as ...")
        report(rounds)


if __name__ == "__main__":
    main()
