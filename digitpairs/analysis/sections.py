"""The tables of an analysis: groups, their comparisons, the effects of factors, failures."""

from __future__ import annotations

from digitpairs.analysis import groups
from digitpairs.analysis.calibration import calibration
from digitpairs.analysis.frames import TEST_SET, Runs
from digitpairs.analysis.tables import Section

NOTE = (
    "difference: mean of first minus second over shared seeds; 95 % CI: expanded BCa bootstrap; "
    "p: sign-flip test, adjusted by Holm's method; "
    "seeds needed: for a power of 80 % at the observed d_z"
)


def sections_of(runs: Runs, metric: str, baseline: str | None) -> list[Section]:
    """The tables, without empty ones. A single test set is named in the title, not in columns."""
    table = groups.summarise(runs, metric)
    title = groups.with_unit(metric)
    tested = table[TEST_SET].dropna().drop_duplicates().to_numpy().tolist()
    common = TEST_SET if len(tested) == 1 else []
    if common:
        title += f"; data: {tested[0][0]}, {tested[0][1]:.0f} test examples"
    sections = [Section("groups", title, table.drop(columns=common))]
    compared = groups.compare_groups(runs, metric, baseline)
    if len(compared):
        frame = compared.drop(columns=common)
        sections.append(Section("comparisons", "Paired comparisons", frame, NOTE))
    if len(groups.factors(runs)) > 1:
        note = "mean over all values of the other factors; 95 % CI over seeds"
        frame = groups.effects(runs, metric).drop(columns=common)
        sections.append(Section("effects", "Effect of each factor", frame, note))
    failed = runs.runs[runs.runs["failure"].notna()]
    if len(failed):
        columns = failed[["group", "seed", "failure"]].rename(columns={"failure": "reason"})
        sections.append(Section("failures", "Failed runs", columns))
    return sections


def calibration_sections(runs: Runs) -> list[Section]:
    """The table of how well probabilities are calibrated; none for runs without predictions."""
    table = calibration(runs)
    note = (
        "calibration error: expected calibration error over 15 bins, all seeds together; "
        "by seed: mean and standard deviation of the seeds' own; in %"
    )
    return [Section("calibration", "Calibration", table, note)] if len(table) else []
