"""The gradient check names the tensors with wrong gradients, in layers, losses and networks."""

import re

import pytest
import torch

import framework as fw
from tests.framework_twins import generators, normal, small_siamese
from tests.test_framework_gradcheck import R, pair_targets


def wrong(kind, name: str, change) -> type[fw.Module]:
    """Make a class of layer whose gradient of x or of a parameter is `change(gradient, dy)`."""

    class Wrong(kind):
        def backward(self, dy, input_gradient=True):
            dx = super().backward(dy, input_gradient)
            if name == "x":
                return change(dx, dy)
            gradient = getattr(self, name).grad
            gradient.copy_(change(gradient.clone(), dy))
            return dx

    return Wrong


WrongFactor = wrong(fw.Linear, "weight", lambda gradient, dy: 1.001 * gradient)
NoBiasGradient = wrong(fw.Linear, "bias", lambda gradient, dy: 0 * gradient)
MeanBiasGradient = wrong(fw.Linear, "bias", lambda gradient, dy: dy.mean(1, keepdim=True))
TransposedWeightGradient = wrong(fw.Linear, "weight", lambda gradient, dy: gradient.mT)
WrongReplica = wrong(fw.Linear, "weight", lambda gradient, dy: gradient.flip(0))
ScaleForShift = wrong(fw.BatchNorm, "scale", lambda gradient, dy: dy.sum(1, keepdim=True))
HalfDropout = wrong(fw.Dropout, "x", lambda gradient, dy: 0.5 * gradient)
DropoutPassesAll = wrong(fw.Dropout, "x", lambda gradient, dy: dy)
NoInputGradient = wrong(fw.Tanh, "x", lambda gradient, dy: None)
NotANumber = wrong(fw.ReLU, "x", lambda gradient, dy: gradient / 0 * 0)


class TransposedInputGradient(fw.Linear):
    def backward(self, dy, input_gradient=True):
        super().backward(dy, input_gradient)
        return torch.bmm(dy, self.weight.data)


class BatchNormOfConstants(fw.BatchNorm):
    """Ignores that mean and variance depend on the input."""

    def backward(self, dy, input_gradient=True):
        (_, inverse_deviation), _ = self._kept
        super().backward(dy, input_gradient)
        return dy * self.scale.data * inverse_deviation


class TanhOfItsInput(fw.Tanh):
    def backward(self, dy, input_gradient=True):
        return dy * (1 - self.take())  # x in place of y^2


class ConvWithoutLastPixel(fw.Conv2d):
    """Does not add the last pixel of the windows to the input's gradient."""

    def backward(self, dy, input_gradient=True):
        weight = self.weight.data.clone()
        self.weight.data.view(len(weight), self.inputs, *self.kernel, -1)[:, :, -1, -1] = 0
        dx = super().backward(dy, input_gradient)
        self.weight.data = weight
        return dx


class PoolToTheLast(fw.MaxPool2d):
    def backward(self, dy, input_gradient=True):
        (index, shape, margins), output = self._kept
        self._kept = ((self.kernel[0] * self.kernel[1] - 1 - index, shape, margins), output)
        return super().backward(dy, input_gradient)


UNITS, IMAGES = (5, 4), (2, 2, 5, 4)
WRONG = {  # made from generators; the input's shape without replicas; the names that deviate
    "factor": (lambda g: WrongFactor(4, 3, g), UNITS, {"weight"}),
    "no-bias-gradient": (lambda g: NoBiasGradient(4, 3, g), UNITS, {"bias"}),
    "mean-bias-gradient": (lambda g: MeanBiasGradient(4, 3, g), UNITS, {"bias"}),
    "transposed-weight": (lambda g: TransposedWeightGradient(4, 4, g), UNITS, {"weight"}),
    "transposed-input": (lambda g: TransposedInputGradient(4, 4, g), UNITS, {"x"}),
    "other-replica": (lambda g: WrongReplica(4, 3, g), UNITS, {"weight"}),
    "batch-norm-constants": (lambda g: BatchNormOfConstants(4, R), UNITS, {"x"}),
    "batch-norm-scale": (lambda g: ScaleForShift(4, R), UNITS, {"scale"}),
    "tanh": (lambda g: TanhOfItsInput(), UNITS, {"x"}),
    "dropout-half": (lambda g: HalfDropout(0.5, g), UNITS, {"x"}),
    "dropout-passes-all": (lambda g: DropoutPassesAll(0.5, g), UNITS, {"x"}),
    "conv-without-last-pixel": (lambda g: ConvWithoutLastPixel(2, 2, 2, g), IMAGES, {"x"}),
    "pool-to-the-last": (lambda g: PoolToTheLast(2), IMAGES, {"x"}),
    "no-input-gradient": (lambda g: NoInputGradient(), UNITS, {"x"}),
    "not-a-number": (lambda g: NotANumber(), UNITS, {"x"}),
    "end-of-a-network": (
        lambda g: fw.Sequential(fw.Tanh(), WrongFactor(4, 2, g)),
        UNITS,
        {"1.weight"},
    ),
    "middle-of-a-network": (
        lambda g: fw.Sequential(fw.Linear(4, 3, g), TanhOfItsInput(), NoBiasGradient(3, 2, g)),
        UNITS,
        {"x", "0.weight", "0.bias", "2.bias"},
    ),
}


