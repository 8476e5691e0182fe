"""An array of runs against each run alone: data, weights, metrics, optimisers, early ends."""

import functools
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from digitpairs.checks import InvalidValueError
from digitpairs.data import PairDataModule, PairDataModuleArray
from digitpairs.losses import (
    DynamicWeightAverage,
    GammaWeighting,
    LambdaWeighting,
    NoAuxWeighting,
    RandomWeighting,
    UncertaintyWeighting,
)
from digitpairs.networks import MLPBody, SiameseNetwork, stackable
from digitpairs.networks.layers import (
    BatchNorm1d,
    Conv2d,
    Dropout,
    Linear,
    draw_masks,
    dropout_layers,
)
from digitpairs.networks.stacking import stack, why_not_stackable
from digitpairs.streams import stream
from digitpairs.training import SGD, Adam, AdamW, EarlyStopping, PairComparison, PairComparisonArray
from digitpairs.training.pair_comparison_array import rates_by_epoch, stacking_key, why_alone
from digitpairs.training.schedulers import Constant, Cosine, OneCycle, StepDecay, Timing
from tests.test_networks import BODIES, STRUCTURES, loss_of, network_of
from tests.test_optimizers_and_schedulers import TIMING, rates
from tests.test_training import fit_and_test, same, trainer_for

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)

# Largest relative difference of a member from its solo run in float64, after one step, one epoch
# and a whole run. Products are summed in another order, which costs some 1e-16 each; training
# multiplies it. Float32 starts from 1e-7. Runs with batch norm use SGD: a bias before batch norm
# has a gradient of 0 but for rounding, which Adam makes large.
STEP, EPOCH, RUN = 1e-12, 1e-11, 1e-9
FLOAT32_EPOCH = 1e-4

BODY_CONFIGS = {
    "mlp": {"_target_": "digitpairs.networks.MLPBody", "hidden": [12]},
    "cnn": {"_target_": "digitpairs.networks.CNNBody", "channels": [3, 4], "hidden": [8]},
}
GAMMA = {"schedule": "linear", "start": 0, "end": 1}
# Each makes the part of member i.
AUX = {
    "lambda": lambda i: LambdaWeighting(0.5 + i),
    "schedule": lambda i: GammaWeighting(GAMMA | {"epochs": 1 + i}),
    "uncertainty": lambda i: UncertaintyWeighting(limit=0.02 * (1 + i)),
    "dwa": lambda i: DynamicWeightAverage(temperature=1.0 + i),
    "random": lambda i: RandomWeighting(),
}
OPTIMIZERS = {
    "sgd": lambda i: SGD(0.02 * (1 + i), momentum=0.3 * i, weight_decay=0.01 * i),
    "nesterov": lambda i: SGD(0.01, momentum=0.5 + 0.1 * i, nesterov=True),
    "adam": lambda i: Adam(0.002 * (1 + i), (0.9 - 0.1 * i, 0.99), 1e-8 * 10**i, 0.02 * i),
    "adamw": lambda i: AdamW(0.002, weight_decay=0.1 * i),
}
SCHEDULES = [OneCycle(), StepDecay(1, 0.5), Cosine(interval="step")]  # one a member
with_and_without_fusion = pytest.mark.parametrize("devices", [("cpu",), ()])


def network(structure: str = "SiameseNetwork", body: str = "mlp", **settings) -> dict:
    config = {"_target_": f"digitpairs.networks.{structure}", "digit_head": "joint"}
    config["body"] = BODY_CONFIGS[body] | {"dropout": 0.2}
    return config | {"comparison_hidden": [6]} | settings


def run_of(i: int, structure=None, aux="lambda", optimizer="adam", **settings) -> PairComparison:
    parts = AUX[aux](i), OPTIMIZERS[optimizer](i), SCHEDULES[i % 3]
    return PairComparison(structure or network(), *parts, seed=i, **settings)


def pairs_of(i: int, data, **settings) -> PairDataModule:
    defaults = {"pairs": 50, "batch_size": 20, "seed": i, "validation": 0.2}
    return PairDataModule("mnist", data, **defaults | settings)


fit = functools.partial(fit_and_test, precision="64-true")


def fit_array(members, datamodules, **settings) -> None:
    array = PairComparisonArray(members)
    fit(array, PairDataModuleArray(datamodules), **settings)
    array.release()


