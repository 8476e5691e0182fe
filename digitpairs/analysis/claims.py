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


class Verdict(NamedTuple):
    """On one claim. The comparison is of the two configurations' values over the seeds that both have."""

    claim: Claim
    first: Cell
    second: Cell
    comparison: Comparison
    p: float  # adjusted for all tests on the study (Holm); nan where intervals decide
    verdict: str


def verdicts(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """One a claim, a study's claims being one family: "holds", "does not hold" (the opposite is significant), or "not decided" with the number of seeds.

    "lower" and "above" are decided by the sign-flip test of the means, "steadier" by the Pitman-Morgan test of the variances, adjusted over
    the claims on one study (Holm); "alike" by whether the 95 % interval of the difference lies within the claim's bound, or wholly outside.
    """
    pairs = [_cells(results, claim) for claim in claims]
    comparisons = [compare(*_paired(*cells)) for cells in pairs]
    adjusted: dict[int, float] = {}
    for study in dict.fromkeys(claim.study for claim in claims):
        tests = [place for place, claim in enumerate(claims) if claim.relation != "alike" and claim.study == study]
        raw = [spread_p(*_paired(*pairs[place])) if claims[place].relation == "steadier" else comparisons[place].p for place in tests]
        adjusted |= dict(zip(tests, holm(raw)))
    said = []
    for place, (claim, cells, comparison) in enumerate(zip(claims, pairs, comparisons)):
        p = adjusted.get(place, math.nan)
        said.append(Verdict(claim, *cells, comparison, p, _verdict(claim, *_paired(*cells), comparison, p)))
    return said


def _cells(results: Results, claim: Claim) -> tuple[Cell, Cell]:
    first = results.study(claim.study).cell(claim.first, claim.metric)
    if claim.bound is not None:
        return first, Cell(dict.fromkeys(first.values, claim.bound), first.expected)
    second = results.study(claim.study).cell(claim.second, claim.second_metric or claim.metric)
    return Cell({seed: claim.factor * value for seed, value in first.values.items()}, first.expected), second


def _paired(first: Cell, second: Cell) -> tuple[list[float], list[float]]:
    seeds = sorted(first.values.keys() & second.values.keys())
    return [first.values[seed] for seed in seeds], [second.values[seed] for seed in seeds]


def _verdict(claim: Claim, first: list[float], second: list[float], comparison: Comparison, p: float) -> str:
    undecided = f"not decided at n = {comparison.n}"
    if comparison.n < ENOUGH:
        return undecided
    if claim.relation == "alike":
        low, high = comparison.interval
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


def choices(study: Study, choice: Choice) -> list[Chosen]:
    """Chosen by the test, chosen by what is not of the test, and the report's own; only configurations with as many rounds as any compete."""
    groups = [each for each in study.configurations() if not choice.among or each & set(choice.among)]
    cells = {each: (study.cell(each, choice.by), study.cell(each, choice.metric)) for each in groups}
    most = max(test.n for _, test in cells.values())
    full = {each: pair for each, pair in cells.items() if pair[1].n == most and most}
    ranking = sorted(full, key=lambda each: full[each][1].mean)

    def chosen(how: str, settings: frozenset[str] | None) -> Chosen:
        if settings is None or settings not in full:
            return Chosen(how, settings, None, None, 0)
        return Chosen(how, settings, *full[settings], ranking.index(settings) + 1)

    of_report = next((each for each in groups if set(choice.report) <= each), None)
    return [
        chosen("by the test", min(full, key=lambda each: full[each][1].mean, default=None)),
        chosen("by pairs that are not of the test", min(full, key=lambda each: full[each][0].mean, default=None)),
        chosen("the report's choice", of_report),
    ]


def final_verdict(cell: Cell, final: Final) -> tuple[float, str]:
    """The standard error of the difference to the report's mean, and whether ours is at most one of them higher."""
    mean, std, rounds = final.report
    if cell.n < 2:
        return math.nan, f"not decided at n = {cell.n}"
    error = math.hypot(std / math.sqrt(rounds), cell.std / math.sqrt(cell.n))
    return error, HOLDS if cell.mean <= mean + error else FAILS
