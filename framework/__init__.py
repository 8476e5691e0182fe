"""A small deep-learning framework made of tensor operations, to read and to use.

Each layer computes its outputs and, explicitly, its gradients; torch's autograd is not used.
All tensors have a leading axis of replicas: networks of one architecture that train side by side,
each with its own weights, data and order. A single network is one replica.

    module         base of layers and networks: forward, backward, parameters
    layers, conv   linear, activations, dropout, batch norm; convolution and pooling of images
    initialisers   initial weights from explicit generators
    losses         mean squared error, binary cross-entropy, cross-entropy
    optimizers     SGD, Adam, AdamW
    schedules      the learning rate over time
    networks       networks made of the layers
    siamese        a network that compares two images, and its loss
    gradcheck      check of every gradient against central differences
    trainer        fit, evaluate, predict, save, load
"""

from framework.conv import Conv2d, Flatten, MaxPool2d
from framework.data import Data
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError
from framework.gradcheck import gradcheck
from framework.initialisers import he, lecun, torch_uniform, xavier
from framework.layers import GELU, SELU, BatchNorm, Dropout, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from framework.listeners import Listener, Progress, TensorBoard
from framework.losses import MSE, BinaryCrossEntropy, CrossEntropy, Loss
from framework.metrics import argmax_error, logit_error, threshold_error
from framework.module import Module, Parameter, Sequential
from framework.networks import mlp
from framework.optimizers import SGD, Adam, AdamW
from framework.schedules import Constant, Cosine, Exponential, OneCycle, StepDecay, WarmRestarts
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
