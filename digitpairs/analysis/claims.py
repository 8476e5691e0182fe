"""Verdicts on a report's claims, by paired tests over the seeds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from digitpairs.analysis.reports import Choice, Claim, Final
from digitpairs.analysis.results import Cell, Results, Study
from digitpairs.analysis.statistics import (
    ALPHA,
    ENOUGH,
    Comparison,
    compare,
    deviations,
    holm,
    sign_flip,
    spread_p,
)

HOLDS, FAILS = "holds", "does not hold"
Key = TypeVar("Key", bound=Hashable)


class Verdict(NamedTuple):
    """On one claim."""

    claim: Claim
    first: list[float]  # of the seeds that both configurations have
    second: list[float]
    comparison: Comparison
    p: float  # adjusted for all claims on the study (Holm)
    verdict: str


def verdicts(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """One a claim, a study's claims being one family: "holds", "does not hold" (the opposite is significant), or "not decided" with the number of seeds.

    By two-sided sign-flip tests at 5 %, adjusted over the claims on one study (Holm): of the mean difference against 0 ("lower", "above"),
    against the claim's bound ("no worse"), against its nearer bound ("alike"), or of the deviations from the medians ("steadier").
    """
    pairs = [_values(results, claim) for claim in claims]
    raw = [_p(claim, *values) for claim, values in zip(claims, pairs)]
    adjusted: dict[int, float] = {}
    for study in dict.fromkeys(claim.study for claim in claims):
        family = [place for place, claim in enumerate(claims) if claim.study == study]
        adjusted |= dict(zip(family, holm([raw[place] for place in family])))
    return [
        Verdict(
            claim,
            *values,
            compare(*values),
            adjusted[place],
            _verdict(claim, *values, adjusted[place]),
        )
        for place, (claim, values) in enumerate(zip(claims, pairs))
    ]


def _values(results: Results, claim: Claim) -> tuple[list[float], list[float]]:
    """Of the seeds that both configurations have."""
    first = results.study(claim.study).cell(claim.first, claim.metric).values
    if claim.bound is not None:
        return list(first.values()), [claim.bound] * len(first)
    second = (
        results.study(claim.second_study or claim.study)
        .cell(claim.second, claim.second_metric or claim.metric)
        .values
    )
    seeds = sorted(first.keys() & second.keys())
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def _p(claim: Claim, first: list[float], second: list[float]) -> float:
    if claim.relation == "steadier":
        return spread_p(first, second)
    difference = np.subtract(first, second)
    if claim.relation == "no worse":
        return sign_flip(difference - claim.within)
    if claim.relation == "alike":
        return max(sign_flip(difference - claim.within), sign_flip(difference + claim.within))
    return sign_flip(difference)


def _verdict(claim: Claim, first: list[float], second: list[float], p: float) -> str:
    if len(first) < ENOUGH or p >= ALPHA:
        return f"not decided at n = {len(first)}"
    difference = float(np.mean(np.subtract(first, second)))
    as_claimed = {
        "lower": difference < 0,
        "above": difference > 0,
        "no worse": difference < claim.within,
        "alike": abs(difference) < claim.within,
        "steadier": deviations(first).mean() < deviations(second).mean(),
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
    flattery: Cell  # by seed: the points by which the winner by the test looks better there than on other pairs, beyond what the others do


def choices(study: Study, choice: Choice, by_study: Study | None = None) -> Choices | None:
    """What would be chosen among the configurations that have been run, on the seeds that all of them have; `by_study` is that whose runs have
    the metric `by`, the same by default. None where no two can be compared.
    """
    groups = _candidates(study, choice, choice.metric)
    held_out, test = map(
        on_common_seeds, (_candidates(by_study or study, choice, choice.by), groups)
    )
    if len(test) < 2 or held_out.keys() != test.keys():
        return None
    winner, *others = ranking = sorted(test, key=lambda each: test[each].mean)
    by_held_out = sorted(held_out, key=lambda each: held_out[each].mean)

    def chosen(how: str, candidates: Sequence[frozenset[str]]) -> Chosen:
        settings = next((each for each in candidates if each in test), next(iter(candidates), None))
        if settings not in test:
            return Chosen(how, settings, None, None, 0)
        return Chosen(
            how, settings, held_out[settings], test[settings], ranking.index(settings) + 1
        )

    of_report = set(choice.report)
    return Choices(
        chosen("by the test", ranking),
        chosen("by pairs that are not of the test", by_held_out),
        chosen(
            "the report's choice", [each for each in [*by_held_out, *groups] if of_report <= each]
        ),
        _flattery(
            (held_out[winner], test[winner]), [(held_out[each], test[each]) for each in others]
        ),
    )


def _candidates(study: Study, choice: Choice, metric: str) -> dict[frozenset[str], Cell]:
    """The metric of each configuration, or of each of its epochs, by settings."""
    groups = [
        each for each in study.configurations() if not choice.among or each & set(choice.among)
    ]
    if not choice.last_epoch:
        return {each: study.cell(each, metric) for each in groups}
    return {
        each | {f"epoch={epoch}"}: study.cell(each, f"{metric}@{epoch}")
        for each in groups
        for epoch in range(1, choice.last_epoch + 1)
    }


def on_common_seeds(cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Those that have been run, on the seeds that all of them have: otherwise fewer rounds would win by luck. Nothing where they share none."""
    run = {key: cell for key, cell in cells.items() if cell.n}
    seeds = sorted(set.intersection(*(set(cell.values) for cell in run.values()))) if run else []
    return {
        key: cell._replace(values={seed: cell.values[seed] for seed in seeds})
        for key, cell in run.items()
        if seeds
    }


def _flattery(winner: tuple[Cell, Cell], others: Sequence[tuple[Cell, Cell]]) -> Cell:
    looks = [
        {
            seed: held_out.values[seed] - test.values[seed]
            for seed in held_out.values.keys() & test.values.keys()
        }
        for held_out, test in (winner, *others)
    ]
    seeds = sorted(set.intersection(*map(set, looks)))
    return Cell(
        {
            seed: looks[0][seed] - float(np.mean([each[seed] for each in looks[1:]]))
            for seed in seeds
        },
        len(seeds),
    )


def final_verdict(cell: Cell, final: Final) -> tuple[float, str]:
    """The standard error of the difference to the report's mean, and whether ours is at most one of them higher."""
    mean, *spread = final.report
    if cell.n < ENOUGH:
        return math.nan, f"not decided at n = {cell.n}"
    theirs = spread[0] / math.sqrt(spread[1]) if spread else 0.0
    error = math.hypot(theirs, cell.std / math.sqrt(cell.n))
    return error, HOLDS if cell.mean <= mean + error else FAILS
