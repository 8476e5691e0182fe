"""Temperature scaling, against scipy's minimum of the likelihood, alone, in arrays and in use."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor
from torch.utils.data import DataLoader

import digitpairs
from digitpairs.analysis import load
from digitpairs.analysis.calibration import (
    answers_by_kind,
    calibration,
    digit_answers,
    expected_calibration_error,
)
from digitpairs.checks import InvalidValueError
from digitpairs.losses import NoAuxWeighting
from digitpairs.networks import Prediction
from digitpairs.networks.heads import posterior_probability
from digitpairs.records import read_predictions
from digitpairs.sweeps.jobs import fingerprint
from digitpairs.training import EarlyStopping, PairComparison
from digitpairs.training.temperature import BOUND, TemperatureScaling, fit_temperature
from digitpairs.use import Comparer, onnx
from tests.conftest import SMALL
from tests.test_array import compare_runs, network, pairs_of, run_of
from tests.test_training import trainer_for

pytestmark = pytest.mark.filterwarnings(
    "ignore:Total length of `list`", "ignore:.*LeafSpec", "ignore:.*does not have many workers"
)
SIAMESE = network(digit_head="per_image", comparison_input="probabilities")
POSTERIOR = SIAMESE | {"comparison_input": "posterior", "comparison_hidden": []}
SERIAL = ["-m", "seed=0,1", "sweep.plan=serial"]
CALIBRATED = [*SMALL, "calibrate=temperature", "data.validation=0.3"]


def scipys_temperature(logits: Tensor, classes: Tensor) -> float:
    """The minimum over log T of the mean negative log likelihood."""
    values = logits.double().numpy()
    if values.shape[1] == 1:
        values = np.pad(values, ((0, 0), (1, 0)))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(values / math.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(values)), classes.numpy()].mean()

    return math.exp(minimize_scalar(loss, bounds=(-4, 4), options={"xatol": 1e-9}).x)


def drawn(temperature: float, width: int, n: int = 2000) -> tuple[Tensor, Tensor]:
    """Logits, and classes drawn from the softmax of logits / temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, width, generator=generator, dtype=torch.float64) * 4
    full = torch.nn.functional.pad(logits, (1, 0)) if width == 1 else logits
    probabilities = (full / temperature).softmax(1)
    return logits, torch.multinomial(probabilities, 1, generator=generator)[:, 0]


@pytest.mark.parametrize("width", [1, 2, 10])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_scipys(width, temperature):
    logits, classes = drawn(temperature, width)
    fitted = fit_temperature(logits, classes)
    assert fitted == pytest.approx(scipys_temperature(logits, classes), rel=1e-6)
    assert fitted == pytest.approx(temperature, rel=0.15)  # that of the draw


@pytest.mark.parametrize(
    "logits, classes, temperature",
    [
        ([[1.0], [-2.0]], [1, 0], 1.0),  # all right: the likelihood has no minimum
        ([[1.0], [math.nan]], [1, 0], 1.0),
        ([[1.0], [-2.0]], [0, 1], BOUND),  # all wrong: the best probability is one half
        ([[1.0, 2.0, 4.0]], [2], 1.0),
    ],
)
def test_temperatures_without_a_minimum(logits, classes, temperature):
    fitted = fit_temperature(torch.tensor(logits), torch.tensor(classes))
    assert fitted == pytest.approx(temperature, rel=1e-6)


def test_an_overconfident_network_has_a_smaller_calibration_error():
    """Fitted on one half, measured on the other."""
    logits, classes = drawn(3.0, 10, n=8000)
    halves = logits.view(2, 2000, 2, 10), classes.view(2, 2000, 2)
    scaling = TemperatureScaling(names_digits=True, from_digits=False)
    comparison, target = drawn(3.0, 1)
    scaling.fit(Prediction(comparison, halves[0][0]), halves[1][0], target)
    errors = [
        expected_calibration_error(
            digit_answers({"digit_logits": each.numpy(), "digits": halves[1][1].numpy()})
        )
        for each in (halves[0][1], scaling(Prediction(comparison, halves[0][1])).digits)
    ]
    assert errors[1] < 2 < 10 < errors[0]


