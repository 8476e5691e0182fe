"""Networks: parameter counts of the reports, initial values, and the outputs of each part."""

import copy
import itertools
import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF
from digitpairs.engines.pairs_lightning import make_module
from digitpairs.losses import LambdaWeighting, NoAuxWeighting, loss_parts
from digitpairs.networks import (
    CNNBody,
    JointNetwork,
    MLPBody,
    ResidualBody,
    ResNetBody,
    SiameseNetwork,
    create,
)
from digitpairs.networks.heads import posterior_logit, posterior_probability
from digitpairs.networks.initialise import initialise
from digitpairs.networks.layers import ACTIVATIONS, Dropout
from digitpairs.streams import stream
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import plan_jobs
from digitpairs.targets import is_of_library


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


WANG_CNN = CNNBody([32, 64, 32], [3, 4, 3], [1, 1, 0], [2, 2, 1])


def coukos(sharing: bool) -> SiameseNetwork:
    body = CNNBody([32, 64], kernels=[3, 5], pools=[1, 4], hidden=[200])
    return SiameseNetwork(body, sharing=sharing, comparison_input="logits", comparison_outputs=2)


@pytest.mark.parametrize(
    "make, count",
    [
        (lambda: coukos(sharing=True), 105_036),
        (lambda: coukos(sharing=False), 210_030),
        (lambda: JointNetwork(MLPBody([128, 64, 32, 256])), 69_345),  # wang's vanilla MLP
        (lambda: JointNetwork(WANG_CNN, comparison_hidden=[512]), 69_313),
    ],
)
def test_parameter_counts_of_the_reports(make, count):
    assert count_parameters(make()) == count


def test_initial_values_are_torchs_own(global_generator_untouched):
    """A generator draws what torch's constructors draw from the global one of the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        convolution, linear = nn.Conv2d(2, 3, 3), [nn.Linear(12, 4), nn.Linear(4, 2, bias=False)]
        theirs = nn.Sequential(convolution, nn.BatchNorm2d(3), nn.Flatten(), *linear)
    ours = copy.deepcopy(theirs).to("meta").to_empty(device="cpu")
    initialise(ours, torch.Generator().manual_seed(5))
    for value, expected in zip(ours.state_dict().values(), theirs.state_dict().values()):
        assert torch.equal(value, expected)


def test_a_layer_without_a_rule_is_refused():
    with pytest.raises(TypeError, match="no rule for the initial values of 0"):
        create(lambda: nn.Sequential(nn.Bilinear(2, 2, 2)), stream(0, "weights"))


@pytest.mark.slow
def test_a_resnet_is_torchvisions_but_for_its_first_layers(global_generator_untouched):
    """The layers after the pool have torchvision's parameters and outputs."""
    from torchvision.models import resnet18

    ours = create(lambda: SiameseNetwork(ResNetBody(), batch_norm=True), stream(0, "weights"))
    body = ours.eval().bodies[0]
    with torch.random.fork_rng():
        theirs = resnet18().eval()
    difference = -64 * 3 * 49 + 64 * 9 - (512 * 1000 + 1000)
    assert count_parameters(body) == count_parameters(theirs) + difference
    values = body.state_dict()
    del values["conv1.weight"]
    theirs.load_state_dict(values, strict=False)
    images = torch.rand(3, 1, 14, 14, generator=stream(0, "data"))
    expected = F.relu(body.bn1(F.conv2d(images, body.conv1.weight, padding=1)))
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4, theirs.avgpool):
        expected = layer(expected)
    torch.testing.assert_close(body(images), expected.flatten(1))


BODIES = {
    "mlp": lambda **options: MLPBody([24, 16], **options),
    "cnn": lambda **options: CNNBody([4, 6], hidden=[12], **options),
    "residual": lambda **options: ResidualBody([4, 6], squeeze=2, drop_path=0.3, **options),
}
STRUCTURES = {
    "joint": (JointNetwork, {"digit_head": "joint"}),
    "joint, no digits": (JointNetwork, {}),
    "siamese": (SiameseNetwork, {}),
    "siamese, not shared": (SiameseNetwork, {"sharing": False}),
    "siamese, joint head": (SiameseNetwork, {"digit_head": "joint", "digit_hidden": [8]}),
}


