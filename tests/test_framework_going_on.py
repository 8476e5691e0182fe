"""Trainings that go on: checkpoints, early stopping, several calls of fit, bit for bit."""

import functools

import pytest
import torch

import framework as fw
from tests.framework_twins import assert_state
from tests.test_framework_training import (
    ADAM,
    ROUNDS,
    ROWS,
    SETTINGS,
    adam,
    generators,
    make_trainer,
    points,
    sgd,
    trainer_of,
)


class Interrupt(fw.Listener):
    """Interrupts the training in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, replica, row):
        if row["epoch"] == self.last and replica == 0:
            raise KeyboardInterrupt


def test_training_continues_from_a_checkpoint_bit_for_bit(tmp_path):
    validation, path = points(rows=20), tmp_path / "state.pt"

    def fit(trainer, stopping, **settings):
        return trainer.fit(points(), 12, validation=validation, early_stopping=stopping, **settings)

    first, second, third = (fw.EarlyStopping(4, "validation/error") for _ in range(3))
    uninterrupted = make_trainer()
    expected = fit(uninterrupted, first)
    with pytest.raises(KeyboardInterrupt):
        fit(make_trainer(listeners=[Interrupt(5)]), second, checkpoint=path)
    again = make_trainer([7, 8, 9])  # other weights, orders and masks, which the file replaces
    again.load(path, third)
    assert again.epochs == 5
    assert fit(again, third) == expected
    assert_state(again.network, uninterrupted.network.state())
    assert list(tmp_path.iterdir()) == [path]


OTHERS = {  # the trainer, the error
    "network": (
        lambda: trainer_of(fw.mlp(2, [5], 1, generators()), optimizer=ADAM, **SETTINGS),
        "accepted is .*, 2.weight",
    ),
    "optimizer": (lambda: make_trainer(optimizer=sgd(0.01)), "optimizer=Adam, accepted is SGD as"),
    "rate": (lambda: make_trainer(optimizer=adam(0.02)), "learning_rate=0.01, accepted is 0.02"),
    "decay": (
        lambda: make_trainer(optimizer=lambda p: fw.Adam(p, 0.01, weight_decay=0.1)),
        "optimizer.weight_decay=0.0, accepted is 0.1",
    ),
    "betas": (
        lambda: make_trainer(optimizer=lambda p: fw.Adam(p, 0.01, betas=(0.8, 0.99))),
        r"optimizer.betas=\[0.9, 0.999\], accepted is \[0.8, 0.99\]",
    ),
    "batch": (lambda: make_trainer(batch_size=10), "batch_size=15, accepted is 10"),
    "schedule": (lambda: make_trainer(schedule=fw.Cosine()), "schedule=OneCycle, accepted is Cos"),
    "schedule-setting": (
        lambda: make_trainer(schedule=fw.OneCycle(0.2)),
        "schedule.warmup=0.3, accepted is 0.2",
    ),
    "loss": (lambda: make_trainer(loss=fw.BinaryCrossEntropy()), "loss=MSE, accepted is Binary"),
    "reduction": (lambda: make_trainer(loss=fw.MSE("sum")), "loss.reduction=mean, accepted is sum"),
    "dtype": (lambda: make_trainer(dtype=torch.float64), "0.weight is .*32, accepted is .*64"),
    "replicas": (lambda: make_trainer([0, 1]), r"0.weight is \(3, .*, accepted is \(2, "),
}


@pytest.mark.parametrize("case", OTHERS)
def test_checkpoint_of_another_training_is_refused(case, tmp_path):
    make_trainer().save(tmp_path / "state.pt")
    make, message = OTHERS[case]
    trainer = make()
    before = trainer.network.state_dict()
    with pytest.raises((KeyError, ValueError), match=message):
        trainer.load(tmp_path / "state.pt")
    assert_state(trainer.network, before)


def test_file_that_is_not_the_checkpoint_of_a_training_is_refused(tmp_path):
    make_trainer().save(tmp_path / "state.pt")
    message = "was saved with early_stopping=None, accepted is EarlyStopping"
    with pytest.raises(ValueError, match=message):
        make_trainer().load(tmp_path / "state.pt", fw.EarlyStopping(3))
    make_trainer().save(tmp_path / "stopped.pt", fw.EarlyStopping(3))
    with pytest.raises(ValueError, match="early_stopping=EarlyStopping, accepted is None"):
        make_trainer().load(tmp_path / "stopped.pt")
    with pytest.raises(ValueError, match="early_stopping.patience=3, accepted is 4"):
        make_trainer().load(tmp_path / "stopped.pt", fw.EarlyStopping(4))
    torch.save([1], tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt is not a checkpoint"):
        make_trainer().load(tmp_path / "other.pt")


def test_early_stopping_of_each_replica_restores_its_best_weights():
    trainer = make_trainer(optimizer=adam(0.05), schedule=None)
    stopping, validation = fw.EarlyStopping(2), points(rows=30)
    history = trainer.fit(points(), 60, validation=validation, early_stopping=stopping)
    assert len({len(rows) for rows in history}) > 1  # they end at different epochs
    for rows, tested in zip(history, trainer.evaluate(validation)):
        losses = [row["validation/loss"] for row in rows]
        assert len(rows) == 60 or losses.index(min(losses)) == len(rows) - 3
        assert tested["loss"] == pytest.approx(min(losses), rel=1e-6)


def going_on(early_stopping, epochs=(30,), path=None, **settings) -> tuple[fw.Trainer, list]:
    """Fit in several calls; with a path, each goes on from the former's file in a new trainer."""
    make = functools.partial(make_trainer, optimizer=adam(0.05), schedule=fw.StepDecay(7, 0.8))
    trainer = make()
    for number, end in enumerate(epochs):
        if path is not None and number:
            trainer = make([7, 8, 9])
            trainer.load(path, early_stopping)
        trainer.fit(
            points(),
            end,
            validation=points(rows=30),
            early_stopping=early_stopping,
            checkpoint=path,
            **settings,
        )
    return trainer, trainer.history


