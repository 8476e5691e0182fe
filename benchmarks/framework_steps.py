"""A training step of `framework` against the same network in torch.nn with autograd and torch.optim, in turn, in one process.

    python benchmarks/framework_steps.py --rounds 9

The network is the azzano report's for the disk: two hidden layers of 128, ReLU, mean squared error; by plain SGD, as in both reports,
and by Adam. A ratio is formed within its round, since the machine's speed drifts; both sides with torch's default number of threads,
unless --threads says otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import framework

Step = Callable[[Tensor, Tensor], object]
WIDTH, ROUNDS_AT_ONCE = 128, 10
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, framework.SGD, 0.003),
    "adam": (torch.optim.Adam, framework.Adam, 0.001),
}


def in_torch(optimizer: str) -> Step:
    nn = torch.nn
    network = nn.Sequential(
        nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
    )
    make, _, lr = OPTIMIZERS[optimizer]
    descent, loss_of = make(network.parameters(), lr=lr), nn.MSELoss()

    def step(inputs: Tensor, targets: Tensor) -> None:
        descent.zero_grad()
        loss_of(network(inputs), targets).backward()
        descent.step()

    return step


def in_framework(optimizer: str, replicas: int) -> Step:
    generators = [torch.Generator().manual_seed(seed) for seed in range(replicas)]
    network = framework.mlp(2, [WIDTH, WIDTH], 1, generators)
    _, make, lr = OPTIMIZERS[optimizer]
    trainer = framework.Trainer(
        network, framework.MSE(), make(network.parameters(), lr=lr), generators
    )

    def step(inputs: Tensor, targets: Tensor) -> None:
        with torch.inference_mode():  # as `fit` does, once for all its steps
            trainer.step(inputs, targets)

    return step


def microseconds(step: Step, shape: tuple[int, ...], steps: int) -> float:
    """Of a step, on random points with random labels: on few points that it knows by heart a network's gradients become so small
    that arithmetic slows down."""
    batches = [(torch.rand(*shape, 2), torch.rand(*shape, 1).round()) for _ in range(100)]
    for _, batch in zip(range(steps // 10), itertools.cycle(batches)):
        step(*batch)
    start = time.perf_counter()
    for _, batch in zip(range(steps), itertools.cycle(batches)):
        step(*batch)
    return 1e6 * (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500, help="of each contender in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} thread(s), torch {torch.__version__}"
    )
    for optimizer in OPTIMIZERS:
        for batch in (1, 100):
            theirs, one, ten = (
                in_torch(optimizer),
                in_framework(optimizer, 1),
                in_framework(optimizer, ROUNDS_AT_ONCE),
            )
            rounds = [
                (
                    microseconds(theirs, (batch,), options.steps),
                    microseconds(one, (1, batch), options.steps),
                    microseconds(ten, (ROUNDS_AT_ONCE, batch), options.steps // 5),
                )
                for _ in range(options.rounds + 1)
            ][1:]  # the first warms up
            print(f"{optimizer}, batch {batch}, n = {options.rounds}")
            report("torch.nn", [each[0] for each in rounds], [])
            report(
                "framework", [each[1] for each in rounds], [each[0] / each[1] for each in rounds]
            )
            report(
                f"{ROUNDS_AT_ONCE} replicas",
                [each[2] for each in rounds],
                [ROUNDS_AT_ONCE * each[0] / each[2] for each in rounds],
            )


def report(name: str, times: list[float], ratios: list[float]) -> None:
    """A line: the median time, and the median ratio with its range."""
    line = f"  {name:12} {statistics.median(times):8.1f} us a step"
    print(
        line
        + (
            f", {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast"
            if ratios
            else ""
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
