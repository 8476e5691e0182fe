"""Verdicts on a report's claims and final models, and choices among a study's configurations."""

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
Settings = frozenset[str]


class Verdict(NamedTuple):
    """The verdict on one claim."""

    claim: Claim
    first: list[float]  # over the seeds that both configurations have
    second: list[float]
    comparison: Comparison
    p: float  # adjusted for all claims on the study (Holm)
    verdict: str


def verdicts(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """The verdict on each claim; the claims on one study are one family of tests.

    A verdict is "holds", "does not hold" (the opposite is significant), or "not decided" with the
    number of seeds. The tests are two-sided sign-flip tests at 5 %, adjusted over the family
    (Holm). They test the mean difference against 0 ("lower", "above"), against `within`
    ("no worse") or against the nearer of both bounds ("alike"), or the deviations from the
    medians ("steadier").
    """
    pairs = [paired_values(results, claim) for claim in claims]
    raw = [_p(claim, *values) for claim, values in zip(claims, pairs)]
    adjusted = [math.nan] * len(claims)
    for study in {claim.study for claim in claims}:
        family = [index for index, claim in enumerate(claims) if claim.study == study]
        for index, p in zip(family, holm([raw[index] for index in family])):
            adjusted[index] = p
    return [
        Verdict(claim, *values, compare(*values, expanded=False), p, _verdict(claim, *values, p))
        for claim, values, p in zip(claims, pairs, adjusted)
    ]


def paired_values(results: Results, claim: Claim) -> tuple[list[float], list[float]]:
    """The values of both configurations over their common seeds."""
    first = results.study(claim.study).cell(claim.first, claim.metric).values
    if claim.bound is not None:
        return list(first.values()), [claim.bound] * len(first)
    study = results.study(claim.second_study or claim.study)
    second = study.cell(claim.second, claim.second_metric or claim.metric).values
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
    """A configuration that was chosen, and its results."""

    how: str
    settings: Settings  # empty where the study has no such configuration
    held_out: Cell  # without values where the runs that are compared lack it
    test: Cell
    rank: int  # among all by the test, from 1; 0 where it is not compared


class Choices(NamedTuple):
    """The configurations chosen by the test, by the held-out metric, and by the report.

    `flattery` is the number of points by which the test favours its own winner, by seed: the
    winner's held-out metric minus its test metric, minus the mean of this gap over the others.
    """

    by_test: Chosen
    by_held_out: Chosen
    of_report: Chosen
    flattery: Cell


def choices(study: Study, choice: Choice, by_study: Study | None = None) -> Choices | None:
    """What would be chosen among the configurations that have runs, on their common seeds.

    The held-out metric is read from the runs of `by_study`, by default from the study's own.
    Returns None where fewer than two configurations can be compared.
    """
    candidates = _candidates(study, choice, choice.metric)
    test = on_common_seeds(candidates)
    held_out = on_common_seeds(_candidates(by_study or study, choice, choice.by))
    if len(test) < 2 or held_out.keys() != test.keys():
        return None
    by_test = sorted(test, key=lambda settings: test[settings].mean)
    by_held_out = sorted(held_out, key=lambda settings: held_out[settings].mean)
    of_report = [each for each in [*by_held_out, *candidates] if each.issuperset(choice.report)]
    no_runs = Cell({}, 0)

    def chosen(how: str, settings: Settings) -> Chosen:
        rank = by_test.index(settings) + 1 if settings in test else 0
        scores = held_out.get(settings, no_runs), test.get(settings, no_runs)
        return Chosen(how, settings, *scores, rank)

    return Choices(
        chosen("by the test", by_test[0]),
        chosen("by pairs that are not of the test", by_held_out[0]),
        chosen("the report's choice", of_report[0] if of_report else frozenset()),
        _flattery([_gap(held_out[settings], test[settings]) for settings in by_test]),
    )


def _candidates(study: Study, choice: Choice, metric: str) -> dict[Settings, Cell]:
    """The metric by settings: of each configuration, or of each of its epochs."""
    configurations = [
        settings
        for settings in study.configurations()
        if not choice.among or not settings.isdisjoint(choice.among)
    ]
    if not choice.last_epoch:
        return {settings: study.cell(settings, metric) for settings in configurations}
    return {
        settings | {f"epoch={epoch}"}: study.cell(settings, f"{metric}@{epoch}")
        for settings in configurations
        for epoch in range(1, choice.last_epoch + 1)
    }


def on_common_seeds(cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """The cells that have values, restricted to the seeds that all of them have.

    On different seeds, a configuration with fewer rounds could win by luck. The result is empty
    where the cells have no common seed.
    """
    run = {key: cell for key, cell in cells.items() if cell.n}
    common = set.intersection(*(set(cell.values) for cell in run.values())) if run else set()
    if not common:
        return {}
    return {
        key: cell._replace(values={seed: cell.values[seed] for seed in sorted(common)})
        for key, cell in run.items()
    }


def _gap(held_out: Cell, test: Cell) -> dict[int, float]:
    """The held-out metric minus the test metric, by seed."""
    common = held_out.values.keys() & test.values.keys()
    return {seed: held_out.values[seed] - test.values[seed] for seed in common}


def _flattery(gaps: Sequence[dict[int, float]]) -> Cell:
    """The first gap minus the mean of the others, over the common seeds."""
    winner, *others = gaps
    seeds = sorted(set.intersection(*map(set, gaps)))
    values = {
        seed: winner[seed] - float(np.mean([other[seed] for other in others])) for seed in seeds
    }
    return Cell(values, len(seeds))


def final_verdict(cell: Cell, final: Final) -> tuple[float, str]:
    """The standard error of the difference to the report's mean, and the verdict.

    The verdict is "holds" where our mean exceeds the report's by at most one standard error.
    """
    mean, *spread = final.report
    if cell.n < ENOUGH:
        return math.nan, f"not decided at n = {cell.n}"
    theirs = spread[0] / math.sqrt(spread[1]) if spread else 0.0
    error = math.hypot(theirs, cell.std / math.sqrt(cell.n))
    return error, HOLDS if cell.mean <= mean + error else FAILS
