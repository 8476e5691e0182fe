"""Torch layers as `framework` layers: every setting is carried over, or refused by name."""

import pytest
import torch
from torch import nn

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.engines.framework_layers import convert_layer, torch_values
from digitpairs.engines.to_framework import convert_networks
from digitpairs.networks import PointMLP, layers
from tests.framework_twins import normal

LAYERS = {  # torch's layer, and the shape of its input
    "linear": (lambda: nn.Linear(5, 4), (6, 5)),
    "linear-no-bias": (lambda: layers.Linear(5, 4, bias=False), (6, 5)),
    "conv": (lambda: layers.Conv2d(2, 3, 3), (4, 2, 6, 7)),
    "conv-rectangular": (lambda: nn.Conv2d(2, 3, (2, 3), (1, 2), (1, 0)), (4, 2, 6, 7)),
    "conv-groups": (lambda: nn.Conv2d(4, 6, 2, dilation=2, groups=2, bias=False), (4, 4, 6, 7)),
    "conv-same": (lambda: nn.Conv2d(2, 3, 3, padding="same"), (4, 2, 6, 7)),
    "conv-valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (4, 2, 6, 7)),
    "max-pool": (lambda: layers.MaxPool2d(2), (4, 2, 6, 7)),
    "max-pool-all": (lambda: nn.MaxPool2d((3, 2), 2, 1, ceil_mode=True), (4, 2, 6, 8)),
    "mean-pool": (lambda: nn.AvgPool2d((2, 3), 2, 1, divisor_override=5), (4, 2, 6, 7)),
    "mean-pool-ceil": (
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        (4, 2, 6, 9),
    ),
    "norm": (lambda: nn.BatchNorm1d(5, eps=1e-2, momentum=0.3), (6, 5)),
    "norm-images": (lambda: layers.BatchNorm2d(2), (4, 2, 3, 3)),
    "norm-plain": (lambda: nn.BatchNorm1d(5, affine=False), (6, 5)),
    "norm-cumulative": (lambda: nn.BatchNorm1d(5, momentum=None), (6, 5)),
    "layer-norm": (lambda: nn.LayerNorm((3, 5), eps=1e-2), (6, 3, 5)),
    "layer-norm-plain": (lambda: nn.LayerNorm(5, elementwise_affine=False), (6, 5)),
    "relu": (lambda: nn.ReLU(), (6, 5)),
    "leaky": (lambda: nn.LeakyReLU(0.3), (6, 5)),
    "tanh": (lambda: layers.Tanh(), (6, 5)),
    "sigmoid": (lambda: layers.Sigmoid(), (6, 5)),
    "selu": (lambda: layers.SELU(), (6, 5)),
    "gelu": (lambda: layers.GELU(), (6, 5)),
    "softmax": (lambda: nn.Softmax(-1), (6, 5)),
    "flatten": (lambda: nn.Flatten(), (4, 2, 3, 3)),
    "flatten-own": (lambda: layers.Flatten(), (4, 2, 3, 3)),
}


def made(case: str) -> list[nn.Module]:
    """Two layers with other values, as after some training."""
    pair = [LAYERS[case][0]().double() for _ in range(2)]
    for seed, layer in enumerate(pair):
        for number, tensor in enumerate(layer.state_dict().values()):
            if tensor.is_floating_point():
                tensor += normal(*tensor.shape, seed=7 * seed + number).abs()
    return pair


@pytest.mark.parametrize("case", LAYERS)
def test_converted_layer_computes_as_torchs(case):
    pair, shape = made(case), LAYERS[case][1]
    own = convert_layer(pair, [])
    for number in range(2):  # the second batch finds the running values of the first
        x = normal(2, *shape, seed=number)
        y = own(x)
        dy = normal(*y.shape, seed=9)
        dx = own.backward(dy)
        for replica, layer in enumerate(pair):
            twin = x[replica].clone().requires_grad_()
            output = layer(twin)
            output.backward(dy[replica])
            torch.testing.assert_close(y[replica], output.detach())
            torch.testing.assert_close(dx[replica], twin.grad)
    own.eval()
    for replica, layer in enumerate(pair):
        torch.testing.assert_close(own(x)[replica], layer.eval()(x[replica]).detach())
        if layer.state_dict():
            for name, values in torch_values(own, replica):
                theirs = layer.state_dict()[name]
                torch.testing.assert_close(values.reshape(theirs.shape).to(theirs.dtype), theirs)


class OtherLinear(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


def hooked() -> nn.Module:
    layer = nn.Linear(3, 3)
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


REFUSED = {
    "has Conv2d only with padding_mode=zeros, not 'reflect'": lambda: nn.Conv2d(
        1, 2, 3, padding=1, padding_mode="reflect"
    ),
    "has MaxPool2d only with dilation=1, not 2": lambda: nn.MaxPool2d(2, dilation=2),
    "has MaxPool2d only with return_indices=False, not True": lambda: nn.MaxPool2d(
        2, return_indices=True
    ),
    "has BatchNorm1d only with track_running_stats=True": lambda: nn.BatchNorm1d(
        3, track_running_stats=False
    ),
    "has GELU only with approximate=none, not 'tanh'": lambda: nn.GELU("tanh"),
    "has Softmax only with dim=-1, not 0": lambda: nn.Softmax(0),
    "has Flatten only with start_dim=1, not 2": lambda: nn.Flatten(2),
    "has LayerNorm only with bias=True, not False": lambda: nn.LayerNorm(3, bias=False),
    "has no PReLU": lambda: nn.PReLU(),
    "has no BatchNorm3d": lambda: nn.BatchNorm3d(3),
    f"has no OtherLinear of {__name__}": lambda: OtherLinear(3, 3),
    "has no ParametrizedLinear of torch.nn.utils.parametrize": lambda: (
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    ),
    "does not call the hooks of Linear": hooked,
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_settings_are_refused_by_name(message):
    with pytest.raises(InvalidValueError) as refused:
        convert_layer([REFUSED[message](), REFUSED[message]()], [])
    expected = f"engine=framework is not accepted: lightning, since `framework` {message}"
    assert str(refused.value).startswith(expected)


def test_frozen_parameters_stay_frozen():
    pair = [nn.Linear(3, 2) for _ in range(2)]
    for layer in pair:
        layer.weight.requires_grad_(False)
    own = convert_layer(pair, [])
    assert (own.weight.frozen, own.bias.frozen) == (True, False)
    assert len(fw.SGD(own.parameters(), 0.1).parameters) == 1


def test_network_with_a_parameter_in_several_layers_is_refused():
    network = PointMLP([4, 4])
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    convert_networks([network], [])
    linear[2].bias = linear[1].bias = nn.Parameter(torch.zeros(1))
    with pytest.raises(InvalidValueError, match="network has a parameter in several layers"):
        convert_networks([network], [])
