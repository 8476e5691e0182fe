"""A trained network put to use: comparisons of any images of digits, by one run or many seeds."""

from digitpairs.use.checkpoints import load
from digitpairs.use.comparer import Comparer, Comparison
from digitpairs.use.images import as_images
from digitpairs.use.reading import read_digit

__all__ = ["Comparer", "Comparison", "as_images", "load", "read_digit"]
