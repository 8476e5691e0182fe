"""A network's decisions over the unit square at some epochs, for plots of its decision boundary."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from framework import Listener

MILESTONES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # numbers of epochs
SIDE = 64  # of the grid


def grid() -> Tensor:
    """The centres of SIDE by SIDE squares, (SIDE * SIDE, 2), row by row from the bottom."""
    centres = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


class Boundary(Listener):
    """A listener of `framework.Trainer` that keeps the decisions of the milestones and the end.

    Args:
        inside: returns which points of the `grid` each replica classifies as inside the disk,
            (replicas, SIDE * SIDE) bool.
    """

    def __init__(self, inside: Callable[[], Tensor]) -> None:
        self._inside = inside
        self._at_milestones: dict[int, Tensor] = {}

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        epochs = int(row["epoch"]) + 1
        if epochs in MILESTONES and epochs not in self._at_milestones:
            self._at_milestones[epochs] = self._inside()

    def content(self, replica: int, points: Tensor, labels: Tensor, epochs: int) -> bytes:
        """The .npz file of a replica with its final weights, those after `epochs` epochs.

        It has the arrays "epochs" (n,), "inside" (n, SIDE, SIDE), the last one with the final
        weights, and the training data "points" (m, 2) and "labels" (m,).
        """
        decisions = {done: each for done, each in self._at_milestones.items() if done < epochs}
        decisions[epochs] = self._inside()
        inside = [each[replica].view(SIDE, SIDE).numpy() for each in decisions.values()]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            epochs=list(decisions),
            inside=np.stack(inside),
            points=points.numpy(),
            labels=labels.numpy(),
        )
        return buffer.getvalue()
