"""Training in two stages, against two trainings by hand, alone and in an array."""

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
from digitpairs.training import Adam, EarlyStopping, PairComparison
from digitpairs.training.stages import first_epochs, train_only
from tests.test_array import OPTIMIZERS, compare, fit, network, pairs_of, with_and_without_fusion

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
    """Against a loop that trains all but the comparison, then the comparison, two epochs each.

    Each stage has its own loss and a new optimiser.
    """
    body = {"_target_": "digitpairs.networks.MLPBody", "hidden": [12]}
    config = SIAMESE | settings | {"body": body}
    model = PairComparison(config, LambdaWeighting(0.7), Adam(0.01), two_stage=0.5, seed=3)
    by_hand = copy.deepcopy(model.network).double()
    datamodule = pairs_of(3, data, validation=0.0)
    fit(model, datamodule, epochs=4)

    pairs, order = datamodule.train_set.take(slice(None)), stream(3, "order")
    images = (pairs.images.double() - pairs.images.mean()) / pairs.images.std()
    comparison = by_hand.comparison_part
    digit_parts = [part for part in by_hand.children() if part is not comparison]
    for trained, frozen, weights in (
        (digit_parts, [comparison], [1.0, 1.0, 0.0]),
        ([comparison], digit_parts, [0.0, 0.0, 0.7]),
    ):
        nn.ModuleList(trained).train()
        nn.ModuleList(frozen).eval()
        optimizer = torch.optim.Adam(nn.ModuleList(trained).parameters(), lr=0.01)
        for _ in range(2):
            for rows in torch.randperm(50, generator=order).split(20):
                parts = loss_parts(by_hand(images[rows]), pairs.digits[rows], pairs.target[rows])
                by_hand.zero_grad()
                (torch.tensor(weights) * parts).sum().backward()
                optimizer.step()
    values = zip(model.network.state_dict().items(), by_hand.state_dict().values())
    for (name, value), expected in values:
        if "num_batches" not in name:  # in the loop, frozen batch norm counts no batches
            torch.testing.assert_close(value.double(), expected.double(), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@with_and_without_fusion
def test_members_of_an_array_have_their_own_two_stages(data, optimizer, devices, monkeypatch):
    monkeypatch.setattr("digitpairs.training.array_optimizers.FUSED_DEVICES", devices)
    settings = {"two_stage": 0.5, "gradient_clip_val": 1.0}
    compare(data, epochs=4, structure=SIAMESE, optimizer=optimizer, **settings)


def test_a_frozen_part_has_no_gradient_and_computes_as_in_evaluation():
    network = SiameseNetwork(MLPBody([8], dropout=0.5), batch_norm=True, comparison_hidden=[4])
    images, target = torch.rand(6, 2, 14, 14), torch.randint(2, (6,))
    digits = torch.randint(10, (6, 2))
    for part, trained in (
        ("digits", {"bodies", "digit_parts"}),
        ("comparison", {"comparison_part"}),
        (None, {"bodies", "digit_parts", "comparison_part"}),
    ):
        network.zero_grad()
        train_only(network, part)
        loss_parts(network(images), digits, target).sum().backward()
        with_gradient = [name for name, each in network.named_parameters() if each.grad is not None]
        training = [name for name, each in network.named_modules() if name and each.training]
        for names in (with_gradient, training):
            assert {name.partition(".")[0] for name in names} == trained


@pytest.mark.parametrize(
    "settings, accepted",
    [
        ({"two_stage": 1.5}, "0 to 1"),
        ({"two_stage": 1}, "above 0 and below 1"),
        ({"aux": UncertaintyWeighting()}, "learned"),
        ({"aux": NoAuxWeighting()}, "loss of the digits"),
        ({"network": JointNetwork(MLPBody([4])), "aux": NoAuxWeighting()}, "names digits"),
        (
            {"network": SIAMESE | {"comparison_input": "posterior", "comparison_hidden": []}},
            "part that learns",
        ),
        ({"early_stopping": EarlyStopping(3)}, "early stopping"),
    ],
)
def test_settings_that_do_not_go_with_two_stages(settings, accepted):
    with pytest.raises(InvalidValueError, match=f"two_stage.*{accepted}"):
        PairComparison(**{"network": SIAMESE, "two_stage": 0.5} | settings)


@pytest.mark.slow
def test_each_stage_has_an_epoch(command):
    lengths = [first_epochs(share, epochs) for share, epochs in ((0.5, 100), (0.5, 3), (0.01, 100))]
    assert lengths == [50, 2, 1]
    status, _, err = command(
        "model=siamese_mlp", "two_stage=0.1", "trainer.max_epochs=3", "data=digits"
    )
    assert status == 2 and "two_stage=0.1 is not accepted" in err and "of the 3" in err


@pytest.mark.parametrize("value", [-0.1, 1.5, True, None, "x", float("nan")])
def test_invalid_shares_of_label_smoothing(value):
    with pytest.raises(InvalidValueError, match="label_smoothing=.*: a number from 0 to 1"):
        PairComparison(SIAMESE, label_smoothing=value)


@pytest.mark.slow
def test_the_command_smooths_labels_and_its_checkpoint_keeps_the_share(command, tmp_path):
    network = ("model=siamese_mlp", "model.body.hidden=[8]", "trainer.max_epochs=1")
    small = (*network, "data=digits", "data.pairs=20", "data.test_pairs=10")
    losses, fingerprints = {}, {}
    for share in ("0", "0.0", "0.1"):
        assert command(*small, f"label_smoothing={share}", output=tmp_path / share)[0] == 0
        (folder,) = (path.parent for path in (tmp_path / share).glob("*/*/*/result.json"))
        result = json.loads((folder / "result.json").read_text())
        losses[share], fingerprints[share] = result["train/loss"], result["fingerprint"]
        checkpoint = folder / "checkpoint.ckpt"
        loaded = PairComparison.load_from_checkpoint(checkpoint, weights_only=True)
        assert loaded.label_smoothing == float(share)
        config = yaml.safe_load((folder / "config.yaml").read_text())
    assert losses["0.1"] != losses["0"] == losses["0.0"]
    del config["label_smoothing"]  # a run from before there was this setting
    assert fingerprint(config) == fingerprints["0"] == fingerprints["0.0"] != fingerprints["0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting, message",
    [
        ("model=siamese_mlp two_stage=0.5", "two_stage=0.5 is not accepted: null with engine"),
        ("label_smoothing=0.1", "label_smoothing=0.1 is not accepted: 0 with engine=framework"),
        ("model=siamese_resnet", "engine=framework is not accepted: lightning, since this"),
        (
            "model=siamese_mlp +model.comparison_output_activation=relu",
            "engine=framework is not accepted: lightning, since this",
        ),
    ],
)
def test_settings_that_framework_does_not_have(command, setting, message):
    status, _, err = command(*setting.split(), "engine=framework", "data=digits")
    assert status == 2 and message in err


def test_a_comparison_may_end_in_an_activation():
    network = SiameseNetwork(MLPBody([4]), comparison_output_activation="relu")
    assert isinstance(network.comparison_part.layers[-1], nn.ReLU)
    assert (network(torch.rand(20, 2, 14, 14)).comparison >= 0).all()
    accepted = "comparison_output_activation=relo is not accepted: null, or one of relu"
    with pytest.raises(InvalidValueError, match=accepted):
        SiameseNetwork(MLPBody([4]), comparison_output_activation="relo")
