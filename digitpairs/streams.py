"""The random streams of a run, one for each purpose, each derived from a seed.

A run is a function of its config: torch's global generator is neither read nor advanced, and a draw
for one purpose never shifts the draws for another.
"""

from __future__ import annotations

import hashlib

import torch

from digitpairs.checks import MAX_SEED, integer

PURPOSES = (
    "data",  # training pairs (and so the split) or points
    "test",  # test pairs or points
    "weights",  # initial weights
    "order",  # order of the mini-batches
    "augmentation",  # drawn for each mini-batch, as are the next two
    "dropout",
    "aux",  # random loss weights
)


def stream(seed: int, purpose: str) -> torch.Generator:
    """A new CPU generator for `purpose`, seeded from `seed` (0 to 2**32 - 1).

    The hash of the purpose is added to the seed modulo 2**32, so that different seeds give
    different streams. Raises ValueError for a purpose that is not in PURPOSES.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is not one of {', '.join(PURPOSES)}")
    offset = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return torch.Generator().manual_seed((offset + seed) % 2**32)


def check_seed(key: str, seed: int | None, default: int | None = None) -> int:
    """`seed`, or `default` if it is None.

    Raises InvalidValueError unless the result is a whole number from 0 to 2**32 - 1.
    """
    return integer(key, default if seed is None else seed, at_most=MAX_SEED)
