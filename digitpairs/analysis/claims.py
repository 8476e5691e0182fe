"""Verdicts on a report's claims, by paired tests over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from digitpairs.analysis.reports import Choice, Claim, Final
from digitpairs.analysis.results import Cell, Results, Study
from digitpairs.analysis.statistics import ALPHA, ENOUGH, Comparison, compare, holm, spread_p

HOLDS, FAILS = "holds", "does not hold"
TESTED = ("lower", "above", "steadier")  # the other relations are decided by intervals


class Verdict(NamedTuple):
    """On one claim."""

    claim: Claim
    first: list[float]  # of the seeds that both configurations have
    second: list[float]
    comparison: Comparison
    p: float  # adjusted for all tests on the study (Holm); nan where intervals decide
    verdict: str


def verdicts(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """One a claim, a study's claims being one family: "holds", "does not hold" (the opposite is significant), or "not decided" with the number of seeds.

    "lower" and "above" are decided by the sign-flip test of the means, "steadier" by the Pitman-Morgan test of the variances, adjusted over
    the claims on one study (Holm); "alike" and "no worse" by whether the 95 % interval of the difference lies within the claim's bound, or
    wholly outside.
    """
    pairs = [_values(results, claim) for claim in claims]
    comparisons = [compare(*values) for values in pairs]
    adjusted: dict[int, float] = {}
    for study in dict.fromkeys(claim.study for claim in claims):
        tests = [place for place, claim in enumerate(claims) if claim.relation in TESTED and claim.study == study]
        raw = [spread_p(*pairs[place]) if claims[place].relation == "steadier" else comparisons[place].p for place in tests]
        adjusted |= dict(zip(tests, holm(raw)))
    said = []
    for place, (claim, values, comparison) in enumerate(zip(claims, pairs, comparisons)):
        p = adjusted.get(place, math.nan)
        said.append(Verdict(claim, *values, comparison, p, _verdict(claim, *values, comparison, p)))
    return said


def _values(results: Results, claim: Claim) -> tuple[list[float], list[float]]:
    """Of the seeds that both configurations have."""
    first = results.study(claim.study).cell(claim.first, claim.metric).values
    if claim.bound is not None:
        return list(first.values()), [claim.bound] * len(first)
    second = results.study(claim.second_study or claim.study).cell(claim.second, claim.second_metric or claim.metric).values
    seeds = sorted(first.keys() & second.keys())
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def _verdict(claim: Claim, first: list[float], second: list[float], comparison: Comparison, p: float) -> str:
    undecided = f"not decided at n = {comparison.n}"
    if comparison.n < ENOUGH:
        return undecided
    low, high = comparison.interval
    if claim.relation == "no worse":
        return HOLDS if high <= claim.within else FAILS if low > claim.within else undecided
    if claim.relation == "alike":
        if -claim.within <= low and high <= claim.within:
            return HOLDS
        return FAILS if low > claim.within or high < -claim.within else undecided
    if p >= ALPHA:
        return undecided
    as_claimed = {
        "lower": comparison.difference < 0,
        "above": comparison.difference > 0,
        "steadier": np.std(first) < np.std(second),
    }
    return HOLDS if as_claimed[claim.relation] else FAILS


class Chosen(NamedTuple):
    """A configuration that was chosen, and how it did."""

    how: str
    settings: frozenset[str] | None  # None where nothing has been run
    held_out: Cell | None
    test: Cell | None
    rank: int  # among all by the test, from 1


class Choices(NamedTuple):
    """Chosen by the test, by what is not of the test, and by the report."""

    by_test: Chosen
    by_held_out: Chosen
    of_report: Chosen
    flattery: float  # points by which the winner by the test looks better there than on other pairs, beyond what all configurations do


def choices(study: Study, choice: Choice) -> Choices:
    """What would be chosen; only configurations with as many rounds as any compete."""
    groups = [each for each in study.configurations() if not choice.among or each & set(choice.among)]
    cells = {each: (study.cell(each, choice.by), study.cell(each, choice.metric)) for each in groups}
    most = max(min(cell.n for cell in pair) for pair in cells.values())
    full = {each: pair for each, pair in cells.items() if most and min(cell.n for cell in pair) == most}
    ranking = sorted(full, key=lambda each: full[each][1].mean)
    by_held_out = sorted(full, key=lambda each: full[each][0].mean)

    def chosen(how: str, candidates: Sequence[frozenset[str]]) -> Chosen:
        settings = next((each for each in candidates if each in full), next(iter(candidates), None))
        if settings not in full:
            return Chosen(how, settings, None, None, 0)
        return Chosen(how, settings, *full[settings], ranking.index(settings) + 1)

    of_report = set(choice.report)
    looks = {each: held_out.mean - test.mean for each, (held_out, test) in full.items()}
    return Choices(
        chosen("by the test", ranking),
        chosen("by pairs that are not of the test", by_held_out),
        chosen("the report's choice", [each for each in [*by_held_out, *groups] if of_report <= each]),
        looks[ranking[0]] - float(np.mean(list(looks.values()))) if looks else math.nan,
    )


def final_verdict(cell: Cell, final: Final) -> tuple[float, str]:
    """The standard error of the difference to the report's mean, and whether ours is at most one of them higher."""
    mean, *spread = final.report
    if cell.n < ENOUGH:
        return math.nan, f"not decided at n = {cell.n}"
    std, rounds = spread or (0.0, 1)
    error = math.hypot(std / math.sqrt(rounds), cell.std / math.sqrt(cell.n))
    return error, HOLDS if cell.mean <= mean + error else FAILS
