"""The exponential moving average of the weights, against torch's and in arrays."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from digitpairs.checks import InvalidValueError
from digitpairs.losses import LambdaWeighting, loss_parts
from digitpairs.streams import stream
from digitpairs.training import SGD, Adam, PairComparison, PairComparisonArray
from digitpairs.training.averaging import ExponentialMovingAverage
from tests.arguments import DIGITS, DISK, assert_refused
from tests.test_array import fit, fit_array, network, pairs_of, run_of
from tests.test_resume import alone
from tests.test_resume import fit as fit_from
from tests.test_training import same, trainer_for

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)
NETWORK = network(batch_norm=True) | {
    "body": {"_target_": "digitpairs.networks.CNNBody", "channels": [3], "hidden": [7]}
}


def averaged_copy(model: torch.nn.Module, decay: float) -> AveragedModel:
    """torch's average of the model, which starts from its present values."""

    def average(averages, values, number):
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        t = int(number) - 1  # earlier updates
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + t) / (10 + t)))

    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    averaged.n_averaged.fill_(1)  # at 0, the first update would copy the values
    return averaged


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_the_network_of_a_fit_is_torchs_averaged_model(data, decay):
    """Against a loop by hand that trains on the weights and averages them after each step."""
    model = PairComparison(NETWORK, LambdaWeighting(0.8), Adam(0.01), seed=3, ema=decay)
    by_hand = copy.deepcopy(model.network).double()
    averaged = averaged_copy(by_hand, decay)
    datamodule = pairs_of(3, data)
    fit(model, datamodule)

    weights, order = torch.tensor([1, 1, 0.8]), stream(3, "order")
    pairs = datamodule.train_set.take(slice(None))
    mean, std = pairs.images.mean(), pairs.images.std()
    images = (pairs.images.double() - mean) / std
    held_out = datamodule.validation_set.take(slice(None))
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    for epoch in range(3):
        for rows in torch.randperm(40, generator=order).split(20):
            parts = loss_parts(by_hand(images[rows]), pairs.digits[rows], pairs.target[rows])
            by_hand.zero_grad()
            (weights * parts).sum().backward()
            optimizer.step()
            averaged.update_parameters(by_hand)
        averaged.eval()
        prediction = averaged((held_out.images.double() - mean) / std)
        parts = loss_parts(prediction, held_out.digits, held_out.target)
        assert model.history[epoch]["validation/loss"] == pytest.approx(
            (weights * parts).sum().item(), rel=1e-6
        )
        averaged.train()
    for name, value in averaged.module.state_dict().items():
        found = model.network.state_dict()[name]
        torch.testing.assert_close(found.double(), value.double(), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_a_decay_of_zero_and_a_fit_without_an_average_end_alike(data):
    ends = []
    for ema in (None, 0.0):
        run = run_of(0, NETWORK, ema=ema)
        fit(run, pairs_of(0, data))
        ends.append(run)
    assert ends[0].history == ends[1].history and same(*(end.state_dict() for end in ends))


@pytest.mark.parametrize("sizes", [(3,), (2, 1)])
def test_each_member_has_its_own_decay_bit_for_bit(data, sizes):
    """A member has the same bits alone, also if others end before it and have other decays."""
    decays = [0.5, 0.9, 0.9]
    stopping = {"patience": 2, "monitor": "validation/loss"}

    def make(i: int) -> PairComparison:
        recipe = SGD((1e30 if i == 1 else 0.1) * (1 + i))
        structure, aux = NETWORK | {"batch_norm": False}, LambdaWeighting(0.8)
        return PairComparison(
            structure, aux, recipe, seed=i, ema=decays[i], early_stopping=stopping
        )

    def trained(rows) -> list[PairComparison]:
        members = [make(i) for i in rows]
        datamodules = [pairs_of(i, data) for i in rows]
        fit_array(members, datamodules, epochs=12, precision="32-true")
        return members

    singles = [trained([i])[0] for i in range(3)]
    rows = torch.arange(3).split(sizes)
    arrays = [member for each in rows for member in trained(each.tolist())]
    for ours, expected in zip(arrays, singles):
        assert repr(ours.history) == repr(expected.history)  # of equal floats, also of nan
        for name, value in expected.state_dict().items():
            assert torch.equal(ours.state_dict()[name].nan_to_num(), value.nan_to_num()), name
    assert singles[1].failure is not None and singles[0].failure is None


def test_a_member_that_has_ended_keeps_its_average():
    stacked = torch.nn.Linear(3, 5)
    average = ExponentialMovingAverage(stacked, [0.5] * 5, is_array=True)
    before = stacked.weight.detach().clone()
    with average.training([False, True, False, False, True]):
        stacked.weight.data += 1
        stacked.weight.data[1] = torch.nan
        average.update()
    changed = (stacked.weight != before).any(1).tolist()
    assert changed == [True, False, True, True, False]


def test_ordinary_loaders_average_after_each_batch(data):
    """Their batches are Lightning's: the network changes places with its average for each."""
    datamodule = pairs_of(0, data, validation=0.0)
    datamodule.prepare_data()
    datamodule.setup()
    pairs = datamodule.train_set.take(slice(None))
    runs = [PairComparison(NETWORK, optimizer=SGD(0.1), ema=0.8) for _ in range(2)]
    loader = DataLoader(TensorDataset(*pairs), batch_size=20)
    trainer_for(2).fit(runs[0], loader)
    by_hand = copy.deepcopy(runs[1].network)
    averaged = averaged_copy(by_hand, 0.8)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(2):
        for images, digits, target in loader:
            parts = loss_parts(by_hand(images), digits, target)
            by_hand.zero_grad()
            (torch.tensor([1, 1, 0.8]) * parts).sum().backward()
            optimizer.step()
            averaged.update_parameters(by_hand)
    for name, value in averaged.module.state_dict().items():
        torch.testing.assert_close(runs[0].network.state_dict()[name], value)


def test_a_checkpoint_has_the_averaged_weights(data, tmp_path):
    run = run_of(0, NETWORK, ema=0.9)
    trainer = trainer_for(2)
    trainer.fit(run, pairs_of(0, data))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = PairComparison.load_from_checkpoint(
        tmp_path / "last.ckpt", aux=LambdaWeighting(0.8), optimizer=Adam(0.1), scheduler=None
    )
    assert same(loaded.state_dict(), run.state_dict()) and loaded.ema == 0.9


@pytest.mark.parametrize("first, second, accepted", [(0.9, None, "a decay"), (None, 0.9, "null")])
def test_a_fit_is_resumed_with_an_average_only_if_it_had_one(first, second, accepted, tmp_path):
    run, data = alone(ema=first)
    fit_from(run, data, folder=tmp_path)
    other, data = alone(ema=second)
    with pytest.raises(InvalidValueError, match=f"ema={second} is not accepted: {accepted}, as in"):
        fit_from(other, data, tmp_path / "epoch=1.ckpt")


def test_runs_with_and_without_an_average_train_in_different_arrays():
    with pytest.raises(InvalidValueError, match="members"):
        PairComparisonArray([run_of(0), run_of(1, ema=0.9)])
    PairComparisonArray([run_of(0, ema=0.5), run_of(1, ema=0.9)])


@pytest.mark.parametrize(
    "base, argument, accepted",
    [
        (DIGITS, "ema=1", "null, or a number from 0 to below 1"),
        (DIGITS, "ema=-0.1", "null, or a number from 0 to below 1"),
        (DIGITS, "ema=x", "null, or a number from 0 to below 1"),
        ((*DIGITS, "model=siamese_mlp", "two_stage=0.5"), "ema=0.9", "null with two_stage"),
        ((*DIGITS, "model=siamese_mlp", "engine=framework"), "ema=0.0", "null with engine="),
        (DISK, "+ema=0.9", "one of the keys task"),
    ],
)
def test_averages_that_cannot_be_trained_are_refused(base, argument, accepted):
    assert_refused(base, argument, accepted)


def test_a_step_that_fails_leaves_the_averages_in_the_network():
    network = torch.nn.Linear(2, 1)
    average = ExponentialMovingAverage(network, [0.5], is_array=False)
    expected = network.weight.detach().clone()
    with pytest.raises(RuntimeError), average.training([False]):
        network.weight.data.add_(1)
        raise RuntimeError("no memory")
    assert torch.equal(network.weight, expected)
