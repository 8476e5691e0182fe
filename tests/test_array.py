"""An array of runs against each of its runs alone: data, weights, measures, optimisers, ends."""

import itertools
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModule, PairDataModuleArray
from digitpairs.losses import LambdaWeighting
from digitpairs.networks import MLPBody, SiameseNetwork, stack, stackable, why_not_stackable
from digitpairs.networks.layers import BatchNorm1d, Conv2d, Linear, draw_masks, dropout_layers
from digitpairs.streams import stream
from digitpairs.training import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    EarlyStopping,
    OneCycle,
    PairComparison,
    PairComparisonArray,
    StepDecay,
)
from digitpairs.training.pair_comparison_array import rates_by_epoch, stacking_key, why_alone
from digitpairs.training.schedulers import Timing
from tests.conftest import write_mnist_like
from tests.test_networks import BODIES, STRUCTURES, loss_of, network_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)

# How far a member may be from its solo run, relative, in float64: after one step, one epoch, a whole run. Products are summed
# in another order, which costs some 1e-16 each; training multiplies that. In float32 the same holds from 1e-7. With batch norm
# weights are compared under SGD: a bias before it has no effect and gradient 0 but for rounding, which Adam makes large.
STEP, EPOCH, RUN = 1e-12, 1e-11, 1e-9
FLOAT32_EPOCH = 1e-4

BODY_CONFIGS = {
    "mlp": {"_target_": "digitpairs.networks.MLPBody", "hidden": [12], "dropout": 0.2},
    "cnn": {
        "_target_": "digitpairs.networks.CNNBody",
        "channels": [3, 4],
        "hidden": [8],
        "dropout": 0.2,
    },
}
AUX = {
    "lambda": lambda i: {"_target_": "digitpairs.losses.LambdaWeighting", "lambda": 0.5 + i},
    "schedule": lambda i: {
        "_target_": "digitpairs.losses.GammaWeighting",
        "gamma": {"schedule": "linear", "start": 0, "end": 1, "epochs": 1 + i},
    },
    "uncertainty": lambda i: {
        "_target_": "digitpairs.losses.UncertaintyWeighting",
        "limit": 0.02 * (1 + i),
    },
    "dwa": lambda i: {"_target_": "digitpairs.losses.DynamicWeightAverage", "temperature": 1.0 + i},
    "random": lambda i: {"_target_": "digitpairs.losses.RandomWeighting"},
}
OPTIMIZERS = {
    "sgd": lambda i: SGD(0.02 * (1 + i), momentum=0.3 * i, weight_decay=0.01 * i),
    "nesterov": lambda i: SGD(0.01, momentum=0.5 + 0.1 * i, nesterov=True),
    "adam": lambda i: Adam(
        0.002 * (1 + i), betas=(0.9 - 0.1 * i, 0.99), eps=1e-8 * 10**i, weight_decay=0.02 * i
    ),
    "adamw": lambda i: AdamW(0.002, weight_decay=0.1 * i),
}
SCHEDULES = [OneCycle(), StepDecay(1, 0.5), Cosine(interval="step")]  # one a member


@pytest.fixture
def data(tmp_path):
    return write_mnist_like(tmp_path / "data", train=160, test=80)


def network(structure: str = "SiameseNetwork", body: str = "mlp", **settings) -> dict:
    return {
        "_target_": f"digitpairs.networks.{structure}",
        "body": BODY_CONFIGS[body],
        "digit_head": "joint",
        "comparison_hidden": [6],
        **settings,
    }


def run_of(i: int, structure=None, aux="lambda", optimizer="adam", **settings) -> PairComparison:
    return PairComparison(
        structure or network(),
        AUX[aux](i),
        OPTIMIZERS[optimizer](i),
        SCHEDULES[i % 3],
        seed=i,
        **settings,
    )