def assert_same_run(member: PairComparison, alone: PairComparison, rtol: float) -> None:
    """Weights, statistics, every row of the history and the test."""
    for (name, value), expected in zip(member.state_dict().items(), alone.state_dict().values()):
        torch.testing.assert_close(
            value, expected, rtol=rtol, atol=rtol, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert len(member.history) == len(alone.history)
    rows = zip([*member.history, member.test_metrics], [*alone.history, alone.test_metrics])
    for row, expected in rows:
        assert list(row) == list(expected)
        assert row == pytest.approx(expected, rel=rtol, abs=rtol)


def compare_runs(make_run, make_pairs, rtol: float = RUN, count: int = 3, **settings) -> list:
    """Train run i on pairs i, in an array and alone; returns the members."""
    members = [make_run(i) for i in range(count)]
    fit_array(members, [make_pairs(i) for i in range(count)], **settings)
    for i, member in enumerate(members):
        alone = make_run(i)
        fit(alone, make_pairs(i), **settings)
        assert_same_run(member, alone, rtol)
    return members


def compare(data, rtol=RUN, epochs=3, precision="64-true", pairs=None, **settings) -> list:
    make_run = functools.partial(run_of, **settings)
    make_pairs = functools.partial(pairs_of, data=data, **pairs or {})
    return compare_runs(make_run, make_pairs, rtol, epochs=epochs, precision=precision)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("body", BODIES)
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
            # A bias before batch norm has gradient 0 but for rounding.
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


@pytest.mark.parametrize(
    "rows, inputs, outputs", [(16, 64, 2), (9, 64, 3), (16, 20, 1), (40, 9, 7)]
)
def test_small_products_in_bfloat16_have_the_same_bits_in_every_array(rows, inputs, outputs):
    """torch's kernel for them depends on the multiplications of all members."""
    members, draws = 17, 40
    torch.manual_seed(0)
    layers = [Linear(inputs, outputs) for _ in range(members)]
    array, alone = stack(layers), [stack([layer]) for layer in layers]
    for _ in range(draws):
        x = torch.randn(members, rows, inputs)
        gradient = torch.randn(members, rows, outputs).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            joint, own = array(x), [layer(x[i : i + 1]) for i, layer in enumerate(alone)]
        assert torch.equal(joint, torch.cat(own))
        (joint_gradient,) = torch.autograd.grad(joint, array.weight, gradient)
        for i, layer in enumerate(alone):
            (own_gradient,) = torch.autograd.grad(own[i], layer.weight, gradient[i : i + 1])
            assert torch.equal(joint_gradient[i], own_gradient[0])


def test_a_batched_convolution_is_the_members_own(monkeypatch):
    """Devices other than the CPU convolve all members at once."""
    layers = [Conv2d(2, 3, 3, padding=1) for _ in range(4)]
    stacked, images = stack(layers), torch.rand(4, 5, 2, 7, 7)
    one_by_one = stacked(images)
    monkeypatch.setattr("digitpairs.networks.layers.PER_MEMBER_DEVICES", ())
    torch.testing.assert_close(stacked(images), one_by_one)
    expected = nn.functional.conv2d(images[2], layers[2].weight, layers[2].bias, padding=1)
    torch.testing.assert_close(one_by_one[2], expected)


def splitmix64(seed: int, index: int) -> int:
    """Steele, Lea and Flood (2014), in Python's integers."""
    bits = seed + index * 0x9E3779B97F4A7C15 & 2**64 - 1
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 2**64 - 1
    return bits ^ bits >> 31


def test_dropout_masks_of_a_gpu_are_hashed_from_each_members_stream(monkeypatch):
    monkeypatch.setattr("digitpairs.networks.layers.PER_MEMBER_DEVICES", ())
    stacked = stack([Dropout(0.3, 7, rows_per_pair=2) for _ in range(3)])
    stacked.draw_mask(5, [stream(seed, "dropout") for seed in range(3)])
    for seed in range(3):
        first = int(torch.randint(2**62, (1,), generator=stream(seed, "dropout")))
        uniform = [(splitmix64(first, index) >> 40) / 2**24 for index in range(70)]
        expected = torch.tensor([float(number < 0.7) / 0.7 for number in uniform]).view(10, 7)
        torch.testing.assert_close(stacked.mask[seed], expected)


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(1, 2, 3, stride=2),
        Conv2d(1, 2, 3, bias=False),
        Conv2d(1, 2, (3, 5)),
        Conv2d(1, 2, 3, padding=(1, 0)),
        Linear(3, 2, bias=False),
        BatchNorm1d(2, affine=False),
    ],
)
def test_layers_with_settings_that_an_array_does_not_support_are_not_stacked(layer):
    reason = f"0 is {layer}, with settings that cannot be stacked"
    assert why_not_stackable(nn.Sequential(layer)) == reason


