"""The calibration of probabilities, against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from digitpairs.analysis import load
from digitpairs.analysis.__main__ import main
from digitpairs.analysis.calibration import (
    Answers,
    calibration,
    comparison_answers,
    digit_answers,
    expected_calibration_error,
    reliability,
)
from tests.conftest import SMALL


def predictions_of(n: int = 500) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "comparison": random.normal(0, 2, (n, 1)).astype(np.float32),
        "digits": random.integers(0, 10, (n, 2)).astype(np.uint8),
        "digit_logits": random.normal(0, 2, (n, 2, 10)).astype(np.float16),
    }


def test_the_error_of_comparisons_is_that_of_torchmetrics():
    """The answer is a class of two, whose confidence is the larger probability."""
    kept = predictions_of()
    logits = torch.tensor(kept["comparison"][:, 0]).double()
    target = torch.tensor((kept["digits"][:, 0] <= kept["digits"][:, 1]).astype(int))
    two = torch.stack([-logits, torch.zeros_like(logits)], 1).softmax(1)
    expected = multiclass_calibration_error(two, target, num_classes=2, n_bins=15)
    error = expected_calibration_error(comparison_answers(kept))
    assert error == pytest.approx(100 * float(expected), rel=1e-5)


def test_the_error_of_digits_is_that_of_torchmetrics():
    kept = predictions_of()
    probabilities = torch.tensor(kept["digit_logits"].astype(float)).softmax(-1).flatten(0, 1)
    target = torch.tensor(kept["digits"].astype(int)).flatten()
    expected = multiclass_calibration_error(probabilities, target, num_classes=10, n_bins=15)
    error = expected_calibration_error(digit_answers(kept))
    assert error == pytest.approx(100 * float(expected), rel=1e-5)


def test_calibrated_answers_have_no_error_and_sure_wrong_ones_all():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 200_000)
    calibrated = Answers(confidence, random.uniform(size=len(confidence)) < confidence)
    assert expected_calibration_error(calibrated) < 0.5
    sure = Answers(np.ones(10), np.zeros(10, dtype=bool))
    assert expected_calibration_error(sure) == 100
    table = reliability(sure)
    assert table.to_dict("records") == [{"n": 10, "confidence": 100.0, "accuracy": 0.0}]


def test_the_binary_form_of_torchmetrics_agrees():
    """Its confidence is the probability of class 1, so only answers above one half are compared."""
    kept = predictions_of()
    kept["comparison"] = np.abs(kept["comparison"])
    probability = torch.tensor(kept["comparison"][:, 0]).double().sigmoid()
    target = torch.tensor((kept["digits"][:, 0] <= kept["digits"][:, 1]).astype(int))
    expected = binary_calibration_error(probability, target, n_bins=15)
    error = expected_calibration_error(comparison_answers(kept))
    assert error == pytest.approx(100 * float(expected), rel=1e-5)


@pytest.mark.slow
def test_the_command_measures_the_seeds_together(command, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    assert (
        command(*SMALL, "-m", "seed=0,1", "aux=lambda,none", "model.digit_head=per_image")[0] == 0
    )
    table = calibration(load(outputs))
    assert set(zip(table["answers"], table["n"])) == {("comparison", 80), ("digits", 160)}
    page = tmp_path / "page.html"
    assert main([str(outputs), "--calibration", "--html", str(page)]) == 0
    assert "Calibration" in capsys.readouterr().out and "Reliability of" in page.read_text()
    next(outputs.glob("*/*/seed=0/predictions.npz")).unlink()
    assert len(calibration(load(outputs))) == len(table)