def network_of(structure: str, body: str, seed: int = 0, dropout: float = 0.3, **options):
    network_class, settings = STRUCTURES[structure]
    settings = {"body": BODIES[body](dropout=dropout), "comparison_hidden": [8]} | settings
    return create(lambda: network_class(**settings | options), stream(seed, "weights"))


def loss_of(network, images, digits, target):
    prediction = network(images)
    parts = loss_parts(prediction, digits, target)
    weighting = NoAuxWeighting() if prediction.digits is None else LambdaWeighting(0.8)
    weighting.start_epoch(0, [])
    return weighting(parts)


@pytest.mark.parametrize("structure", ["siamese", "siamese, not shared"])
def test_a_siamese_network_sees_each_image_by_itself(structure):
    network = network_of(structure, "cnn").eval()
    images = torch.rand(5, 2, 14, 14)
    changed = images.clone()
    changed[:, 1] = torch.rand(5, 14, 14)
    before, after = network(images), network(changed)
    assert torch.equal(before.digits[:, 0], after.digits[:, 0])
    assert not torch.equal(before.digits[:, 1], after.digits[:, 1])
    swapped = network(images.flip(1)).digits.flip(1)
    assert torch.allclose(before.digits, swapped, atol=1e-6) == (structure == "siamese")


LEARNED = ["logits", "probabilities", "onehot", "features"]


@pytest.mark.parametrize("sees, outputs", [*itertools.product(LEARNED, [1, 2]), ("posterior", 1)])
def test_the_input_of_the_comparison(sees, outputs):
    settings = {"dropout": 0, "comparison_input": sees, "comparison_outputs": outputs}
    if sees == "posterior":
        settings["comparison_hidden"] = []
    network = network_of("siamese", "mlp", **settings)
    images = torch.rand(6, 2, 14, 14)
    comparison, digits = network(images)
    assert comparison.shape == (6, outputs)
    assert digits.shape == (6, 2, 10)
    inputs = {
        "logits": digits,
        "probabilities": F.softmax(digits, 2),
        "onehot": torch.eye(10)[digits.argmax(2)],
        "features": network.bodies[0](images.view(12, 1, 14, 14)).view(6, 2, -1),
    }
    if sees != "posterior":
        expected = network.comparison_part.layers(inputs[sees].reshape(6, -1))
        torch.testing.assert_close(comparison, expected)
    weight = network.digit_parts[0][-1].weight
    (gradient,) = torch.autograd.grad(comparison.sum(), [weight], allow_unused=True)
    assert (gradient is not None) == (sees in ("logits", "probabilities", "posterior"))


def test_a_comparison_of_posteriors_ignores_layers_of_older_checkpoints():
    body = MLPBody([8])
    without = SiameseNetwork(body, comparison_input="posterior")
    ignoring = SiameseNetwork(body, comparison_input="posterior", comparison_hidden=[8])
    ignoring.load_state_dict(without.state_dict())
    assert ignoring(torch.rand(3, 2, 14, 14)).comparison.shape == (3, 1)


def test_posterior_is_the_sum_over_all_pairs_of_digits():
    digits = torch.randn(20, 2, 10, dtype=torch.float64) * 3
    p, q = digits.softmax(-1).unbind(1)
    by_hand = sum(p[:, i] * q[:, j] for j in range(10) for i in range(j + 1))
    torch.testing.assert_close(posterior_probability(digits), by_hand)
    torch.testing.assert_close(posterior_logit(digits).sigmoid(), by_hand)
    sure = torch.full((1, 2, 10), -200.0)
    sure[0, 0, 9], sure[0, 1, 0] = 200.0, 200.0
    logit = posterior_logit(sure.requires_grad_())
    logit.sum().backward()
    assert logit.item() < -300 and sure.grad.isfinite().all()


def test_posterior_stays_exact_in_bf16():
    digits = torch.randn(100, 2, 10, generator=stream(0, "data")) * 3
    rounded = digits.bfloat16()
    assert torch.equal(posterior_logit(rounded), posterior_logit(rounded.float()))


