"""What a network says of the whole unit square, at some epochs of its training: for plots of its decision boundary."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from framework import Listener

MILESTONES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # epochs done
SIDE = 64  # of the grid


def grid() -> Tensor:
    """The middles of SIDE by SIDE squares, (SIDE * SIDE, 2), row by row from the bottom."""
    middles = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


class Boundary(Listener):
    """A listener of `framework.Trainer` that keeps which points of the grid are held for the inside, at the milestones and at the end.

    `inside()` gives that of all replicas, (replicas, SIDE * SIDE) bool.
    """

    def __init__(self, inside: Callable[[], Tensor]) -> None:
        self._inside = inside
        self._seen: dict[int, Tensor] = {}

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        done = int(row["epoch"]) + 1
        if done in MILESTONES and done not in self._seen:
            self._seen[done] = self._inside()

    def content(self, replica: int, points: Tensor, labels: Tensor, epoch: int) -> bytes:
        """A replica's file, numpy's .npz, once its weights are the final ones, those after so many epochs: "epochs" (n,), "inside"
        (n, SIDE, SIDE), the last of them the final, and the training "points" (m, 2) with "labels" (m,).
        """
        seen = {done: inside for done, inside in self._seen.items() if done < epoch} | {
            epoch: self._inside()
        }
        buffer = io.BytesIO()
        inside = np.stack([each[replica].view(SIDE, SIDE).numpy() for each in seen.values()])
        np.savez_compressed(
            buffer, epochs=list(seen), inside=inside, points=points.numpy(), labels=labels.numpy()
        )
        return buffer.getvalue()
