"""The framework's trainer against the same training in torch; checkpoints, stopping, errors."""

import io
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import framework as fw
from tests.framework_twins import as_torch, assert_state, generator

ROUNDS, ROWS = 3, 40


def generators(seeds=range(ROUNDS)) -> list[torch.Generator]:
    return [generator(seed) for seed in seeds]


def points(seeds=range(ROUNDS), rows=ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.stack([torch.rand(rows, 2, generator=generator(100 + seed)) for seed in seeds])
    return inputs, (inputs.sum(-1, keepdim=True) > 1).float()


def adam(lr: float):
    return lambda parameters: fw.Adam(parameters, lr)


def sgd(lr: float, **settings):
    return lambda parameters: fw.SGD(parameters, lr, **settings)


ADAM, SGD = adam(0.01), sgd(0.1)
SETTINGS = {"batch_size": 15, "schedule": fw.OneCycle()}


def trainer_of(
    network: fw.Module, seeds=range(ROUNDS), loss=None, optimizer=SGD, **settings
) -> fw.Trainer:
    optimizer = optimizer(network.parameters())
    return fw.Trainer(network, loss or fw.MSE(), optimizer, generators(seeds), **settings)


def make_trainer(
    seeds=range(ROUNDS), optimizer=ADAM, dtype=torch.float32, **settings
) -> fw.Trainer:
    g = generators(seeds)
    dropout = fw.Dropout(0.2, generators(seeds))
    network = fw.Sequential(fw.Linear(2, 16, g), fw.Tanh(), dropout, fw.Linear(16, 1, g))
    network.to(dtype)
    settings = SETTINGS | settings
    measure = fw.threshold_error(0.5)
    return trainer_of(network, seeds, optimizer=optimizer, measure=measure, **settings)


def train_by_torch(seed: int, epochs: int) -> tuple[list[float], list[float], nn.Module]:
    """Train one replica by autograd; return the losses and the errors by epoch, and the network."""
    masks, order = generator(seed), generator(seed)
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    initial = make_trainer([seed]).network.parameters()
    with torch.no_grad():
        for parameter, own in zip(network.parameters(), initial, strict=True):
            parameter.copy_(as_torch(own.data[0], parameter))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, 3 * epochs, cycle_momentum=False
    )
    inputs, targets = (part[0].double() for part in points([seed]))
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
            total += loss.item() * len(rows)
            wrong += ((output > 0.5) != (targets[rows] > 0.5)).sum().item()
        losses.append(total / ROWS)
        errors.append(100 * wrong / ROWS)
    return losses, errors, network


def test_fit_is_the_training_of_torch():
    trainer = make_trainer(dtype=torch.float64)
    history = trainer.fit(tuple(part.double() for part in points()), 6)
    inputs, targets = (part.double() for part in points(rows=70))
    tested, predicted = trainer.evaluate((inputs, targets)), trainer.predict(inputs)
    for replica in range(ROUNDS):
        losses, errors, network = train_by_torch(replica, 6)
        rows = history[replica]
        assert [row["train/loss"] for row in rows] == pytest.approx(losses, abs=1e-7)
        assert [row["train/error"] for row in rows] == pytest.approx(errors)
        output = network(inputs[replica])
        loss = (output - targets[replica]).square().mean().item()
        assert tested[replica]["loss"] == pytest.approx(loss, abs=1e-7)
        torch.testing.assert_close(predicted[replica], output, atol=1e-6, rtol=0)


def layers(activation, widths=(2, 13, 9), norm=False):
    """Make a function that makes a network of these widths with one output.

    With odd widths, the matrices of replicas have different alignments in memory.
    """

    def make(seeds) -> fw.Sequential:
        g, stack = generators(seeds), []
        for inputs, outputs in zip(widths, widths[1:]):
            stack.append(fw.Linear(inputs, outputs, g))
            if norm:
                stack.append(fw.BatchNorm(outputs, len(g)))
            stack.append(activation())
        dropout = fw.Dropout(0.2, generators(seeds))
        return fw.Sequential(*stack, dropout, fw.Linear(widths[-1], 1, g))

    return make


ARRAYS = {  # network, loss, optimiser, batch size
    "sgd": (layers(fw.Tanh), fw.MSE(), sgd(0.05, momentum=0.9, weight_decay=0.01), 25),
    "sgd-1": (layers(fw.ReLU), fw.MSE(), sgd(0.02), 1),
    "adam": (layers(fw.GELU, norm=True), fw.BinaryCrossEntropy(), adam(0.01), 25),
    "adamw-1": (layers(fw.SELU, (2, 33, 17)), fw.BinaryCrossEntropy(), fw.AdamW, 1),
    "wide": (layers(fw.Sigmoid, (2, 130)), fw.MSE("sum"), adam(0.01), 32),
}


def trained(case: str, seeds: range) -> tuple:
    """History, test metrics, state and predictions."""
    make, loss, optimizer, batch_size = ARRAYS[case]
    network = make(seeds)
    settings = {"batch_size": batch_size, "measure": fw.logit_error}
    trainer = trainer_of(network, seeds, loss, optimizer, **settings)
    history = trainer.fit(points(seeds, 103), 3, validation=points(seeds, 31))
    test = points(seeds, 430)
    return history, trainer.evaluate(test), network, trainer.predict(test[0])


