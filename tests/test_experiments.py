"""The studies of the reports: each follows its report, and each runs."""

import itertools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from digitpairs.cli import CONF, normalize_arguments
from digitpairs.networks import create
from digitpairs.streams import stream
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import compose_command, expand_command
from digitpairs.sweeps.jobs import plan_jobs
from digitpairs.training import build
from tests.conftest import contents

STUDIES = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").glob("*/*.yaml")
)
STUDIES_OF_PAIRS = [study for study in STUDIES if "/disk" not in study]
STUDIES_OF_EPOCHS = (
    "/epochs",
    "skura/sched",
    "skura/open/wide_and_small_batches",
    "skura/open/rounds_of_each_epoch_count",
)
# The studies of the reports' main tables; the others are checked by the long tests.
MAIN_STUDIES = ("azzano/models", "coukos/models", "pillonel/models", "skura/aux", "wang/sharing")
SMALL = ["data=digits", "data.pairs=40", "data.test_pairs=20"]


def study_configs(study: str, *arguments: str) -> list[dict]:
    """The configs of a study's jobs, as they are composed."""
    command = [f"experiment={study}", *SMALL, *arguments]
    return [request.config for request in compose_command(CONF, command)]


def parameters(config: dict) -> int:
    network = create(lambda: build(config["model"]), stream(0, "weights"))
    return sum(parameter.numel() for parameter in network.parameters())


def overrides_of(study: str) -> list[dict[str, str]]:
    """The overrides of a study's jobs, without composing their configs."""
    jobs = expand_command(CONF, [f"experiment={study}"])
    return [dict(override.split("=", 1) for override in job) for job in jobs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [each for each in STUDIES if each in MAIN_STUDIES]
    + [
        pytest.param(study, marks=pytest.mark.long)
        for study in STUDIES
        if study not in MAIN_STUDIES
    ],
)
def test_every_study_can_be_run(study):
    small = SMALL if study in STUDIES_OF_PAIRS else []
    checker = Checker()
    jobs = plan_jobs(compose_command(CONF, [f"experiment={study}", *small, "smoke=on"]))
    for job in jobs:
        checker.check(job.config)
    assert {job.seed for job in jobs} == {0, 1}
    if not any(key in study for key in STUDIES_OF_EPOCHS):
        assert {job.config["trainer"]["max_epochs"] for job in jobs} == {2}


@pytest.mark.slow
def test_the_rows_of_azzano():
    rows = [
        (
            config["model"]["body"]["_target_"].rpartition(".")[2],
            config["model"]["sharing"],
            config["aux"]["_target_"].rpartition(".")[2],
        )
        for config in study_configs("azzano/models", "seed=0")
    ]
    bodies, weightings = ["MLPBody", "CNNBody"], ["FreeWeighting", "NoAuxWeighting"]
    assert len(rows) == 8
    assert set(rows) == set(itertools.product(bodies, [True, False], weightings))


def searched(study: str, key: str) -> list[dict]:
    """The configs of the networks that a study searches by the values of this key."""
    values = list(dict.fromkeys(overrides[key] for overrides in overrides_of(study)))
    (config,) = study_configs(study, "seed=0", f"{key}={values[0]}")
    configs = []
    for value in values:
        setting = OverridesParser.create().parse_override(f"{key}={value}").value()
        body = setting if key == "model.body" else {"hidden": setting}
        model = config["model"] | {"body": config["model"]["body"] | body}
        configs.append(config | {"model": model})
    return configs


@pytest.mark.slow
def test_the_searches_of_wang():
    widths = {}
    for config in searched("wang/mlp_search", "model.body.hidden"):
        widths[tuple(config["model"]["body"]["hidden"])] = parameters(config)
    assert len(widths) == 47 and widths[128, 64, 32, 256] == 69345
    assert all(65000 <= count <= 75000 for count in widths.values())
    convnets = []
    for config in searched("wang/convnet_search", "model.body"):
        body = config["model"]["body"]
        convnets.append((body["channels"], body["hidden"], parameters(config)))
    assert len(convnets) == 24 and ([32, 64, 32], [512], 69313) in convnets
    assert all(65000 <= count <= 75000 for *_, count in convnets)
    assert parameters(study_configs("wang/batch_norm", "seed=0")[0]) == 69313


@pytest.mark.slow
def test_the_parameters_of_coukos():
    main, not_shared, fully_connected = (
        study_configs(
            "coukos/models", f"variant=coukos/{name}", "model.comparison_output_activation=null"
        )
        for name in ("main", "not_shared", "fully_connected")
    )
    assert parameters(main[0]) == 105036
    assert parameters(not_shared[0]) == 210030
    assert abs(parameters(fully_connected[0]) - 105036) < 1000
    folds = {config["seed"]: config["data"]["fold"] for config in main}
    assert folds == {seed: seed for seed in range(10)}
    assert {config["data"]["seed"] for config in main} == {0}
    grid = {
        (float(overrides["aux.c"]), float(overrides["optimizer.lr"]))
        for overrides in overrides_of("coukos/grid")
    }
    assert len(grid) == 50 and {(0.2778, 0.1), (0, 0.0001), (0.5, 0.003162)} <= grid


@pytest.mark.parametrize(
    "variant", ["skura/mlp", "skura/legacy", "skura/shared", "pillonel/model2"]
)
def test_sizes_that_reports_leave_open_are_near_the_courses(variant):
    (config, *_) = study_configs("skura/aux", f"variant={variant}", "seed=0")
    assert 60_000 <= parameters(config) <= 80_000


@pytest.mark.parametrize(
    "study, rounds, configurations",
    [("pillonel/models", 100, 4), ("wang/sharing", 10, 8), ("wang/aux", 10, 22)],
)
def test_rounds(study, rounds, configurations):
    seeds = [int(overrides["seed"]) for overrides in overrides_of(study)]
    assert len(seeds) == rounds * configurations and set(seeds) == set(range(rounds))


@pytest.mark.slow
@pytest.mark.parametrize(
    "study, keys",
    [("wang/dropout", ("pairs", "test_pairs")), ("skura/disk", ("points", "test_points"))],
)
def test_a_smoke_run_has_little_data(study, keys):
    """The group smoke_data follows the task, which the study's yaml overrides."""
    arguments = [f"experiment={study}", "seed=0"]
    full = compose_command(CONF, arguments)[0].config["data"]
    smoke = compose_command(CONF, [*arguments, "smoke=on"])[0].config["data"]
    assert [smoke[key] for key in keys] == [100, 100]
    same_sizes = dict.fromkeys(keys, 0)
    assert {**smoke, **same_sizes} == {**full, **same_sizes}


@pytest.mark.long
@pytest.mark.parametrize("study", STUDIES)
def test_every_smoke_run_finishes_and_is_short(command, tmp_path, study):
    small = SMALL if study in STUDIES_OF_PAIRS else []
    status, _, err = command(f"experiment={study}", "smoke=on", *small, "sweep.plan=serial")
    assert status == 0, err
    epochs = [result["epochs"] for result in contents(tmp_path / "outputs").values()]
    assert epochs and (max(epochs) <= 2 or any(key in study for key in STUDIES_OF_EPOCHS))


@pytest.mark.slow
def test_a_fault_in_a_studys_arguments_is_named(command):
    """Without -m, Hydra alone reports that lists of values need -m, and no other fault."""
    faults = ["optimizer.rate=0.1", "aux.lambda=0.1,0.2"]
    status, _, err = command("experiment=wang/sharing", *faults, *SMALL)
    assert status == 2 and "optimizer.rate=0.1 is not accepted: there is no such key" in err


@pytest.mark.parametrize(
    "arguments",
    [["experiment=wang/sharing", "--cfg", "job"], ["experiment=nothing", "seed=1"]],
)
def test_arguments_that_start_no_sweep_stay_as_they_are(arguments):
    assert normalize_arguments(arguments) == arguments


@pytest.mark.slow
def test_each_number_of_epochs_of_skura_has_rounds_of_its_own():
    configs = study_configs("skura/open/rounds_of_each_epoch_count", "seed=0,9")
    seeds = [config["seeds"]["weights"] for config in configs]
    assert len(set(seeds)) == len(configs) == 40
    assert seeds == [config["data"]["seed"] for config in configs]
    assert seeds == [config["seeds"]["order"] for config in configs]
