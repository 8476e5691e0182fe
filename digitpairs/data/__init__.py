"""Datasets in memory: digits, pairs of digits and points of the disk, with their data modules."""

from digitpairs.data.augmentation import Augmentation
from digitpairs.data.disk import DiskDataModule
from digitpairs.data.pair_module import PairDataModule
from digitpairs.data.pair_module_array import PairDataModuleArray
from digitpairs.data.pairs import Pairs, PairSet, draw_pairs

__all__ = [
    "Augmentation",
    "DiskDataModule",
    "PairDataModule",
    "PairDataModuleArray",
    "PairSet",
    "Pairs",
    "draw_pairs",
]
