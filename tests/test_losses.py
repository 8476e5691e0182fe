"""The loss's parts and their weights, against torch and against formulas computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from digitpairs.checks import InvalidValueError
from digitpairs.losses import (
    Coefficient,
    ConvexWeighting,
    DynamicWeightAverage,
    FreeWeighting,
    GammaWeighting,
    LambdaWeighting,
    NoAuxWeighting,
    RandomWeighting,
    UncertaintyWeighting,
    loss_parts,
)
from digitpairs.networks import Prediction
from digitpairs.streams import stream

PARTS = torch.tensor([0.5, 0.7, 0.2])


def expected_parts(logits, comparison, digits, target, smoothing=0.0):
    """torch's losses of a batch; one comparison logit x is the two logits 0 and x."""
    if comparison.shape[-1] == 1:
        comparison = torch.cat([torch.zeros_like(comparison), comparison], -1)
    labelled = [(logits[:, 0], digits[:, 0]), (logits[:, 1], digits[:, 1]), (comparison, target)]
    losses = [F.cross_entropy(*pair, label_smoothing=smoothing) for pair in labelled]
    return torch.stack(losses)


@pytest.mark.parametrize("outputs", [1, 2])
def test_parts_are_torchs_losses(outputs):
    logits, comparison = torch.randn(8, 2, 10), torch.randn(8, outputs)
    digits, target = torch.randint(10, (8, 2)), torch.randint(2, (8,))
    expected = expected_parts(logits, comparison, digits, target)
    parts = loss_parts(Prediction(comparison, logits), digits, target)
    torch.testing.assert_close(parts, expected)
    torch.testing.assert_close(
        loss_parts(Prediction(comparison, None), digits, target), expected[2:]
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_smoothed_labels_are_torchs(outputs):
    """Of one network, and of an array whose members smooth by different shares."""
    shares = torch.tensor([0.0, 0.1, 1.0])
    logits, comparison = torch.randn(3, 8, 2, 10), torch.randn(3, 8, outputs)
    digits, target = torch.randint(10, (3, 8, 2)), torch.randint(2, (3, 8))
    array = loss_parts(Prediction(comparison, logits), digits, target, shares)
    for i, share in enumerate(shares):
        batch = logits[i], comparison[i], digits[i], target[i]
        expected = expected_parts(*batch, smoothing=share.item())
        torch.testing.assert_close(array[i], expected)
        alone = loss_parts(Prediction(comparison[i], logits[i]), digits[i], target[i], share)
        torch.testing.assert_close(alone, expected)
    rounded = comparison.bfloat16()  # in bf16 the logits are rounded, the labels are not
    in_bf16, in_float32 = (
        loss_parts(Prediction(each, None), digits, target, shares / 20)
        for each in (rounded, rounded.float())
    )
    torch.testing.assert_close(in_bf16.float(), in_float32, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    "weighting, expected",
    [
        (LambdaWeighting(0.8), 0.5 + 0.7 + 0.8 * 0.2),
        (LambdaWeighting(**{"lambda": 0.8}), 0.5 + 0.7 + 0.8 * 0.2),
        (GammaWeighting(0.3), 0.2 + 0.3 * (0.5 + 0.7)),
        (ConvexWeighting(0.28), 0.28 * 0.5 + 0.28 * 0.7 + 0.44 * 0.2),
        (FreeWeighting(1, 2, 3), 0.5 + 2 * 0.7 + 3 * 0.2),
        (NoAuxWeighting(), 0.2),
        (UncertaintyWeighting(), 0.5 + 0.7 + 0.2),
        (DynamicWeightAverage(), 0.5 + 0.7 + 0.2),
    ],
)
def test_the_weighted_sum(weighting, expected):
    weighting.start_epoch(0, [])
    weighting.start_step(stream(0, "aux"))
    assert weighting(PARTS).item() == pytest.approx(expected)


def test_no_aux_needs_no_digits():
    assert NoAuxWeighting()(torch.tensor([0.3])).item() == pytest.approx(0.3)


@pytest.mark.slow
def test_uncertainty_learns_what_the_formula_says():
    """With s free, sum exp(-s) L + s / 2 has its minimum at exp(-s) = 1 / (2 L)."""
    weighting = UncertaintyWeighting()
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(2000):
        optimizer.zero_grad()
        weighting(PARTS).backward()
        optimizer.step()
    torch.testing.assert_close(weighting.current(), 1 / (2 * PARTS), rtol=1e-3, atol=0)


@pytest.mark.slow
def test_uncertainty_comes_back_from_its_limit():
    weighting = UncertaintyWeighting(limit=1.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)

    def learn(loss):
        for _ in range(300):
            weighting.start_step(stream(0, "aux"))
            optimizer.zero_grad()
            weighting(torch.full((3,), loss)).backward()
            optimizer.step()
        weighting.start_step(stream(0, "aux"))
        return weighting.current().tolist()

    assert learn(0.001) == pytest.approx([math.e] * 3)
    assert learn(5.0) == pytest.approx([1 / math.e] * 3)


def test_dynamic_weight_average_by_hand():
    weighting = DynamicWeightAverage(temperature=2.0)
    history = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.5, 1.0, 0.8])]
    weighting.start_epoch(1, history[:1])
    assert weighting.current().tolist() == [1, 1, 1]
    weighting.start_epoch(2, history)
    powers = [math.exp(ratio / 2) for ratio in (0.5, 1.0, 0.8)]
    expected = [3 * power / sum(powers) for power in powers]
    assert weighting.current().tolist() == pytest.approx(expected)
    weighting.start_epoch(3, [torch.zeros(3), torch.tensor([0.0, 1.0, 2.0])])
    assert weighting.current().isfinite().all()


