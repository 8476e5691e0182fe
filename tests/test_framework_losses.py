"""The framework's losses, and the siamese network with its own, against torch, replica by replica."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from framework import (
    GELU,
    MSE,
    BinaryCrossEntropy,
    Conv2d,
    CrossEntropy,
    Flatten,
    Linear,
    MaxPool2d,
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Tanh,
)
from framework.siamese import Answer
from tests.framework_twins import (
    TOLERANCE,
    assert_close,
    assert_gradients,
    few,
    generator,
    generators,
    matrix,
    normal,
    seeds,
    twin_of,
)

# --- losses

LOSSES = {  # ours; torch's; the prediction's shape without replicas; the target of a prediction
    "mse-mean": (MSE, functional.mse_loss, (6, 3), torch.sin),
    "mse-sum": (lambda: MSE("sum"), lambda p, t: functional.mse_loss(p, t, reduction="sum"), (6, 3), torch.sin),
    "mse-images": (MSE, functional.mse_loss, (2, 3, 4, 5), torch.sin),
    "bce": (BinaryCrossEntropy, functional.binary_cross_entropy_with_logits, (6, 1), lambda p: (p.sin() > 0).to(p.dtype)),
    "bce-soft": (BinaryCrossEntropy, functional.binary_cross_entropy_with_logits, (6, 2), torch.sigmoid),
    "bce-sum": (
        lambda: BinaryCrossEntropy("sum"),
        lambda p, t: functional.binary_cross_entropy_with_logits(p, t, reduction="sum"), (6, 1), lambda p: (p > 0.3).to(p.dtype),
    ),
    "ce": (CrossEntropy, functional.cross_entropy, (6, 10), lambda p: p.sin().argmax(-1)),
    "ce-sum": (lambda: CrossEntropy("sum"), lambda p, t: functional.cross_entropy(p, t, reduction="sum"), (6, 4), lambda p: p.sin().argmax(-1)),
    "ce-1-row": (CrossEntropy, functional.cross_entropy, (1, 3), lambda p: p.argmin(-1)),
    "ce-places": (CrossEntropy, lambda p, t: functional.cross_entropy(p.flatten(0, 1), t.flatten()), (4, 2, 5), lambda p: p.argmin(-1)),
}  # fmt: skip


def compare_loss(case: str, prediction: torch.Tensor) -> None:
    make, theirs, _, target_of = LOSSES[case]
    loss, target = make(), target_of(prediction)
    for _ in range(2):  # one backward to each forward, and nothing left over
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
def test_a_loss_is_torchs(case, replicas, dtype):
    compare_loss(case, normal(replicas, *LOSSES[case][2], dtype=dtype))


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("case", [case for case in LOSSES if case != "mse-images"])
def test_a_replicas_loss_has_the_same_bits_in_any_array(case, rows):
    torch.set_num_threads(1)
    make, _, shape, target_of = LOSSES[case]
    prediction = normal(5, rows, *shape[1:], dtype=torch.float32)
    target, loss = target_of(prediction), make()
    together = loss.forward(prediction, target), loss.backward()
    for part in [slice(replica, replica + 1) for replica in range(5)] + [slice(0, 2), slice(2, 5)]:
        apart = loss.forward(prediction[part].clone(), target[part].clone()), loss.backward()
        assert all(torch.equal(each, whole[part]) for each, whole in zip(apart, together))


@few
@given(
    case=st.sampled_from(list(LOSSES)),
    replicas=st.integers(1, 4),
    rows=st.integers(1, 7),
    size=st.floats(1e-3, 30),
    seed=seeds,
)
def test_a_loss_of_any_size_is_torchs(case, replicas, rows, size, seed):
    compare_loss(case, size * normal(replicas, rows, *LOSSES[case][2][1:], seed=seed))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", ["bce", "bce-soft", "bce-sum", "ce", "ce-sum"])
def test_extreme_logits_give_finite_losses(case, dtype):
    make, theirs, shape, target_of = LOSSES[case]
    prediction = 1000 * normal(2, *shape, dtype=dtype).sign()
    target = target_of(-prediction)
    loss = make()
    values, gradient = loss.forward(prediction, target), loss.backward()
    assert values.isfinite().all() and gradient.isfinite().all() and values.max() > 300
    assert_close(values, torch.stack([theirs(*each) for each in zip(prediction, target)]))


# --- the siamese network and its loss


class SiameseTwin(nn.Module):
    """Written down the other way: each image through the body by itself."""

    def __init__(self, own: Siamese, replica: int) -> None:
        super().__init__()
        self.body, self.comparison, self.sees = (
            twin_of(own.body, replica, 4),
            twin_of(own.comparison, replica),
            own.sees,
        )

    def forward(self, x):
        logits = [self.body(image[:, None]) for image in x.unbind(1)]
        seen = torch.cat(
            [each.softmax(-1) if self.sees == "probabilities" else each for each in logits], -1
        )
        return self.comparison(seen), logits


def siamese(body: str, sees: str, g: list) -> Siamese:
    bodies = {
        "mlp": lambda: Sequential(Flatten(), Linear(20, 8, g), ReLU(), Linear(8, 10, g)),
        "cnn": lambda: Sequential(
            Conv2d(1, 2, 3, g), GELU(), MaxPool2d(2, 1), Flatten(), Linear(4, 10, g)
        ),
    }
    return Siamese(bodies[body](), Sequential(Linear(20, 6, g), Tanh(), Linear(6, 1, g)), sees=sees)


@matrix
@pytest.mark.parametrize("own_weights", [False, True], ids=["shared", "each"])
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_the_siamese_network_and_its_loss_are_torchs(body, sees, own_weights, replicas, dtype):
    network = siamese(body, sees, generators(replicas))
    network.to(dtype)
    weights = torch.tensor([0.3, 0.7, 1.5], dtype=dtype) * (
        1 + torch.arange(replicas)[:, None] if own_weights else 1
    )
    loss, twins = PairLoss(weights), [SiameseTwin(network, replica) for replica in range(replicas)]
    for turn in range(2):
        x = normal(replicas, 6, 2, 4, 5, dtype=dtype, seed=turn)
        digits = torch.randint(10, (replicas, 6, 2), generator=generator(turn))
        order = (digits[..., :1] <= digits[..., 1:]).to(dtype)
        answer = network.forward(x)
        values = loss.forward(answer, (order, digits))
        dx = network.backward(loss.backward())
        for replica, twin in enumerate(twins):
            theirs = x[replica].clone().requires_grad_()
            comparison, logits = twin(theirs)
            parts = [
                functional.cross_entropy(each, digits[replica, :, place])
                for place, each in enumerate(logits)
            ]
            parts.append(functional.binary_cross_entropy_with_logits(comparison, order[replica]))
            value = (weights.expand(replicas, 3)[replica] * torch.stack(parts)).sum()
            value.backward()
            assert_close(answer.comparison[replica], comparison)
            assert_close(answer.digits[replica], torch.stack(logits, 1))
            assert_close(values[replica], value)
            assert_close(dx[replica], theirs.grad)
            assert_gradients(network, twin, replica)
    network.forward(x)
    gradients = Answer(*map(torch.ones_like, answer))
    assert (network.backward(gradients, input_gradient=False) is None) == (body == "cnn")
