"""Networks that map a pair of images (B, 2, 14, 14) to comparison logits and digit logits."""

from digitpairs.networks.cnn import CNNBody
from digitpairs.networks.comparison import JointNetwork, Prediction, SiameseNetwork
from digitpairs.networks.ensemble import Ensemble
from digitpairs.networks.initialise import create, initialise
from digitpairs.networks.mlp import MLPBody
from digitpairs.networks.points import PointMLP
from digitpairs.networks.residual import ResidualBody
from digitpairs.networks.resnet import ResNetBody
from digitpairs.networks.stacking import stackable, stackable_if

__all__ = [
    "CNNBody",
    "Ensemble",
    "JointNetwork",
    "MLPBody",
    "PointMLP",
    "Prediction",
    "ResNetBody",
    "ResidualBody",
    "SiameseNetwork",
    "create",
    "initialise",
    "stackable",
    "stackable_if",
]