def pairs_of(i: int, data, **settings) -> PairDataModule:
    return PairDataModule(
        "mnist", data, **{"pairs": 50, "batch_size": 20, "seed": i, "validation": 0.2, **settings}
    )


def fit(module, datamodule, epochs: int = 3, precision: str = "64-true") -> None:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, precision=precision, **quiet
    )
    trainer.fit(module, datamodule)
    trainer.test(module, datamodule, verbose=False)


def fit_array(members, datamodules, **settings) -> None:
    array = PairComparisonArray(members)
    fit(array, PairDataModuleArray(datamodules), **settings)
    array.release()


def assert_same_run(member: PairComparison, alone: PairComparison, rtol: float) -> None:
    """Weights, statistics, every row of the history and the test."""
    for (name, ours), theirs in zip(member.state_dict().items(), alone.state_dict().values()):
        torch.testing.assert_close(
            ours, theirs, rtol=rtol, atol=rtol, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert len(member.history) == len(alone.history)
    for ours, theirs in zip(
        [*member.history, member.test_metrics], [*alone.history, alone.test_metrics]
    ):
        assert list(ours) == list(theirs)
        assert ours == pytest.approx(theirs, rel=rtol, abs=rtol)


def compare(
    data,
    rtol: float,
    epochs: int = 3,
    precision: str = "64-true",
    pairs: dict | None = None,
    **settings,
) -> None:
    members, alone = ([run_of(i, **settings) for i in range(3)] for _ in range(2))
    fit_array(
        members,
        [pairs_of(i, data, **(pairs or {})) for i in range(3)],
        epochs=epochs,
        precision=precision,
    )
    for i, run in enumerate(alone):
        fit(run, pairs_of(i, data, **(pairs or {})), epochs=epochs, precision=precision)
        assert_same_run(members[i], run, rtol)


@pytest.mark.parametrize(
    "body, structure, batch_norm", list(itertools.product(BODIES, STRUCTURES, [False, True]))
)
def test_a_stacked_network_computes_as_each_by_itself(
    body, structure, batch_norm, global_generator_untouched
):
    members, batch = 3, 10
    networks = [network_of(structure, body, seed, batch_norm=batch_norm) for seed in range(members)]
    stacked, generator = stack(networks), stream(0, "data")
    assert why_not_stackable(networks[0]) is None
    images = torch.rand(members, batch, 2, 14, 14, generator=generator)
    digits = torch.randint(10, (members, batch, 2), generator=generator)
    target = (digits[..., 0] <= digits[..., 1]).long()
    draw_masks(dropout_layers(stacked), batch, [stream(seed, "dropout") for seed in range(members)])
    losses = loss_of(stacked, images, digits, target)
    losses.sum().backward()
    values, buffers = dict(stacked.named_parameters()), dict(stacked.named_buffers())
    for i, network in enumerate(networks):
        draw_masks(dropout_layers(network), batch, [stream(i, "dropout")])
        loss = loss_of(network, images[i], digits[i], target[i])
        loss.backward()
        torch.testing.assert_close(losses[i], loss, rtol=1e-5, atol=1e-6)
        for name, parameter in network.named_parameters():
            # A bias before batch norm has gradient 0: what is left of it is rounding.
            torch.testing.assert_close(values[name].grad[i], parameter.grad, rtol=1e-3, atol=3e-5)
        for name, buffer in network.named_buffers():
            torch.testing.assert_close(buffers[name][i], buffer, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_members_rows_lie_in_memory_as_its_own_values(structure, members):
    """The layout of its weights decides in which layout, and how fast, a convolution computes."""
    networks = [network_of(structure, "cnn", seed, batch_norm=True) for seed in range(members)]
    values = stack(networks).state_dict()
    for name, value in networks[-1].state_dict().items():
        assert values[name][-1].stride() == value.stride(), name
        assert torch.equal(values[name][-1], value)


def test_a_grouped_convolution_is_the_members_own(monkeypatch):
    """Devices other than the CPU convolve all members at once."""
    layers = [Conv2d(2, 3, 3, padding=1) for _ in range(4)]
    stacked, images = stack(layers), torch.rand(4, 5, 2, 7, 7)
    one_by_one = stacked(images)
    monkeypatch.setattr("digitpairs.networks.layers.PER_MEMBER_DEVICES", ())
    torch.testing.assert_close(stacked(images), one_by_one)
    torch.testing.assert_close(
        one_by_one[2], nn.functional.conv2d(images[2], layers[2].weight, layers[2].bias, padding=1)
    )


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(1, 2, 3, stride=2),
        Conv2d(1, 2, 3, bias=False),
        Linear(3, 2, bias=False),
        BatchNorm1d(2, affine=False),
    ],
)
def test_layers_with_settings_that_an_array_leaves_out_are_not_stacked(layer):
    assert why_not_stackable(nn.Sequential(layer)) == (
        f"0 is {layer}, with settings that cannot be stacked"
    )