@stackable
class DeclaredWeighting(LambdaWeighting): ...


class OwnWeighting(LambdaWeighting): ...


class OwnAdam(Adam): ...


OWN_NETWORK = SiameseNetwork(lambda *_: (nn.Sequential(nn.Flatten(), nn.Linear(196, 4)), 4))


@pytest.mark.parametrize(
    "part, reason",
    [
        ({"network": OWN_NETWORK}, "network: bodies.0.0 is a torch.nn.modules.flatten.Flatten, "),
        ({"aux": OwnWeighting(1)}, "aux: it is a tests.test_array.OwnWeighting, which is not"),
        ({"optimizer": OwnAdam(0.1)}, "optimizer: tests.test_array.OwnAdam sets no array_class"),
    ],
)
def test_classes_that_are_not_declared_stackable_train_alone(part, reason):
    run = PairComparison(**{"network": network()} | part)
    assert why_alone(run).startswith(reason) and stacking_key(run) is None
    with pytest.raises(InvalidValueError, match="members"):
        PairComparisonArray([run])
    declared = PairComparison(network(), DeclaredWeighting(1))
    assert why_alone(declared) is None and stacking_key(declared) is not None


def array_optimizer(recipes, weights, learned, clip_values=None, clip_algorithm="norm"):
    bounds = clip_values or [math.inf] * len(recipes)
    settings = [recipe.settings for recipe in recipes]
    return recipes[0].array_class(weights, learned, settings, bounds, clip_algorithm)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, "norm", "value"])
