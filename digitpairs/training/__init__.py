"""Training under Lightning: one run or an array of runs, optimisers and learning-rate schedules."""

from digitpairs.training.build import build
from digitpairs.training.early_stopping import EarlyStopping
from digitpairs.training.optimizers import SGD, Adam, AdamW
from digitpairs.training.pair_comparison import PairComparison
from digitpairs.training.pair_comparison_array import PairComparisonArray
from digitpairs.training.point_classification import PointClassification
from digitpairs.training.run_record import DivergenceError
from digitpairs.training.schedulers import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    StepDecay,
    WarmRestarts,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "DivergenceError",
    "EarlyStopping",
    "Exponential",
    "OneCycle",
    "PairComparison",
    "PairComparisonArray",
    "PointClassification",
    "StepDecay",
    "WarmRestarts",
    "build",
]
