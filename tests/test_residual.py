"""The residual body against the same network of torch's layers, with copied weights."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import SqueezeExcitation

from digitpairs.checks import InvalidValueError
from digitpairs.networks import ResidualBody, SiameseNetwork, create
from digitpairs.networks.layers import DropPath, draw_masks, dropout_layers
from digitpairs.networks.stacking import stack
from digitpairs.streams import stream
from tests.arguments import DIGITS, refusal

CHANNELS, BLOCKS = [4, 6, 8], [1, 2, 1]
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Block(nn.Module):
    """A pre-activation block of torch's layers and torchvision's squeeze-and-excitation."""

    def __init__(self, inputs: int, outputs: int, squeeze: int | None, activation: str) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.act, self.gate = ACTIVATIONS[activation](), nn.Identity()
        if squeeze is not None:
            self.gate = SqueezeExcitation(outputs, outputs // squeeze)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.act(self.norm1(x))
        residual = self.gate(self.conv2(self.act(self.norm2(self.conv1(activated)))))
        changes = isinstance(self.shortcut, nn.Conv2d)
        return residual + (self.shortcut(activated) if changes else x)


class Reference(nn.Module):
    """Three stages with max-pools between them."""

    def __init__(self, squeeze: int | None, activation: str, pool: str) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(1, CHANNELS[0], 3, padding=1), pool
        sizes = [(4, 4, 6, 6), (4, 6, 6, 8)]
        self.blocks = nn.ModuleList(Block(*each, squeeze, activation) for each in zip(*sizes))
        self.norm, self.act = nn.BatchNorm2d(CHANNELS[-1]), ACTIVATIONS[activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = self.blocks
        x = second(F.max_pool2d(first(self.stem(x)), 2))  # (rows, 6, 7, 7)
        x = self.act(self.norm(fourth(F.max_pool2d(third(x), 2))))  # (rows, 8, 3, 3)
        pools = {"average": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}
        return (pools[self.pool](x, 1) if self.pool in pools else x).flatten(1)


def kinds_in_order(network: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def copy_values(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy by the order of convolutions, norms and, in the gates, linear layers as 1x1."""
    gates = {
        id(each) for gate in kinds_in_order(theirs, SqueezeExcitation) for each in gate.modules()
    }
    convolutions = [each for each in kinds_in_order(theirs, nn.Conv2d) if id(each) not in gates]
    linear = [each for each in kinds_in_order(theirs, nn.Conv2d) if id(each) in gates]
    pairs = [*zip(kinds_in_order(ours, nn.Conv2d), convolutions, strict=True)]
    pairs += zip(kinds_in_order(ours, nn.Linear), linear, strict=True)
    pairs += zip(
        kinds_in_order(ours, nn.BatchNorm2d), kinds_in_order(theirs, nn.BatchNorm2d), strict=True
    )
    for mine, other in pairs:
        for value, target in zip(mine.state_dict().values(), other.state_dict().values()):
            target.copy_(value.view(target.shape))