@stackable
class DeclaredWeighting(LambdaWeighting):
    pass


class OwnWeighting(LambdaWeighting):
    pass


class OwnAdam(Adam):
    pass


@pytest.mark.parametrize(
    "part, reason",
    [
        (
            {"network": SiameseNetwork(lambda *_: (nn.Sequential(nn.Flatten(), nn.Tanh()), 196))},
            "network: bodies.0.0 is a torch.nn.modules.flatten.Flatten, which is not",
        ),
        ({"aux": OwnWeighting(1)}, "aux: it is a tests.test_array.OwnWeighting, which"),
        ({"aux": DeclaredWeighting(1)}, None),
        ({"optimizer": OwnAdam(0.1)}, "optimizer: tests.test_array.OwnAdam sets no array_class"),
    ],
)
def test_other_classes_are_not_stacked_unless_they_are_declared_stackable(part, reason):
    run = PairComparison(**{"network": network(), **part})
    if reason is None:
        assert why_alone(run) is None and stacking_key(run) is not None
    else:
        assert why_alone(run).startswith(reason) and stacking_key(run) is None


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, "norm", "value"])
@pytest.mark.parametrize("fused", [True, False])
def test_array_optimizers_are_torchs_member_by_member(kind, clip, fused, monkeypatch):
    """Ten steps in float64, with parameters of a scheme that no decay falls on, and rates that change."""
    monkeypatch.setattr(
        "digitpairs.training.array_optimizers.FUSED_DEVICES", ("cpu",) if fused else ()
    )
    members, shapes, generator = 4, [(3, 4), (4,), (2,)], torch.Generator().manual_seed(0)
    recipes = [OPTIMIZERS[kind](i) for i in range(members)]
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    stacked = [nn.Parameter(draw(members, *shape)) for shape in shapes]
    alone = [[nn.Parameter(each[i].detach().clone()) for each in stacked] for i in range(members)]
    optimizers = [
        recipe([{"params": own[:2]}, {"params": own[2:], "weight_decay": 0.0}])
        for recipe, own in zip(recipes, alone)
    ]
    bounds = [0.5 + i if clip and i != 2 else math.inf for i in range(members)]
    array = recipes[0].array_class(
        stacked[:2], stacked[2:], [each.settings for each in recipes], bounds, clip or "norm"
    )
    rates = torch.rand(10, members, dtype=torch.float64, generator=generator) * 0.1
    for epoch in rates.split(4):
        array.start_epoch(epoch)
        for row in epoch:
            gradients = [draw(*each.shape) for each in stacked]
            for each, gradient in zip(stacked, gradients):
                each.grad = gradient.clone()
            array.step()
            for i, (optimizer, own) in enumerate(zip(optimizers, alone)):
                for each, gradient in zip(own, gradients):
                    each.grad = gradient[i].clone()
                if clip:
                    (nn.utils.clip_grad_norm_ if clip == "norm" else nn.utils.clip_grad_value_)(
                        own, bounds[i]
                    )
                for group in optimizer.param_groups:
                    group["lr"] = row[i].item()
                optimizer.step()
    for i, own in enumerate(alone):
        for each, parameter in zip(stacked, own):
            torch.testing.assert_close(each[i], parameter, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("fused", [True, False])
def test_a_member_that_stands_still_keeps_its_values_whatever_its_gradient(
    kind, fused, monkeypatch
):
    monkeypatch.setattr(
        "digitpairs.training.array_optimizers.FUSED_DEVICES", ("cpu",) if fused else ()
    )
    recipes = [OPTIMIZERS[kind](1) for _ in range(3)]
    parameter = nn.Parameter(torch.ones(3, 5))
    array = recipes[0].array_class(
        [parameter], [], [each.settings for each in recipes], [math.inf] * 3
    )
    array.freeze([False, True, False])
    array.start_epoch(torch.full((1, 3), 0.1, dtype=torch.float64))
    parameter.grad = torch.ones(3, 5)
    parameter.grad[1] = math.nan
    array.step()
    assert (
        torch.equal(parameter[1], torch.ones(5))
        and (parameter[[0, 2]] != 1).all()
        and parameter.isfinite().all()
    )


def test_rates_are_the_schedulers_own():
    runs = [
        PairComparison(network(), optimizer=SGD(rate), scheduler=schedule)
        for rate, schedule in [(0.1, OneCycle()), (0.2, StepDecay(1, 0.5)), (0.3, Constant())]
    ]
    rates = torch.cat(list(rates_by_epoch(runs, Timing(2, 3))))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 6, cycle_momentum=False)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        one_cycle.step()
    assert rates[:, 0].tolist() == expected
    assert rates[:, 1].tolist() == [0.2] * 3 + [0.1] * 3 and rates[:, 2].tolist() == [0.3] * 6