FITS = {
    "probabilities": {"structure": SIAMESE},
    "two outputs": {"structure": SIAMESE | {"comparison_outputs": 2}},
    "posterior": {"structure": POSTERIOR},
    "posterior, no loss of the digits": {"structure": POSTERIOR, "aux": "none"},
    "early stopping": {"early_stopping": EarlyStopping(2)},
}


def calibrated_run(i: int = 0, structure=None, aux=None, **settings) -> PairComparison:
    if aux == "none":
        return PairComparison(structure, NoAuxWeighting(), calibrate="temperature", **settings)
    return run_of(i, structure or SIAMESE, calibrate="temperature", **settings)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("loaders", ["module", "loaders"])
def test_temperatures_are_fitted_on_the_held_out_pairs_of_the_final_weights(data, name, loaders):
    model, pairs = calibrated_run(**FITS[name]), pairs_of(0, data)
    pairs.setup()
    held_out = pairs.validation_set.take(slice(None))
    if loaders == "module":
        trainer_for(4).fit(model, pairs)
    else:
        parts = [each.take(slice(None)) for each in (pairs.train_set, pairs.validation_set)]
        batches = [DataLoader(list(zip(*part)), batch_size=7) for part in parts]
        trainer_for(4, check_val_every_n_epoch=2 if name == "posterior" else 1).fit(model, *batches)
    with torch.no_grad():
        comparison, digits = model.eval()(held_out.images)
    labels = held_out.digits.flatten()
    temperatures = model.calibration.temperatures()
    expected = {}
    if name != "posterior":
        fitted = scipys_temperature(comparison, held_out.target)
        expected["calibration/comparison_temperature"] = fitted
    if "no loss" not in name:
        fitted = scipys_temperature(digits.flatten(0, 1), labels)
        expected["calibration/digit_temperature"] = fitted
    assert temperatures == pytest.approx(expected, rel=1e-3)
    assert 1 not in temperatures.values()


@pytest.mark.slow
def test_members_of_an_array_have_the_temperatures_that_they_have_alone(data):
    members = compare_runs(calibrated_run, lambda i: pairs_of(i, data))
    values = [member.calibration.temperatures() for member in members]
    assert len({tuple(each.values()) for each in values}) == 3


def test_a_comparison_of_posteriors_stays_the_sum_over_the_calibrated_posteriors():
    torch.manual_seed(0)
    model = PairComparison(POSTERIOR, calibrate="temperature")
    images = torch.rand(20, 2, 14, 14)
    before = Comparer([model]).compare_images(images)
    model.calibration.digits.fill_(0.2)
    answers = Comparer([model]).compare_images(images)
    logits = torch.tensor(answers.digit_probabilities).log()
    np.testing.assert_allclose(answers.probability, posterior_probability(logits), rtol=1e-6)
    assert np.abs(answers.probability - before.probability).max() > 0.01
    assert (answers.digits == before.digits).all()


@pytest.fixture(scope="module")
def calibrated_seeds(tmp_path_factory):
    """The output folder of two seeds with temperatures."""
    from digitpairs.cli import main

    output = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *CALIBRATED, *SERIAL, f"output={output}"])
        main()
    return output


@pytest.mark.slow
def test_a_run_keeps_its_logits_before_and_after(calibrated_seeds):
    for folder in calibrated_seeds.glob("*/*/seed=*"):
        result = json.loads((folder / "result.json").read_text())
        kept, model = read_predictions(folder), digitpairs.load(folder).models[0]
        assert model.calibration.temperatures() == {
            name: value for name, value in result.items() if name.startswith("calibration/")
        }
        scaled = kept["comparison"] / result["calibration/comparison_temperature"]
        np.testing.assert_allclose(kept["calibrated_comparison"], scaled, rtol=1e-5)
        scaled = kept["digit_logits"] / result["calibration/digit_temperature"]
        np.testing.assert_allclose(kept["calibrated_digit_logits"], scaled, rtol=3e-3)


def test_compare_gives_the_calibrated_probabilities(calibrated_seeds):
    comparer = digitpairs.load(calibrated_seeds)
    images = torch.rand(9, 2, 14, 14)
    answers = comparer.compare_images(images)
    for model, probability, digits in zip(
        comparer.models, answers.probability_by_seed, answers.digit_probabilities_by_seed
    ):
        with torch.no_grad():
            logits = model(images)
        temperatures = list(model.calibration.temperatures().values())
        expected = (logits.comparison[:, 0].double() / temperatures[0]).sigmoid()
        np.testing.assert_allclose(probability, expected, rtol=1e-5)
        expected = (logits.digits.double() / temperatures[1]).softmax(-1)
        np.testing.assert_allclose(digits, expected, rtol=1e-5)


