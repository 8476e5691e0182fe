"""Training steps of `framework` against torch.nn with autograd and torch.optim.

    python benchmarks/framework_steps.py --rounds 9

Both sides train the azzano report's network for the disk (two hidden layers of 128, ReLU, mean
squared error) in one process, alternately: by plain SGD, as both reports do, and by Adam. The
ratios are formed within a round, since the speed of the machine drifts. Both sides use torch's
default number of threads unless --threads sets another.
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
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import framework

Step = Callable[[Tensor, Tensor], object]
WIDTH, REPLICAS = 128, 10
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, framework.SGD, 0.003),
    "adam": (torch.optim.Adam, framework.Adam, 0.001),
}


def torch_step(name: str) -> Step:
    layers = [nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, 1))
    make, _, lr = OPTIMIZERS[name]
    optimizer, loss = make(network.parameters(), lr=lr), nn.MSELoss()

    def step(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        loss(network(inputs), targets).backward()
        optimizer.step()

    return step


def framework_step(name: str, replicas: int) -> Step:
    generators = [torch.Generator().manual_seed(seed) for seed in range(replicas)]
    network = framework.mlp(2, [WIDTH, WIDTH], 1, generators)
    _, make, lr = OPTIMIZERS[name]
    optimizer = make(network.parameters(), lr=lr)
    return framework.Trainer(network, framework.MSE(), optimizer, generators).step


def microseconds(step: Step, shape: tuple[int, ...], steps: int, autograd: bool = False) -> float:
    """Time of a step on random points with random labels.

    Without autograd all steps are in inference mode, as in `Trainer.fit`.

    A network that has memorised a few points has gradients so small that arithmetic slows down.
    """
    batches = [(torch.rand(*shape, 2), torch.rand(*shape, 1).round()) for _ in range(100)]
    with torch.inference_mode(not autograd):
        for _, batch in zip(range(steps // 10), itertools.cycle(batches)):
            step(*batch)
        start = time.perf_counter()
        for _, batch in zip(range(steps), itertools.cycle(batches)):
            step(*batch)
        return 1e6 * (time.perf_counter() - start) / steps


def measure(optimizer: str, batch: int, rounds: int, steps: int) -> None:
    print(f"{optimizer}, batch {batch}, n = {rounds}")
    in_torch, single = torch_step(optimizer), framework_step(optimizer, 1)
    replicated = framework_step(optimizer, REPLICAS)
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds + 1):
        times[0].append(microseconds(in_torch, (batch,), steps, autograd=True))
        times[1].append(microseconds(single, (1, batch), steps))
        times[2].append(microseconds(replicated, (REPLICAS, batch), steps // 5))
    torchs, singles, replicas = (each[1:] for each in times)  # the first round is a warm-up
    report("torch.nn", torchs)
    report("framework", singles, [a / b for a, b in zip(torchs, singles)])
    ratios = [REPLICAS * a / b for a, b in zip(torchs, replicas)]
    report(f"{REPLICAS} replicas", replicas, ratios)


def report(name: str, times: list[float], ratios: list[float] | None = None) -> None:
    """Print a line with the median time, and the median ratio with its range."""
    line = f"  {name:12} {statistics.median(times):8.1f} us a step"
    if ratios:
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        line += f", {median:.2f} ({low:.2f} to {high:.2f}) times as fast"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500, help="steps per contender and round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, {options.threads} thread(s), torch {torch.__version__}")
    for optimizer, batch in itertools.product(OPTIMIZERS, (1, 100)):
        measure(optimizer, batch, options.rounds, options.steps)


if __name__ == "__main__":
    main()
