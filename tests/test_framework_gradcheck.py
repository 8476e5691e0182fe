"""The gradient check: it passes what is right, every layer, loss and whole network, and names what is wrong."""

import re

import pytest
import torch

from framework import (
    GELU,
    MSE,
    SELU,
    BatchNorm,
    BinaryCrossEntropy,
    Conv2d,
    CrossEntropy,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Module,
    PairLoss,
    ReLU,
    Sequential,
    Siamese,
    Sigmoid,
    Tanh,
    gradcheck,
)
from tests.test_framework_layers import generators
from tests.test_framework_layers import normal as normal_of

R = 2  # replicas; of each replica its own generator


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 7) -> torch.Tensor:
    return normal_of(*shape, dtype=dtype, seed=seed)


# --- what is right

LAYERS = {  # of generators; the input's shape without replicas
    "linear": (lambda g: Linear(4, 3, g), (5, 4)),
    "linear-no-bias": (lambda g: Linear(4, 3, g, bias=False), (5, 4)),
    "linear-1-row": (lambda g: Linear(4, 3, g), (1, 4)),
    "relu": (lambda g: ReLU(), (5, 4)),
    "leaky": (lambda g: LeakyReLU(0.2), (5, 4)),
    "tanh": (lambda g: Tanh(), (5, 4)),
    "sigmoid": (lambda g: Sigmoid(), (5, 4)),
    "selu": (lambda g: SELU(), (5, 4)),
    "gelu": (lambda g: GELU(), (5, 4)),
    "dropout": (lambda g: Dropout(0.4, g), (5, 4)),
    "dropout-images": (lambda g: Dropout(0.4, g), (3, 2, 3, 2)),
    "batch-norm": (lambda g: BatchNorm(4, R), (5, 4)),
    "batch-norm-images": (lambda g: BatchNorm(2, R), (3, 2, 3, 2)),
    "flatten": (lambda g: Flatten(), (3, 2, 3, 2)),
    "conv": (lambda g: Conv2d(2, 3, 3, g), (2, 2, 4, 5)),
    "conv-strided": (lambda g: Conv2d(2, 2, 3, g, stride=2, padding=1), (2, 2, 6, 5)),
    "pool": (lambda g: MaxPool2d(2), (3, 2, 5, 4)),
    "pool-overlapping": (lambda g: MaxPool2d(3, 1), (2, 2, 5, 4)),
    "mlp": (lambda g: Sequential(Linear(4, 6, g), BatchNorm(6, R), GELU(), Dropout(0.3, g), Linear(6, 3, g), Tanh()), (6, 4)),
    "cnn": (
        lambda g: Sequential(Conv2d(1, 2, 3, g, padding=1), BatchNorm(2, R), SELU(), MaxPool2d(2), Dropout(0.2, g), Flatten(), Linear(12, 3, g)),
        (4, 1, 6, 4),
    ),
}  # fmt: skip


def parameters(module: Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("case", LAYERS)
def test_every_layer_passes(case, global_generator_untouched):
    make, shape = LAYERS[case]
    layer = make(generators(R))
    deviations = gradcheck(layer, normal(R, *shape), tolerance=1e-7)
    assert set(deviations) == {"x"} | parameters(layer)
    assert max(deviations.values()) < 1e-7


LOSSES = {
    "mse": (MSE(), torch.sin),
    "mse-sum": (MSE("sum"), torch.sin),
    "bce": (BinaryCrossEntropy(), torch.sigmoid),
    "bce-sum": (BinaryCrossEntropy("sum"), lambda p: (p > 0).to(p.dtype)),
    "ce": (CrossEntropy(), lambda p: p.argmin(-1)),
    "ce-sum": (CrossEntropy("sum"), lambda p: p.argmin(-1)),
}


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)], ids=["rows", "places"])
@pytest.mark.parametrize("case", LOSSES)
def test_every_loss_passes_alone_and_behind_a_network(case, shape):
    loss, target_of = LOSSES[case]
    prediction = normal(R, *shape)
    assert set(gradcheck(loss, prediction, target=target_of(prediction), tolerance=1e-7)) == {"x"}
    if len(shape) == 2:
        network = Sequential(Linear(4, 6, generators(R)), Tanh(), Dropout(0.3, generators(R)), Linear(6, 3, generators(R)))
        deviations = gradcheck(network, normal(R, 5, 4), loss=loss, target=target_of(prediction), tolerance=1e-7)
        assert set(deviations) == {"x", "0.weight", "0.bias", "3.weight", "3.bias"}


