"""Verdicts on claims, choices among configurations and epochs, and final models, on numbers made for it."""

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


def study_of(values: dict[str, list[float]]) -> Results:
    """Results of one study "s" whose configurations have these test errors, and held-out errors a point higher."""
    members = [
        Member(
            frozenset([name]),
            seed,
            Run(
                Path("nowhere"),
                {"test/comparison_error": value, "validation/comparison_error": value + 1},
            ),
        )
        for name, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    results = Results(Path())
    results._studies["s"] = Study("s", members)
    return results


LOW, HIGH = [5.0, 6.0, 5.5, 5.2, 6.1, 5.9, 5.3, 5.7], [9.0, 9.6, 8.5, 9.2, 9.9, 9.1, 8.8, 9.4]
WILD = [2.0, 16.0, 1.0, 14.0, 3.0, 15.0, 2.5, 13.0]


@pytest.mark.parametrize(
    "claim, verdict",
    [
        ({"first": ["a=low"], "second": ["a=high"]}, HOLDS),
        ({"first": ["a=high"], "second": ["a=low"]}, FAILS),
        ({"first": ["a=low"], "second": ["a=wild"]}, "not decided at n = 8"),
        ({"first": ["a=low"], "second": ["a=few"]}, "not decided at n = 5"),
        ({"first": ["a=low"], "second": ["a=high"], "relation": "no worse", "within": 0.5}, HOLDS),
        ({"first": ["a=high"], "second": ["a=low"], "relation": "no worse", "within": 0.5}, FAILS),
        (
            {"first": ["a=wild"], "second": ["a=high"], "relation": "no worse", "within": 0.5},
            "not decided at n = 8",
        ),
        ({"first": ["a=low"], "second": ["a=wild"], "relation": "steadier"}, HOLDS),
        ({"first": ["a=wild"], "second": ["a=low"], "relation": "steadier"}, FAILS),
        ({"first": ["a=low"], "second": ["a=high"], "relation": "alike", "within": 5.0}, HOLDS),
        ({"first": ["a=low"], "second": ["a=high"], "relation": "alike", "within": 1.0}, FAILS),
        (
            {"first": ["a=low"], "second": ["a=wild"], "relation": "alike", "within": 1.0},
            "not decided at n = 8",
        ),
        ({"first": ["a=low"], "relation": "above", "bound": 3.0}, HOLDS),
        ({"first": ["a=low"], "relation": "above", "bound": 9.0}, FAILS),
        (
            {
                "first": ["a=low"],
                "second": ["a=low"],
                "second_metric": "validation/comparison_error",
            },
            HOLDS,
        ),
    ],
)
def test_verdicts(claim, verdict):
    results = study_of({"a=low": LOW, "a=high": HIGH, "a=wild": WILD, "a=few": HIGH[:5]})
    (said,) = verdicts(results, [Claim(claim="c", place="p", study="s", **claim)])
    assert said.verdict == verdict


def test_the_second_may_be_of_another_study():
    results = study_of({"a=low": LOW})
    results._studies["t"] = study_of({"a=low": HIGH}).study("s")
    (said,) = verdicts(
        results,
        [
            Claim(
                claim="c", place="p", study="s", first=["a=low"], second_study="t", second=["a=low"]
            )
        ],
    )
    assert said.verdict == HOLDS and said.first == LOW and said.second == HIGH


def test_many_claims_on_one_study_are_one_family():
    results = study_of({"a=low": LOW, "a=high": HIGH, "a=wild": WILD})
    claim = Claim(claim="c", place="p", study="s", first=["a=low"], second=["a=high"])
    assert verdicts(results, [claim])[0].p == pytest.approx(2 / 2**8)
    assert [each.p for each in verdicts(results, [claim] * 7)] == pytest.approx([14 / 2**8] * 7)
    assert verdicts(results, [claim] * 7)[0].verdict == "not decided at n = 8"


def test_choices_by_the_test_and_without_it():
    results = study_of({"a=low": LOW, "a=high": HIGH})
    study = results.study("s")
    for member in study.members:
        if "a=low" in member.settings:
            member.run.result["validation/comparison_error"] = 20.0
    by_test, by_held_out, of_report, looks = choices(
        study, Choice(choice="c", place="p", study="s", report=["a=none"])
    )
    assert by_test.settings == {"a=low"} and by_test.rank == 1 and by_test.held_out.mean == 20
    assert by_held_out.settings == {"a=high"} and by_held_out.rank == 2
    assert list(looks.values.values()) == pytest.approx(
        [20 - low - 1 for low in LOW]
    )  # the other's held-out error is a point higher
    assert of_report.settings is None and of_report.test is None


def test_choices_are_made_on_the_seeds_that_all_have():
    """A few lucky rounds of one do not compete with all rounds of another, and one that has not been run keeps none from being chosen."""
    study = study_of({"a=low": LOW, "a=high": HIGH, "a=few": [LOW[0] + 1, LOW[1] + 1]}).study("s")
    study.members.append(Member(frozenset(["a=none"]), 0, None))
    by_test, _, of_report, _ = choices(
        study, Choice(choice="c", place="p", study="s", report=["a=none"])
    )
    assert (
        by_test.settings == {"a=low"}
        and by_test.test.values == {0: LOW[0], 1: LOW[1]}
        and of_report.test is None
    )
    assert (
        on_common_seeds({"a": Cell({0: 1.0}, 2), "b": Cell({1: 1.0}, 2)})
        == {}
        == on_common_seeds({})
    )
    alone = Study(
        "s", [Member(frozenset(["a=1"]), 0, None), *study_of({"a=low": LOW}).study("s").members]
    )
    assert choices(alone, Choice(choice="c", place="p", study="s", report=["a=1"])) is None


def curves(folder: Path, metric: str, values: dict[str, list[list[float]]]) -> Study:
    """A study whose configurations have these curves of the metric, one a round."""
    members = []
    for name, rounds in values.items():
        for seed, errors in enumerate(rounds):
            place = folder / f"{metric.partition('/')[0]} {name} {seed}"
            place.mkdir()
            (place / "metrics.csv").write_text(
                f"epoch,{metric}\n"
                + "\n".join(f"{epoch},{error}" for epoch, error in enumerate(errors))
            )
            members.append(Member(frozenset([name]), seed, Run(place, {metric: errors[-1]})))
    return Study("s", members)


def test_an_epoch_is_chosen_by_the_mean_over_the_rounds(tmp_path):
    """By the test the second, whose mean is 4.5; the rounds' own best epochs have a mean of 4.25; by other runs, held out, the third."""
    study = curves(
        tmp_path,
        "test/comparison_error",
        {"a=1": [[9.0, 3.0, 5.0], [9.0, 6.0, 5.5]], "a=2": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]},
    )
    held_out = curves(
        tmp_path,
        "validation/comparison_error",
        {"a=1": [[9.0, 7.0, 5.0], [9.0, 7.0, 5.0], [9.0, 7.0, 6.5]]},
    )
    assert study.cell(["a=1"], "test/comparison_error@lowest").values == {0: 3.0, 1: 6.0}
    assert study.cell(["a=1"], "test/comparison_error@best").values == {0: 3.0, 1: 5.5}
    assert (
        Study("s", [Member(frozenset(["a=1"]), 0, None)])
        .cell(["a=1"], "test/comparison_error@lowest")
        .n
        == 0
    )
    choice = Choice(
        choice="c",
        place="p",
        study="s",
        by_study="h",
        report=["epoch=1"],
        among=["a=1"],
        last_epoch=3,
    )
    by_test, by_held_out, of_report, looks = choices(study, choice, held_out)
    assert (
        by_test.settings == {"a=1", "epoch=2"}
        and by_test.test.values == {0: 3.0, 1: 6.0}
        and by_test.held_out.mean == 7
    )
    assert by_held_out.settings == {"a=1", "epoch=3"} and by_held_out.rank == 2
    assert (
        of_report.settings == {"a=1", "epoch=1"}
        and of_report.test.mean == 9
        and of_report.rank == 3
    )
    assert list(looks.values.values()) == pytest.approx(
        [(7 - 3) - (0 + 0) / 2, (7 - 6) - (0 - 0.5) / 2]
    )


def test_a_final_model_is_as_good_within_a_standard_error():
    final = Final(final="f", place="p", study="s", settings=[], report=[5.0, 1.0, 10])
    cell = Cell(dict(enumerate([5.2, 5.4, 5.0, 5.4, 5.3, 5.1])), 10)
    error = math.sqrt(1 / 10 + statistics.variance(cell.values.values()) / 6)
    assert final_verdict(cell, final) == (pytest.approx(error), HOLDS)
    assert final_verdict(cell, Final(final="f", place="p", study="s", settings=[], report=[5.2]))[
        0
    ] == pytest.approx(math.sqrt(error**2 - 1 / 10))
    assert final_verdict(Cell(dict(enumerate([9.0, 9.2] * 3)), 10), final)[1] == FAILS
    assert final_verdict(Cell({0: 5.0, 1: 5.1}, 10), final)[1] == "not decided at n = 2"
