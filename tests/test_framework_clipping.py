"""Gradient clipping of each replica against torch's for each network."""

import math

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import framework as fw
from tests.framework_twins import generators, matrix, normal, normal32

SHAPES = [(4, 3), (1, 3), (5,), ()]  # of the parameters, without replicas
CLIPS = {  # ours, torch's
    "norm": (fw.ClipNorm(2.0), lambda p: clip_grad_norm_(p, 2.0)),
    "norm-not-reached": (fw.ClipNorm(100), lambda p: clip_grad_norm_(p, 100)),
    "norm-1": (fw.ClipNorm(2.0, 1), lambda p: clip_grad_norm_(p, 2.0, norm_type=1)),
    "norm-inf": (fw.ClipNorm(0.5, math.inf), lambda p: clip_grad_norm_(p, 0.5, math.inf)),
    "value": (fw.ClipValue(0.3), lambda p: clip_grad_value_(p, 0.3)),
}
clips = pytest.mark.parametrize("case", CLIPS)


def parameters_with(gradients: list[torch.Tensor]) -> list[fw.Parameter]:
    parameters = [fw.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    return parameters


def gradients_of(replicas: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """The replicas have gradients of different sizes."""
    sizes = 1.0 + torch.arange(replicas, dtype=dtype)
    drawn = [normal(*shape, replicas, dtype=dtype, seed=i) for i, shape in enumerate(SHAPES)]
    return [(gradient * sizes).movedim(-1, 0).contiguous() for gradient in drawn]


def compare(case: str, gradients: list[torch.Tensor]) -> None:
    clip, theirs = CLIPS[case]
    parameters = parameters_with(gradients)
    norms = clip(parameters)
    for replica in range(len(gradients[0])):
        twins = [torch.nn.Parameter(torch.zeros_like(each[replica])) for each in gradients]
        for twin, gradient in zip(twins, gradients):
            twin.grad = gradient[replica].clone()
        norm = theirs(twins)
        assert_equal = torch.testing.assert_close
        if norms is not None:
            assert_equal(norms[replica], norm, equal_nan=True)
        for parameter, twin in zip(parameters, twins):
            assert_equal(parameter.grad[replica], twin.grad, equal_nan=True)


@matrix
@clips
def test_each_replica_is_clipped_as_by_torch(case, replicas, dtype):
    compare(case, gradients_of(replicas, dtype))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@clips
def test_gradients_that_are_not_finite_become_those_of_torch(case, value):
    gradients = gradients_of(3, torch.float64)
    gradients[0][1, 2, 1] = value
    compare(case, gradients)


@clips
def test_replica_has_the_same_bits_in_any_array(case):
    clip, gradients = CLIPS[case][0], gradients_of(7, torch.float32)
    together = parameters_with(gradients)
    clip(together)
    for replica in range(7):
        alone = parameters_with([gradient[replica : replica + 1] for gradient in gradients])
        clip(alone)
        for ours, one in zip(together, alone):
            assert torch.equal(ours.grad[replica], one.grad[0])


def network() -> fw.Sequential:
    g = generators(2)
    return fw.Sequential(fw.Linear(3, 4, g), fw.Tanh(), fw.Linear(4, 1, g))


DATA = normal32(2, 12, 3), 50 * normal32(2, 12, 1, seed=1)  # with large gradients


def trainer(clip: fw.Clip | None, data=DATA) -> fw.Trainer:
    net = network()
    optimizer = fw.SGD(net.parameters(), 0.1)
    made = fw.Trainer(net, fw.MSE(), optimizer, generators(2), batch_size=4, clip=clip)
    made.fit(data, 2)
    return made


@clips
def test_training_clips_before_each_step(case):
    clip, theirs = CLIPS[case]
    trained = trainer(clip).network
    first, last = (network()[i] for i in (0, 2))
    for replica, order in enumerate(generators(2)):
        weights = [
            torch.nn.Parameter(parameter.data[replica].clone())
            for parameter in (first.weight, first.bias, last.weight, last.bias)
        ]
        optimizer = torch.optim.SGD(weights, 0.1)
        for _ in range(2):
            for rows in torch.randperm(12, generator=order).split(4):
                x, target = (part[replica, rows] for part in DATA)
                a, b, c, d = weights
                optimizer.zero_grad()
                ((x @ a + b).tanh() @ c + d - target).square().mean().backward()
                theirs(weights)
                optimizer.step()
        for ours, twin in zip(trained.parameters(), weights):
            torch.testing.assert_close(ours.data[replica], twin.detach(), rtol=1e-4, atol=1e-5)


def test_replica_whose_norm_is_not_finite_fails_alone():
    x, target = DATA[0].clone(), DATA[1]
    x[1, 5] = math.inf
    failed, sound = trainer(fw.ClipNorm(1.0), (x, target)), trainer(fw.ClipNorm(1.0))
    assert failed.failures.keys() == {1}
    assert failed.history[0] == sound.history[0]


def test_frozen_parameters_do_not_count():
    net = network()
    net[0].freeze()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter.data)
    norms = fw.ClipNorm(1.0)(net.parameters())
    torch.testing.assert_close(norms, torch.full((2,), 5**0.5))  # of 4 weights and a bias
    assert torch.equal(net[0].weight.grad, torch.ones(2, 3, 4))


def test_checkpoint_with_another_limit_is_refused(tmp_path):
    trainer(fw.ClipNorm(1.0)).save(tmp_path / "state.pt")
    trainer(fw.ClipNorm(1.0)).load(tmp_path / "state.pt")
    for other, message in {
        fw.ClipNorm(2.0): "clip.max_norm=1.0, accepted is 2.0",
        fw.ClipValue(1.0): "clip=ClipNorm, accepted is ClipValue",
        None: "clip=ClipNorm, accepted is None",
    }.items():
        with pytest.raises(ValueError, match=message):
            trainer(other).load(tmp_path / "state.pt")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: fw.ClipNorm(0), "max_norm is 0, accepted is a number above 0"),
        (lambda: fw.ClipNorm(1.0, -1), "norm_type is -1, accepted is a number above 0"),
        (lambda: fw.ClipValue(math.nan), "limit is nan, accepted is a number above 0"),
        (lambda: trainer(1.0), "clip is 1.0, accepted is an instance of Clip"),
    ],
)
def test_wrong_limit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