def test_dropout_drops_the_share_and_keeps_the_mean():
    layer = Dropout(0.3, 50)
    layer.draw_mask(4000, [stream(0, "dropout")])
    assert set(layer.mask.unique().tolist()) == {0.0, torch.tensor(1.0).div(0.7).item()}
    assert abs((layer.mask == 0).double().mean() - 0.3) < 4 * (0.3 * 0.7 / 200_000) ** 0.5
    inputs = torch.rand(4000, 50)
    assert torch.equal(layer(inputs), inputs * layer.mask)
    assert torch.equal(layer.eval()(inputs), inputs)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_pools_as_the_textbook_order_does(name):
    network = JointNetwork(CNNBody([4], kernels=3, pools=2), activation=name)
    images = torch.randn(3, 2, 14, 14)
    textbook = F.max_pool2d(ACTIVATIONS[name]()(network.body[0](images)), 2).flatten(1)
    torch.testing.assert_close(network.body(images), textbook)


RESNET = {"body": ResNetBody(), "batch_norm": True}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"body": CNNBody([4], kernels=15)}, "body.kernels=[15] is not accepted: at most 14 in"),
        ({"body": CNNBody([4, 4], pools=[6, 2])}, "body.kernels=[3, 3] is not accepted: at most 2"),
        (
            {"body": CNNBody([4], pools=13)},
            "body.pools=[13] is not accepted: at most 12 in layer 1",
        ),
        ({"body": CNNBody([])}, "body.channels="),
        ({"body": CNNBody("abc")}, "body.channels=abc"),
        ({"body": CNNBody([4, 4], [3])}, "body.kernels=[3] is not accepted: one whole number"),
        ({"body": MLPBody([8, 0])}, "body.hidden=[8, 0]"),
        ({"body": MLPBody([8], dropout=1)}, "body.dropout=1"),
        (RESNET | {"body": ResNetBody([1, 2])}, "body.blocks=[1, 2]"),
        (RESNET | {"batch_norm": False}, "batch_norm=False is not accepted: true for a ResNet"),
        (RESNET | {"activation": "tanh"}, "activation=tanh is not accepted: relu for a ResNet"),
        ({"activation": "swish"}, "activation=swish is not accepted: one of relu"),
        ({"batch_norm": "yes"}, "batch_norm=yes is not accepted: true or false"),
        ({"sharing": 1}, "sharing=1"),
        ({"digit_head": "both"}, "digit_head=both"),
        ({"comparison_outputs": 3}, "comparison_outputs=3"),
        ({"comparison_input": "pixels"}, "comparison_input=pixels"),
        ({"digit_head": "none"}, "comparison_input=probabilities is not accepted: features"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(InvalidValueError, match="^" + re.escape(message)):
        SiameseNetwork(**{"body": MLPBody([8])} | options)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [True, False])
def test_a_network_of_torchvision_is_a_body(sharing):
    resnet = torchvision.models.resnet18(num_classes=7).eval()
    network = SiameseNetwork(resnet, sharing=sharing).eval()
    assert len(network.bodies) == (1 if sharing else 2)
    assert resnet.conv1.in_channels == 3  # a copy is adapted
    images = torch.rand(4, 1, 14, 14)
    for body in network.bodies:  # of a gray image as of gray RGB
        torch.testing.assert_close(body(images), resnet(images.expand(-1, 3, -1, -1)))
    joint = JointNetwork(resnet).eval()
    same = joint.body(images.expand(-1, 2, -1, -1))  # two equal channels are a gray image
    torch.testing.assert_close(same, resnet(images.expand(-1, 3, -1, -1)))


@pytest.mark.slow
def test_a_network_of_timm_is_a_body():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    body = timm.create_model("resnet10t", in_chans=1, num_classes=0)
    prediction = SiameseNetwork(body)(torch.rand(4, 2, 14, 14))
    assert prediction.comparison.shape == (4, 1) and prediction.digits.shape == (4, 2, 10)


@pytest.mark.parametrize("name", ["torchvision.models.resnet18", "digitpairs.SiameseNetwork"])
def test_functions_of_libraries_are_told_from_those_of_this_package(name):
    assert is_of_library(name) == name.startswith("torchvision")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["best_small", "best_fast"])
def test_small_presets_have_at_most_the_courses_number_of_parameters(experiment):
    (job, *_) = plan_jobs(compose_command(CONF, [f"experiment={experiment}", "data=digits"]))
    assert count_parameters(make_module(job.config).network) <= 70_000