@pytest.mark.parametrize("saved", [False, True], ids=["at-once", "by-file"])
@pytest.mark.parametrize("epochs", [(1, 30), (7, 30), (5, 8, 30)])
@pytest.mark.parametrize("patience", [None, 2, 5])
def test_fit_goes_on_bit_for_bit(patience, epochs, saved, tmp_path):
    first, second = (None if patience is None else fw.EarlyStopping(patience) for _ in range(2))
    expected, history = going_on(first)
    again, own = going_on(second, epochs, path=tmp_path / "state.pt" if saved else None)
    assert own == history and again.ended == expected.ended
    assert_state(again.network, expected.network.state())
    if patience == 2:  # a replica ended in the first or second call
        assert [len(rows) for rows in history] == [8, 6, 13]


def test_replicas_that_ended_keep_their_weights():
    trainer, history = going_on(fw.EarlyStopping(2), (9,))
    ended, before = sorted(trainer.ended), trainer.network.state_dict()
    assert 0 < len(ended) < ROUNDS
    trainer.fit(points(), 11)  # without early stopping
    for name, value in trainer.network.state().items():
        same = (value == before[name]).flatten(1).all(1)
        assert same.tolist() == [replica in ended for replica in range(ROUNDS)], name
    assert all((len(rows) == 11) != (replica in ended) for replica, rows in enumerate(history))


def test_replica_that_failed_has_the_weights_of_its_end():
    inputs, targets = points()
    targets[1, 3] = 1e30  # the loss is infinite, the weights are not
    trainers = [make_trainer(seeds, batch_size=ROWS) for seeds in ([1], [0, 1, 2])]
    with pytest.raises(fw.NotFiniteError):
        trainers[0].fit((inputs[1:2], targets[1:2]), 4)
    trainers[1].fit((inputs, targets), 4)
    assert trainers[1].failures == {1: trainers[0].failures[0]}
    for own, expected in zip(trainers[1].network.parameters(), trainers[0].network.parameters()):
        assert own.data.isfinite().all() and torch.equal(own.data[1:2], expected.data)


def test_weights_that_the_user_changed_between_two_fits_stay():
    trainer, _ = going_on(fw.EarlyStopping(30), (5,))
    expected = make_trainer(optimizer=adam(0.0))
    trainer.network.load_state_dict(expected.network.state())
    trainer.optimizer.lr = 0.0
    trainer.fit(points(), 6)
    assert_state(trainer.network, expected.network.state())


def test_early_stopping_of_another_training_begins_anew():
    used, own = fw.EarlyStopping(3), fw.EarlyStopping(3)
    used.best, used.best_epoch = {0: -1.0, 1: -1.0, 2: -1.0}, {0: 0, 1: 0, 2: 0}
    settings = {"validation": points(rows=30)}
    trainers = [make_trainer(schedule=None) for _ in range(2)]
    for trainer, stopping in zip(trainers, (used, own)):
        trainer.fit(points(), 10, **settings)
        trainer.fit(points(), 13, **settings, early_stopping=stopping)
    assert used.best == own.best and used.best[0] > 0
    assert trainers[0].history == trainers[1].history


def test_epochs_that_are_done_are_refused():
    trainer = make_trainer()
    trainer.fit(points(), 3)
    message = "epochs is 3, accepted is more than 3, the number of epochs that are done"
    with pytest.raises(ValueError, match=message):
        trainer.fit(points(), 3)


def test_early_stopping_can_be_used_again_and_its_checkpoint_has_the_best_weights(tmp_path):
    stopping, path = fw.EarlyStopping(patience=2), tmp_path / "state.pt"
    settings = {"validation": points(rows=30), "early_stopping": stopping}
    first, second, loaded = (make_trainer(optimizer=adam(0.05), schedule=None) for _ in range(3))
    expected = first.fit(points(), 60, **settings)
    assert second.fit(points(), 60, **settings, checkpoint=path) == expected
    loaded.load(path, stopping)
    assert loaded.evaluate(points(rows=30)) == first.evaluate(points(rows=30))
    with pytest.raises(ValueError, match="every replica has ended in an earlier fit"):
        first.fit(points(), 70)