def wrong_names(module, x: torch.Tensor, **settings) -> set[str]:
    """The names in the AssertionError, which also names the module."""
    checked = type(module).__name__
    with pytest.raises(AssertionError, match=f"^gradients of {checked} deviate") as raised:
        fw.gradcheck(module, x, **settings)
    return set(re.findall(r"of ([\w.]+) by", str(raised.value)))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_backward_is_named(case):
    make, shape, names = WRONG[case]
    assert wrong_names(make(generators(R)), normal(R, *shape)) == names


def test_a_backward_without_a_return_is_named():
    with pytest.raises(AssertionError, match=r"its backward returned None, accepted is dL/dx$"):
        fw.gradcheck(NoInputGradient(), normal(R, 5, 4))


@pytest.mark.parametrize("seed", range(3))
def test_transposed_gradient_is_found_whatever_the_seed_of_the_input(seed):
    """If dy were the input itself, drawn from the same seed, x^T dy would be symmetric."""
    layer = TransposedWeightGradient(4, 4, generators(R))
    assert wrong_names(layer, normal(R, 5, 4, seed=seed)) == {"weight"}


class HalfMSE(fw.MSE):
    def backward(self):
        return super().backward() / 2


class CrossEntropyWithoutTarget(fw.CrossEntropy):
    def backward(self):
        log_probabilities, target, _ = self.take()
        return log_probabilities.exp() / target[0].numel()


class SumForMean(fw.BinaryCrossEntropy):
    def share(self, values):
        return 1.0


WRONG_LOSSES = {
    "mse": (HalfMSE(), torch.sin),
    "ce": (CrossEntropyWithoutTarget(), lambda p: p.argmin(-1)),
    "bce": (SumForMean(), lambda p: p.sin().abs()),
}


@pytest.mark.parametrize("case", WRONG_LOSSES)
def test_wrong_loss_fails_alone_and_behind_a_network(case):
    loss, target_of = WRONG_LOSSES[case]
    prediction = normal(R, 5, 3)
    target = target_of(prediction)
    assert wrong_names(loss, prediction, target=target) == {"x"}
    layer = fw.Linear(4, 3, generators(R))
    names = wrong_names(layer, normal(R, 5, 4), loss=loss, target=target)
    assert names == {"x", "weight", "bias"}


class SiameseWithoutSoftmax(fw.Siamese):
    """The comparison's gradient reaches the logits without the gradient of the softmax."""

    def backward(self, dy, input_gradient=True):
        self.sees = "logits"
        dx = super().backward(dy, input_gradient)
        self.sees = "probabilities"
        return dx


class SiameseWithoutComparison(fw.Siamese):
    """The comparison's gradient does not reach the body."""

    def backward(self, dy, input_gradient=True):
        backward = self.comparison.backward
        self.comparison.backward = lambda dy: 0 * backward(dy)
        try:
            return super().backward(dy, input_gradient)
        finally:
            del self.comparison.backward


class SwappedDigits(fw.PairLoss):
    def backward(self):
        answer = super().backward()
        return answer._replace(digits=answer.digits.flip(2))


@pytest.mark.slow
@pytest.mark.parametrize("kind, loss, names", [
    (SiameseWithoutSoftmax, fw.PairLoss, {"x", "body.1.weight", "body.1.bias"}),
    (SiameseWithoutComparison, fw.PairLoss, {"x", "body.1.weight", "body.1.bias"}),
    (fw.Siamese, SwappedDigits, {"x", "body.1.weight"}),  # the bias gets the sum of both digits
])  # fmt: skip  # one case a line
def test_wrong_gradient_of_pairs_is_found_in_the_body(kind, loss, names):
    network, weights = small_siamese(generators(R), kind), torch.tensor([1.0, 1.0, 5.0])
    x = normal(R, 4, 2, 4, 5)
    assert wrong_names(network, x, loss=loss(weights), target=pair_targets()) == names


def test_small_gradient_of_the_wrong_sign_is_found():
    class Small(fw.Module):
        def forward(self, x):
            self.keep(x)
            return 1e-6 * x

        def backward(self, dy, input_gradient=True):
            self.take()
            return -1e-6 * dy

    assert wrong_names(Small(), torch.randn(1, 3, 4)) == {"x"}


def test_layers_in_a_list_are_checked():
    class Twice(fw.Module):
        def __init__(self):
            self.parts = [fw.Linear(2, 3, torch.Generator()), fw.Linear(3, 2, torch.Generator())]

        def forward(self, x):
            return self.parts[1].forward(self.parts[0].forward(x))

        def backward(self, dy, input_gradient=True):
            return self.parts[0].backward(self.parts[1].backward(dy), input_gradient)

    parameters = {f"parts.{index}.{name}" for index in (0, 1) for name in ("weight", "bias")}
    assert set(fw.gradcheck(Twice(), torch.randn(1, 5, 2))) == {"x"} | parameters