@with_and_without_fusion
def test_array_optimizers_are_torchs_member_by_member(kind, clip, devices, monkeypatch):
    """Ten steps in float64 with changing rates; the last parameter has no weight decay."""
    monkeypatch.setattr("digitpairs.training.array_optimizers.FUSED_DEVICES", devices)
    members, shapes, generator = 4, [(3, 4), (4,), (2,)], torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    recipes = [OPTIMIZERS[kind](i) for i in range(members)]
    stacked = [nn.Parameter(draw(members, *shape)) for shape in shapes]
    alone = [[nn.Parameter(each[i].detach().clone()) for each in stacked] for i in range(members)]
    optimizers = [
        recipe([{"params": own[:2]}, {"params": own[2:], "weight_decay": 0.0}])
        for recipe, own in zip(recipes, alone)
    ]
    bounds = [0.5 + i if clip and i != 2 else math.inf for i in range(members)]
    clip_gradients = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}
    array = array_optimizer(recipes, stacked[:2], stacked[2:], bounds, clip or "norm")
    all_rates = torch.rand(10, members, dtype=torch.float64, generator=generator) * 0.1
    for epoch in all_rates.split(4):
        array.start_epoch(epoch)
        for step_rates in epoch:
            gradients = [draw(*parameter.shape) for parameter in stacked]
            for parameter, gradient in zip(stacked, gradients):
                parameter.grad = gradient.clone()
            array.step()
            for i, (optimizer, own) in enumerate(zip(optimizers, alone)):
                for parameter, gradient in zip(own, gradients):
                    parameter.grad = gradient[i].clone()
                if clip:
                    clip_gradients[clip](own, bounds[i])
                for group in optimizer.param_groups:
                    group["lr"] = step_rates[i].item()
                optimizer.step()
    for i, own in enumerate(alone):
        for each, parameter in zip(stacked, own):
            torch.testing.assert_close(each[i], parameter, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@with_and_without_fusion
def test_a_frozen_member_keeps_its_values_even_if_its_gradient_is_nan(kind, devices, monkeypatch):
    monkeypatch.setattr("digitpairs.training.array_optimizers.FUSED_DEVICES", devices)
    parameter = nn.Parameter(torch.ones(3, 5))
    array = array_optimizer([OPTIMIZERS[kind](1) for _ in range(3)], [parameter], [])
    array.freeze([False, True, False])
    array.start_epoch(torch.full((1, 3), 0.1, dtype=torch.float64))
    parameter.grad = torch.ones(3, 5)
    parameter.grad[1] = math.nan
    array.step()
    assert torch.equal(parameter[1], torch.ones(5)) and parameter.isfinite().all()
    assert (parameter[[0, 2]] != 1).all()


def test_rates_are_the_schedulers_own():
    settings = [(0.1, OneCycle()), (0.2, StepDecay(1, 0.5)), (0.3, Constant())]
    runs = [PairComparison(network(), None, SGD(rate), schedule) for rate, schedule in settings]
    array_rates = torch.cat(list(rates_by_epoch(runs, TIMING)))
    for member, (rate, schedule) in enumerate(settings):
        assert array_rates[:, member].tolist() == rates(schedule, rate)


def test_a_schedule_may_have_any_settings():
    class Steps(StepDecay):
        def __init__(self, milestones):
            super().__init__(1, 0.5)
            self.milestones = milestones

    runs = [PairComparison(network(), None, SGD(0.1), Steps([1, 2])) for _ in range(2)]
    array_rates = torch.cat(list(rates_by_epoch(runs, Timing(2, 1))))
    assert array_rates.tolist() == [[0.1, 0.1], [0.05, 0.05]]


def test_a_members_data_are_bit_equal_to_its_own(data, global_generator_untouched):
    augmentations = [{"shift": 1.0, "swap": 0.5}, {}, {"rotation": 10.0}]

    def modules():
        return [pairs_of(i, data, augmentation=each) for i, each in enumerate(augmentations)]

    def epochs_of(datamodule):
        datamodule.prepare_data()
        datamodule.setup()
        train = datamodule.train_dataloader()
        for loader in (train, train, datamodule.val_dataloader(), datamodule.test_dataloader()):
            (epoch,) = loader
            yield list(epoch.minibatches())

    array_epochs = epochs_of(PairDataModuleArray(modules()))
    for array_epoch, *epochs in zip(array_epochs, *(epochs_of(module) for module in modules())):
        for i, epoch in enumerate(epochs):
            assert len(array_epoch) == len(epoch)
            for array_batch, batch in zip(array_epoch, epoch):
                assert all(torch.equal(x[i], y) for x, y in zip(array_batch, batch))


@pytest.mark.slow
def test_folds_over_images_that_are_paired_again(data):
    """60 pairs of each fold's share of 160 images, which is not the same number in every fold."""

    def fold(i):
        return pairs_of(0, data, pairs=101, folds=3, fold=i + 1, validation=0.0, seed=i)

    assert fold(0).sizes == fold(1).sizes
    with pytest.warns(Warning, match="paired more than once"):
        compare_runs(lambda i: run_of(i, optimizer="sgd"), fold, count=2)


def test_members_of_unequal_size_are_refused(data):
    array = PairDataModuleArray([pairs_of(0, data), pairs_of(1, data, pairs=40)])
    with pytest.raises(ValueError, match="training, held-out and test pairs, batch size"):
        array.setup()


def test_initial_weights_are_bit_equal():
    stacked = PairComparisonArray([run_of(i) for i in range(3)]).network.state_dict()
    for i in range(3):
        assert same(run_of(i).network.state_dict(), {name: v[i] for name, v in stacked.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "epochs, pairs, rtol", [(1, {"batch_size": 40}, STEP), (1, {}, EPOCH), (8, {}, RUN)]
)
@pytest.mark.parametrize("body", BODY_CONFIGS)
def test_a_member_is_its_solo_run_after_a_step_an_epoch_and_a_run(data, body, epochs, pairs, rtol):
    structure = network(body=body, batch_norm=True)
    compare(data, rtol, epochs, pairs=pairs, structure=structure, optimizer="nesterov")


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["JointNetwork", "SiameseNetwork"])
@pytest.mark.parametrize("body", BODY_CONFIGS)
def test_every_family_in_float32(data, structure, body):
    config = network(structure, body, batch_norm=True)
    compare(data, FLOAT32_EPOCH, 1, "32-true", structure=config, optimizer="nesterov")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(data, optimizer):
    compare(data, optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("aux", AUX)
def test_every_scheme(data, aux):
    compare(data, aux=aux)


@pytest.mark.parametrize(
    "settings",
    [
        {"digit_head": "none", "comparison_input": "features"},
        {"sharing": False, "digit_head": "per_image"},
        {"comparison_outputs": 2},
        {"comparison_input": "posterior", "comparison_hidden": []},
        {"comparison_input": "onehot", "activation": "gelu"},
    ],
)
def test_every_head(data, settings):
    has_digits = settings.get("digit_head") != "none"

    def make_run(i):
        aux = LambdaWeighting(0.8) if has_digits else NoAuxWeighting()
        return PairComparison(network(**settings), aux, Adam(0.002), seed=i)

    compare_runs(make_run, lambda i: pairs_of(i, data), count=2)


@pytest.mark.slow
def test_augmentation_and_clipping(data):
    augmented = {"augmentation": {"shift": 1.0, "elastic": 0.5, "swap": 0.5}}
    compare(data, pairs=augmented, gradient_clip_val=0.1)
    compare(data, gradient_clip_val=0.01, gradient_clip_algorithm="value")


@pytest.mark.slow
def test_label_smoothing_is_each_members_own(data):
    compare_runs(lambda i: run_of(i, label_smoothing=0.1 * i), lambda i: pairs_of(i, data))


@pytest.mark.slow
def test_early_stopping_is_each_members_own(data):
    """Each member stops in its own epoch and has its best weights; Lightning's callback agrees."""
    stopping = {"patience": 2, "monitor": "validation/loss"}
    members = compare(data, epochs=40, early_stopping=stopping, optimizer="sgd")
    for i, member in enumerate(members):
        best = min(member.history, key=lambda row: row["validation/loss"])
        assert member.final_row() is best and len(member.history) == best["epoch"] + 3
        callback = pl.callbacks.EarlyStopping("validation/loss", patience=2)
        trainer = trainer_for(40, precision="64-true", callbacks=[callback])
        trainer.fit(run_of(i, optimizer="sgd"), pairs_of(i, data))
        assert trainer.current_epoch == len(member.history)
    lengths = {len(member.history) for member in members}
    assert len(lengths) > 1 and max(lengths) < 40


def test_the_probability_of_dropout_is_each_members_own(data):
    def make(i: int) -> PairComparison:
        body = BODY_CONFIGS["mlp"] | {"dropout": 0.1 + 0.2 * i}
        return run_of(i, network() | {"body": body})

    assert len({stacking_key(make(i)) for i in range(3)}) == 1
    compare_runs(make, functools.partial(pairs_of, data=data), epochs=2)


def test_divergence_is_one_members_own(data):
    def trained(*rates):
        members = [
            PairComparison(network(), LambdaWeighting(0.8), SGD(rate), seed=i)
            for i, rate in enumerate(rates)
        ]
        fit_array(members, [pairs_of(i, data) for i in range(3)], precision="32-true")
        return members

    members, calm = trained(0.05, 1e30, 0.05), trained(0.05, 0.05, 0.05)
    assert members[1].failure is not None and "the loss became" in str(members[1].failure)
    for i in (0, 2):
        assert members[i].failure is None
        assert_same_run(members[i], calm[i], 0.0)


def test_runs_are_stacked_only_with_their_kind():
    def key(**settings):
        defaults = {"network": network(), "optimizer": Adam(0.1)}
        return stacking_key(PairComparison(**defaults | settings))

    numbers = {"seed": 4, "gradient_clip_val": 1.0, "label_smoothing": 0.1}
    assert key() == key(optimizer=Adam(0.2, weight_decay=1), scheduler=OneCycle(), **numbers)
    networks = [{"body": "cnn"}, {"batch_norm": True}, {"digit_head": "per_image"}]
    networks += [{"activation": "tanh"}]  # some have equal shapes
    networks += [{"comparison_input": sees} for sees in ("logits", "probabilities", "onehot")]
    keys = [key(network=network(**settings)) for settings in networks]
    keys += [key(optimizer=AdamW(0.1)), key(aux=AUX["dwa"](0))]
    assert len({key(), *keys}) == len(keys)  # "probabilities" is the default
    with pytest.raises(InvalidValueError, match="members"):
        PairComparisonArray([run_of(0), run_of(1, structure=network(body="cnn"))])


def test_a_second_fit_begins_anew(data):
    run = PairComparison(SiameseNetwork(MLPBody([8])), optimizer=Adam(0.01))
    for _ in range(2):
        fit(run, pairs_of(0, data))
        assert [row["epoch"] for row in run.history] == [0, 1, 2]


def test_early_stopping_accepts_a_nan_in_the_first_epoch():
    stopping, model = EarlyStopping(patience=2, monitor="train/loss"), nn.Linear(1, 1)
    losses = [math.nan, 3.0, 2.0, 2.5, 2.5]
    ends = [
        stopping.ends({"epoch": epoch, "train/loss": loss}, model)
        for epoch, loss in enumerate(losses)
    ]
    assert ends == [False, False, False, False, True] and stopping.best_epoch == 2