def test_a_members_data_are_bit_equal_to_its_own(data, global_generator_untouched):
    settings = [
        {"augmentation": {"shift": 1.0, "swap": 0.5}},
        {},
        {"augmentation": {"rotation": 10.0}},
    ]
    array = PairDataModuleArray([pairs_of(i, data, **each) for i, each in enumerate(settings)])
    array.prepare_data()
    array.setup()
    loaders = [array.train_dataloader(), array.val_dataloader(), array.test_dataloader()]
    for i, each in enumerate(settings):
        alone = pairs_of(i, data, **each)
        alone.setup()
        own = [alone.train_dataloader(), alone.val_dataloader(), alone.test_dataloader()]
        array_loader = PairDataModuleArray(array.members).train_dataloader()
        for _ in range(2):
            (ours,), (theirs,) = array_loader, own[0]
            for batch, expected in itertools.zip_longest(ours.minibatches(), theirs.minibatches()):
                assert all(torch.equal(x[i], y) for x, y in zip(batch, expected))
        for loader, expected in zip(loaders[1:], own[1:]):
            (ours,), (theirs,) = loader, expected
            for batch, one in itertools.zip_longest(ours.minibatches(), theirs.minibatches()):
                assert all(torch.equal(x[i], y) for x, y in zip(batch, one))


def test_folds_over_images_that_are_paired_again(data):
    """60 pairs of each fold's share of 160 images, which is not the same number in every fold."""
    settings = [{"pairs": 101, "folds": 3, "fold": fold} for fold in range(3)]
    assert (
        len({pairs_of(0, data, **{**each, "validation": 0.0}).sizes for each in settings[1:]}) == 1
    )
    members, alone = ([run_of(i, optimizer="sgd") for i in range(2)] for _ in range(2))
    with pytest.warns(Warning, match="paired more than once"):
        fit_array(
            members, [pairs_of(i, data, **{**settings[1 + i], "validation": 0.0}) for i in range(2)]
        )
        for i, run in enumerate(alone):
            fit(run, pairs_of(i, data, **{**settings[1 + i], "validation": 0.0}))
            assert_same_run(members[i], run, RUN)


