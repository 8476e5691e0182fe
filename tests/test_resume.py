"""A fit resumed from one of Lightning's checkpoints equals an uninterrupted one, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import framework as fw
from digitpairs.checks import InvalidValueError
from digitpairs.data import DiskDataModule, PairDataModule, PairDataModuleArray
from digitpairs.engines.lightning_trainer import quiet_lightning
from digitpairs.training import (
    SGD,
    Adam,
    Constant,
    Cosine,
    OneCycle,
    PairComparison,
    PairComparisonArray,
    PointClassification,
)
from digitpairs.training.array_checkpoint import join

NETWORK = {
    "_target_": "digitpairs.SiameseNetwork",
    "body": {"_target_": "digitpairs.MLPBody", "hidden": [12], "dropout": 0.2},
}
DISK_NETWORK = {"_target_": "digitpairs.networks.PointMLP", "hidden": [8], "dropout": 0.2}
EPOCHS = 4


def member(seed: int, **settings) -> PairComparison:
    usual = {"optimizer": Adam(0.01), "scheduler": OneCycle(interval="step")}
    return PairComparison(NETWORK, seed=seed, **usual | settings)


def pairs(seed: int, **settings) -> PairDataModule:
    usual = {"batch_size": 8, "augmentation": {"shift": 1.0, "swap": 0.5}}
    return PairDataModule("digits", pairs=40, seed=seed, **usual | settings)


def alone(**settings):
    return member(0, **settings), pairs(0)


def held_out():
    stopping = {"patience": 2, "monitor": "validation/loss"}
    module = member(0, early_stopping=stopping, scheduler=Constant())
    return module, pairs(0, validation=0.2)


def array(**settings):
    members = [member(seed, **settings) for seed in (0, 1)]
    return PairComparisonArray(members), PairDataModuleArray([pairs(0), pairs(1)])


def momentum_array():
    return array(optimizer=SGD(0.05, momentum=0.9), two_stage=0.5, scheduler=Constant())


def disk():
    stopping = {"patience": 2, "monitor": "train/loss"}
    module = PointClassification(
        DISK_NETWORK, fw.BinaryCrossEntropy(), Adam(0.01), Cosine(), early_stopping=stopping
    )
    return module, DiskDataModule(points=40, batch_size=8)


FITS = {
    "alone": alone,
    "random loss weights": lambda: alone(aux={"_target_": "digitpairs.losses.RandomWeighting"}),
    "dynamic loss weights": lambda: alone(
        aux={"_target_": "digitpairs.losses.DynamicWeightAverage"}
    ),
    "redraw": lambda: (member(0), pairs(0, redraw=True)),
    "two stages": lambda: alone(two_stage=0.5),
    "ensemble": lambda: alone(ensemble_size=2, ema=0.9),
    "array of ensembles": lambda: array(ensemble_size=2),
    "early stopping": held_out,
    "array": array,
    "moving average": lambda: alone(ema=0.9),
    "array of moving averages": lambda: array(ema=0.9),
    "array of two stages": lambda: array(two_stage=0.5),
    "array with momentum": momentum_array,
    "disk": disk,
}


def fit(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None = None,
    epochs: int = EPOCHS,
    folder: Path | None = None,
):
    """Fits, from the checkpoint if there is one. With `folder`, each epoch leaves a checkpoint."""
    callbacks = []
    if folder is not None:
        callbacks = [pl.callbacks.ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")]
    with quiet_lightning():
        make_trainer(epochs, callbacks).fit(module, data, ckpt_path=checkpoint)


def make_trainer(epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def histories(module: pl.LightningModule) -> list[list[dict]]:
    return [member.history for member in getattr(module, "members", [module])]


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_resumed_fit_equals_an_uninterrupted_one(name, tmp_path):
    uninterrupted, data = FITS[name]()
    fit(uninterrupted, data, folder=tmp_path)
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) >= 2
    for checkpoint in checkpoints[:-1]:
        resumed, data = FITS[name]()
        fit(resumed, data, checkpoint)
        assert histories(resumed) == histories(uninterrupted)
        for key, value in uninterrupted.state_dict().items():
            assert torch.equal(resumed.state_dict()[key], value), key


def test_a_fit_can_be_extended_if_the_schedule_has_no_length(tmp_path):
    uninterrupted, data = alone(scheduler=Constant())
    fit(uninterrupted, data, epochs=4)
    short, data = alone(scheduler=Constant())
    fit(short, data, epochs=2, folder=tmp_path)
    resumed, data = alone(scheduler=Constant())
    fit(resumed, data, tmp_path / "epoch=1.ckpt", epochs=4)
    assert histories(resumed) == histories(uninterrupted)


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler": OneCycle()},
        {"scheduler": Cosine()},
        {"scheduler": Constant(), "two_stage": 0.5},
    ],
)
def test_a_fit_cannot_be_extended_if_the_schedule_has_a_length(settings, tmp_path):
    short, data = alone(**settings)
    fit(short, data, epochs=2, folder=tmp_path)
    resumed, data = alone(**settings)
    with pytest.raises(InvalidValueError, match="max_epochs=4 is not accepted: the checkpoint's 2"):
        fit(resumed, data, tmp_path / "epoch=1.ckpt", epochs=4)


@pytest.mark.parametrize("name", ["early stopping", "disk"])
def test_a_checkpoint_saved_within_an_epoch_is_refused(name, tmp_path):
    module, data = FITS[name]()
    save = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, filename="{epoch}")
    with quiet_lightning():
        make_trainer(2, [save]).fit(module, data)
    (checkpoint,) = tmp_path.glob("*.ckpt")
    resumed, data = FITS[name]()
    with pytest.raises(InvalidValueError, match="ckpt_path=.* a checkpoint saved after an epoch"):
        fit(resumed, data, checkpoint)


def test_other_data_are_refused(tmp_path):
    short, data = alone()
    fit(short, data, folder=tmp_path)
    resumed, _ = alone()
    with pytest.raises(InvalidValueError, match="of 5 mini-batches an epoch"):
        fit(resumed, pairs(0, batch_size=4), tmp_path / "epoch=1.ckpt")


@pytest.mark.slow
def test_a_fit_of_a_loaded_model_starts_at_the_first_epoch(tmp_path):
    first, data = alone()
    fit(first, data, folder=tmp_path)
    loaded = PairComparison.load_from_checkpoint(
        tmp_path / "epoch=1.ckpt", optimizer=Adam(0.01), scheduler=OneCycle(interval="step")
    )
    fit(loaded, pairs(0))
    assert [row["epoch"] for row in loaded.history] == list(range(EPOCHS))


PAUSABLE = {
    "adam": {},
    "momentum": {"optimizer": SGD(0.05, momentum=0.9), "scheduler": Constant()},
    "two stages": {"two_stage": 0.5},
    "moving average": {"ema": 0.9},
    "ensemble": {"ensemble_size": 2},
    "dynamic loss weights": {"aux": {"_target_": "digitpairs.losses.DynamicWeightAverage"}},
    "early stopping": {"early_stopping": {"patience": 4, "monitor": "validation/loss"}},
}


def array_of(seeds, until=None, **settings):
    members = [member(seed, **settings) for seed in seeds]
    data = PairDataModuleArray([pairs(seed, validation=0.2) for seed in seeds])
    return PairComparisonArray(members, until=until), data


@pytest.mark.slow
@pytest.mark.parametrize("until", [1, 3])
@pytest.mark.parametrize("name", PAUSABLE)
def test_members_that_pause_and_are_packed_anew_equal_uninterrupted_ones(name, until, tmp_path):
    """Of three members the first and the last go on, in an array of two."""
    uninterrupted, data = array_of((0, 1, 2), **PAUSABLE[name])
    fit(uninterrupted, data)
    paused, data = array_of((0, 1, 2), until, **PAUSABLE[name])
    fit(paused, data)
    assert [len(each.history) for each in paused.members] == [until] * 3
    checkpoint = tmp_path / "joined.ckpt"
    torch.save(join([paused.pauses[0], paused.pauses[2]]), checkpoint)
    resumed, data = array_of((0, 2), **PAUSABLE[name])
    fit(resumed, data, checkpoint)
    for ours, expected in zip(resumed.members, uninterrupted.members[::2]):
        assert ours.history == expected.history
        for key, value in expected.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key


def test_a_member_that_has_ended_does_not_pause():
    array, data = array_of((0, 1), 2, optimizer=SGD(1e30), scheduler=Constant())
    fit(array, data)
    assert array.pauses == [None, None] and all(each.failure for each in array.members)
    assert not any(each.paused for each in array.members)
