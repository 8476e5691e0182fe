"""PairComparison under Lightning, against a loop by hand, torchmetrics, and other runs of it."""

import copy
import csv
import itertools
import math
from inspect import signature

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModule
from digitpairs.losses import (
    DynamicWeightAverage,
    LambdaWeighting,
    NoAuxWeighting,
    UncertaintyWeighting,
)
from digitpairs.networks import JointNetwork, MLPBody, Prediction, SiameseNetwork, create
from digitpairs.streams import stream
from digitpairs.training import SGD, Adam, Cosine, DivergenceError, OneCycle, PairComparison
from digitpairs.training.early_stopping import MONITORED
from digitpairs.training.metrics import confusion, error_rates

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`",
    "ignore:.*LeafSpec",
    "ignore:.*does not have many workers",
    "ignore:.*lr_scheduler.step",
)

NETWORK = {
    "_target_": "digitpairs.networks.SiameseNetwork",
    "body": {"_target_": "digitpairs.networks.MLPBody", "hidden": [16], "dropout": 0.2},
    "comparison_hidden": [8],
}


def module_of(data, **settings) -> PairDataModule:
    return PairDataModule("mnist", data, **{"pairs": 50, "batch_size": 20} | settings)


def trainer_for(epochs: int = 3, **settings) -> pl.Trainer:
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    defaults = {"max_epochs": epochs, "accelerator": "cpu", "devices": 1}
    return pl.Trainer(**defaults | dict.fromkeys(quiet, False) | settings)


def fit_and_test(model, datamodule, epochs: int = 3, **settings) -> dict[str, float]:
    trainer = trainer_for(epochs, **settings)
    trainer.fit(model, datamodule)
    return trainer.test(model, datamodule, verbose=False)[0]


def weights_after(model, datamodule, epochs: int = 3) -> dict[str, torch.Tensor]:
    trainer_for(epochs).fit(model, datamodule)
    return model.state_dict()


def small_network() -> SiameseNetwork:
    return SiameseNetwork(MLPBody([16]))


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_fit_is_the_loop_that_one_would_write_by_hand(data, smoothing):
    """Equal pairs, order and initial weights give equal weights in float64.

    The schedule changes by step, the last batch is smaller, and the test does not smooth labels.
    """
    parts = LambdaWeighting(0.8), Adam(0.01), OneCycle()
    model = PairComparison(small_network(), *parts, seed=3, label_smoothing=smoothing)
    by_hand = copy.deepcopy(model.network).double()
    datamodule = module_of(data, seed=3)
    fit_and_test(model, datamodule, precision="64-true")

    pairs, generator = datamodule.train_set.take(slice(None)), stream(3, "order")
    mean, std = pairs.images.mean(), pairs.images.std()
    images = (pairs.images.double() - mean) / std
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=9, cycle_momentum=False
    )
    for _ in range(3):
        losses = []
        for rows in torch.randperm(50, generator=generator).split(20):
            labels = pairs.digits[rows], pairs.target[rows]
            loss = loss_by_hand(*by_hand(images[rows]), *labels, smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item() * len(rows))
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    assert model.history[-1]["train/loss"] == pytest.approx(sum(losses) / 50, rel=1e-5)
    test = datamodule.test_set.take(slice(None))
    tested = loss_by_hand(*by_hand((test.images.double() - mean) / std), test.digits, test.target)
    assert model.test_metrics["test/loss"] == pytest.approx(tested.item(), rel=1e-5)


def loss_by_hand(comparison, logits, digits, target, smoothing: float = 0.0):
    """digit1 + digit2 + 0.8 comparison, with one comparison logit."""
    first, second = (
        F.cross_entropy(logits[:, image], digits[:, image], label_smoothing=smoothing)
        for image in range(2)
    )
    probabilities = (1 - smoothing) * target.double() + smoothing / 2  # of smoothed labels
    third = F.binary_cross_entropy_with_logits(comparison[:, 0], probabilities)
    return first + second + 0.8 * third


@pytest.mark.parametrize("outputs", [1, 2])
def test_error_rates_are_torchmetrics(outputs):
    prediction = Prediction(torch.randn(200, outputs), torch.randn(200, 2, 10))
    digits = torch.randint(10, (200, 2))
    target = (digits[:, 0] <= digits[:, 1]).long()
    rates = error_rates(prediction, digits, target)
    comparison = prediction.comparison
    probabilities = comparison[:, 0].sigmoid() if outputs == 1 else comparison.softmax(1)[:, 1]
    digit_accuracy = torchmetrics.Accuracy("multiclass", num_classes=10, average="micro")
    expected = {
        "comparison_error": torchmetrics.Accuracy("binary")(probabilities, target),
        "digit1_error": digit_accuracy(prediction.digits[:, 0], digits[:, 0]),
        "digit2_error": digit_accuracy(prediction.digits[:, 1], digits[:, 1]),
        "digit_error": digit_accuracy(prediction.digits.flatten(0, 1), digits.flatten()),
    }
    for name, accuracy in expected.items():
        assert rates[name] == pytest.approx(100 * (1 - accuracy.item()), abs=1e-4)


def test_confusion_is_scikit_learns():
    from sklearn.metrics import confusion_matrix

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 50, 2, 10, generator=generator)
    digits = torch.randint(10, (3, 50, 2), generator=generator)
    tables = confusion(Prediction(torch.zeros(3, 50, 1), logits), digits)
    for member, image in itertools.product(range(3), range(2)):
        predicted = logits[member, :, image].argmax(-1)
        expected = confusion_matrix(digits[member, :, image], predicted, labels=range(10))
        assert tables[member, image].tolist() == expected.tolist()


def test_the_test_pairs_can_be_watched(data):
    """Each epoch's row has the errors of a test after that epoch; the weights do not change."""

    def trained(epochs, **settings):
        model = PairComparison(NETWORK, optimizer=Adam(0.01))
        fit_and_test(model, module_of(data, **settings), epochs)
        return model

    watched, unwatched, short = trained(3, watch_test=True), trained(3), trained(2)
    assert same(watched.state_dict(), unwatched.state_dict())
    assert watched.test_metrics.items() <= watched.history[-1].items()
    assert short.test_metrics.items() <= watched.history[1].items()
    with pytest.raises(InvalidValueError, match="watch_test=True is not accepted: false"):
        module_of(data, watch_test=True, validation=0.2)


def test_equal_config_equal_bits_whatever_ran_before(data, global_generator_untouched):
    def run(seed, **settings):
        model = PairComparison(NETWORK, seed=seed)
        return weights_after(model, module_of(data, seed=seed, **settings))

    first = run(0)
    other = run(1)
    augmented = run(0, augmentation={"shift": 1, "swap": 0.5})
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = run(0)
    assert same(first, again) and not same(first, other) and not same(first, augmented)


def test_each_stream_can_be_pinned(data):
    def initial(**seeds):
        return PairComparison(NETWORK, **seeds).state_dict()

    assert same(initial(seed=0), initial(seed=5, weights_seed=0))
    assert not same(initial(seed=0), initial(seed=5, dropout_seed=0))
    one, other = (
        weights_after(PairComparison(NETWORK, seed=0, dropout_seed=d), module_of(data), 1)
        for d in (0, 1)
    )
    assert not same(one, other)


def test_a_checkpoint_rebuilds_the_model_and_its_predictions(data, tmp_path):
    aux = {"_target_": "digitpairs.losses.UncertaintyWeighting"}
    model, datamodule = PairComparison(NETWORK, aux, seed=2), module_of(data)
    trainer = trainer_for()
    trainer.fit(model, datamodule)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    loaded = PairComparison.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    images = datamodule.test_set.take(slice(None)).images
    model.eval(), loaded.eval()
    assert all(torch.equal(a, b) for a, b in zip(model(images), loaded(images)))
    (answers,), (expected,) = (trainer_for().predict(m, module_of(data)) for m in (loaded, model))
    assert answers.keys() == {"less_or_equal", "digits"} and same(answers, expected)
    assert torch.equal(answers["less_or_equal"], (model(images).comparison[:, 0] > 0).long())


def test_objects_are_given_again_when_loading(data, tmp_path):
    trainer, network = trainer_for(1), small_network()
    trainer.fit(PairComparison(network), module_of(data))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    loaded = PairComparison.load_from_checkpoint(tmp_path / "run.ckpt", network=small_network())
    assert same(network.state_dict(), loaded.network.state_dict())


def test_a_checkpoint_has_the_arguments_of_the_model_alone():
    class Outer(pl.LightningModule):
        def __init__(self, secret: object) -> None:
            super().__init__()
            self.inner = PairComparison(NETWORK, optimizer=Adam(lr=0.01), tta=1)

    saved = Outer(secret=object()).inner.hparams
    assert saved.keys() == signature(PairComparison).parameters.keys() - {"optimizer"}
    assert (saved.tta, saved.aux_seed, saved.network) == (1, 0, NETWORK)


def test_ordinary_loaders_do_as_well(data):
    datamodule = module_of(data)
    datamodule.setup()
    loader = DataLoader(TensorDataset(*datamodule.train_set.take(slice(None))), batch_size=20)
    model = PairComparison(NETWORK, optimizer=Adam(0.01), scheduler=OneCycle())
    trainer_for(8, log_every_n_steps=1).fit(model, loader, loader)
    assert len(model.history) == 8 and model.mean == 0 and model.std == 1
    assert model.history[-1]["train/loss"] < model.history[0]["train/loss"]
    assert {"validation/comparison_error", "validation/loss"} <= set(model.history[0])


def test_callbacks_find_what_they_monitor(data, tmp_path):
    monitor, datamodule = "validation/comparison_loss", module_of(data, validation=0.2)
    stop = EarlyStopping(monitor, stopping_threshold=1000.0)  # reached in the first epoch
    keep = ModelCheckpoint(tmp_path / "kept", monitor=monitor, save_top_k=1)
    model = PairComparison(small_network(), optimizer=SGD(0.05))
    trainer = trainer_for(9, callbacks=[stop, keep], enable_checkpointing=True)
    trainer.fit(model, datamodule)
    assert keep.best_model_path and trainer.current_epoch == 1
    (validated,) = trainer.validate(model, datamodule, verbose=False)
    assert validated["validation/loss"] > 0


def test_early_stopping_can_monitor_every_metric(data):
    model = PairComparison(NETWORK)
    trainer_for(1).fit(model, module_of(data, validation=0.2))
    metrics = {name for name in model.history[0] if name.startswith(("train/", "validation/"))}
    assert set(MONITORED) == metrics


@pytest.mark.parametrize(
    "aux, learned", [(UncertaintyWeighting(), True), (DynamicWeightAverage(), False)]
)
def test_changing_weights_are_recorded_and_do_not_decay(data, aux, learned):
    model = PairComparison(small_network(), aux, Adam(0.01, weight_decay=0.1))
    trainer_for(4).fit(model, module_of(data))
    assert model.history[0]["aux/comparison_weight"] == 1
    assert model.history[3]["aux/comparison_weight"] != 1
    groups = model.optimizers(use_pl_optimizer=False).param_groups
    assert [group["weight_decay"] for group in groups] == ([0.1, 0.0] if learned else [0.1])


def test_no_aux_leaves_the_digits_to_chance_and_needs_no_head(data):
    model = PairComparison(JointNetwork(MLPBody([16])), NoAuxWeighting(), Adam(0.01))
    tested = fit_and_test(model, module_of(data))
    assert set(tested) == {"test/loss", "test/comparison_loss", "test/comparison_error"}
    with pytest.raises(InvalidValueError, match="aux=none"):
        PairComparison(JointNetwork(MLPBody([16])))


def test_divergence_names_epoch_and_value(data):
    model = PairComparison(small_network(), optimizer=SGD(1e12))
    with pytest.raises(DivergenceError, match="the loss became nan in epoch [01]"):
        trainer_for(5).fit(model, module_of(data))


def test_bf16_trains_on_fresh_weights_each_step(data):
    """Autocast's cache of cast weights must not outlive an update: bf16 stays near float32."""
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        network = NETWORK | {"body": NETWORK["body"] | {"dropout": 0}}
        model = PairComparison(network, optimizer=Adam(0.01))
        trainer_for(6, precision=precision).fit(model, module_of(data, batch_size=5))
        losses[precision] = model.history[-1]["train/loss"]
    first = model.history[0]["train/loss"]
    assert abs(losses["bf16-mixed"] - losses["32-true"]) < 0.2 * (first - losses["32-true"])


def test_scaled_gradients_are_refused():
    model = PairComparison(NETWORK)
    trainer = trainer_for(1)
    model.trainer = trainer
    trainer.strategy.precision_plugin.precision = "16-mixed"
    with pytest.raises(InvalidValueError, match="precision=16-mixed"):
        model.on_fit_start()


def test_schedules_and_rates_are_recorded(data):
    model = PairComparison(small_network(), optimizer=SGD(0.1), scheduler=Cosine())
    trainer_for(4).fit(model, module_of(data))
    expected = [0.1 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [row["learning_rate"] for row in model.history] == pytest.approx(expected)


def test_events_and_metrics_hold_the_history(data, tmp_path):
    """TensorBoard's own reader finds the values that the model recorded."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from digitpairs import files
    from digitpairs.dashboard.events import EventsLogger, tag_of

    logger = EventsLogger(tmp_path)
    model = PairComparison(NETWORK)
    fit_and_test(model, module_of(data, validation=0.2), logger=logger, log_every_n_steps=1)
    files.write_metrics(tmp_path, model.history)
    events = EventAccumulator(str(tmp_path)).Reload()
    with (tmp_path / files.METRICS).open() as file:
        rows = list(csv.DictReader(file))
    weights = {name for name in model.history[0] if name.startswith("aux/")}  # they do not move
    assert not any(tag.startswith("weights/") for tag in events.Tags()["scalars"])
    for name in model.history[0].keys() - {"epoch"}:
        recorded = [row[name] for row in model.history]
        if name not in weights:
            values = [event.value for event in events.Scalars(tag_of(name))]
            assert values == pytest.approx(recorded, rel=1e-6)
        assert [float(row[name]) for row in rows] == pytest.approx(recorded)
    assert events.Scalars("errors/comparison/test") and len(list(tmp_path.glob("events*"))) == 1


def test_create_is_what_a_config_does():
    def make():
        return SiameseNetwork(MLPBody([16], 0.2), comparison_hidden=[8])

    created = create(make, stream(7, "weights"))
    assert same(created.state_dict(), PairComparison(NETWORK, seed=7).network.state_dict())
