"""The studies of the reports: each is what its report says, and each runs."""

import itertools
import json

import pytest

from digitpairs.cli import CONF, normalize_arguments
from digitpairs.networks import create
from digitpairs.streams import stream
from digitpairs.sweeps import sweep
from digitpairs.sweeps.compose import compose_command, expand_command
from digitpairs.training import build

STUDIES = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").glob("*/*.yaml")
)
STUDIES_OF_PAIRS = [study for study in STUDIES if "/disk" not in study]
COMPOSED_BELOW = ["wang/convnet_search", "wang/mlp_search"]
SMALL = ["data=digits", "data.pairs=40", "data.test_pairs=20"]


@pytest.fixture
def asked(command, monkeypatch):
    """`asked("wang/sharing")`: the configs of a study's jobs, checked and not trained."""

    def jobs_of(study: str, *arguments: str) -> list[dict]:
        jobs = []
        with monkeypatch.context() as patch:
            patch.setattr(
                sweep, "make_plan", lambda given, *rest: jobs.extend(given) or sweep.Plan([], 0, 1)
            )
            patch.setattr(sweep, "execute_plan", lambda *given: 0)
            status, _, err = command(f"experiment={study}", *SMALL, *arguments)
        assert status == 0, err
        return [job.config for job in jobs]

    return jobs_of


def parameters(config: dict) -> int:
    network = create(lambda: build(config["model"]), stream(0, "weights"))
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "study", [study for study in STUDIES_OF_PAIRS if study not in COMPOSED_BELOW]
)
def test_every_study_can_be_run(asked, study):
    short = asked(study, "smoke=on")
    assert {job["seed"] for job in short} == {0, 1}
    if not any(
        key in study for key in ("/epochs", "skura/sched", "skura/wide", "skura/own_rounds")
    ):  # whose subject the epochs are
        assert {job["trainer"]["max_epochs"] for job in short} == {2}


def test_the_rows_of_azzano(asked):
    jobs = asked("azzano/models")
    rows = {
        (
            job["model"]["body"]["_target_"].rpartition(".")[2],
            job["model"]["sharing"],
            job["aux"]["_target_"].rpartition(".")[2],
        )
        for job in jobs
    }
    assert len(jobs) == 80 and rows == set(
        itertools.product(
            ["MLPBody", "CNNBody"], [True, False], ["FreeWeighting", "NoAuxWeighting"]
        )
    )


def test_the_searches_of_wang(asked):
    widths = {
        tuple(job["model"]["body"]["hidden"]): parameters(job)
        for job in asked("wang/mlp_search", "seed=0")
    }
    assert len(widths) == 47 and widths[128, 64, 32, 256] == 69345
    assert all(65000 <= count <= 75000 for count in widths.values())
    channels = [
        (job["model"]["body"]["channels"], job["model"]["body"]["hidden"], parameters(job))
        for job in asked("wang/convnet_search", "seed=0")
    ]
    assert len(channels) == 24 and ([32, 64, 32], [512], 69313) in channels
    assert all(65000 <= count <= 75000 for *_, count in channels)
    assert parameters(asked("wang/batch_norm", "seed=0")[0]) == 69313


def test_the_parameters_of_coukos(asked):
    jobs = {job["seed"]: job for job in asked("coukos/models", "variant=coukos/main")}
    assert parameters(jobs[0]) == 105036
    assert parameters(asked("coukos/models", "variant=coukos/not_shared")[0]) == 210030
    assert (
        abs(parameters(asked("coukos/models", "variant=coukos/fully_connected")[0]) - 105036) < 1000
    )
    assert [jobs[seed]["data"]["fold"] for seed in range(10)] == list(range(10)) and {
        job["data"]["seed"] for job in jobs.values()
    } == {0}
    grid = {
        tuple(float(settings[key]) for key in ("aux.c", "optimizer.lr"))
        for settings in overrides("coukos/grid")
    }
    assert (
        len(grid) == 50
        and (0.2778, 0.1) in grid
        and (0, 0.0001) in grid
        and (0.5, 0.003162) in grid
    )


@pytest.mark.parametrize(
    "variant", ["skura/mlp", "skura/legacy", "skura/shared", "pillonel/model2"]
)
def test_sizes_that_are_open_are_near_the_courses(asked, variant):
    assert 60_000 <= parameters(asked("skura/aux", f"variant={variant}", "seed=0")[0]) <= 80_000


def overrides(study: str) -> list[dict[str, str]]:
    """Those of each of a study's jobs, without composing their configs."""
    return [
        dict(each.split("=", 1) for each in job)
        for job in expand_command(CONF, [f"experiment={study}"])
    ]


def test_rounds():
    for study, rounds, configurations in (
        ("pillonel/models", 100, 4),
        ("wang/sharing", 10, 8),
        ("wang/aux", 10, 22),
    ):
        jobs = overrides(study)
        assert len(jobs) == rounds * configurations and {int(job["seed"]) for job in jobs} == set(
            range(rounds)
        )


@pytest.mark.parametrize(
    ("study", "keys"),
    [("wang/sharing", ("pairs", "test_pairs")), ("skura/disk", ("points", "test_points"))],
)
def test_a_study_in_short_has_little_data(study, keys):
    """Whatever its epochs are: smoke_data is chosen by the task, which the study's yaml overrides."""
    full, short = (
        compose_command(CONF, [f"experiment={study}", "seed=0", *given])[0].config["data"]
        for given in ([], ["smoke=on"])
    )
    assert [short[key] for key in keys] == [100, 100] and {**short, keys[0]: 0, keys[1]: 0} == {
        **full,
        keys[0]: 0,
        keys[1]: 0,
    }


@pytest.mark.parametrize("study", ["pillonel/models", "coukos/models", "wang/sharing"])
def test_studies_in_short(command, tmp_path, study):
    status, out, err = command(f"experiment={study}", "smoke=on", *SMALL, "sweep.plan=serial")
    assert status == 0, err
    results = [
        json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("*/*/*/result.json")
    ]
    assert results and all(result["epochs"] <= 2 for result in results)


@pytest.mark.long
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_in_short(command, study):
    small = SMALL if study in STUDIES_OF_PAIRS else []
    assert command(f"experiment={study}", "smoke=on", *small, "sweep.plan=serial")[0] == 0


def test_a_fault_in_a_studys_arguments_is_the_one_that_is_told(command):
    """Hydra by itself says that a sweep needs -m, whatever else is wrong."""
    status, _, err = command(
        "experiment=wang/sharing", "optimizer.rate=0.1", "aux.lambda=0.1,0.2", *SMALL
    )
    assert status == 2 and "optimizer.rate=0.1 is not accepted: there is no such key" in err
    assert normalize_arguments(["experiment=wang/sharing", "--cfg", "job"]) == [
        "experiment=wang/sharing",
        "--cfg",
        "job",
    ]
    assert normalize_arguments(["experiment=nothing", "seed=1"]) == ["experiment=nothing", "seed=1"]


def test_each_number_of_epochs_of_skura_has_rounds_of_its_own(asked):
    jobs = asked("skura/own_rounds")
    seeds = [job["seeds"]["weights"] for job in jobs]
    assert len(set(seeds)) == len(jobs) == 200
    assert all(
        job["data"]["seed"] == job["seeds"]["order"] == seed for job, seed in zip(jobs, seeds)
    )
