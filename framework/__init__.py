"""A small deep-learning framework made of tensor operations, to read and to use.

Each layer computes its outputs and, explicitly, its gradients; torch's autograd is not used.
All tensors have a leading axis of replicas: networks of one architecture that train side by side,
each with its own weights, data and order. A single network is one replica.

    parameter      values that are learned, and their gradients
    module         base of layers and networks: forward, backward, keep, take
    layers         linear layers, dropout; then activations, normalisation, conv
    sequential     layers one after another, and the chain rule
    initialisers   initial weights from explicit generators
    losses         mean squared error, binary cross-entropy, cross-entropy
    optimizers     SGD, Adam, AdamW
    schedules      the learning rate over time
    networks       networks made of the layers
    siamese        a network that compares two images, and its loss
    gradcheck      check of every gradient against central differences
    trainer        fit, evaluate, predict, save, load
"""

from framework.activations import GELU, SELU, LeakyReLU, ReLU, Sigmoid, Tanh
from framework.conv import Conv2d, Flatten, MaxPool2d
from framework.data import Data
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError
from framework.gradcheck import gradcheck
from framework.initialisers import he, lecun, torch_uniform, xavier
from framework.layers import Dropout, Linear
from framework.listeners import Listener, Progress, TensorBoard
from framework.losses import MSE, BinaryCrossEntropy, CrossEntropy, Loss
from framework.metrics import argmax_error, logit_error, threshold_error
from framework.module import Module
from framework.networks import mlp
from framework.normalisation import BatchNorm
from framework.optimizers import SGD, Adam, AdamW
from framework.parameter import Parameter
from framework.schedules import Constant, Cosine, Exponential, OneCycle, StepDecay, WarmRestarts
from framework.sequential import Sequential
from framework.siamese import PairLoss, Siamese
from framework.trainer import Trainer

__all__ = [
    "Adam",
    "AdamW",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Constant",
    "Conv2d",
    "Cosine",
    "CrossEntropy",
    "Data",
    "Dropout",
    "EarlyStopping",
    "Exponential",
    "Flatten",
    "GELU",
    "LeakyReLU",
    "Linear",
    "Listener",
    "Loss",
    "MSE",
    "MaxPool2d",
    "Module",
    "NotFiniteError",
    "OneCycle",
    "PairLoss",
    "Parameter",
    "Progress",
    "ReLU",
    "SELU",
    "SGD",
    "Sequential",
    "Siamese",
    "Sigmoid",
    "StepDecay",
    "Tanh",
    "TensorBoard",
    "Trainer",
    "WarmRestarts",
    "argmax_error",
    "gradcheck",
    "he",
    "lecun",
    "logit_error",
    "mlp",
    "threshold_error",
    "torch_uniform",
    "xavier",
]
