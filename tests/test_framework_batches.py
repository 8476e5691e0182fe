"""Training and evaluation on batches of an iterable."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import framework as fw
from tests.framework_twins import assert_state, generators, normal32

R, ROWS, SIZE = 2, 10, 4
X, Y = normal32(ROWS, 3), normal32(ROWS, 1, seed=1)
OWN_X, OWN_Y = normal32(R, ROWS, 3), normal32(R, ROWS, 1, seed=1)  # of each replica
TWO_BATCHES = [(OWN_X[:, :6], OWN_Y[:, :6]), (OWN_X[:, 6:], OWN_Y[:, 6:])]


def trainer(**settings) -> fw.Trainer:
    net = fw.mlp(3, [4], 1, generators(R))
    optimizer = fw.SGD(net.parameters(), 0.1, momentum=0.9)
    return fw.Trainer(net, fw.MSE(), optimizer, generators(R), batch_size=SIZE, **settings)


class Epochs:
    """An iterable that begins again, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        yield from self.batches


def loader(**settings) -> DataLoader:
    return DataLoader(TensorDataset(X, Y), batch_size=SIZE, **settings)


SOURCES = {  # the data, and the batches of an epoch with an axis of replicas
    "loader": (fw.Batches(loader()), [(x[None], y[None]) for x, y in loader()]),
    "loader-drop-last": (
        fw.Batches(loader(drop_last=True)),
        [(x[None], y[None]) for x, y in loader(drop_last=True)],
    ),
    "class": (Epochs(TWO_BATCHES), TWO_BATCHES),
    "list": (TWO_BATCHES, TWO_BATCHES),
    "list-shared": (
        fw.Batches([(X, Y), (X[:3], Y[:3])]),
        [(X[None], Y[None]), (X[None, :3], Y[None, :3])],
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_each_epoch_makes_a_step_for_each_batch(case):
    source, batches = SOURCES[case]
    fitted, by_hand = trainer(), trainer()
    history = fitted.fit(source, 3, validation=source)
    for epoch in range(3):
        losses, counts = [], []
        for inputs, targets in batches:
            data = fw.Data.of((inputs, targets), R)
            losses.append(by_hand.step(*data)[1])
            counts.append(data.rows)
        means = torch.stack(losses, 1) @ torch.tensor(counts).float() / sum(counts)
        row = [rows[epoch]["train/loss"] for rows in history]
        assert row == pytest.approx(means.tolist(), rel=1e-6)
    assert_state(fitted.network, by_hand.network.state())
    evaluated = fitted.evaluate(source)
    assert [rows[-1]["validation/loss"] for rows in history] == [row["loss"] for row in evaluated]


def test_a_loader_of_all_rows_is_evaluated_as_the_data_in_memory():
    made = trainer()
    one, other = made.evaluate(fw.Batches(loader())), made.evaluate((X[None], Y[None]))
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in other])


def test_several_targets_of_a_loader_are_a_tuple():
    pairs = DataLoader(
        TensorDataset(normal32(6, 2, 3, 3), torch.rand(6, 1).round(), torch.randint(10, (6, 2))),
        batch_size=3,
        collate_fn=lambda rows: (
            torch.stack([row[0] for row in rows]),
            [torch.stack([row[i] for row in rows]) for i in (1, 2)],
        ),
    )
    g = generators(R)
    net = fw.Siamese(fw.Sequential(fw.Flatten(), fw.Linear(9, 10, g)), fw.Linear(20, 1, g))
    optimizer = fw.SGD(net.parameters(), 0.1)
    fw.Trainer(net, fw.PairLoss(torch.ones(3)), optimizer, g).fit(fw.Batches(pairs), 2)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_schedule_by_steps_has_the_length_of_the_loader(interval):
    """The rates are those of the same data in memory; three batches of a loader are as many."""
    memory, source = (trainer(schedule=fw.Cosine(interval=interval)) for _ in range(2))
    expected = memory.fit((X[None], Y[None]), 3)
    rows = source.fit(fw.Batches(loader()), 3)
    for ours, theirs in zip(rows[0], expected[0], strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]


def generator_of(batches):
    yield from batches


def test_a_generator_is_used_once():
    fitted = trainer()
    generator = generator_of(TWO_BATCHES)
    fitted.fit(generator, 1)
    with pytest.raises(ValueError, match="no batches.*an iterator that an earlier epoch has used"):
        fitted.fit(generator, 2)
    for data in (generator_of(TWO_BATCHES), fw.Batches(generator_of(TWO_BATCHES))):
        with pytest.raises(ValueError, match="a generator, which can be iterated once, but there "):
            trainer().fit(data, 2)
        with pytest.raises(ValueError, match="a generator, which can be iterated once"):
            trainer().fit(TWO_BATCHES, 2, validation=data)


class WrongLength(Epochs):
    def __len__(self):
        return 1


OTHER = [TWO_BATCHES[0], (OWN_X[:, :, 0], OWN_Y[:, :6])]
WRONG = {  # the error, and the data
    r"batch 0: the data are \(4, 3\) float32 and \(4, 1\) float32, accepted is \(2, n, ...\).*"
    r"fw.Batches\(iterable\) adds an axis": lambda: loader(),
    "batch 1: the data are .* accepted is": lambda: OTHER,
    "batch 0: the data are ndarray and ndarray, accepted are tensors": lambda: [
        (X.numpy(), Y.numpy())
    ],
    "batch 0: the data are Tensor, accepted is a pair": lambda: Epochs([X[0, :1]]),
    "the input of Linear is .* float64, accepted is .* float32": lambda: fw.Batches(
        [(X.double(), Y.double())]
    ),
    "the batches are 5, accepted is an iterable": lambda: fw.Batches(5),
    "the iterable has no batches, accepted is at least one": lambda: Epochs([]),
    "the batches are more than 1, their len": lambda: WrongLength(TWO_BATCHES),
    "the data are TensorDataset, accepted is a pair": lambda: TensorDataset(X, Y),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_batches_are_named(message):
    with pytest.raises(ValueError, match=message):
        trainer().fit(WRONG[message](), 1)


def test_schedule_by_steps_needs_a_length():
    with pytest.raises(ValueError, match="OneCycle.*accepted is interval='epoch' for batches of a"):
        trainer(schedule=fw.OneCycle()).fit(Epochs(TWO_BATCHES), 2)
    trainer(schedule=fw.Cosine()).fit(Epochs(TWO_BATCHES), 2)


def test_targets_without_meaning_are_refused_in_a_batch():
    net = fw.mlp(3, [4], 1, generators(R))
    optimizer = fw.SGD(net.parameters(), 0.1)
    made = fw.Trainer(net, fw.BinaryCrossEntropy(), optimizer, generators(R))
    with pytest.raises(ValueError, match="target of BinaryCrossEntropy has values from"):
        made.fit(fw.Batches([(X, Y + 5)]), 1)
