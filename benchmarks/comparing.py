"""Seconds to compare 10,000 pairs of tensors with one siamese_cnn, as docs/use.md claims.

    python benchmarks/comparing.py

The weights are initial ones: they do not change the time. One warm-up, then the median of five.
"""

import statistics
import time
from pathlib import Path

import torch
import yaml

from digitpairs import PairComparison
from digitpairs.use import Comparer

PAIRS, REPEATS = 10_000, 5
CONFIG = Path(__file__).resolve().parent.parent / "conf" / "model" / "siamese_cnn.yaml"


def main() -> None:
    """Print the median and the range."""
    comparer = Comparer([PairComparison(yaml.safe_load(CONFIG.read_text()))])
    first, second = torch.rand(2, PAIRS, 14, 14)
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        comparer.compare(first, second)
        seconds.append(time.perf_counter() - start)
    warm = sorted(seconds[1:])
    print(f"{PAIRS} pairs, {torch.get_num_threads()} threads: median of {REPEATS} ", end="")
    print(f"{statistics.median(warm):.2f} s ({warm[0]:.2f} to {warm[-1]:.2f})")


if __name__ == "__main__":
    main()
