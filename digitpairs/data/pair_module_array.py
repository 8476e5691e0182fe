"""PairDataModuleArray: the pairs of many runs as one data module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pytorch_lightning import LightningDataModule

from digitpairs.data.batches import EvaluationLoader, TrainLoader
from digitpairs.data.pair_module import PairDataModule
from digitpairs.data.pairs import Pairs, PairSet
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
        transforms = [
            member.transform(generator) for member, generator in zip(self.members, generators)
        ]
        train_set = PairSet.stack([member.train_set for member in self.members])
        return TrainLoader(
            train_set,
            train_set.indices.shape[1],
            self.members[0].batch_size,
            orders,
            _stack_transforms(transforms) if any(transforms) else None,
            generators,
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


def _stack_transforms(
    transforms: Sequence[Callable[[Pairs], Pairs] | None],
) -> Callable[[Pairs], Pairs]:
    """A transform of the members' pairs (members, B, ...) that applies to each its own."""

    def transform_all(pairs: Pairs) -> Pairs:
        batches = [Pairs(*batch) for batch in zip(*pairs)]
        changed = [
            transform(batch) if transform else batch
            for transform, batch in zip(transforms, batches)
        ]
        return Pairs(*(torch.stack(tensors) for tensors in zip(*changed)))

    return transform_all