def test_the_analysis_has_the_errors_before_and_after(calibrated_seeds):
    table = calibration(load(calibrated_seeds)).set_index("answers")
    assert list(table.index) == [
        "comparison", "digits", "calibrated comparison", "calibrated digits"
    ]  # fmt: skip
    errors = []
    for folder in calibrated_seeds.glob("*/*/seed=*"):
        answers = answers_by_kind(read_predictions(folder))["calibrated comparison"]
        errors.append(expected_calibration_error(answers))
    assert table["by_seed"]["calibrated comparison"] == pytest.approx(np.mean(errors))
    assert table["std"]["calibrated comparison"] == pytest.approx(np.std(errors, ddof=1))


@pytest.mark.long
@pytest.mark.parametrize("structure", [SIAMESE, POSTERIOR])
def test_temperatures_are_part_of_the_exported_model(structure, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = PairComparison(structure, calibrate="temperature")
    model.calibration.comparison.fill_(0.3)
    model.calibration.digits.fill_(0.2)
    comparer, images = Comparer([model]), torch.rand(5, 2, 14, 14)
    assert onnx.export(comparer, tmp_path / "model.onnx") <= 1e-5
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    probability = session.run(None, {"images": images.numpy()})[0]
    expected = comparer.compare_images(images).probability
    np.testing.assert_allclose(probability, expected, atol=1e-5)


@pytest.mark.slow
def test_framework_fits_the_temperatures_of_its_weights(command, tmp_path):
    temperatures = []
    for engine in ("framework", "lightning"):
        output = tmp_path / engine
        assert command(*CALIBRATED, f"engine={engine}", "optimizer=sgd", output=output)[0] == 0
        (path,) = output.glob("*/*/*/result.json")
        temperatures.append(json.loads(path.read_text())["calibration/digit_temperature"])
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-3) != 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings, message",
    [
        ("calibrate=temperature", "calibrate=temperature is not accepted: none, unless data.val"),
        ("calibrate=temperature data.watch_test=true", "none, unless data.validation=0.2 or"),
        ("calibrate=temperature engine=framework", "none, unless data.validation=0.2 or"),
        ("calibrate=platt", "calibrate=platt is not accepted: one of none, temperature"),
        ("calibrate=null", "is not accepted: one of none, temperature"),
        (
            "calibrate=temperature data.validation=0.2 +trainer.limit_val_batches=0",
            "trainer.limit_val_batches=0 is not accepted: 1.0, since temperatures",
        ),
    ],
)
def test_settings_that_cannot_be_calibrated(settings, message, command, tmp_path):
    status, _, err = command(*SMALL, *settings.split())
    assert status == 2 and message in err and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("case", ["no pairs", "no loader", "test pairs"])
def test_a_fit_without_held_out_pairs_is_refused_before_training(case, data):
    model = calibrated_run()
    settings = {"validation": 0.0} | ({"watch_test": True} if case == "test pairs" else {})
    pairs = pairs_of(0, data, **settings)
    pairs.setup()
    with pytest.raises(InvalidValueError, match=r"calibrate=.*data\.validation"):
        if case == "no loader":
            trainer_for(2).fit(model, pairs.train_dataloader())
        else:
            trainer_for(2).fit(model, pairs)
    assert not model.history


@pytest.mark.slow
def test_without_temperatures_folders_are_those_of_earlier_versions(command, tmp_path):
    assert command(*SMALL)[0] == 0
    (path,) = tmp_path.glob("outputs/*/*/*/config.yaml")
    config = yaml.safe_load(path.read_text())
    assert config["calibrate"] == "none"
    expected = fingerprint(config)
    assert fingerprint({k: v for k, v in config.items() if k != "calibrate"}) == expected
    assert fingerprint(config | {"calibrate": "temperature"}) != expected
    model = PairComparison.load_from_checkpoint(path.parent / "checkpoint.ckpt", weights_only=True)
    assert model.calibration is None and not any("calibration" in key for key in model.state_dict())
