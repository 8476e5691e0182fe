"""PairDataModuleArray: the pairs of many runs as one data module."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from pytorch_lightning import LightningDataModule

from digitpairs.data.augmentation import augment
from digitpairs.data.batches import EvaluationLoader, TrainLoader
from digitpairs.data.pair_module import PairDataModule, redrawing
from digitpairs.data.pairs import PairSet
from digitpairs.streams import stream


class PairDataModuleArray(LightningDataModule):
    """The batches of several `PairDataModule`, stacked: images (members, B, 2, 14, 14).

    Each member has the pairs, order and augmentation that it has alone, bit for bit. `setup` raises
    ValueError unless all members have the same numbers of training, held-out and test pairs, the
    same batch size and the same `watched`.
    """

    def __init__(self, members: Sequence[PairDataModule]) -> None:
        super().__init__()
        self.members = tuple(members)

    def prepare_data(self) -> None:
        for member in self.members:
            member.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        for member in self.members:
            member.setup(stage)
        sizes = {(*member.sizes, member.watched) for member in self.members}
        if len(sizes) > 1:
            names = "(training, held-out and test pairs, batch size, watched)"
            raise ValueError(f"members of one array differ in {names}: {sorted(sizes)}")

    @property
    def watched(self) -> str:
        """See `PairDataModule.watched`."""
        return self.members[0].watched

    def train_dataloader(self) -> TrainLoader:
        orders = [stream(member.order_seed, "order") for member in self.members]
        generators = [stream(member.augmentation_seed, "augmentation") for member in self.members]
        augmentations = [member.augmentation for member in self.members]
        transform = None
        if any(augmentations):
            transform = functools.partial(
                augment, augmentations=augmentations, generators=generators
            )
        train_set = PairSet.stack([member.train_set for member in self.members])
        return TrainLoader(
            train_set,
            train_set.indices.shape[1],
            self.members[0].batch_size,
            orders,
            transform,
            generators,
            redrawing(train_set, self.members),
        )

    def val_dataloader(self) -> EvaluationLoader | list:
        if self.watched == "test":
            return self.test_dataloader()
        if not len(self.members[0].validation_set.indices):
            return []
        return self._evaluation([member.validation_set for member in self.members])

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation([member.test_set for member in self.members])

    def _evaluation(self, sets: Sequence[PairSet]) -> EvaluationLoader:
        stacked = PairSet.stack(sets)
        return EvaluationLoader(stacked, stacked.indices.shape[1], len(sets))
