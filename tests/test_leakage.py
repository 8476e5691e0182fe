"""Nothing of the test images reaches training, or the choice by held-out pairs."""

import io

import pytest
import torch

from digitpairs.cli import CONF
from digitpairs.data import sources
from digitpairs.engines import get_engine
from digitpairs.engines.base import Run
from digitpairs.sweeps.compose import compose_command
from tests.conftest import SMALL

COMMON = [*SMALL, "data.validation=0.3", "trainer.max_epochs=3", "seed=range(2)"]


@pytest.fixture
def other_test_images(monkeypatch):
    """The test images become training images of other classes, so that any use of them shows."""

    def replace() -> None:
        digits = sources.load("digits")
        images = digits.train.images[: len(digits.test)].flip(0)
        other = digits._replace(test=sources.Digits(images, digits.test.classes))
        monkeypatch.setitem(sources._PROVIDED, ("digits", "", "auto"), other)

    return replace


def trained(arguments: list[str]) -> list[Run]:
    configs = [each.config for each in compose_command(CONF, arguments)]
    for config in configs:
        config["data"]["root"] = None
    return get_engine(configs[0]).train(configs, [])


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(run.checkpoint()), weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["early_stopping.patience=1", "data.augmentation.shift=1"],
        ["calibrate=temperature", "model.batch_norm=true"],
        ["ema=0.9", "tta=2"],
        ["engine=framework"],
    ],
    ids=" ".join,
)
def test_other_test_images_change_nothing_but_the_test(settings, other_test_images):
    before = trained([*COMMON, *settings])
    other_test_images()
    after = trained([*COMMON, *settings])
    for first, second in zip(before, after, strict=True):
        assert first.history == second.history and first.final_row == second.final_row
        assert first.test_metrics != second.test_metrics
        weights, others = weights_of(first), weights_of(second)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("as_seen", [False, True], ids=["28x28", "14x14"])
def test_no_image_of_mnist_is_in_both_sets(as_seen):
    if not (sources.default_root() / "MNIST" / "raw").exists():
        pytest.skip("needs MNIST in the folder DIGITPAIRS_DATA")
    mnist = sources.load("mnist")
    sets = [digits.images for digits in (mnist.train, mnist.test)]
    if as_seen:
        sets = [sources.to_unit_images(images) for images in sets]
    train, test = ({image.numpy().tobytes() for image in images} for images in sets)
    assert len(test) == 10_000 and not train & test
