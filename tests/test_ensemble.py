"""Ensembles within one run against their networks trained alone, and averages worked by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModuleArray
from digitpairs.engines.base import lightning_checkpoint
from digitpairs.losses import LambdaWeighting, NoAuxWeighting, UncertaintyWeighting, loss_parts
from digitpairs.networks import Ensemble, JointNetwork, MLPBody, Prediction, SiameseNetwork, create
from digitpairs.networks.heads import posterior_probability
from digitpairs.networks.layers import Dropout, draw_masks, dropout_layers
from digitpairs.networks.stacking import release_members, stack, stackable
from digitpairs.streams import stream
from digitpairs.training import SGD, Adam, PairComparison, PairComparisonArray
from digitpairs.training.build import build_network
from digitpairs.use import Comparer
from digitpairs.use.checkpoints import read_checkpoint
from tests.arguments import DIGITS, DISK, assert_refused
from tests.test_array import fit, network, pairs_of
from tests.test_networks import BODIES, STRUCTURES, network_of
from tests.test_training import same

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)
CNN = network("SiameseNetwork", "cnn", batch_norm=True)
CNN["body"] = CNN["body"] | {"dropout": 0.0}
OPTIMIZERS = {
    "sgd": lambda: SGD(0.05, momentum=0.9),
    "adam": lambda: Adam(0.01, weight_decay=0.01),
}
COMPARISONS = {
    "posterior": {"comparison_input": "posterior", "comparison_hidden": []},
    "probabilities": {"comparison_input": "probabilities"},
    "two outputs": {"comparison_input": "features", "comparison_outputs": 2},
    "no digits": {"comparison_input": "features", "digit_head": "none"},
}


@stackable
class Scaled(nn.Module):
    """A network whose constructor draws its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((-3, -2, -1))[..., None] * self.scale[..., None, :]


def separate_networks(ensemble: Ensemble) -> list[nn.Module]:
    """The networks of an ensemble, by themselves."""
    template = copy.deepcopy(ensemble.network)
    networks = [copy.deepcopy(template) for _ in range(ensemble.size)]
    release_members(ensemble.network, networks)
    return [each.to(memory_format=torch.channels_last) for each in networks]