def siamese(body: str, sees: str) -> Siamese:
    g = generators(R)
    bodies = {
        "mlp": lambda: (Flatten(), Linear(20, 6, g), BatchNorm(6, R), ReLU(), Dropout(0.3, g), Linear(6, 10, g)),
        "cnn": lambda: (Conv2d(1, 2, 2, g), BatchNorm(2, R), Tanh(), MaxPool2d(2, 1), Flatten(), Dropout(0.3, g), Linear(12, 10, g)),
    }
    return Siamese(Sequential(*bodies[body]()), Sequential(Linear(20, 5, g), GELU(), Linear(5, 1, g)), sees=sees)


def pair_targets(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    digits = torch.randint(10, (R, rows, 2), generator=generators(1)[0])
    return (digits[..., :1] <= digits[..., 1:]).double(), digits


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [[0.2, 0.3, 1.5], [1.0, 0.0, 0.5]]], ids=["shared", "each"])
@pytest.mark.parametrize("sees", ["probabilities", "logits"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_the_siamese_network_passes(body, sees, weights):
    network = siamese(body, sees)
    loss = PairLoss(torch.tensor(weights, dtype=torch.float64))
    deviations = gradcheck(network, normal(R, 4, 2, 4, 5), loss=loss, target=pair_targets(), coordinates=10)
    assert set(deviations) == {"x"} | parameters(network)
    gradcheck(network, normal(R, 4, 2, 4, 5), coordinates=5)  # of both outputs, without a loss


def test_the_check_changes_neither_network_nor_input():
    network = Sequential(Linear(4, 3, generators(R)), BatchNorm(3, R), Dropout(0.5, generators(R)))
    network.train(False)
    before, x = network.state_dict(), normal(R, 5, 4)
    copy, states = x.clone(), [each.get_state() for each in network.sequence[2].generators]
    gradcheck(network, x)
    assert all(torch.equal(value, before[name]) and value.dtype == torch.float32 for name, value in network.state().items())
    assert all(torch.equal(each.get_state(), state) for each, state in zip(network.sequence[2].generators, states))
    assert torch.equal(x, copy) and not any(module.training for _, module in network.modules())
    assert all(not parameter.grad.any() for parameter in network.parameters())


def test_float32_data_are_checked_in_float64():
    network, x = Sequential(Linear(4, 3, generators(R)), Tanh()), normal(R, 5, 4, dtype=torch.float32)
    gradcheck(network, x, tolerance=1e-7)
    for loss in (MSE(), BinaryCrossEntropy()):
        gradcheck(network, x, loss=loss, target=torch.full((R, 5, 3), 0.5), tolerance=1e-7)
    comparison, digits = pair_targets()
    gradcheck(siamese("mlp", "logits"), normal(R, 4, 2, 4, 5), loss=PairLoss(torch.ones(3)), target=(comparison.float(), digits), coordinates=5)


def test_an_input_that_is_not_contiguous_is_checked():
    gradcheck(Linear(4, 3, generators(R)), normal(R, 4, 5).mT, tolerance=1e-7)


# --- what is wrong


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
    found = wrong_names(lambda: gradcheck(Linear(4, 3, generators(R)), normal(R, 5, 4), loss=loss, target=target))
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
    found = wrong_names(lambda: gradcheck(network, normal(R, 4, 2, 4, 5), loss=loss, target=pair_targets()))
    assert found == {"x", "body.1.weight", "body.1.bias"}


def test_a_wrong_pair_loss_fails():
    class Forgetful(PairLoss):
        def backward(self):
            return (answer := super().backward())._replace(digits=answer.digits.flip(2))

    g = generators(R)
    network = Siamese(Sequential(Flatten(), Linear(20, 10, g)), Linear(20, 1, g))
    found = wrong_names(lambda: gradcheck(network, normal(R, 4, 2, 4, 5), loss=Forgetful(torch.ones(3)), target=pair_targets()))
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

    assert set(gradcheck(Twice(), torch.randn(1, 5, 2))) == {"x", "parts.0.weight", "parts.0.bias", "parts.1.weight", "parts.1.bias"}
