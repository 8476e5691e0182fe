"""The main job against what a user would otherwise run, in turn, in one process; prints ratios with their spread.

    python benchmarks/main_job.py --rounds 5

Timed from the composed jobs to the last result on disk, imports and the reading of MNIST excluded on all sides; the loops with
torch's default number of threads. One round runs all contenders one after another, and a ratio is formed within its round,
since the machine's speed drifts. The loops take the same time for every seed, so that a few of them stand for all; this
project trains all seeds of the round at once.
"""

from __future__ import annotations

import argparse
import contextlib
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
from digitpairs.sweeps import compose_one


class Case(NamedTuple):
    """What is trained."""

    model: str
    batch_size: int


CASES = [Case("siamese_mlp", 50), Case("siamese_mlp", 5), Case("siamese_cnn", 100)]


def this_project(source, case: Case, epochs: int, seeds: range, folder: Path) -> Callable[[], None]:
    """The project's sweep, with its checks, plan, metrics, events, checkpoints, results and table; composed beforehand."""
    composed = []
    with initialize_config_dir(CONF, version_base="1.3"):
        for seed in seeds:
            overrides = [
                f"model={case.model}", f"data.batch_size={case.batch_size}", f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu",
                f"data.source={source.name}", f"output={folder}", f"seed={seed}",
            ]  # fmt: skip
            composed.append(
                compose_one(compose("config", overrides=overrides), overrides, case.model)
            )

    def execute() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert run_and_print_table(composed) == 0

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


def measure(task: Callable[[], None], seeds: int) -> float:
    """Seconds a seed."""
    start = time.perf_counter()
    task()
    return (time.perf_counter() - start) / seeds


def one_round(source, case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Seconds a seed of each contender."""
    seconds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loop = (source, case.model, case.batch_size, options.epochs)
        with without_lightnings_cuda_check():
            few = range(min(options.loop_seeds, options.seeds))
            seconds["plain loop"] = measure(
                lambda: plain_loop(*loop, few, folder / "plain"), len(few)
            )
        for count in [options.seeds, *([options.many] if options.many else [])]:
            ours = this_project(source, case, options.epochs, range(count), folder / f"ours{count}")
            seconds[f"this project, {count} seeds"] = measure(ours, count)
        if not options.no_stock:
            seconds["stock Lightning"] = measure(
                lambda: stock_lightning(*loop, range(1), folder / "stock"), 1
            )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10, help="of this project's sweep")
    parser.add_argument(
        "--loop-seeds", type=int, default=2, help="of the plain loop; stock Lightning has one"
    )
    parser.add_argument("--many", type=int, help="a second sweep of so many seeds")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--case", help="one case alone, such as siamese_mlp:50")
    parser.add_argument(
        "--no-stock", action="store_true", help="leave stock Lightning out, which takes the longest"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the contenders' are not the matter here
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    source = sources.load(sources.resolve("auto"))
    threads = torch.get_num_threads()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}, {source.name}"
    )
    for case in CASES:
        if options.case in (None, f"{case.model}:{case.batch_size}"):
            one_round(
                source,
                case,
                argparse.Namespace(
                    **{**vars(options), "epochs": 1, "seeds": max(2, options.seeds), "many": None}
                ),
            )  # warm-up
            report(case, options, [one_round(source, case, options) for _ in range(options.rounds)])


def report(case: Case, options: argparse.Namespace, rounds: list[dict[str, float]]) -> None:
    print(
        f"\n{case.model}, batch {case.batch_size}, {options.epochs} epochs, {options.rounds} rounds; times as fast as ..."
    )
    for contender in rounds[0]:
        line = f"  {contender:26} {statistics.median(each[contender] for each in rounds):7.3f} s a seed"
        for other in rounds[0]:
            if other != contender and contender.startswith("this"):
                ratios = sorted(each[other] / each[contender] for each in rounds)
                line += f"; {other}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