def body_of(activation: str = "relu", seed: int = 0, **settings) -> nn.Module:
    body = ResidualBody(CHANNELS, BLOCKS, **settings)
    return create(lambda: body(1, 2, activation, True)[0], stream(seed, "weights"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("squeeze, pool", [(None, "average"), (2, "max"), (4, "none")])
@pytest.mark.parametrize("training", [True, False])
def test_the_body_is_that_of_torchs_layers(activation, squeeze, pool, training):
    ours = body_of(activation, squeeze=squeeze, global_pool=pool).double()
    theirs = Reference(squeeze, activation, pool).double()
    images = torch.rand(6, 1, 14, 14, generator=stream(0, "data"), dtype=torch.float64)
    ours(images + images.mT)  # the running statistics have values of their own
    copy_values(ours, theirs)
    outputs = []
    for network in (ours, theirs):
        network.train(training)
        inputs = images.clone().requires_grad_()
        output = network(inputs)
        output.square().sum().backward()
        norms = [
            value for layer in kinds_in_order(network, nn.BatchNorm2d) for value in layer.buffers()
        ]
        outputs.append([output, inputs.grad, *norms])
    for value, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(value, expected)
    count = ResidualBody(CHANNELS, BLOCKS, global_pool=pool)(1, 2, activation, True)[1]
    assert outputs[0][0].shape == (6, count)


def test_a_dropped_path_leaves_the_shortcut_of_its_image():
    body = body_of(drop_path=0.6)
    images = torch.rand(12, 1, 14, 14, generator=stream(0, "data"))
    inputs = body[0](images)
    block, path = body[1], dropout_layers(body)[0]
    path.probability = 0.5
    path.draw_mask(6, [stream(1, "dropout")])
    dropped = path.mask[:, 0] == 0
    residual = block.residual[:-1](block.activated(inputs))
    expected = inputs + 2 * residual  # the mean over the masks is that without them
    expected[dropped] = inputs[dropped]
    assert 0 < dropped.sum() < 12
    torch.testing.assert_close(block(inputs), expected)
    block.eval()
    torch.testing.assert_close(block(inputs), inputs + block.residual(block.activated(inputs)))


@pytest.mark.parametrize("devices", [("cpu",), ()])
def test_an_array_of_bodies_computes_as_each_by_itself(devices, monkeypatch):
    """Member by member as on a CPU, and all members in one product as on a GPU.

    Each member has its own probability to drop paths.
    """
    monkeypatch.setattr("digitpairs.networks.layers.PER_MEMBER_DEVICES", devices)
    settings = {"activation": "gelu", "squeeze": 2, "dropout": 0.2}
    networks = [body_of(seed=i, drop_path=0.3 + 0.2 * i, **settings).double() for i in range(3)]
    array = stack(networks)
    images = torch.rand(3, 8, 1, 14, 14, generator=stream(0, "data"), dtype=torch.float64)
    draw_masks(dropout_layers(array), 4, [stream(seed, "dropout") for seed in range(3)])
    outputs = array(images)
    outputs.square().sum().backward()
    gradients = dict(array.named_parameters())
    for i, network in enumerate(networks):
        draw_masks(dropout_layers(network), 4, [stream(i, "dropout")])
        output = network(images[i])
        output.square().sum().backward()
        torch.testing.assert_close(outputs[i], output)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name].grad[i], parameter.grad)


def test_the_probability_to_drop_a_path_grows_linearly():
    """l / L of the last block's, equation 4 of Huang et al. 2016."""
    layers = dropout_layers(body_of(drop_path=0.4, dropout=0.3))
    assert [type(layer) is DropPath for layer in layers] == [True] * 4 + [False]
    assert [layer.probability for layer in layers] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.3])
    assert [layer.units for layer in layers] == [1] * 4 + [CHANNELS[-1]]
    assert not dropout_layers(body_of())


def test_masks_drop_the_share_of_the_images():
    layer = DropPath(0.3, rows_per_pair=2)
    layer.draw_mask(20_000, [stream(0, "dropout")])
    assert layer.mask.shape == (40_000, 1)
    assert abs((layer.mask == 0).double().mean() - 0.3) < 4 * (0.3 * 0.7 / 40_000) ** 0.5
    assert layer.mask.max() == torch.tensor(1.0).div(0.7)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"channels": []}, "channels=[] is not accepted: one to 4 numbers of channels"),
        ({"channels": [2] * 5}, "channels=[2, 2, 2, 2, 2] is not accepted: one to 4"),
        ({"channels": [4, 0]}, "channels=[4, 0]"),
        ({"blocks": [1]}, "blocks=[1] is not accepted: one whole number"),
        ({"squeeze": 5}, "squeeze=5 is not accepted: a whole number from 1 to 4"),
        ({"squeeze": 0}, "squeeze=0"),
        ({"drop_path": 1}, "drop_path=1 is not accepted: a probability from 0 to below 1"),
        ({"drop_path": "x"}, "drop_path=x is not accepted: a number from 0 to 1"),
        ({"dropout": -1}, "dropout=-1"),
        ({"global_pool": "mean"}, "global_pool=mean is not accepted: one of average, max, none"),
    ],
)
def test_bad_settings_are_named(settings, message):
    body = ResidualBody(**{"channels": [4, 8]} | settings)
    with pytest.raises(InvalidValueError, match="^" + re.escape(f"body.{message}")):
        SiameseNetwork(body)


def test_framework_has_no_residual_body():
    base = (*DIGITS, "model=siamese_residual", "model.comparison_input=logits")
    accepted = "lightning, since `framework` has no ResidualBlock"
    assert accepted in refusal(base, "engine=framework")
