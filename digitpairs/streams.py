"""All randomness of a run: one stream of random numbers a purpose, each derived from a seed by itself.

A run is a function of its config: nothing here reads or advances torch's global generator, and a draw for one
purpose never shifts the draws for another.
"""

from __future__ import annotations

import hashlib

import torch

from digitpairs.checks import integer

# "data" draws the training pairs (and so the split) or points, "test" those of the test, "weights" the initial weights, "order" the order of the mini-batches;
# "augmentation", "dropout" and "aux" (random loss weights) draw once a mini-batch.
PURPOSES = ("data", "test", "weights", "order", "augmentation", "dropout", "aux")

MAX_SEED = 2**32 - 1  # torch's Mersenne Twister starts from 32 bits


def stream(seed: int, purpose: str) -> torch.Generator:
    """A fresh CPU generator for `purpose`, started from `seed` (0 to 2**32 - 1).

    The purpose's hash is added to the seed modulo 2**32: within one purpose no two seeds share a stream.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is none of {', '.join(PURPOSES)}")
    offset = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return torch.Generator().manual_seed((offset + seed) % 2**32)


def check_seed(key: str, seed: int | None, default: int | None = None) -> int:
    """`seed`, or `default` where it is None; InvalidValueError unless it is a whole number from 0 to 2**32 - 1."""
    return integer(key, default if seed is None else seed, at_most=MAX_SEED)
