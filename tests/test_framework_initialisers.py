"""Initial weights: the variance and bounds of their papers, the same for a seed in any array."""

import math

import pytest
import torch
from torch import nn

import framework as fw
from tests.framework_twins import generator, generators

FAN_IN, FAN_OUT = 60, 500
INITIALISERS = {  # of the weights: variance; largest magnitude, if bounded
    "torch": (fw.torch_uniform, 1 / (3 * FAN_IN), 1 / math.sqrt(FAN_IN)),
    "xavier": (fw.xavier, 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    "he": (fw.he, 2 / FAN_IN, None),
    "lecun": (fw.lecun, 1 / FAN_IN, None),
}


@pytest.mark.parametrize("case", INITIALISERS)
def test_variance_and_bounds_of_initial_weights(case, global_generator_untouched):
    initialise, variance, bound = INITIALISERS[case]
    layer = fw.Linear(FAN_IN, FAN_OUT, generators(2), initialise=initialise)
    for replica, bias in zip(layer.weight.data, layer.bias.data):  # 30,000 values
        assert replica.mean().item() == pytest.approx(0, abs=0.03 * math.sqrt(variance))
        assert replica.var().item() == pytest.approx(variance, rel=0.04)
        if bound is not None:
            assert replica.abs().max().item() == pytest.approx(bound, rel=1e-3)
        else:  # in a normal distribution 4.6 % are beyond two standard deviations
            beyond = (replica.abs() > 2 * math.sqrt(variance)).float().mean().item()
            assert beyond == pytest.approx(0.0455, abs=0.006)
        assert (bias.abs().max() == 0) == (case != "torch")


@pytest.mark.parametrize("case", INITIALISERS)
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (3, 5), (16, 33)])
@pytest.mark.parametrize("kind, kernel", [(fw.Linear, []), (fw.Conv2d, [2])])
def test_a_seed_gives_the_same_weights_in_any_array(kind, kernel, inputs, outputs, case):
    def state_of(g) -> dict[str, torch.Tensor]:
        return kind(inputs, outputs, *kernel, g, initialise=INITIALISERS[case][0]).state()

    alone = [state_of(generator(seed)) for seed in range(4)]
    for array in ([0, 1, 2, 3], [3, 1], [2], [0, 0]):
        for name, values in state_of([generator(seed) for seed in array]).items():
            assert torch.equal(values, torch.cat([alone[seed][name] for seed in array]))
    assert not torch.equal(alone[0]["weight"], alone[1]["weight"])


def test_a_generator_draws_the_weights_before_the_biases():
    layer, twin = fw.Linear(4, 3, generator(5)), generator(5)
    for parameter in (layer.weight, layer.bias):
        uniform = torch.rand(parameter.data.shape, generator=twin)
        torch.testing.assert_close(parameter.data, (2 * uniform - 1) / math.sqrt(4))


@pytest.mark.parametrize("make, twin", [
    (lambda g: fw.Linear(50, 900, g), lambda: nn.Linear(50, 900)),
    (lambda g: fw.Conv2d(4, 900, 3, g), lambda: nn.Conv2d(4, 900, 3)),
], ids=["linear", "conv"])  # fmt: skip  # one case a line
def test_default_has_the_bounds_of_torch(make, twin):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = twin()
    for ours, like in zip(make(generator()).parameters(), theirs.parameters(), strict=True):
        assert ours.data.abs().max().item() == pytest.approx(like.abs().max().item(), rel=0.01)
        assert ours.data.std().item() == pytest.approx(like.std().item(), rel=0.05)
