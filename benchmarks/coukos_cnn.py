"""Training rate of the coukos report's CNN on one thread, and the speed of bf16.

    python benchmarks/coukos_cnn.py --rounds 7

The rate counts the operations of the convolutions and linear layers alone: one matrix product
forward and two backward (one for the first layer, whose input needs no gradient). It is compared
with the rate of a plain matrix product. Each round measures the product, float32 and bf16 one after
another, and the ratios are formed within the round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from digitpairs.losses import loss_parts
from digitpairs.networks import CNNBody, SiameseNetwork, create
from digitpairs.streams import stream
from digitpairs.training import SGD

PAIRS = 100
SIDE = 1024  # of the matrices in the product


def operations(images: int) -> int:
    """Multiplications and additions of one training step."""
    first = 12 * 12 * 32 * 9  # products of the first convolution, per image
    second = 8 * 8 * 64 * 32 * 25
    linear = 256 * 200 + 200 * 10
    return 2 * images * (2 * first + 3 * second + 3 * linear)


def network() -> SiameseNetwork:
    body = CNNBody([32, 64], kernels=[3, 5], pools=[1, 4], hidden=[200])
    return create(
        lambda: SiameseNetwork(body, comparison_input="logits", comparison_outputs=2),
        stream(0, "weights"),
    )


def training_step(dtype: torch.dtype | None) -> Callable[[], None]:
    """A training step on a fixed batch; with a dtype, under autocast as trainer.precision does."""
    model, generator = network(), stream(0, "data")
    optimizer = SGD(0.01, momentum=0.9)(model.parameters())
    images = torch.randn(PAIRS, 2, 14, 14, generator=generator)
    digits = torch.randint(10, (PAIRS, 2), generator=generator)
    target = (digits[:, 0] <= digits[:, 1]).long()

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = loss_parts(model(images), digits, target).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(work: Callable[[], object], repetitions: int = 10) -> float:
    """Mean time of a repetition, after two for warm-up."""
    for _ in range(2):
        work()
    started = time.perf_counter()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - started) / repetitions


def report(name: str, values: list[float]) -> None:
    median, low, high = statistics.median(values), min(values), max(values)
    print(f"  {name}: median {median:.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    one, other = torch.rand(2, SIDE, SIDE)
    float32_step, bf16_step = training_step(None), training_step(torch.bfloat16)
    rates, shares, gains = [], [], []
    for _ in range(options.rounds):
        product_rate = 2 * SIDE**3 / seconds(lambda: one @ other)
        float32, bf16 = seconds(float32_step), seconds(bf16_step)
        rate = operations(2 * PAIRS) / float32
        rates.append(rate / 1e9)
        shares.append(rate / product_rate)
        gains.append(float32 / bf16)
    threads = f"{options.threads} thread(s)"
    print(f"torch {torch.__version__}, {threads}, batch {PAIRS}, {options.rounds} rounds")
    report("rate of float32 training, GFLOPS", rates)
    report("its share of the product's rate", shares)
    report("bf16 over float32, speed", gains)


if __name__ == "__main__":
    main()
