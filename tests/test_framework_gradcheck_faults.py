"""The gradient check names what is wrong, in layers, losses and networks."""

import re

import pytest
import torch

from framework import (
    MSE,
    BatchNorm,
    BinaryCrossEntropy,
    Conv2d,
    CrossEntropy,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Tanh,
    gradcheck,
)
from tests.framework_twins import generators, normal
from tests.test_framework_gradcheck import R, pair_targets


class WrongFactor(Linear):
    def backward(self, dy, input_gradient=True):
        dx = super().backward(dy, input_gradient)
        self.weight.grad.mul_(1.001)
        return dx


class NoBiasGradient(Linear):
    def backward(self, dy, input_gradient=True):
        before = self.bias.grad.clone()
        dx = super().backward(dy, input_gradient)
        self.bias.grad.copy_(before)
        return dx


class MeanBiasGradient(Linear):
    def backward(self, dy, input_gradient=True):
        before = self.bias.grad.clone()
        dx = super().backward(dy, input_gradient)
        self.bias.grad.copy_(before + dy.mean(1, keepdim=True))
        return dx


class TransposedWeightGradient(Linear):
    def backward(self, dy, input_gradient=True):
        before = self.weight.grad.clone()
        dx = super().backward(dy, input_gradient)
        self.weight.grad.copy_(before + (self.weight.grad - before).mT)
        return dx


class TransposedInputGradient(Linear):
    def backward(self, dy, input_gradient=True):
        super().backward(dy, input_gradient)
        return torch.bmm(dy, self.weight.data)


class WrongReplica(Linear):
    def backward(self, dy, input_gradient=True):
        dx = super().backward(dy, input_gradient)
        self.weight.grad.copy_(self.weight.grad.flip(0))
        return dx


class BatchNormOfConstants(BatchNorm):
    """As if mean and variance did not depend on the input."""

    def backward(self, dy, input_gradient=True):
        root = self._kept[1]
        super().backward(dy, input_gradient)
        return dy * self.scale.data * root


class ScaleForShift(BatchNorm):
    def backward(self, dy, input_gradient=True):
        dx = super().backward(dy, input_gradient)
        self.scale.grad.copy_(self.shift.grad)
        return dx


class TanhOfItsInput(Tanh):
    def backward(self, dy, input_gradient=True):
        return dy * (1 - self._take())


class DropoutBackwardUnscaled(Dropout):
    def backward(self, dy, input_gradient=True):
        return super().backward(dy, input_gradient) * (1 - self.probability)


class DropoutPassesAll(Dropout):
    def backward(self, dy, input_gradient=True):
        self._take()
        return dy


class ConvLastPlaceLost(Conv2d):
    """One of the overlapping places is not added to the input's gradient."""

    def _added(self, dwindows, shape):
        dwindows[..., -1, -1] = 0
        return super()._added(dwindows, shape)


class PoolToTheLast(MaxPool2d):
    def backward(self, dy, input_gradient=True):
        place, shape = self._kept
        self._kept = (self.kernel**2 - 1 - place, shape)
        return super().backward(dy, input_gradient)


class NoInputGradient(Tanh):
    """Returns None although it was asked for the gradient."""

    def backward(self, dy, input_gradient=True):
        super().backward(dy, input_gradient)


class NotANumber(ReLU):
    def backward(self, dy, input_gradient=True):
        return super().backward(dy, input_gradient) / 0 * 0