def images_of(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 2, 14, 14, generator=stream(0, "data"))


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "ema": 0.8}], ids=["", "ema"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_network_trains_as_it_would_alone(optimizer, settings, data):
    """The weights and batch norm's statistics after three epochs: with SGD bit for bit.

    Adam's fused kernel rounds the last elements of a member's tensor, of all its networks, in
    another way than the others.
    """
    parts = {"aux": LambdaWeighting(0.7), "optimizer": OPTIMIZERS[optimizer](), "seed": 2}
    run = PairComparison(CNN, **parts, ensemble_size=3, **settings)
    members = [PairComparison(each, **parts, **settings) for each in separate_networks(run.network)]
    for each in (run, *members):
        array = PairComparisonArray([each])
        fit(array, PairDataModuleArray([pairs_of(2, data)]), precision="32-true")
        array.release()
    for found, alone in zip(separate_networks(run.network), members, strict=True):
        if optimizer == "sgd":
            assert same(found.state_dict(), alone.network.state_dict())
        for name, value in found.state_dict().items():
            expected = alone.network.state_dict()[name]
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    losses = [each.history[-1]["train/loss"] for each in members]
    assert len(set(losses)) == 3
    assert run.history[-1]["train/loss"] == pytest.approx(sum(losses) / 3, rel=1e-6)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_log_posteriors_are_averaged_in_evaluation(comparison):
    settings = network("JointNetwork", "cnn", **COMPARISONS[comparison])
    aux = NoAuxWeighting() if comparison == "no digits" else None
    run, images = PairComparison(settings, aux, ensemble_size=3).eval(), images_of(7)
    with torch.no_grad():
        found = run(images)
        each = [one.eval()(images) for one in separate_networks(run.network)]
    if comparison == "no digits":
        assert found.digits is None
    else:
        digits = torch.stack([one.digits.softmax(-1).log() for one in each]).mean(0)
        torch.testing.assert_close(found.digits, digits)
    if comparison == "posterior":
        expected = posterior_probability(digits).logit()[..., None]
    elif comparison == "two outputs":
        expected = torch.stack([one.comparison.softmax(-1).log() for one in each]).mean(0)
    else:  # the mean of log p and of log (1 - p), whose difference is the logit
        first = torch.stack([F.logsigmoid(one.comparison) for one in each]).mean(0)
        expected = first - torch.stack([F.logsigmoid(-one.comparison) for one in each]).mean(0)
    torch.testing.assert_close(found.comparison, expected)


@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["one by one", "merged"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("body", BODIES)
def test_an_array_of_ensembles_computes_as_each_network(body, structure, devices, monkeypatch):
    for module in ("ensemble", "layers"):
        monkeypatch.setattr(f"digitpairs.networks.{module}.PER_MEMBER_DEVICES", devices)
    networks = [network_of(structure, body, seed, batch_norm=True) for seed in range(6)]
    array = stack([Ensemble(networks[:3]), Ensemble(networks[3:])])
    images, statistics = images_of(2, 5), {}
    prediction = array(images)
    for number, each in enumerate(networks):
        row = divmod(number, 3)
        expected = each(images[row[0]])
        torch.testing.assert_close(prediction.comparison[row], expected.comparison)
        if expected.digits is None:
            assert prediction.digits is None
        else:
            torch.testing.assert_close(prediction.digits[row], expected.digits)
        for name, value in each.named_buffers():
            statistics.setdefault(name, []).append(value)
    for name, values in statistics.items():  # updated in place
        found = dict(array.network.named_buffers())[name]
        torch.testing.assert_close(found.flatten(0, 1), torch.stack(values))


def test_the_gradients_are_those_of_each_networks_own_loss():
    """The loss is the mean over the networks, and learned weights of it have its gradient."""
    networks = [network_of("siamese", "mlp", seed) for seed in range(3)]
    ensemble, aux = Ensemble(networks), UncertaintyWeighting()
    with torch.no_grad():
        aux.log_variance.copy_(torch.tensor([0.3, -0.2, 0.1]))
    images, smoothing = images_of(8), torch.tensor(0.1)
    digits = torch.randint(10, (8, 2), generator=stream(0, "data"))
    labels = digits, (digits[:, 0] <= digits[:, 1]).long()
    loss = aux(loss_parts(ensemble(images), *labels, smoothing))
    loss.backward()
    found = aux.log_variance.grad.clone()
    aux.zero_grad()
    losses = [aux(loss_parts(each(images), *labels, smoothing)) for each in networks]
    sum(losses).backward()
    torch.testing.assert_close(loss, sum(losses) / 3)
    torch.testing.assert_close(found, aux.log_variance.grad / 3)
    gradients = [[value.grad for value in each.parameters()] for each in networks]
    for parameter, each in zip(ensemble.parameters(), zip(*gradients), strict=True):
        torch.testing.assert_close(parameter.grad, torch.stack(each))


def test_initial_weights_are_drawn_one_after_another_from_the_stream():
    ensemble = build_network(network(), 5, 3)
    weights = stream(5, "weights")
    for each in separate_networks(ensemble):
        expected = create(lambda: build_network(network(), 0), weights)
        assert same(each.state_dict(), expected.state_dict())
    first, *_ = separate_networks(ensemble)
    assert same(first.state_dict(), build_network(network(), 5).state_dict())


def test_constructors_draw_weights_of_their_own():
    settings = {"_target_": "tests.test_ensemble.Scaled"}
    ensemble, alone = build_network(settings, 0, 3), build_network(settings, 0)
    scales = ensemble.network.scale.flatten().tolist()
    assert len(set(scales)) == 3 and scales[0] == alone.scale.item()
    images = images_of(4)
    expected = images.mean((1, 2, 3))[:, None] * sum(scales) / 3
    torch.testing.assert_close(ensemble.eval()(images).comparison, expected)


@pytest.mark.parametrize("probabilities", [(0.3, 0.3), (0.2, 0.4)])
def test_each_network_has_its_own_masks_from_the_runs_stream(probabilities):
    def ensemble(probability: float) -> Ensemble:
        return Ensemble([SiameseNetwork(MLPBody([400], dropout=probability)) for _ in range(3)])

    ensembles = [ensemble(each) for each in probabilities]
    array = stack(ensembles)
    layer = dropout_layers(array)[0]
    streams = [stream(row, "dropout") for row in range(2)]
    draw_masks([layer], 30, [each for each in streams for _ in range(3)])
    assert layer.mask.shape == (2, 3, 60, 400)
    assert len({tuple(mask.flatten().tolist()) for mask in layer.mask.flatten(0, 1)}) == 6
    for row, probability in enumerate(probabilities):
        share = (layer.mask[row] == 0).double().mean().item()
        assert share == pytest.approx(probability, abs=0.01)
        (alone,) = dropout_layers(ensembles[row])
        assert isinstance(alone, Dropout)
        draw_masks([alone], 30, [stream(row, "dropout")] * 3)
        torch.testing.assert_close(layer.mask[row], alone.mask)


def test_training_metrics_are_of_the_average(data):
    """One mini-batch an epoch, without dropout: its predictions are those of the first weights."""
    settings = network("SiameseNetwork", "mlp", comparison_input="posterior", comparison_hidden=[])
    settings["body"] = settings["body"] | {"dropout": 0.0}
    run = PairComparison(settings, optimizer=Adam(0.01), ensemble_size=3, seed=1)
    datamodule = pairs_of(1, data, batch_size=50)
    first = copy.deepcopy(run.network).double().eval()
    fit(run, datamodule, epochs=1)
    pairs = datamodule.train_set.take(slice(None))
    mean, std = datamodule.mean_and_std
    with torch.no_grad():
        answer = first((pairs.images.double() - mean) / std)
    wrong = ((answer.comparison[:, 0] > 0).long() != pairs.target).double().mean()
    assert run.history[0]["train/comparison_error"] == pytest.approx(100 * wrong.item())
    digit_error = 100 * (answer.digits.argmax(-1) != pairs.digits).double().mean()
    assert run.history[0]["train/digit_error"] == pytest.approx(digit_error.item())


def test_a_loaded_run_compares_as_its_ensemble(tmp_path):
    run, path = PairComparison(CNN, ensemble_size=2, tta=2), tmp_path / "checkpoint.ckpt"
    run.set_mean_and_std(0.2, 0.4)
    path.write_bytes(lightning_checkpoint(run.eval(), 1))
    images = images_of(7)
    with torch.no_grad():
        expected = run(images).comparison[:, 0].double().sigmoid()
    found = Comparer([read_checkpoint(path)]).compare_images(images).probability
    assert found == pytest.approx(expected.numpy(), rel=1e-6)


def test_runs_with_ensembles_of_other_sizes_train_in_different_arrays():
    for size in (1, 3):
        with pytest.raises(InvalidValueError, match="members"):
            PairComparisonArray([PairComparison(CNN, ensemble_size=each) for each in (2, size)])


def test_networks_without_a_config_are_given_as_an_ensemble():
    networks = [JointNetwork(MLPBody([size])) for size in (4, 4, 5)]
    accepted = "1 with a network object, or digitpairs.networks.Ensemble of several as it"
    with pytest.raises(InvalidValueError, match=f"^ensemble_size=2 is not accepted: {accepted}$"):
        PairComparison(networks[0], NoAuxWeighting(), ensemble_size=2)
    with pytest.raises(InvalidValueError, match="^networks=3 networks is not accepted: networks"):
        Ensemble(networks)
    run = PairComparison(Ensemble(networks[:2]), NoAuxWeighting()).eval()
    assert isinstance(run(images_of(3)), Prediction)


@pytest.mark.parametrize(
    "base, argument, accepted",
    [
        (DIGITS, "ensemble_size=0", "a whole number from 1 to 100"),
        (DIGITS, "ensemble_size=101", "a whole number from 1 to 100"),
        (DIGITS, "ensemble_size=true", "a whole number from 1 to 100"),
        (
            (*DIGITS, "model=siamese_resnet"),
            "ensemble_size=2",
            "1 for a network that cannot be stacked (bodies.0 is a torchvision.",
        ),
        ((*DIGITS, "model=siamese_mlp", "engine=framework"), "ensemble_size=2", "1 with engine="),
        (DISK, "+ensemble_size=2", "one of the keys task"),
    ],
)
def test_ensembles_that_cannot_be_trained_are_refused(base, argument, accepted):
    assert_refused(base, argument, accepted)
