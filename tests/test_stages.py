"""Training in two stages: against two trainings by hand, alone and as an array; and what cannot be."""

import copy
import json

import pytest
import torch
import yaml
from torch import nn

from digitpairs.checks import InvalidValueError
from digitpairs.losses import LambdaWeighting, NoAuxWeighting, UncertaintyWeighting, loss_parts
from digitpairs.networks import JointNetwork, MLPBody, SiameseNetwork
from digitpairs.streams import stream
from digitpairs.sweeps.jobs import fingerprint
from digitpairs.training import SGD, Adam, EarlyStopping, PairComparison
from digitpairs.training.stages import first_epochs, train_only
from tests.test_array import OPTIMIZERS, RUN, compare, data, fit, network, pairs_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)
SIAMESE = network(digit_head="per_image", comparison_input="logits")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_norm": True},
        {"comparison_input": "onehot"},
        {"digit_head": "joint", "comparison_input": "features"},
    ],
)
def test_two_stages_are_two_trainings(data, settings):
    """A fit with a stage of two epochs each is a loop by hand that trains the digits with the loss of the digits alone, then, with a
    new optimiser, the comparison alone on what stands still."""
    model = PairComparison(
        SIAMESE | settings | {"body": {"_target_": "digitpairs.networks.MLPBody", "hidden": [12]}},
        LambdaWeighting(0.7),
        Adam(0.01),
        two_stage=0.5,
        seed=3,
    )
    by_hand = copy.deepcopy(model.network).double()
    datamodule = pairs_of(3, data, validation=0.0)
    fit(model, datamodule, epochs=4)

    pairs, order = datamodule.train_set.take(slice(None)), stream(3, "order")
    images = (pairs.images.double() - pairs.images.mean()) / pairs.images.std()
    comparison = list(by_hand.comparison_part.parameters())
    digits = [
        each for each in by_hand.parameters() if all(each is not other for other in comparison)
    ]
    for stage, parameters, weights in (
        ("digits", digits, [1.0, 1.0, 0.0]),
        ("comparison", comparison, [0.0, 0.0, 0.7]),
    ):
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        for part in by_hand.children():
            part.train((part is by_hand.comparison_part) == (stage == "comparison"))
        for _ in range(2):
            for rows in torch.randperm(50, generator=order).split(20):
                loss = (
                    torch.tensor(weights)
                    * loss_parts(by_hand(images[rows]), pairs.digits[rows], pairs.target[rows])
                ).sum()
                by_hand.zero_grad()
                loss.backward()
                optimizer.step()
    for (name, ours), theirs in zip(
        model.network.state_dict().items(), by_hand.state_dict().values()
    ):
        if (
            "num_batches" not in name
        ):  # the comparison's batch norm stands still in the first stage here, and in evaluation
            torch.testing.assert_close(
                ours.double(), theirs.double(), rtol=1e-6, atol=1e-8, msg=name
            )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fused", [True, False])
def test_members_of_an_array_have_their_own_two_stages(data, optimizer, fused, monkeypatch):
    monkeypatch.setattr(
        "digitpairs.training.array_optimizers.FUSED_DEVICES", ("cpu",) if fused else ()
    )
    compare(
        data,
        RUN,
        epochs=4,
        structure=SIAMESE,
        optimizer=optimizer,
        two_stage=0.5,
        gradient_clip_val=1.0,
    )


def test_what_does_not_learn_has_no_gradient_and_computes_as_in_evaluation():
    whole = SiameseNetwork(MLPBody([8], dropout=0.5), batch_norm=True, comparison_hidden=[4])
    images, digits, target = (
        torch.rand(6, 2, 14, 14),
        torch.randint(10, (6, 2)),
        torch.randint(2, (6,)),
    )
    for part, learning in (
        ("digits", {"bodies", "digit_parts"}),
        ("comparison", {"comparison_part"}),
        (None, {"bodies", "digit_parts", "comparison_part"}),
    ):
        whole.zero_grad()
        train_only(whole, part)
        loss_parts(whole(images), digits, target).sum().backward()
        assert {
            name.partition(".")[0]
            for name, each in whole.named_parameters()
            if each.grad is not None
        } == learning
        assert {
            name.partition(".")[0] for name, each in whole.named_modules() if name and each.training
        } == learning


