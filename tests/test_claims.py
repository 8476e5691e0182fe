"""Verdicts on claims and final models, and choices, on made-up numbers."""

import math
import statistics
from pathlib import Path

import pytest

from digitpairs.analysis.claims import (
    FAILS,
    HOLDS,
    choices,
    final_verdict,
    on_common_seeds,
    verdicts,
)
from digitpairs.analysis.reports import Choice, Claim, Final
from digitpairs.analysis.results import Cell, Member, Results, Study
from digitpairs.analysis.runs import Run

TEST, HELD_OUT = "test/comparison_error", "validation/comparison_error"
LOW, HIGH = [5.0, 6.0, 5.5, 5.2, 6.1, 5.9, 5.3, 5.7], [9.0, 9.6, 8.5, 9.2, 9.9, 9.1, 8.8, 9.4]
WILD = [2.0, 16.0, 1.0, 14.0, 3.0, 15.0, 2.5, 13.0]
PLACE = {"place": "p", "study": "s"}


def study_of(values: dict[str, list[float]]) -> Study:
    """A study with these test errors by configuration, and held-out errors a point higher."""
    members = []
    for setting, errors in values.items():
        for seed, error in enumerate(errors):
            run = Run(Path("nowhere"), {TEST: error, HELD_OUT: error + 1})
            members.append(Member(frozenset([setting]), seed, run))
    return Study("s", members)


def results_of(**studies: Study) -> Results:
    results = Results(Path())
    results._studies = studies
    return results


def claim_of(first: str = "a=low", second: str = "", **more) -> Claim:
    return Claim(claim="c", **PLACE, first=[first], second=[second] if second else [], **more)


NO_WORSE = {"relation": "no worse", "within": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    "claim, verdict",
    [
        (claim_of("a=low", "a=high"), HOLDS),
        (claim_of("a=high", "a=low"), FAILS),
        (claim_of("a=low", "a=wild"), "not decided at n = 8"),
        (claim_of("a=low", "a=few"), "not decided at n = 5"),
        (claim_of("a=low", "a=high", **NO_WORSE), HOLDS),
        (claim_of("a=high", "a=low", **NO_WORSE), FAILS),
        (claim_of("a=wild", "a=high", **NO_WORSE), "not decided at n = 8"),
        (claim_of("a=low", "a=wild", relation="steadier"), HOLDS),
        (claim_of("a=wild", "a=low", relation="steadier"), FAILS),
        (claim_of("a=low", "a=high", relation="alike", within=5.0), HOLDS),
        (claim_of("a=low", "a=high", relation="alike", within=1.0), FAILS),
        (claim_of("a=low", "a=wild", relation="alike", within=1.0), "not decided at n = 8"),
        (claim_of("a=low", relation="above", bound=3.0), HOLDS),
        (claim_of("a=low", relation="above", bound=9.0), FAILS),
        (claim_of("a=low", "a=low", second_metric=HELD_OUT), HOLDS),
    ],
)
def test_verdicts(claim, verdict):
    study = study_of({"a=low": LOW, "a=high": HIGH, "a=wild": WILD, "a=few": HIGH[:5]})
    assert verdicts(results_of(s=study), [claim])[0].verdict == verdict


@pytest.mark.slow
def test_the_second_may_be_of_another_study():
    results = results_of(s=study_of({"a=low": LOW}), t=study_of({"a=low": HIGH}))
    (verdict,) = verdicts(results, [claim_of("a=low", "a=low", second_study="t")])
    assert verdict.verdict == HOLDS and verdict.first == LOW and verdict.second == HIGH


@pytest.mark.slow
def test_many_claims_on_one_study_are_one_family():
    results = results_of(s=study_of({"a=low": LOW, "a=high": HIGH}))
    claim = claim_of("a=low", "a=high")
    assert verdicts(results, [claim])[0].p == pytest.approx(2 / 2**8)
    assert [each.p for each in verdicts(results, [claim] * 7)] == pytest.approx([14 / 2**8] * 7)
    assert verdicts(results, [claim] * 7)[0].verdict == "not decided at n = 8"


def choice_of(*report: str, **more) -> Choice:
    return Choice(choice="c", **PLACE, report=list(report), **more)


def test_choices_by_the_test_and_without_it():
    study = study_of({"a=low": LOW, "a=high": HIGH})
    for member in study.members:
        if "a=low" in member.settings:
            member.run.result[HELD_OUT] = 20.0
    by_test, by_held_out, of_report, flattery = choices(study, choice_of("a=none"))
    assert by_test.settings == {"a=low"} and by_test.rank == 1 and by_test.held_out.mean == 20
    assert by_held_out.settings == {"a=high"} and by_held_out.rank == 2
    gaps_to_the_other = [20 - low - 1 for low in LOW]
    assert list(flattery.values.values()) == pytest.approx(gaps_to_the_other)
    assert not of_report.settings and not of_report.test.n and of_report.rank == 0


