"""The coukos report's CNN on one thread: the rate of its training beside that of a product of matrices, and bf16 beside float32.

    python benchmarks/coukos_cnn.py --rounds 7

The operations are those of its convolutions and linear layers alone: a product forward, two backward (one for the first layer,
whose input needs no gradient). Each round measures the product, float32 and bf16 one after another, and ratios are formed
within it.
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
SIDE = 1024  # of the matrices


def operations(images: int) -> int:
    """Multiplications and additions of a step on so many images."""
    first, second = (
        12 * 12 * 32 * 9,
        8 * 8 * 64 * 32 * 25,
    )  # products of each convolution, for an image
    linear = 256 * 200 + 200 * 10
    return 2 * images * (2 * first + 3 * second + 3 * linear)


def network() -> SiameseNetwork:
    body = CNNBody([32, 64], kernels=[3, 5], pools=[1, 4], hidden=[200])
    return create(
        lambda: SiameseNetwork(body, comparison_input="logits", comparison_outputs=2),
        stream(0, "weights"),
    )


def training_step(dtype: torch.dtype | None) -> Callable[[], None]:
    """A step on a batch that stays; with a dtype, under autocast to it, as trainer.precision=bf16-mixed has it."""
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


def seconds(work: Callable[[], None], repetitions: int) -> float:
    for _ in range(2):
        work()
    started = time.perf_counter()
    for _ in range(repetitions):
        work()
    return (time.perf_counter() - started) / repetitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    one, other = torch.rand(2, SIDE, SIDE)
    steps = {"float32": training_step(None), "bf16": training_step(torch.bfloat16)}
    shares, gains, rates = [], [], []
    for _ in range(options.rounds):
        product = 2 * SIDE**3 / seconds(lambda: one @ other, 10)
        times = {name: seconds(step, 10) for name, step in steps.items()}
        rates.append(operations(2 * PAIRS) / times["float32"])
        shares.append(rates[-1] / product)
        gains.append(times["float32"] / times["bf16"])
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), batch {PAIRS}, {options.rounds} rounds"
    )
    for name, values in (
        ("rate of float32 training, GFLOPS", [rate / 1e9 for rate in rates]),
        ("its share of the product's rate", shares),
        ("bf16 over float32, speed", gains),
    ):
        print(
            f"  {name}: median {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )


if __name__ == "__main__":
    main()