UNITS, IMAGES = (5, 4), (2, 2, 5, 4)
WRONG = {  # of generators; the input's shape without replicas; the names that deviate
    "factor": (lambda g: WrongFactor(4, 3, g), UNITS, {"weight"}),
    "no-bias-gradient": (lambda g: NoBiasGradient(4, 3, g), UNITS, {"bias"}),
    "mean-bias-gradient": (lambda g: MeanBiasGradient(4, 3, g), UNITS, {"bias"}),
    "transposed-weight": (lambda g: TransposedWeightGradient(4, 4, g), UNITS, {"weight"}),
    "transposed-input": (lambda g: TransposedInputGradient(4, 4, g), UNITS, {"x"}),
    "other-replica": (lambda g: WrongReplica(4, 3, g), UNITS, {"weight"}),
    "batch-norm-constants": (lambda g: BatchNormOfConstants(4, R), UNITS, {"x"}),
    "batch-norm-scale": (lambda g: ScaleForShift(4, R), UNITS, {"scale"}),
    "tanh": (lambda g: TanhOfItsInput(), UNITS, {"x"}),
    "dropout-unscaled": (lambda g: DropoutBackwardUnscaled(0.5, g), UNITS, {"x"}),
    "dropout-passes-all": (lambda g: DropoutPassesAll(0.5, g), UNITS, {"x"}),
    "conv-place-lost": (lambda g: ConvLastPlaceLost(2, 2, 2, g), IMAGES, {"x"}),
    "pool-to-the-last": (lambda g: PoolToTheLast(2), IMAGES, {"x"}),
    "no-input-gradient": (lambda g: NoInputGradient(), UNITS, {"x"}),
    "not-a-number": (lambda g: NotANumber(), UNITS, {"x"}),
    "last-of-a-network": (lambda g: Sequential(Linear(4, 3, g), Tanh(), WrongFactor(3, 2, g)), UNITS, {"2.weight"}),
    "middle-of-a-network": (
        lambda g: Sequential(Linear(4, 3, g), TanhOfItsInput(), NoBiasGradient(3, 2, g)), UNITS, {"x", "0.weight", "0.bias", "2.bias"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_backward_fails_by_name(case):
    make, shape, names = WRONG[case]
    assert wrong_names(lambda: gradcheck(make(generators(R)), normal(R, *shape))) == names


@pytest.mark.parametrize("seed", range(3))
def test_the_inputs_seed_hides_no_transposed_gradient(seed):
    """If dy were the input itself, drawn from the same seed, x^T dy would be symmetric."""
    layer = TransposedWeightGradient(4, 4, generators(R))
    assert wrong_names(lambda: gradcheck(layer, normal(R, 5, 4, seed=seed))) == {"weight"}


def wrong_names(check) -> set[str]:
    """That the AssertionError tells, which names the module as well."""
    with pytest.raises(AssertionError, match="gradients of [A-Z]") as raised:
        check()
    return set(re.findall(r"of ([\w.]+) by", str(raised.value)))


class HalfMSE(MSE):
    def backward(self):
        return super().backward() / 2


class CrossEntropyWithoutTarget(CrossEntropy):
    def backward(self):
        return self._take()[0].exp() / self.places

    def forward(self, prediction, target):
        self.places = target[0].numel()
        return super().forward(prediction, target)


class SumForMean(BinaryCrossEntropy):
    def _share(self, count):
        return 1.0


@pytest.mark.parametrize("loss, target_of", [
    (HalfMSE(), torch.sin), (CrossEntropyWithoutTarget(), lambda p: p.argmin(-1)), (SumForMean(), lambda p: p.sin().abs()),
], ids=["mse", "ce", "bce"])  # fmt: skip
def test_a_wrong_loss_fails_alone_and_behind_a_network(loss, target_of):
    prediction = normal(R, 5, 3)
    target = target_of(prediction)
    assert wrong_names(lambda: gradcheck(loss, prediction, target=target)) == {"x"}
    found = wrong_names(
        lambda: gradcheck(Linear(4, 3, generators(R)), normal(R, 5, 4), loss=loss, target=target)
    )
    assert found == {"x", "weight", "bias"}


class SiameseWithoutSoftmax(Siamese):
    """The comparison's gradient goes to the logits as if they had been seen."""

    def backward(self, dy, input_gradient=True):
        self.sees = "logits"
        dx = super().backward(dy, input_gradient)
        self.sees = "probabilities"
        return dx


class SiameseWithoutComparison(Siamese):
    """The comparison's gradient does not reach the body."""

    def backward(self, dy, input_gradient=True):
        self.comparison.backward, backward = (lambda dy: 0 * backward(dy)), self.comparison.backward
        try:
            return super().backward(dy, input_gradient)
        finally:
            del self.comparison.backward


@pytest.mark.parametrize("wrong", [SiameseWithoutSoftmax, SiameseWithoutComparison])
def test_a_wrong_siamese_network_fails_in_its_body(wrong):
    g = generators(R)
    network = wrong(Sequential(Flatten(), Linear(20, 10, g)), Linear(20, 1, g))
    loss = PairLoss(torch.tensor([1.0, 1.0, 5.0]))
    found = wrong_names(
        lambda: gradcheck(network, normal(R, 4, 2, 4, 5), loss=loss, target=pair_targets())
    )
    assert found == {"x", "body.1.weight", "body.1.bias"}


def test_a_wrong_pair_loss_fails():
    class Forgetful(PairLoss):
        def backward(self):
            return (answer := super().backward())._replace(digits=answer.digits.flip(2))

    g = generators(R)
    network = Siamese(Sequential(Flatten(), Linear(20, 10, g)), Linear(20, 1, g))
    found = wrong_names(
        lambda: gradcheck(
            network, normal(R, 4, 2, 4, 5), loss=Forgetful(torch.ones(3)), target=pair_targets()
        )
    )
    assert found == {"x", "body.1.weight"}  # the biases get the sum of both digits' all the same


def test_a_small_gradient_of_the_wrong_sign_is_found():
    class Small(Module):
        def forward(self, x):
            self._keep(x)
            return 1e-6 * x

        def backward(self, dy, input_gradient=True):
            self._take()
            return -1e-6 * dy

    with pytest.raises(AssertionError, match="of x by"):
        gradcheck(Small(), torch.randn(1, 3, 4))


def test_layers_in_a_list_are_seen():
    class Twice(Module):
        def __init__(self):
            self.parts = [Linear(2, 3, torch.Generator()), Linear(3, 2, torch.Generator())]

        def forward(self, x):
            return self.parts[1].forward(self.parts[0].forward(x))

        def backward(self, dy, input_gradient=True):
            return self.parts[0].backward(self.parts[1].backward(dy), input_gradient)

    assert set(gradcheck(Twice(), torch.randn(1, 5, 2))) == {
        "x",
        "parts.0.weight",
        "parts.0.bias",
        "parts.1.weight",
        "parts.1.bias",
    }