def test_several_tensors_are_refused():
    answer = fw.siamese.Answer(normal(R, 4, 1), normal(R, 4, 2, 10))
    with pytest.raises(ValueError, match="input of gradcheck is Answer, accepted is one tensor"):
        fw.gradcheck(fw.PairLoss(torch.ones(3)), answer, target=pair_targets())


class AssignsItsGradient(fw.Linear):
    def backward(self, dy, input_gradient=True):
        x = self.take()
        self.weight.grad = x.mT @ dy
        self.bias.grad += dy.sum(1, keepdim=True)
        return dy @ self.weight.data.mT


class AlwaysInputGradient(fw.Linear):
    def backward(self, dy):
        return super().backward(dy)


def test_gradient_that_is_assigned_instead_of_added_is_named():
    network = fw.Sequential(fw.Tanh(), AssignsItsGradient(4, 3, generators(R)))
    message = "second backward of Sequential does not add to the gradient of 1.weight, accepted"
    with pytest.raises(AssertionError, match=message):
        fw.gradcheck(network, normal(R, 5, 4))


def test_backward_without_the_argument_input_gradient_fails():
    with pytest.raises(TypeError, match="unexpected keyword argument 'input_gradient'"):
        fw.gradcheck(AlwaysInputGradient(4, 3, generators(R)), normal(R, 5, 4))


KINKS = {  # a layer, an input
    "relu": (fw.ReLU(), torch.zeros(1, 2, 3)),
    "relu-near": (fw.ReLU(), torch.full((1, 2, 3), 3e-7)),
    "leaky": (fw.LeakyReLU(), torch.zeros(1, 2, 3)),
    "pool": (fw.MaxPool2d(2), torch.ones(1, 2, 1, 2, 2)),
}


@pytest.mark.parametrize("case", KINKS)
def test_kink_is_named(case):
    with pytest.raises(AssertionError, match=r"of x by .*; there is a kink at a value of x: check"):
        fw.gradcheck(*KINKS[case])


def test_smooth_wrong_gradient_is_not_called_a_kink():
    with pytest.raises(AssertionError, match=r"\(tolerance 1e-05\)$"):
        fw.gradcheck(TanhOfItsInput(), normal(R, 5, 4))


# --- replicas, shapes and random numbers


class Wrong(fw.Module):
    """y = x, changed as `fault` says."""

    def __init__(self, fault: str, parameter: object = None) -> None:
        self.fault, self.generator = fault, torch.Generator().manual_seed(0)
        if parameter is not None:
            self.slope = parameter

    def forward(self, x):
        if self.fault == "mixes":
            return x + x.mean(0, keepdim=True)
        if self.fault == "loses":
            return x.sum(0)
        if self.fault == "keeps":
            self.keep(x, x)
        if self.fault == "draws":
            return x + torch.randn(x.shape, generator=self.generator)
        return x

    def backward(self, dy, input_gradient=True):
        return {"mixes": lambda: dy + dy.mean(0, keepdim=True), "shape": lambda: dy[:, :1]}.get(
            self.fault, lambda: dy
        )()


class MeanOfReplicas(fw.ElementwiseLoss):
    def forward(self, prediction, target):
        self.keep(prediction)
        return prediction.mean()

    def backward(self):
        prediction = self.take()
        return torch.ones_like(prediction) / prediction.numel()


class KeepsItsDifference(fw.ElementwiseLoss):
    def forward(self, prediction, target):
        self.keep(prediction)
        return self.reduce(prediction.square())

    def backward(self):
        return self.kept * (2 * self.share(self.kept))


CONTRACT = {
    "output 0 of Wrong of a replica depends on another replica's": lambda: Wrong("mixes"),
    "output 0 of Wrong is (5, 3) float64, accepted is (2, ...)": lambda: Wrong("loses"),
    "output 0 of Wrong differs in a second forward": lambda: Wrong("draws"),
    "the dx of Wrong is (2, 1, 3) float64, accepted is (2, 5, 3)": lambda: Wrong("shape"),
    "slope is (3,) float64, accepted is (2, ...) for 2 replicas, since x is (2, 5, 3): (replicas, "
    "rows, ...), with x[None] for one replica": lambda: Wrong("none", fw.Parameter(torch.ones(3))),
    "slope of Wrong (1) is a tensor, which is neither learned nor saved": (
        lambda: fw.Sequential(fw.Tanh(), Wrong("none", torch.ones(2, 1, 3)))
    ),
    "Wrong still keeps values after its backward, accepted is": lambda: Wrong("keeps"),
    "Wrong (1) still keeps values after": lambda: fw.Sequential(fw.Tanh(), Wrong("keeps")),
    "KeepsItsDifference still keeps values after": lambda: KeepsItsDifference(),
    "the loss of MeanOfReplicas is () float64, accepted is (2, ...)": lambda: MeanOfReplicas(),
}


@pytest.mark.parametrize("message", CONTRACT)
def test_broken_contract_is_named(message):
    with pytest.raises((AssertionError, ValueError), match=re.escape(message)):
        fw.gradcheck(CONTRACT[message](), normal(2, 5, 3))