@pytest.mark.parametrize(
    "given, settings, accepted",
    [
        (SIAMESE, {"two_stage": 1.5}, "0 to 1"),
        (SIAMESE, {"two_stage": 1}, "above 0 and below 1"),
        (SIAMESE, {"two_stage": 0.5, "aux": UncertaintyWeighting()}, "learned"),
        (SIAMESE, {"two_stage": 0.5, "aux": NoAuxWeighting()}, "loss of the digits"),
        (JointNetwork(MLPBody([4])), {"two_stage": 0.5, "aux": NoAuxWeighting()}, "names digits"),
        (
            SiameseNetwork(MLPBody([4]), comparison_input="posterior"),
            {"two_stage": 0.5},
            "part that learns",
        ),
        (SIAMESE, {"two_stage": 0.5, "early_stopping": EarlyStopping(3)}, "early stopping"),
    ],
)
def test_what_cannot_be_trained_in_stages(given, settings, accepted):
    with pytest.raises(InvalidValueError, match=f"two_stage.*{accepted}"):
        PairComparison(given, optimizer=SGD(0.1), **settings)


def test_each_stage_has_an_epoch(command):
    assert (
        first_epochs(0.5, 100) == 50 and first_epochs(0.5, 3) == 2 and first_epochs(0.01, 100) == 1
    )
    status, _, err = command("two_stage=0.1", "trainer.max_epochs=3", "data=digits")
    assert status == 2 and "two_stage=0.1 is not accepted" in err and "of the 3" in err


@pytest.mark.parametrize("value", [-0.1, 1.5, True, None, "x", float("nan")])
def test_shares_that_labels_cannot_be_smoothed_by(value):
    with pytest.raises(
        InvalidValueError, match="label_smoothing=.* is not accepted: a number from 0 to 1"
    ):
        PairComparison(SIAMESE, label_smoothing=value)


def test_the_command_smooths_labels_and_its_checkpoint_says_so(command, tmp_path):
    small = [
        "data=digits",
        "model=siamese_mlp",
        "model.body.hidden=[8]",
        "data.pairs=20",
        "data.test_pairs=10",
        "trainer.max_epochs=1",
    ]
    results, configs = {}, {}
    for share in ("0", "0.0", "0.1"):
        assert command(*small, f"label_smoothing={share}", output=tmp_path / share)[0] == 0
        (folder,) = (path.parent for path in (tmp_path / share).glob("*/*/*/result.json"))
        results[share], configs[share] = (
            json.loads((folder / "result.json").read_text()),
            yaml.safe_load((folder / "config.yaml").read_text()),
        )
        assert PairComparison.load_from_checkpoint(
            folder / "checkpoint.ckpt", weights_only=True
        ).label_smoothing == float(share)
    assert (
        results["0.1"]["train/loss"] != results["0"]["train/loss"] == results["0.0"]["train/loss"]
    )
    earlier = {
        key: value for key, value in configs["0"].items() if key != "label_smoothing"
    }  # a run from before there was this setting
    assert (
        fingerprint(earlier)
        == results["0"]["fingerprint"]
        == results["0.0"]["fingerprint"]
        != results["0.1"]["fingerprint"]
    )


@pytest.mark.parametrize(
    "setting, accepted", [("two_stage=0.5", "null"), ("label_smoothing=0.1", "0")]
)
def test_settings_that_framework_has_not(command, setting, accepted):
    status, _, err = command(setting, "engine=framework", "data=digits")
    assert status == 2 and f"{setting} is not accepted: {accepted} with engine=framework" in err


@pytest.mark.parametrize(
    "model, more",
    [("siamese_resnet", []), ("siamese_cnn", ["+model.comparison_output_activation=relu"])],
)
def test_networks_that_framework_has_not(command, model, more):
    status, _, err = command(f"model={model}", *more, "engine=framework", "data=digits")
    assert (
        status == 2 and "engine=framework is not accepted: lightning, since this network's" in err
    )


def test_a_comparison_may_end_in_an_activation():
    with_relu = SiameseNetwork(
        MLPBody([4]), comparison_outputs=2, comparison_output_activation="relu"
    )
    assert isinstance(with_relu.comparison_part.layers[-1], nn.ReLU)
    assert (with_relu(torch.rand(20, 2, 14, 14)).comparison >= 0).all()
    with pytest.raises(
        InvalidValueError,
        match="comparison_output_activation=relo is not accepted: null, or one of relu",
    ):
        SiameseNetwork(MLPBody([4]), comparison_output_activation="relo")
