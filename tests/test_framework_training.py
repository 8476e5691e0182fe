"""framework's trainer against the same training in torch, and what else it promises."""

import io
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import framework as fw

ROUNDS, ROWS = 3, 40


def generators(seeds=range(ROUNDS)) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def points(seeds=range(ROUNDS), rows=ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.stack(
        [torch.rand(rows, 2, generator=torch.Generator().manual_seed(100 + seed)) for seed in seeds]
    )
    return inputs, (inputs.sum(-1, keepdim=True) > 1).float()


def trainer(
    seeds=range(ROUNDS),
    make=lambda parameters: fw.Adam(parameters, lr=0.01),
    dtype=torch.float32,
    **settings,
) -> fw.Trainer:
    drawing = generators(seeds)
    network = fw.Sequential(
        fw.Linear(2, 16, drawing),
        fw.Tanh(),
        fw.Dropout(0.2, generators(seeds)),
        fw.Linear(16, 1, drawing),
    )
    network.to(dtype)
    settings = {
        "batch_size": 15,
        "schedule": fw.OneCycle(),
        "measure": fw.threshold_error(0.5),
    } | settings
    return fw.Trainer(network, fw.MSE(), make(network.parameters()), generators(seeds), **settings)


def twin(seed: int, epochs: int) -> tuple[list[float], list[float], nn.Module]:
    """The same training of one replica by autograd: losses by epoch, error of the last epoch's steps, the network."""
    generator, masks, order = (torch.Generator().manual_seed(seed) for _ in range(3))
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    with torch.no_grad():
        for layer, fan in ((network[0], 2), (network[2], 16)):
            for parameter in (layer.weight, layer.bias):
                shape = parameter.T.shape if parameter.dim() == 2 else (1, *parameter.shape)
                parameter.copy_(
                    ((torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(fan)).T.reshape(
                        parameter.shape
                    )
                )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, 3 * epochs, cycle_momentum=False
    )
    inputs, targets = (each[0].double() for each in points([seed]))
    losses, errors = [], []
    for _ in range(epochs):
        total = wrong = 0.0
        for rows in torch.randperm(ROWS, generator=order).split(15):
            mask = (torch.rand(len(rows), 16, generator=masks) < 0.8).double() / 0.8
            output = network[2](network[1](network[0](inputs[rows])) * mask)
            loss = (output - targets[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total, wrong = (
                total + loss.item() * len(rows),
                wrong + ((output > 0.5) != (targets[rows] > 0.5)).sum().item(),
            )
        losses.append(total / ROWS)
        errors.append(100 * wrong / ROWS)
    return losses, errors, network


def test_a_fit_is_that_of_torch():
    ours = trainer(dtype=torch.float64)
    history = ours.fit(tuple(each.double() for each in points()), 6)
    test = points(rows=70)
    tested = ours.evaluate(tuple(each.double() for each in test))
    for replica in range(ROUNDS):
        losses, errors, network = twin(replica, 6)
        assert [row["train/loss"] for row in history[replica]] == pytest.approx(
            losses, abs=1e-7
        )  # initial weights are float32
        assert [row["train/error"] for row in history[replica]] == pytest.approx(errors)
        output = network(test[0][replica].double())
        assert tested[replica]["loss"] == pytest.approx(
            (output - test[1][replica]).square().mean().item(), abs=1e-7
        )
        torch.testing.assert_close(
            ours.predict(test[0].double())[replica], output, atol=1e-6, rtol=0
        )


def layers(activation, widths=(2, 13, 9), norm=False):
    """What makes a network of these widths and one output; of odd ones the matrices begin anywhere in memory."""

    def make(seeds) -> fw.Sequential:
        drawing, stack = generators(seeds), []
        for inputs, outputs in zip(widths, widths[1:]):
            stack += [
                fw.Linear(inputs, outputs, drawing),
                *([fw.BatchNorm(outputs, len(drawing))] if norm else []),
                activation(),
            ]
        return fw.Sequential(
            *stack, fw.Dropout(0.2, generators(seeds)), fw.Linear(widths[-1], 1, drawing)
        )

    return make


ARRAYS = {  # network, loss, optimiser, batch size
    "sgd": (
        layers(fw.Tanh),
        fw.MSE,
        lambda p: fw.SGD(p, 0.05, momentum=0.9, weight_decay=0.01),
        25,
    ),
    "sgd-1": (layers(fw.ReLU), fw.MSE, lambda p: fw.SGD(p, 0.02), 1),
    "adam": (layers(fw.GELU, norm=True), fw.BinaryCrossEntropy, lambda p: fw.Adam(p, 0.01), 25),
    "adamw-1": (
        layers(fw.SELU, (2, 33, 17)),
        fw.BinaryCrossEntropy,
        lambda p: fw.AdamW(p, 0.01),
        1,
    ),
    "wide": (layers(fw.Sigmoid, (2, 130)), lambda: fw.MSE("sum"), lambda p: fw.Adam(p, 0.01), 32),
}


def trained(
    case: str, seeds: range
) -> tuple[list[list[dict]], list[dict], dict[str, torch.Tensor], torch.Tensor]:
    """History, test metrics, state and predictions."""
    make, loss, optimizer, batch_size = ARRAYS[case]
    network = make(seeds)
    ours = fw.Trainer(
        network,
        loss(),
        optimizer(network.parameters()),
        generators(seeds),
        batch_size=batch_size,
        measure=fw.logit_error,
    )
    history = ours.fit(points(seeds, 103), 3, validation=points(seeds, 31))
    test = points(seeds, 430)
    return history, ours.evaluate(test), ours.network.state_dict(), ours.predict(test[0])


@pytest.mark.parametrize("case", ARRAYS)
def test_a_replica_has_the_same_bits_in_any_array(case):
    torch.set_num_threads(1)
    history, tested, state, predicted = trained(case, range(5))
    for part in [range(place, place + 1) for place in range(5)] + [range(2), range(2, 5)]:
        rows, metrics, weights, predictions = trained(case, part)
        places = slice(part.start, part.stop)
        assert rows == history[places] and metrics == tested[places]
        assert torch.equal(predictions, predicted[places])
        for name, value in weights.items():
            assert torch.equal(value, state[name][places]), name


def test_the_same_rows_may_serve_all_replicas():
    inputs, targets = (each[0] for each in points())
    shared = trainer().fit((inputs, targets), 2)
    assert shared == trainer().fit((inputs.expand(3, -1, -1), targets.expand(3, -1, -1)), 2)
    assert trainer().predict(inputs).shape == (3, ROWS, 1)


def test_autograd_is_off_while_it_trains():
    class Watch(fw.Tanh):
        def forward(self, x):
            assert not torch.is_grad_enabled() and not x.requires_grad
            return super().forward(x)

    drawing = generators([0])
    network = fw.Sequential(fw.Linear(2, 4, drawing), Watch(), fw.Linear(4, 1, drawing))
    fw.Trainer(network, fw.MSE(), fw.SGD(network.parameters(), 0.1), generators([0])).fit(
        points([0]), 2
    )


class StopsAt:
    def __init__(self, epoch: int) -> None:
        self.at = epoch

    def epoch(self, replica, row):
        if row["epoch"] == self.at and replica == 0:
            raise KeyboardInterrupt

    def end(self):
        pass


def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    validation = points(rows=20)
    stopping = [fw.EarlyStopping(4, "validation/error") for _ in range(3)]
    whole = trainer()
    expected = whole.fit(points(), 12, validation=validation, early_stopping=stopping[0])
    with pytest.raises(KeyboardInterrupt):
        trainer(listeners=[StopsAt(5)]).fit(
            points(),
            12,
            validation=validation,
            early_stopping=stopping[1],
            checkpoint=tmp_path / "state.pt",
        )
    again = trainer([7, 8, 9])  # other weights, orders and masks: all of it comes from the file
    again.load(tmp_path / "state.pt", stopping[2])
    assert again.epochs == 5
    assert again.fit(points(), 12, validation=validation, early_stopping=stopping[2]) == expected
    for name, value in whole.network.state().items():
        assert torch.equal(value, again.network.state()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    trainer().save(tmp_path / "state.pt")
    network = fw.mlp(2, [5], 1, generators())
    other = fw.Trainer(network, fw.MSE(), fw.SGD(network.parameters(), 0.1), generators())
    for refused, fault, match in (
        (other, KeyError, "the state has 0.weight, .*; accepted is 0.weight, 0.bias, 2.weight"),
        (
            trainer(make=lambda parameters: fw.SGD(parameters, 0.1)),
            KeyError,
            "the state has first, second, steps; accepted is velocity",
        ),
        (
            trainer(dtype=torch.float64),
            ValueError,
            r"0.weight is \(3, 2, 16\) float32, accepted is \(3, 2, 16\) float64",
        ),
        (
            trainer([0, 1]),
            ValueError,
            r"0.weight is \(3, 2, 16\) float32, accepted is \(2, 2, 16\) float32",
        ),
    ):
        before = refused.network.state_dict()
        with pytest.raises(fault, match=match):
            refused.load(tmp_path / "state.pt")
        assert all(
            torch.equal(value, before[name]) for name, value in refused.network.state().items()
        )
    with pytest.raises(ValueError, match="was saved without early stopping"):
        trainer().load(tmp_path / "state.pt", fw.EarlyStopping(3))
    torch.save([1], tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt is no checkpoint of a trainer"):
        trainer().load(tmp_path / "other.pt")


def test_early_stopping_is_each_replicas_own_and_restores():
    stopping = fw.EarlyStopping(patience=2, monitor="validation/loss")
    ours = trainer(make=lambda parameters: fw.Adam(parameters, lr=0.05), schedule=None)
    validation = points(rows=30)
    history = ours.fit(points(), 60, validation=validation, early_stopping=stopping)
    assert len({len(rows) for rows in history}) > 1  # they end at different epochs
    for rows, tested in zip(history, ours.evaluate(validation)):
        losses = [row["validation/loss"] for row in rows]
        assert len(rows) == 60 or losses.index(min(losses)) == len(rows) - 3
        assert tested["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_early_stopping_starts_anew_and_its_checkpoint_has_the_best_weights(tmp_path):
    stopping, validation = fw.EarlyStopping(patience=2), points(rows=30)
    fast = {"make": lambda parameters: fw.Adam(parameters, lr=0.05), "schedule": None}
    first = trainer(**fast)
    expected = first.fit(points(), 60, validation=validation, early_stopping=stopping)
    again = trainer(**fast)
    assert (
        again.fit(
            points(),
            60,
            validation=validation,
            early_stopping=stopping,
            checkpoint=tmp_path / "state.pt",
        )
        == expected
    )
    loaded = trainer(**fast)
    loaded.load(tmp_path / "state.pt", stopping)
    assert loaded.evaluate(validation) == first.evaluate(validation)
    with pytest.raises(ValueError, match="every replica has ended in an earlier fit"):
        first.fit(points(), 70)


def test_weights_that_are_not_finite_after_the_last_step():
    ours = trainer(
        make=lambda parameters: fw.SGD(parameters, lr=3e38), batch_size=ROWS, schedule=None
    )
    with pytest.raises(
        fw.NotFiniteError, match="of replica 0 is nan in epoch 0"
    ):  # the loss before the one step is finite
        ours.fit((100 * points()[0], 100 * points()[1]), 1)


def test_a_loss_that_is_no_number_ends_its_replica_alone():
    inputs, targets = points()
    inputs[1, 3] = math.nan
    ours, healthy = trainer(), trainer()
    history = ours.fit((inputs, targets), 4)
    assert (
        ours.failures.keys() == {1} and ours.failures[1][0] == 0 and math.isnan(ours.failures[1][1])
    )
    assert len(history[1]) == 1
    expected = healthy.fit(points(), 4)
    assert history[0] == expected[0] and history[2] == expected[2]
    with pytest.raises(
        fw.NotFiniteError,
        match=r"the loss of replica 0 is nan in epoch 0: a lower learning rate may help",
    ):
        trainer([1]).fit((inputs[1:2], targets[1:2]), 4)


def test_misuse_of_the_trainer():
    network = fw.mlp(2, [4], 1, generators())
    optimizer = fw.SGD(network.parameters(), 0.1)
    with pytest.raises(
        ValueError,
        match=r"0.weight is \(3, 2, 4\) float32, accepted are 2 replicas, as there are generators",
    ):
        fw.Trainer(network, fw.MSE(), optimizer, generators([0, 1]))
    with pytest.raises(
        ValueError,
        match="the optimiser does not have 0.weight, accepted is one that was made for the parameters of this network",
    ):
        fw.Trainer(fw.mlp(2, [4], 1, generators()), fw.MSE(), optimizer, generators())
    with pytest.raises(ValueError, match="batch_size is 0"):
        fw.Trainer(network, fw.MSE(), optimizer, generators(), batch_size=0)
    ours = fw.Trainer(network, fw.MSE(), optimizer, generators())
    inputs, targets = points()
    with pytest.raises(
        ValueError,
        match=r"the inputs are \(2, 40, 2\) float32 and the targets \(3, 40, 1\) float32, accepted is \(3, n, ...\)",
    ):
        ours.fit((inputs[:2], targets), 1)
    with pytest.raises(
        ValueError,
        match=r"the input of Linear is \(3, 40, 2\) float64, accepted is \(3, rows, 2\) float32",
    ):
        ours.fit((inputs.double(), targets), 1)
    for data, match in (
        ((inputs.numpy(), targets), "the data are ndarray and Tensor, accepted are tensors"),
        (inputs, "accepted is a pair"),
        (
            (inputs[:, :0], targets[:, :0]),
            r"the inputs are \(3, 0, 2\) float32, accepted is at least one row",
        ),
        (
            (inputs, targets[:, 1:]),
            r"the inputs are \(3, 40, 2\) float32 and the targets \(3, 39, 1\) float32",
        ),
    ):
        if data is inputs:
            data = (inputs, targets, targets)
        with pytest.raises(ValueError, match=match):
            ours.fit(data, 1)
    with pytest.raises(
        ValueError,
        match=r"early stopping monitors validation/loss, accepted is one of epoch, learning_rate, train/loss",
    ):
        ours.fit(points(), 1, early_stopping=fw.EarlyStopping(2))


def test_a_layer_that_was_replaced_is_noticed_by_the_next_fit():
    class Own(fw.Sequential):
        def __init__(self, drawing):
            self.layers = [fw.Linear(2, 4, drawing), fw.Linear(4, 1, drawing)]
            super().__init__(*self.layers)

        def children(self):
            return dict(zip("ab", self.layers))

    network = Own(generators())
    ours = fw.Trainer(network, fw.MSE(), fw.SGD(network.parameters(), 0.1), generators())
    ours.fit(points(), 1)
    network.layers[1] = fw.Linear(
        4, 1, generators()
    )  # in a list, where setting an attribute would have been noticed
    with pytest.raises(ValueError, match="the optimiser does not have b.weight"):
        ours.fit(points(), 2)


def test_listeners(tmp_path):
    text = io.StringIO()
    board = fw.TensorBoard([tmp_path / f"round{replica}" for replica in range(ROUNDS)])
    history = trainer(listeners=[fw.Progress(text, seconds=0.0), board]).fit(points(), 3)
    lines = text.getvalue().splitlines()
    assert lines[-1].startswith("epoch 3: train/loss 0.") and lines[-1].endswith("(mean of 3)")
    for replica in range(ROUNDS):
        events = EventAccumulator(str(tmp_path / f"round{replica}")).Reload()
        assert [each.value for each in events.Scalars("train/error")] == pytest.approx(
            [row["train/error"] for row in history[replica]]
        )


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "selu", "sigmoid", "leaky_relu"])
def test_it_learns(activation):
    network = fw.mlp(2, [32, 32], 1, generators(), activation=activation, initialise="xavier")
    ours = fw.Trainer(
        network,
        fw.BinaryCrossEntropy(),
        fw.Adam(network.parameters(), 0.02),
        generators(),
        batch_size=20,
        measure=fw.logit_error,
    )
    ours.fit(points(rows=400), 30)
    assert all(row["error"] < 5 for row in ours.evaluate(points(range(50, 53), rows=1000)))