@pytest.mark.slow
@pytest.mark.parametrize("case", ARRAYS)
def test_replica_has_the_same_bits_in_any_array(case):
    torch.set_num_threads(1)
    history, tested, network, predicted = trained(case, range(5))
    for first, last in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (2, 5)]:
        part = slice(first, last)
        rows, metrics, own_network, predictions = trained(case, range(first, last))
        assert rows == history[part] and metrics == tested[part]
        assert torch.equal(predictions, predicted[part])
        assert_state(own_network, {name: value[part] for name, value in network.state().items()})


def test_replicas_may_share_their_rows():
    inputs, targets = (part[:1] for part in points())
    expected = make_trainer().fit((inputs.expand(3, -1, -1), targets.expand(3, -1, -1)), 2)
    assert make_trainer().fit((inputs, targets), 2) == expected
    assert make_trainer().predict(inputs).shape == (3, ROWS, 1)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_data_without_an_axis_of_replicas_are_refused_for_any_number_of_rows(rows):
    """Three rows are not taken for the rows of three replicas."""
    trainer = trainer_of(fw.Sequential(fw.Flatten(), fw.Linear(4, 1, generators())))
    images, targets = torch.ones(rows, 2, 2), torch.ones(rows, 1)
    if rows != ROUNDS:
        with pytest.raises(ValueError, match=rf"data are \({rows}, 2, 2\) float32, accepted is"):
            trainer.predict(images)
    with pytest.raises(ValueError, match=r"data are .*\(1, n, ...\), such as x\[None\], for data"):
        trainer.fit((images, targets), 1)
    assert trainer.predict(images[None]).shape == (ROUNDS, rows, 1)
    trainer.fit((images[None], targets[None]), 1)


def test_shared_data_are_gathered_as_they_are_used():
    """At no time is a copy of all rows made for each replica."""
    sizes = []

    class Watch(fw.Flatten):
        def forward(self, x):
            sizes.append(x.untyped_storage().nbytes())
            return super().forward(x)

    inputs, targets = torch.rand(1, 2000, 100), torch.rand(1, 2000, 1)
    trainer = trainer_of(fw.Sequential(Watch(), fw.Linear(100, 1, generators())), optimizer=ADAM)
    trainer.batch_size = 50
    trainer.fit((inputs, targets), 1, validation=(inputs, targets))
    assert len(sizes) == 40 + 10 and max(sizes) <= 4 * inputs.numel()


@pytest.mark.parametrize("size", [1, 7, 256, 300, 1000])
def test_batches_have_each_row_of_the_order_once(size):
    data = fw.Data(torch.arange(1400.0).view(2, 700, 1), (torch.arange(1400).view(2, 700),))
    order = torch.stack([torch.randperm(700, generator=generator(seed)) for seed in range(2)])
    batches = list(data.batches(size, order))
    assert [batch.rows for batch in batches[:-1]] == (len(batches) - 1) * [min(size, 700)]
    rows = torch.cat([batch.targets[0] for batch in batches], 1)
    assert torch.equal(rows, order + torch.tensor([[0], [700]]))
    assert torch.equal(torch.cat([batch.inputs for batch in batches], 1)[..., 0], rows.float())


class ScalarLoss(fw.MSE):
    def forward(self, prediction, target):
        return super().forward(prediction, target).mean()


RESULTS = {  # a loss, a measure
    "the loss of a batch or an epoch is \\(\\) ": (ScalarLoss(), None),
    "the error of a batch or an epoch is \\(3, 40, 1\\)": (
        fw.MSE(),
        lambda prediction, target: {"error": (prediction > target).float()},
    ),
}


@pytest.mark.parametrize("message", RESULTS)
def test_result_that_is_no_number_for_each_replica_is_refused(message):
    loss, measure = RESULTS[message]
    trainer = trainer_of(fw.mlp(2, [4], 1, generators()), loss=loss, measure=measure)
    with pytest.raises(ValueError, match=message + r".*accepted is \(3,\), a number for each"):
        trainer.fit(points(), 1)


def test_autograd_is_off_during_training():
    class Watch(fw.Tanh):
        def forward(self, x):
            assert not torch.is_grad_enabled() and not x.requires_grad
            return super().forward(x)

    g = generators([0])
    network = fw.Sequential(fw.Linear(2, 4, g), Watch(), fw.Linear(4, 1, g))
    trainer_of(network, [0]).fit(points([0]), 2)


def test_predictions_of_a_siamese_network_are_answers():
    g = generators()
    network = fw.Siamese(fw.Sequential(fw.Flatten(), fw.Linear(9, 10, g)), fw.mlp(20, [], 1, g))
    trainer = trainer_of(network, loss=fw.PairLoss(torch.ones(3)))
    answer = trainer.predict(torch.rand(ROUNDS, ROWS, 2, 3, 3))
    assert answer.comparison.shape == (ROUNDS, ROWS, 1)
    assert answer.digits.shape == (ROUNDS, ROWS, 2, 10)


