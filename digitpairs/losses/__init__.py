"""The comparison and digit losses, and the schemes that weight them."""

from digitpairs.losses.coefficients import Coefficient
from digitpairs.losses.parts import PARTS, loss_parts
from digitpairs.losses.weighting import (
    ConvexWeighting,
    DynamicWeightAverage,
    FreeWeighting,
    GammaWeighting,
    LambdaWeighting,
    NoAuxWeighting,
    RandomWeighting,
    UncertaintyWeighting,
    Weighting,
    check_fits,
)

__all__ = [
    "PARTS",
    "Coefficient",
    "ConvexWeighting",
    "DynamicWeightAverage",
    "FreeWeighting",
    "GammaWeighting",
    "LambdaWeighting",
    "NoAuxWeighting",
    "RandomWeighting",
    "UncertaintyWeighting",
    "Weighting",
    "check_fits",
    "loss_parts",
]