def test_random_weights_follow_their_stream(global_generator_untouched):
    def drawn(seed):
        weighting, generator = RandomWeighting(), stream(seed, "aux")
        draws = []
        for _ in range(500):
            weighting.start_step(generator)
            draws.append(weighting.weights.clone())
        return torch.stack(draws)

    one, same, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(one, same) and not torch.equal(one, other)
    torch.testing.assert_close(one.sum(1), torch.ones(500))
    assert (one.mean(0) - 1 / 3).abs().max() < 0.05
    assert RandomWeighting().eval()(PARTS).item() == pytest.approx(sum(PARTS.tolist()) / 3)


@pytest.mark.parametrize(
    "schedule, shares",
    [
        ("linear", [0, 1 / 4, 1 / 2, 3 / 4, 1, 1]),
        ("switch", [0, 0, 0, 0, 1, 1]),
        ("cosine", [0, (1 - 0.5**0.5) / 2, 1 / 2, (1 + 0.5**0.5) / 2, 1, 1]),
    ],
)
def test_coefficient_schedules(schedule, shares):
    setting = {"schedule": schedule, "start": 0.2, "end": 1.0, "epochs": 4}
    coefficient = Coefficient("lambda", setting)
    expected = [0.2 + 0.8 * share for share in shares]
    assert [coefficient.at(epoch) for epoch in range(6)] == pytest.approx(expected)


SCHEDULE = {"schedule": "linear", "start": 0, "end": 0.6, "epochs": 3}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LambdaWeighting(-1), "lambda=-1 is not accepted: a number of at least 0"),
        (lambda: LambdaWeighting("big"), "lambda=big"),
        (lambda: LambdaWeighting(float("nan")), "lambda=nan"),
        (lambda: ConvexWeighting(0.7), "c=0.7 is not accepted: a number from 0 to 0.5"),
        (lambda: ConvexWeighting(SCHEDULE), "c.end=0.6"),
        (lambda: GammaWeighting(SCHEDULE | {"schedule": "steep"}), "gamma.schedule=steep"),
        (lambda: GammaWeighting({"start": 0}), "gamma=.* a schedule with the keys"),
        (lambda: FreeWeighting(1, -2, 1), "digit2=-2"),
        (lambda: UncertaintyWeighting(0), "limit=0"),
        (lambda: DynamicWeightAverage(-1), "temperature=-1"),
    ],
)
def test_bad_weights_are_named(make, message):
    with pytest.raises(InvalidValueError, match=message):
        make()