def test_weights_that_are_not_finite_after_the_last_step():
    trainer = make_trainer(optimizer=sgd(3e38), batch_size=ROWS, schedule=None)
    inputs, targets = points()
    with pytest.raises(fw.NotFiniteError, match="of replica 0 is nan in epoch 0"):
        trainer.fit((100 * inputs, 100 * targets), 1)  # the loss before the only step is finite


def test_loss_that_is_not_a_number_ends_its_replica_alone():
    inputs, targets = points()
    inputs[1, 3] = math.nan
    trainer = make_trainer()
    history = trainer.fit((inputs, targets), 4)
    assert trainer.failures.keys() == {1}
    epoch, loss = trainer.failures[1]
    assert epoch == 0 and math.isnan(loss) and len(history[1]) == 1
    expected = make_trainer().fit(points(), 4)
    assert history[0] == expected[0] and history[2] == expected[2]
    message = "the loss of replica 0 is nan in epoch 0: a lower learning rate may help"
    with pytest.raises(fw.NotFiniteError, match=message):
        make_trainer([1]).fit((inputs[1:2], targets[1:2]), 4)


INPUTS, LABELS = points()
FIT_ERRORS = {  # the data, the error
    "replicas": (
        (INPUTS[:2], LABELS),
        r"the data are \(2, 40, 2\) float32 and \(3, 40, 1\) float32, "
        r"accepted is \(3, n, ...\), .* or \(1, n, ...\), such as x\[None\], for data that all",
    ),
    "dtype": ((INPUTS.double(), LABELS), "input of Linear is .* float64, accepted is .* float32"),
    "numpy": ((INPUTS.numpy(), LABELS), "the data are ndarray and Tensor, accepted are tensors"),
    "three": ((INPUTS, LABELS, LABELS), "the data are tuple, accepted is a pair"),
    "no-rows": ((INPUTS[:, :0], LABELS[:, :0]), "the inputs are .*, accepted is at least one row"),
    "rows": ((INPUTS, LABELS[:, 1:]), r"the data are \(3, 40, 2\) .* and \(3, 39, 1\) "),
}


@pytest.mark.parametrize("case", FIT_ERRORS)
def test_data_that_do_not_fit_are_named(case):
    data, message = FIT_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        trainer_of(fw.mlp(2, [4], 1, generators())).fit(data, 1)


def test_misuse_of_the_trainer():
    network = fw.mlp(2, [4], 1, generators())
    message = r"0.weight is \(3, 2, 4\) float32, accepted are 2 replicas, one for each generator"
    with pytest.raises(ValueError, match=message):
        trainer_of(network, [0, 1])
    other = fw.SGD(fw.mlp(2, [4], 1, generators()).parameters(), 0.1)
    message = "the optimiser does not have 0.weight, accepted is an optimiser of the network's"
    with pytest.raises(ValueError, match=message):
        fw.Trainer(network, fw.MSE(), other, generators())
    with pytest.raises(ValueError, match="batch_size is 0"):
        trainer_of(network, batch_size=0)
    message = "early stopping monitors validation/loss, accepted is one of epoch, learning_rate, tr"
    with pytest.raises(ValueError, match=message):
        trainer_of(network).fit(points(), 1, early_stopping=fw.EarlyStopping(2))


def test_next_fit_notices_that_a_layer_was_replaced():
    class Own(fw.Sequential):
        def __init__(self, g):
            self.layers = [fw.Linear(2, 4, g), fw.Linear(4, 1, g)]
            super().__init__(*self.layers)

        def children(self):
            return dict(zip("ab", self.layers))

    network = Own(generators())
    trainer = trainer_of(network)
    trainer.fit(points(), 1)
    network.layers[1] = fw.Linear(4, 1, generators())  # sets no attribute of a module
    with pytest.raises(ValueError, match="the optimiser does not have b.weight"):
        trainer.fit(points(), 2)


def test_listeners(tmp_path):
    text = io.StringIO()
    folders = [tmp_path / f"round{replica}" for replica in range(ROUNDS)]
    listeners = [fw.Progress(text, seconds=0.0), fw.TensorBoard(folders)]
    history = make_trainer(listeners=listeners).fit(points(), 3)
    lines = text.getvalue().splitlines()
    assert lines[-1].startswith("epoch 3: train/loss 0.") and lines[-1].endswith("(mean of 3)")
    for folder, rows in zip(folders, history):
        events = EventAccumulator(str(folder)).Reload().Scalars("train/error")
        errors = [row["train/error"] for row in rows]
        assert [event.value for event in events] == pytest.approx(errors)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "selu", "sigmoid", "leaky_relu"])
def test_it_learns(activation):
    network = fw.mlp(2, [32, 32], 1, generators(), activation=activation, initialise="xavier")
    settings = {"batch_size": 20, "measure": fw.logit_error}
    trainer = trainer_of(network, loss=fw.BinaryCrossEntropy(), optimizer=adam(0.02), **settings)
    trainer.fit(points(rows=400), 30)
    assert all(row["error"] < 5 for row in trainer.evaluate(points(range(50, 53), rows=1000)))
