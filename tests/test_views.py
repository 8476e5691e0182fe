"""Test-time augmentation against torchvision's views and averages worked by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from digitpairs.checks import InvalidValueError
from digitpairs.engines.base import lightning_checkpoint
from digitpairs.losses import NoAuxWeighting
from digitpairs.networks.heads import posterior_probability
from digitpairs.streams import stream
from digitpairs.training import Adam, PairComparison, PairComparisonArray
from digitpairs.training.views import VIEWS
from digitpairs.use import Comparer
from digitpairs.use.checkpoints import read_checkpoint
from tests.arguments import DIGITS, DISK, assert_refused
from tests.test_array import fit, network, pairs_of
from tests.test_training import loss_by_hand, same

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)
COMPARISONS = {
    "posterior": {"comparison_input": "posterior", "comparison_hidden": []},
    "probabilities": {"comparison_input": "probabilities"},
    "two outputs": {"comparison_input": "features", "comparison_outputs": 2},
    "no digits": {"comparison_input": "features", "digit_head": "none"},
}


def run(comparison: str = "posterior", tta: int = 3, seed: int = 0) -> PairComparison:
    settings = network("JointNetwork", "cnn", **COMPARISONS[comparison])
    aux = NoAuxWeighting() if comparison == "no digits" else None
    model = PairComparison(settings, aux, seed=seed, tta=tta)
    model.set_mean_and_std(0.2, 0.4)
    return model.eval()


def images_of(count: int = 7) -> torch.Tensor:
    return torch.rand(count, 2, 14, 14, generator=stream(0, "data"))


def views_by_torchvision(images: torch.Tensor, count: int) -> list[torch.Tensor]:
    views = [images]
    for angle, scale, *shift in VIEWS[:count]:
        views.append(
            affine(images, angle, shift, scale, [0.0], interpolation=InterpolationMode.BILINEAR)
        )
    return views


@pytest.mark.parametrize("tta", [1, 4, len(VIEWS)])
@pytest.mark.parametrize("comparison", COMPARISONS)
def test_predictions_are_averaged_over_torchvisions_views(comparison, tta):
    model = run(comparison, tta)
    images = images_of()
    with torch.no_grad():
        each = [model.network((view - 0.2) / 0.4) for view in views_by_torchvision(images, tta)]
        found = model(images)
    if comparison == "no digits":
        assert found.digits is None
    else:
        digits = torch.stack([one.digits.softmax(-1).log() for one in each]).mean(0)
        torch.testing.assert_close(found.digits, digits, rtol=1e-4, atol=1e-4)
    if comparison == "posterior":
        expected = posterior_probability(digits).logit()[..., None]
    elif comparison == "two outputs":
        expected = torch.stack([one.comparison.softmax(-1).log() for one in each]).mean(0)
    else:  # the mean of log p and of log (1 - p), whose difference is the logit
        first = torch.stack([F.logsigmoid(one.comparison) for one in each]).mean(0)
        expected = first - torch.stack([F.logsigmoid(-one.comparison) for one in each]).mean(0)
    torch.testing.assert_close(found.comparison, expected, rtol=1e-4, atol=1e-4)


def test_views_change_validation_and_test_but_not_the_training(data):
    settings = {"network": network(body="cnn"), "optimizer": Adam(0.01)}
    plain, viewed = (PairComparison(**settings, tta=tta) for tta in (0, 4))
    datamodule = pairs_of(0, data)
    for each in (plain, viewed):
        fit(each, pairs_of(0, data))
    datamodule.prepare_data()
    datamodule.setup()
    assert same(plain.state_dict(), viewed.state_dict())
    for ours, theirs in zip(viewed.history, plain.history):
        assert {key for key in ours if ours[key] != theirs[key]} >= {"validation/loss"}
        assert all(ours[key] == theirs[key] for key in ours if not key.startswith("validation"))
    for pair_set, found in (
        (datamodule.validation_set, viewed.history[-1]["validation/loss"]),
        (datamodule.test_set, viewed.test_metrics["test/loss"]),
    ):
        pairs = pair_set.take(slice(None))
        with torch.no_grad():
            prediction = viewed.eval().double()(pairs.images.double())
        loss = loss_by_hand(*prediction, pairs.digits, pairs.target)
        assert found == pytest.approx(loss.item(), rel=1e-6)


def test_a_loaded_run_compares_with_its_views(tmp_path):
    model, path = run("probabilities", tta=2), tmp_path / "checkpoint.ckpt"
    path.write_bytes(lightning_checkpoint(model, 1))
    loaded = read_checkpoint(path)
    images = images_of()
    with torch.no_grad():
        assert torch.equal(loaded(images).comparison, model(images).comparison)
        expected = model(images).comparison[:, 0].double().sigmoid()
    found = Comparer([loaded]).compare_images(images).probability
    assert found == pytest.approx(expected.numpy(), rel=1e-6)


def test_runs_with_other_views_train_in_different_arrays():
    for tta in (0, 3):
        with pytest.raises(InvalidValueError, match="members"):
            PairComparisonArray([run(tta=2), run(tta=tta)])
    assert PairComparisonArray([run(), run(seed=1)]).views is not None


@pytest.mark.parametrize(
    "base, argument, accepted",
    [
        (DIGITS, "tta=9", "a whole number from 0 to 8"),
        (DIGITS, "tta=-1", "a whole number from 0 to 8"),
        (DIGITS, "tta=true", "a whole number from 0 to 8"),
        ((*DIGITS, "model=siamese_mlp", "engine=framework"), "tta=2", "0 with engine=framework"),
        (DISK, "+tta=2", "one of the keys task"),
    ],
)
def test_views_that_cannot_be_averaged_are_refused(base, argument, accepted):
    assert_refused(base, argument, accepted)
