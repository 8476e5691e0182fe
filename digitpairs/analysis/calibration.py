"""Whether probabilities are what they say: reliability by bins of confidence.

Of all answers with a confidence of 0.9, nine in ten should be right. The expected calibration error
is the mean distance between confidence and accuracy over the bins, weighted by their answers (Guo
et al. 2017, On Calibration of Modern Neural Networks, equation 3). The predictions of all seeds of
a group are taken together: with few of them the error is too large by chance.

Runs with `calibrate=temperature` have both: their answers before the temperatures, and "calibrated"
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from digitpairs import records
from digitpairs.analysis.frames import Runs
from digitpairs.dashboard.pictures import margins

BINS = 15
CALIBRATED = "calibrated_"  # begins the names of the arrays after temperature scaling

Arrays = Mapping[str, np.ndarray]


class Answers(NamedTuple):
    """The confidence of each answer, 0 to 1, and whether it is right."""

    confidence: np.ndarray
    right: np.ndarray


def comparison_answers(predictions: Arrays) -> Answers:
    """The answers to "first <= second"; their confidence is at least one half."""
    margin = margins(predictions)
    first, second = predictions["digits"].T
    return Answers(expit(np.abs(margin)), (margin > 0) == (first <= second))


def digit_answers(predictions: Arrays) -> Answers | None:
    """The digits that were read; None if the network does not classify digits."""
    logits = predictions.get("digit_logits")
    if logits is None:
        return None
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    right = probabilities.argmax(-1) == predictions["digits"]
    return Answers(probabilities.max(-1).ravel(), right.ravel())


def reliability(answers: Answers) -> pd.DataFrame:
    """A row for each bin that has answers: n, and mean confidence and accuracy in per cent."""
    places = np.minimum((answers.confidence * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"bin": places, **answers._asdict()})
    table = frame.groupby("bin").agg(
        n=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean")
    )
    return table.assign(confidence=100 * table["confidence"], accuracy=100 * table["accuracy"])


def expected_calibration_error(answers: Answers) -> float:
    """In per cent."""
    table = reliability(answers)
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float((distance * table["n"]).sum() / table["n"].sum())


def answers_by_kind(predictions: Arrays) -> dict[str, Answers]:
    """The answers of a run, under "comparison" and "digits"; then those with temperatures."""
    answers = {"comparison": comparison_answers(predictions), "digits": digit_answers(predictions)}
    scaled = {
        name.removeprefix(CALIBRATED): array
        for name, array in predictions.items()
        if name.startswith(CALIBRATED) or name == "digits"
    }
    if "comparison" in scaled:
        answers["calibrated comparison"] = comparison_answers(scaled)
        answers["calibrated digits"] = digit_answers(scaled)
    return {kind: each for kind, each in answers.items() if each is not None}


def answers_by_group(runs: Runs) -> dict[str, dict[str, list[Answers]]]:
    """For each group and kind of `answers_by_kind` the answers of each seed."""
    frame = runs.runs
    groups: dict[str, dict[str, list[Answers]]] = {}
    for name, part in frame[frame["failure"].isna()].groupby("group", sort=False):
        kinds: dict[str, list[Answers]] = {}
        for run in filter(None, map(runs.run, part.index)):
            predictions = records.read_predictions(run.folder)
            answers = {} if predictions is None else answers_by_kind(predictions)
            for kind, each in answers.items():
                kinds.setdefault(kind, []).append(each)
        groups[name] = kinds
    return groups


def calibration(runs: Runs) -> pd.DataFrame:
    """A row for each group and kind of answer, in per cent but for n.

    n (answers), accuracy, confidence and calibration_error (ECE) are of all seeds together;
    by_seed and std are the mean and standard deviation of the seeds' own errors. Groups of older
    runs, which kept no predictions, have no row.
    """
    rows = [
        {"group": name, "answers": kind, **_calibration_row(seeds)}
        for name, kinds in answers_by_group(runs).items()
        for kind, seeds in kinds.items()
    ]
    return pd.DataFrame(rows)


def joined(seeds: Sequence[Answers]) -> Answers:
    """The answers of all seeds together."""
    return Answers(*map(np.concatenate, zip(*seeds)))


def _calibration_row(seeds: Sequence[Answers]) -> dict[str, float]:
    answers, errors = joined(seeds), pd.Series(map(expected_calibration_error, seeds))
    return {
        "n": len(answers.right),
        "accuracy": 100 * answers.right.mean(),
        "confidence": 100 * answers.confidence.mean(),
        "calibration_error": expected_calibration_error(answers),
        "by_seed": errors.mean(),
        "std": errors.std(),
    }
