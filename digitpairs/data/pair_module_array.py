"""PairDataModuleArray: the pairs of many runs, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pytorch_lightning import LightningDataModule

from digitpairs.data.batches import EvaluationLoader, TrainLoader
from digitpairs.data.pair_module import PairDataModule
from digitpairs.data.pairs import Pairs, PairSet
from digitpairs.streams import stream


class PairDataModuleArray(LightningDataModule):
    """What each member's `PairDataModule` gives, with the members on the first axis: images (members, B, 2, 14, 14).

    Each member has its own pairs, order and augmentation, bit for bit those that it has alone. Raises ValueError unless
    all have the same numbers of training, held-out and test pairs, and the same batch size.
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
            raise ValueError(
                f"members of one array differ in (training, held-out, test pairs, batch size, what is watched): {sorted(sizes)}"
            )

    @property
    def watched(self) -> str:
        """See `PairDataModule.watched`."""
        return self.members[0].watched

    def train_dataloader(self) -> TrainLoader:
        orders = [stream(member.order_seed, "order") for member in self.members]
        augmentations = [
            stream(member.augmentation_seed, "augmentation") for member in self.members
        ]
        changes = [member.augment(each) for member, each in zip(self.members, augmentations)]
        train_set = PairSet.stack([member.train_set for member in self.members])
        count, batch_size = train_set.index.shape[1], self.members[0].batch_size
        change = _each_by_its_own(changes) if any(changes) else None
        return TrainLoader(train_set, count, batch_size, orders, change, augmentations)

    def val_dataloader(self) -> EvaluationLoader | list:
        if self.watched == "test":
            return self.test_dataloader()
        if not len(self.members[0].validation_set.index):
            return []
        return self._evaluation([member.validation_set for member in self.members])

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation([member.test_set for member in self.members])

    def _evaluation(self, sets: Sequence[PairSet]) -> EvaluationLoader:
        stacked = PairSet.stack(sets)
        return EvaluationLoader(stacked, stacked.index.shape[1], len(sets))


def _each_by_its_own(
    changes: Sequence[Callable[[Pairs], Pairs] | None],
) -> Callable[[Pairs], Pairs]:
    """The members' pairs (members, B, ...), each member's changed by its own augmentation."""

    def change_all(pairs: Pairs) -> Pairs:
        rows = [Pairs(*each) for each in zip(*pairs)]
        changed = [change(row) if change else row for change, row in zip(changes, rows)]
        return Pairs(*(torch.stack(each) for each in zip(*changed)))

    return change_all
