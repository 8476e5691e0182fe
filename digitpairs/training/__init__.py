"""Training under Lightning: the module, optimisers and learning-rate schedules."""

from digitpairs.training.optimizers import SGD, Adam, AdamW
from digitpairs.training.pair_comparison import Diverged, PairComparison, build
from digitpairs.training.schedulers import Cosine, Exponential, OneCycle, StepDecay, WarmRestarts

__all__ = ["SGD", "Adam", "AdamW", "Cosine", "Diverged", "Exponential", "OneCycle", "PairComparison", "StepDecay", "WarmRestarts", "build"]