def test_choices_are_made_on_common_seeds():
    """Configurations are compared on the seeds that all of them have, those without runs aside."""
    study = study_of({"a=low": LOW, "a=high": HIGH, "a=few": [LOW[0] + 1, LOW[1] + 1]})
    study.members.append(Member(frozenset(["a=none"]), 0, None))
    by_test, _, of_report, _ = choices(study, choice_of("a=none"))
    assert by_test.settings == {"a=low"} and by_test.test.values == {0: LOW[0], 1: LOW[1]}
    assert of_report.settings == {"a=none"} and not of_report.test.n and of_report.rank == 0
    assert on_common_seeds({"a": Cell({0: 1.0}, 2), "b": Cell({1: 1.0}, 2)}) == {}
    assert on_common_seeds({}) == {}


def test_one_configuration_with_runs_is_no_choice():
    members = [Member(frozenset(["a=1"]), 0, None), *study_of({"a=low": LOW}).members]
    assert choices(Study("s", members), choice_of("a=1")) is None


def curves(folder: Path, metric: str, values: dict[str, list[list[float]]]) -> Study:
    """A study with these curves of the metric by configuration, one per round."""
    members = []
    for setting, rounds in values.items():
        for seed, errors in enumerate(rounds):
            path = folder / f"{metric.partition('/')[0]} {setting} {seed}"
            path.mkdir()
            lines = [f"epoch,{metric}", *(f"{epoch},{each}" for epoch, each in enumerate(errors))]
            (path / "metrics.csv").write_text("\n".join(lines))
            members.append(Member(frozenset([setting]), seed, Run(path, {metric: errors[-1]})))
    return Study("s", members)


def test_the_lowest_epoch_is_one_for_all_rounds(tmp_path):
    """Epoch 2 has the lowest mean, 4.5; the rounds' own best epochs have a mean of 4.25."""
    study = curves(tmp_path, TEST, {"a=1": [[9.0, 3.0, 5.0], [9.0, 6.0, 5.5]]})
    assert study.cell(["a=1"], f"{TEST}@lowest").values == {0: 3.0, 1: 6.0}
    assert study.cell(["a=1"], f"{TEST}@best").values == {0: 3.0, 1: 5.5}
    without_runs = Study("s", [Member(frozenset(["a=1"]), 0, None)])
    assert without_runs.cell(["a=1"], f"{TEST}@lowest").n == 0


def test_an_epoch_is_chosen_by_the_mean_over_the_rounds(tmp_path):
    """The test chooses epoch 2; the held-out errors, which are of other runs, choose epoch 3."""
    rounds = {"a=1": [[9.0, 3.0, 5.0], [9.0, 6.0, 5.5]], "a=2": [[1.0, 1.0, 1.0]] * 2}
    study = curves(tmp_path, TEST, rounds)
    held_out_rounds = [[9.0, 7.0, 5.0], [9.0, 7.0, 5.0], [9.0, 7.0, 6.5]]
    held_out = curves(tmp_path, HELD_OUT, {"a=1": held_out_rounds})
    choice = choice_of("epoch=1", by_study="h", among=["a=1"], last_epoch=3)
    by_test, by_held_out, of_report, flattery = choices(study, choice, held_out)
    assert by_test.settings == {"a=1", "epoch=2"} and by_test.held_out.mean == 7
    assert by_test.test.values == {0: 3.0, 1: 6.0}
    assert by_held_out.settings == {"a=1", "epoch=3"} and by_held_out.rank == 2
    assert of_report.settings == {"a=1", "epoch=1"} and of_report.rank == 3
    assert of_report.test.mean == 9
    gaps = [(7 - 3) - (0 + 0) / 2, (7 - 6) - (0 - 0.5) / 2]
    assert list(flattery.values.values()) == pytest.approx(gaps)


def test_a_final_model_is_as_good_within_a_standard_error():
    final = Final(final="f", **PLACE, settings=[], report=[5.0, 1.0, 10])
    cell = Cell(dict(enumerate([5.2, 5.4, 5.0, 5.4, 5.3, 5.1])), 10)
    ours = statistics.variance(cell.values.values()) / 6
    assert final_verdict(cell, final) == (pytest.approx(math.sqrt(1 / 10 + ours)), HOLDS)
    mean_alone = Final(final="f", **PLACE, settings=[], report=[5.2])
    assert final_verdict(cell, mean_alone)[0] == pytest.approx(math.sqrt(ours))
    assert final_verdict(Cell(dict(enumerate([9.0, 9.2] * 3)), 10), final)[1] == FAILS
    assert final_verdict(Cell({0: 5.0, 1: 5.1}, 10), final)[1] == "not decided at n = 2"