def test_members_of_unequal_size_are_refused(data):
    array = PairDataModuleArray([pairs_of(0, data), pairs_of(1, data, pairs=40)])
    with pytest.raises(ValueError, match="training, held-out, test pairs, batch size"):
        array.setup()


def test_initial_weights_are_bit_equal():
    runs, again = [run_of(i) for i in range(3)], [run_of(i) for i in range(3)]
    stacked = PairComparisonArray(runs).network.state_dict()
    assert all(
        torch.equal(stacked[name][i], value)
        for i, run in enumerate(again)
        for name, value in run.network.state_dict().items()
    )


@pytest.mark.parametrize(
    "epochs, pairs, rtol", [(1, {"batch_size": 40}, STEP), (1, {}, EPOCH), (8, {}, RUN)]
)
@pytest.mark.parametrize("body", BODY_CONFIGS)
def test_a_member_is_its_solo_run_after_a_step_an_epoch_and_a_run(data, body, epochs, pairs, rtol):
    compare(
        data,
        rtol,
        epochs,
        pairs=pairs,
        structure=network(body=body, batch_norm=True),
        optimizer="nesterov",
    )


@pytest.mark.parametrize("structure", ["JointNetwork", "SiameseNetwork"])
@pytest.mark.parametrize("body", BODY_CONFIGS)
def test_every_family_in_float32(data, structure, body):
    compare(
        data,
        FLOAT32_EPOCH,
        1,
        "32-true",
        structure=network(structure, body, batch_norm=True),
        optimizer="nesterov",
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(data, optimizer):
    compare(data, RUN, optimizer=optimizer)


@pytest.mark.parametrize("aux", AUX)
def test_every_scheme(data, aux):
    compare(data, RUN, aux=aux)


@pytest.mark.parametrize("settings", [{"digit_head": "none", "comparison_input": "features"}, {"sharing": False, "digit_head": "per_image"}, {"comparison_outputs": 2}, {"comparison_input": "posterior"}, {"comparison_input": "onehot", "activation": "gelu"}])  # fmt: skip
def test_every_head(data, settings):
    runs = [[PairComparison(network(**settings), None if settings.get("digit_head") != "none" else {"_target_": "digitpairs.losses.NoAuxWeighting"}, Adam(0.002), seed=i) for i in range(2)] for _ in range(2)]  # fmt: skip
    fit_array(runs[0], [pairs_of(i, data) for i in range(2)])
    for i, run in enumerate(runs[1]):
        fit(run, pairs_of(i, data))
        assert_same_run(runs[0][i], run, RUN)


def test_augmentation_and_clipping(data):
    compare(
        data,
        RUN,
        pairs={"augmentation": {"shift": 1.0, "elastic": 0.5, "swap": 0.5}},
        gradient_clip_val=0.1,
    )
    compare(data, RUN, gradient_clip_val=0.01, gradient_clip_algorithm="value")


def test_label_smoothing_is_each_members_own(data):
    members, alone = ([run_of(i, label_smoothing=0.1 * i) for i in range(3)] for _ in range(2))
    fit_array(members, [pairs_of(i, data) for i in range(3)])
    for i, run in enumerate(alone):
        fit(run, pairs_of(i, data))
        assert_same_run(members[i], run, RUN)


def test_early_stopping_is_each_members_own(data):
    """Each stops in its own epoch and has its best weights, as alone; and Lightning's callback stops there too."""
    stopping = {"patience": 2, "monitor": "validation/loss"}
    members, alone = (
        [run_of(i, early_stopping=stopping, optimizer="sgd") for i in range(3)] for _ in range(2)
    )
    fit_array(members, [pairs_of(i, data) for i in range(3)], epochs=40)
    lengths = []
    for i, run in enumerate(alone):
        fit(run, pairs_of(i, data), epochs=40)
        assert_same_run(members[i], run, RUN)
        best = min(run.history, key=lambda row: row["validation/loss"])
        assert run.final_row() is best and len(run.history) == best["epoch"] + 3
        theirs = run_of(i, optimizer="sgd")
        callback = pl.callbacks.EarlyStopping("validation/loss", patience=2)
        trainer = pl.Trainer(max_epochs=40, accelerator="cpu", precision="64-true", logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, callbacks=[callback])  # fmt: skip
        trainer.fit(theirs, pairs_of(i, data))
        assert trainer.current_epoch == len(run.history)
        lengths.append(len(run.history))
    assert len(set(lengths)) > 1 and max(lengths) < 40


def test_divergence_is_one_members_own(data):
    def runs(rates):
        return [
            PairComparison(network(), LambdaWeighting(0.8), SGD(rate), seed=i)
            for i, rate in enumerate(rates)
        ]

    members, calm = runs([0.05, 1e30, 0.05]), runs([0.05, 0.05, 0.05])
    for each in (members, calm):
        fit_array(each, [pairs_of(i, data) for i in range(3)], precision="32-true")
    assert members[1].failure is not None and "the loss became" in str(members[1].failure)
    for i in (0, 2):
        assert members[i].failure is None
        assert_same_run(members[i], calm[i], 0.0)


def test_what_can_be_stacked_and_what_cannot():
    def key(**settings):
        return stacking_key(
            PairComparison(**{"network": network(), "optimizer": Adam(0.1), **settings})
        )

    assert key() == key(
        optimizer=Adam(0.2, weight_decay=1),
        seed=4,
        scheduler=OneCycle(),
        gradient_clip_val=1.0,
        label_smoothing=0.1,
    )
    assert (
        len(
            {
                key(),
                key(network=network(body="cnn")),
                key(optimizer=AdamW(0.1)),
                key(aux=AUX["dwa"](0)),
                key(network=network(batch_norm=True)),
            }
        )
        == 5
    )
    seen = [
        network(comparison_input=sees) for sees in ("logits", "probabilities", "onehot")
    ]  # of one shape, and not the same
    assert (
        len(
            {
                key(network=each)
                for each in [*seen, network(digit_head="per_image"), network(activation="tanh")]
            }
        )
        == 5
    )
    own = SiameseNetwork(lambda *_: (nn.Sequential(nn.Flatten(), nn.Linear(196, 4)), 4))
    assert stacking_key(PairComparison(own)) is None
    with pytest.raises(InvalidValueError, match="members"):
        PairComparisonArray([PairComparison(own)])
    with pytest.raises(InvalidValueError, match="members"):
        PairComparisonArray([run_of(0), run_of(1, structure=network(body="cnn"))])


def test_a_second_fit_begins_anew(data):
    run = PairComparison(SiameseNetwork(MLPBody([8])), optimizer=Adam(0.01))
    for _ in range(2):
        fit(run, pairs_of(0, data))
        assert [row["epoch"] for row in run.history] == [0, 1, 2]


def test_early_stopping_gets_over_a_first_value_that_is_no_number():
    stopping, model = EarlyStopping(patience=2, monitor="train/loss"), nn.Linear(1, 1)
    ends = [
        stopping.ends({"epoch": epoch, "train/loss": loss}, model)
        for epoch, loss in enumerate([math.nan, 3.0, 2.0, 2.5, 2.5])
    ]
    assert ends == [False, False, False, False, True] and stopping.best_epoch == 2


def test_a_schedule_may_have_any_settings(data):
    class Steps(StepDecay):
        def __init__(self, milestones):
            super().__init__(1, 0.5)
            self.milestones = milestones

    runs = [
        PairComparison(network(), optimizer=SGD(0.1), scheduler=Steps([1, 2])) for _ in range(2)
    ]
    assert torch.cat(list(rates_by_epoch(runs, Timing(2, 1)))).tolist() == [
        [0.1, 0.1],
        [0.05, 0.05],
    ]
