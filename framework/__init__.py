"""A small deep-learning framework made of tensor operations, to read and to use.

Each layer computes its outputs and, explicitly, its gradients; torch's autograd is not used.
All tensors have a leading axis of replicas: networks of one architecture that train side by side,
each with its own weights, data and order. A single network is one replica.

The course in docs/framework teaches the ideas. The files are read in this order; each one uses
only files above it.

    settings        what `repr` shows and a checkpoint compares
    errors          checks of arguments, with one message each
    parameter       values that are learned, and their gradients
    differentiable  base of modules and losses: keep, take
    module          base of layers and networks: forward, backward

    operations      products and the sigmoid, bit for bit the same for any number of replicas
    initialisers    initial weights from explicit generators
    layers          linear layers and dropout
    activations     ReLU, tanh, sigmoid and others
    sequential      layers one after another, and the chain rule
    losses          base of losses; squared, absolute and Huber's error
    cross_entropy   binary cross-entropy and cross-entropy, with weights and label smoothing

    normalisation   batch norm and layer norm
    windows         windows of images, and the sum over them
    conv            convolution as one matrix product; flatten
    pooling         the largest value, or the mean, of windows
    networks        networks made of the layers
    siamese         a network that compares two images, and its loss

    data            inputs and targets in memory, and their batches
    batches         batches of an iterable, such as a DataLoader
    summary         a table of a network's layers
    objective       the function whose gradients are checked
    contract        what layers and losses must do besides right gradients
    gradcheck       check of every gradient against central differences

    vectors         the values of all parameters in one vector, the gradients in another
    optimizer       base of optimisers: a state, and groups of parameters
    optimizers      SGD, Adam, AdamW, RMSprop, Adagrad
    clipping        limits of the gradients
    schedules       the learning rate over time

    metrics         error rates
    results         the losses and error rates of an epoch
    early_stopping  the best weights of each replica
    record          what a training has done so far
    checkpoint      files from which a training continues
    listeners       progress on the terminal, TensorBoard
    preconditions   what a training needs before its first step
    evaluator       evaluate, predict
    learner         steps and epochs
    trainer         fit, save, load
"""

from framework.activations import GELU, SELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from framework.batches import Batches
from framework.clipping import Clip, ClipNorm, ClipValue
from framework.conv import Conv2d, Flatten
from framework.cross_entropy import BinaryCrossEntropy, CrossEntropy
from framework.data import Data
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError
from framework.gradcheck import gradcheck
from framework.initialisers import he, lecun, torch_uniform, xavier
from framework.layers import Dropout, Linear
from framework.listeners import Listener, Progress, TensorBoard
from framework.losses import L1, MSE, ElementwiseLoss, Huber, Loss
from framework.metrics import argmax_error, logit_error, threshold_error
from framework.module import Layer, Module
from framework.networks import mlp
from framework.normalisation import BatchNorm, LayerNorm
from framework.optimizer import Optimizer, ParameterGroups
from framework.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from framework.parameter import Parameter
from framework.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from framework.schedules import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Schedule,
    StepDecay,
    WarmRestarts,
)
from framework.sequential import Residual, Sequential
from framework.siamese import PairLoss, PosteriorComparison, Siamese
from framework.summary import summary
from framework.trainer import Trainer

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm",
    "Batches",
    "BinaryCrossEntropy",
    "Clip",
    "ClipNorm",
    "ClipValue",
    "Constant",
    "Conv2d",
    "Cosine",
    "CrossEntropy",
    "Data",
    "Dropout",
    "EarlyStopping",
    "ElementwiseLoss",
    "Exponential",
    "Flatten",
    "Huber",
    "L1",
    "GELU",
    "GlobalAvgPool2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Listener",
    "Loss",
    "MSE",
    "MaxPool2d",
    "Module",
    "NotFiniteError",
    "OneCycle",
    "Optimizer",
    "PairLoss",
    "Parameter",
    "ParameterGroups",
    "PosteriorComparison",
    "Progress",
    "RMSprop",
    "ReLU",
    "Residual",
    "SELU",
    "SGD",
    "Schedule",
    "Sequential",
    "Siamese",
    "Sigmoid",
    "Softmax",
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
    "summary",
    "threshold_error",
    "torch_uniform",
    "xavier",
]
