"""Training steps on a device that is not the CPU: "meta", whose tensors have shapes but no values.

A tensor that a layer, a loss or an optimiser makes on the CPU raises there.
"""

import pytest
import torch

import framework as fw
from tests.framework_twins import LAYERS, generators
from tests.test_framework_losses import LOSSES
from tests.test_framework_optimizers import OPTIMIZERS

R = 3


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize("case", LAYERS)
def test_layer(case):
    make, shape = LAYERS[case]
    layer, x = make(generators(R)).to("meta"), empty(R, *shape)
    y = layer(x)
    dx = layer.backward(torch.empty_like(y))
    assert dx.shape == x.shape and layer.eval()(x).shape == y.shape
    for tensor in (y, dx, *layer.state().values(), *(p.grad for p in layer.parameters())):
        assert tensor.is_meta


@pytest.mark.parametrize("case", [case for case in LOSSES if case != "bce-weights"])
def test_loss(case):
    loss, _, shape, target_of = LOSSES[case]
    x = empty(R, *shape)
    assert loss.train()(x, target_of(x)).is_meta and loss.backward().is_meta


CLIPS = [None, fw.ClipNorm(1.0), fw.ClipNorm(1.0, torch.inf), fw.ClipValue(0.1)]


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_step(case, groups):
    g = generators(R)
    layers = [fw.Linear(4, 5, g), fw.BatchNorm(5, R), fw.Dropout(0.5, generators(R)), fw.GELU()]
    net = fw.Sequential(*layers, fw.Linear(5, 1, g)).to("meta")
    net[0].freeze()
    kind, options = OPTIMIZERS[case]
    parameters = net.parameters()
    if groups:
        parameters = [{"params": net[1].parameters(), "lr": 0.2}, {"params": net[4].parameters()}]
    optimizer = kind(parameters, **options)
    trainer = fw.Trainer(net, fw.BinaryCrossEntropy(), optimizer, generators(R))
    for trainer.clip in CLIPS:
        prediction, loss = trainer.step(empty(R, 6, 4), empty(R, 6, 1))
    state = [each for each in optimizer.state_dict().values() if isinstance(each, torch.Tensor)]
    for tensor in (prediction, loss, optimizer.values, optimizer.gradients, *state):
        assert tensor.is_meta


def test_siamese_step():
    g = generators(R)
    body = fw.Sequential(fw.Conv2d(1, 2, 3, g), fw.MaxPool2d(2), fw.Flatten(), fw.Linear(8, 10, g))
    net = fw.Siamese(body, fw.mlp(20, [6], 1, g)).to("meta")
    loss = fw.PairLoss(empty(3))
    trainer = fw.Trainer(net, loss, fw.Adam(net.parameters()), generators(R))
    digits = empty(R, 6, 2, dtype=torch.int64)
    assert trainer.step(empty(R, 6, 2, 6, 6), (empty(R, 6, 1), digits))[1].is_meta
