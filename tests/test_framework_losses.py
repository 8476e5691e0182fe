"""The framework's losses and its siamese network, replica by replica, against torch."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import framework as fw
from framework.siamese import Answer
from tests.framework_twins import (
    assert_close,
    assert_gradients,
    dtypes,
    few,
    generator,
    generators,
    matrix,
    normal,
    seeds,
    twin_of,
)

# --- losses

bce = F.binary_cross_entropy_with_logits


def above(threshold: float):
    return lambda prediction: (prediction > threshold).to(prediction.dtype)


def argmax(prediction: torch.Tensor) -> torch.Tensor:
    return prediction.sin().argmax(-1)


def summed(loss):
    return functools.partial(loss, reduction="sum")


def cross_entropy_of_places(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(prediction.flatten(0, 1), target.flatten())


WEIGHTS = torch.tensor([0.5, 2.0, 1.25])


def weighted_cross_entropy(x, target, weight=None, **settings):
    return F.cross_entropy(x, target, None if weight is None else weight.to(x), **settings)


LOSSES = {  # ours; torch's; the prediction's shape without replicas; the target of a prediction
    "mse-mean": (fw.MSE(), F.mse_loss, (6, 3), torch.sin),
    "mse-sum": (fw.MSE("sum"), summed(F.mse_loss), (6, 3), torch.sin),
    "mse-images": (fw.MSE(), F.mse_loss, (2, 3, 4, 5), torch.sin),
    "bce": (fw.BinaryCrossEntropy(), bce, (6, 1), above(0)),
    "bce-soft": (fw.BinaryCrossEntropy(), bce, (6, 2), torch.sigmoid),
    "bce-sum": (fw.BinaryCrossEntropy("sum"), summed(bce), (6, 1), above(0.3)),
    "ce": (fw.CrossEntropy(), F.cross_entropy, (6, 10), argmax),
    "ce-sum": (fw.CrossEntropy("sum"), summed(F.cross_entropy), (6, 4), argmax),
    "ce-1-row": (fw.CrossEntropy(), F.cross_entropy, (1, 3), argmax),
    "ce-places": (fw.CrossEntropy(), cross_entropy_of_places, (4, 2, 5), argmax),
    "l1": (fw.L1(), F.l1_loss, (6, 3), torch.sin),
    "l1-sum": (fw.L1("sum"), summed(F.l1_loss), (6, 3), torch.sin),
    "huber": (fw.Huber(), F.huber_loss, (6, 3), torch.sin),
    "huber-0.3": (
        fw.Huber("sum", delta=0.3), functools.partial(F.huber_loss, delta=0.3, reduction="sum"),
        (6, 3), torch.sin,
    ),
    "bce-pos-weight": (
        fw.BinaryCrossEntropy(pos_weight=3.0),
        lambda x, t: bce(x, t, pos_weight=torch.full((1,), 3.0).to(x)), (6, 2), torch.sigmoid,
    ),
    "bce-weights": (
        fw.BinaryCrossEntropy("sum", pos_weight=WEIGHTS[:2], weight=WEIGHTS[1:]),
        lambda x, t: bce(x, t, WEIGHTS[1:].to(x), pos_weight=WEIGHTS[:2].to(x), reduction="sum"),
        (6, 2), torch.sigmoid,
    ),
    "ce-probabilities": (
        fw.CrossEntropy(), F.cross_entropy, (6, 3), lambda p: p.sin().softmax(-1)
    ),
    **{
        f"ce-{reduction}-{smoothing}-{ignored}-{weights is None}": (
            fw.CrossEntropy(
                reduction, label_smoothing=smoothing, class_weights=weights, ignore_index=ignored
            ),
            functools.partial(
                weighted_cross_entropy, reduction=reduction, label_smoothing=smoothing,
                weight=weights, ignore_index=-100 if ignored is None else ignored,
            ),
            (6, 3),
            lambda p: p.sin().argmax(-1),
        )
        for reduction in ("mean", "sum")
        for smoothing in (0.0, 0.2)
        for ignored in (None, 1)
        for weights in (None, WEIGHTS)
    },
}  # fmt: skip  # a table


def compare_loss(case: str, prediction: torch.Tensor) -> None:
    loss, theirs, _, target_of = LOSSES[case]
    loss.train()
    target = target_of(prediction)
    if "-1-" in case:  # a batch of which every row is ignored has no mean
        target[:, 0] = 0
    for _ in range(2):  # the first pass does not affect the second
        values = loss.forward(prediction, target)
        gradient = loss.backward()
        assert values.shape == prediction.shape[:1] and gradient.shape == prediction.shape
        for replica in range(len(prediction)):
            twin = prediction[replica].clone().requires_grad_()
            value = theirs(twin, target[replica])
            value.backward()
            assert_close(values[replica], value)
            assert_close(gradient[replica], twin.grad)


@matrix
@pytest.mark.parametrize("case", LOSSES)
def test_loss(case, replicas, dtype):
    compare_loss(case, normal(replicas, *LOSSES[case][2], dtype=dtype))


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("case", [case for case in LOSSES if case != "mse-images"])
def test_loss_of_a_replica_has_the_same_bits_in_any_array(case, rows):
    torch.set_num_threads(1)
    loss, _, shape, target_of = LOSSES[case]
    prediction = normal(5, rows, *shape[1:], dtype=torch.float32)
    target = target_of(prediction)
    if "-1-" in case:  # a batch of which every row is ignored has no mean
        target[:, 0] = 0
    together = loss.forward(prediction, target), loss.backward()
    for first, last in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (2, 5)]:
        part = slice(first, last)
        alone = loss.forward(prediction[part].clone(), target[part].clone()), loss.backward()
        for ours, expected in zip(alone, together):
            assert torch.equal(ours, expected[part])


@few
@given(
    case=st.sampled_from(list(LOSSES)),
    replicas=st.integers(1, 4),
    rows=st.integers(1, 7),
    size=st.floats(1e-3, 30),
    seed=seeds,
)
def test_loss_of_any_size(case, replicas, rows, size, seed):
    compare_loss(case, size * normal(replicas, rows, *LOSSES[case][2][1:], seed=seed))


NO_REDUCTION = {  # ours with the reduction "none", and torch's
    "mse": (fw.MSE, F.mse_loss, torch.sin),
    "l1": (fw.L1, F.l1_loss, torch.sin),
    "huber": (fw.Huber, F.huber_loss, torch.sin),
    "bce": (fw.BinaryCrossEntropy, bce, torch.sigmoid),
    "bce-weight": (
        functools.partial(fw.BinaryCrossEntropy, weight=2.0),
        lambda *args, **settings: 2 * bce(*args, **settings), torch.sigmoid,
    ),
    "ce": (fw.CrossEntropy, F.cross_entropy, argmax),
    "ce-smooth": (
        functools.partial(fw.CrossEntropy, label_smoothing=0.1),
        functools.partial(F.cross_entropy, label_smoothing=0.1), argmax,
    ),
}  # fmt: skip  # a table


@pytest.mark.parametrize("case", NO_REDUCTION)
def test_no_reduction_gives_each_value(case):
    make, theirs, target_of = NO_REDUCTION[case]
    loss, prediction = make("none"), normal(2, 6, 3)
    target = target_of(prediction)
    values, gradient = loss.forward(prediction, target), loss.backward()
    for replica in range(2):
        twin = prediction[replica].clone().requires_grad_()
        expected = theirs(twin, target[replica], reduction="none")
        expected.sum().backward()
        assert_close(values[replica], expected)
        assert_close(gradient[replica], twin.grad)


@dtypes
@pytest.mark.parametrize("case", ["bce", "bce-soft", "bce-sum", "ce", "ce-sum"])
def test_extreme_logits_give_finite_losses(case, dtype):
    loss, theirs, shape, target_of = LOSSES[case]
    prediction = 1000 * normal(2, *shape, dtype=dtype).sign()
    target = target_of(-prediction)
    values, gradient = loss.forward(prediction, target), loss.backward()
    assert values.isfinite().all() and gradient.isfinite().all() and values.max() > 300
    assert_close(values, torch.stack(list(map(theirs, prediction, target))))


# --- the siamese network and its loss


class SiameseTwin(nn.Module):
    """The same network with a forward pass of the body for each image."""

    def __init__(self, own: fw.Siamese, replica: int) -> None:
        super().__init__()
        self.body = twin_of(own.body, replica, 4)
        self.comparison = twin_of(own.comparison, replica)
        self.sees = own.sees

    def forward(self, x):
        logits = [self.body(image[:, None]) for image in x.unbind(1)]
        seen = logits
        if self.sees == "probabilities":
            seen = [each.softmax(-1) for each in logits]
        return self.comparison(torch.cat(seen, -1)), torch.stack(logits, 1)


BODIES = {
    "mlp": lambda g: fw.Sequential(fw.Flatten(), *fw.mlp(20, [8], 10, g).sequence),
    "cnn": lambda g: fw.Sequential(
        fw.Conv2d(1, 2, 3, g), fw.GELU(), fw.MaxPool2d(2, 1), fw.Flatten(), fw.Linear(4, 10, g)
    ),
}


@matrix
@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "each"])
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", BODIES)
def test_siamese_network_and_its_loss(body, sees, own_weights, replicas, dtype):
    g = generators(replicas)
    network = fw.Siamese(BODIES[body](g), fw.mlp(20, [6], 1, g, activation="tanh"), sees=sees)
    network.to(dtype)
    weights = torch.tensor([0.3, 0.7, 1.5], dtype=dtype)
    if own_weights:
        weights = weights * (1 + torch.arange(replicas)[:, None])
    loss, twins = fw.PairLoss(weights), [SiameseTwin(network, each) for each in range(replicas)]
    for seed in range(2):
        x = normal(replicas, 6, 2, 4, 5, dtype=dtype, seed=seed)
        digits = torch.randint(10, (replicas, 6, 2), generator=generator(seed))
        order = (digits[..., :1] <= digits[..., 1:]).to(dtype)
        answer = network.forward(x)
        values = loss.forward(answer, (order, digits))
        dx = network.backward(loss.backward())
        for replica, twin in enumerate(twins):
            theirs = x[replica].clone().requires_grad_()
            comparison, logits = twin(theirs)
            parts = [F.cross_entropy(logits[:, i], digits[replica, :, i]) for i in (0, 1)]
            parts.append(bce(comparison, order[replica]))
            value = (weights.expand(replicas, 3)[replica] * torch.stack(parts)).sum()
            value.backward()
            assert_close(answer.comparison[replica], comparison)
            assert_close(answer.digits[replica], logits)
            assert_close(values[replica], value)
            assert_close(dx[replica], theirs.grad)
            assert_gradients(network, twin, replica)
    network.forward(x)
    gradients = Answer(*map(torch.ones_like, answer))
    assert (network.backward(gradients, input_gradient=False) is None) == (body == "cnn")


# --- numbers


@pytest.mark.parametrize("offset", [0, 30, -1e3, 1e5, -1e6, 1e7])
def test_cross_entropy_keeps_its_digits_for_logits_with_a_common_offset(offset):
    logits = (normal(2, 50, 10, dtype=torch.float32) * 3 + offset).float()
    target = logits.sin().argmax(-1)
    loss = fw.CrossEntropy("sum")
    value, gradient = loss.forward(logits, target), loss.backward()
    exact = logits.double().requires_grad_()
    expected = torch.stack([F.cross_entropy(*pair, reduction="sum") for pair in zip(exact, target)])
    expected.sum().backward()
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=2e-5, atol=1e-6)
