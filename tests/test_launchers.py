"""Sweeps by Hydra's other launchers, and in batches: all runs are done, and failures are told."""

import json
from pathlib import Path

import pytest

SMALL = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[8]",
    "data.pairs=40",
    "data.test_pairs=20",
    "trainer.max_epochs=1",
]
DIVERGING = ["optimizer=sgd", "scheduler=none", "-m", "optimizer.lr=1e30,0.01", "seed=0,1"]


def runs(folder: Path, name: str) -> dict[str, dict]:
    """The contents of the runs' files of that name, by the runs' folders."""
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text())
        for path in folder.glob(f"*/*/*/{name}")
    }


def test_another_launcher_runs_every_job_where_ours_would(command, tmp_path):
    sweep = [*SMALL, "optimizer.lr=0.01,0.02", "-m", "seed=3"]
    assert command(*sweep, "sweep.plan=serial", output=tmp_path / "ours")[0] == 0
    status, out, err = command("hydra/launcher=basic", *sweep, output=tmp_path / "other")
    assert (
        (status, err) == (0, "")
        and out.startswith("2 runs: by Hydra's launcher, a run a job\n")
        and out.count("Results: ") == 1
    )
    ours, other = (runs(tmp_path / name, "result.json") for name in ("ours", "other"))
    assert list(ours) == list(other) and len(ours) == 2
    assert [run["test/loss"] for run in ours.values()] == pytest.approx(
        [run["test/loss"] for run in other.values()], rel=1e-5
    )
    names = [
        sorted(path.name.partition(".")[0] for path in (tmp_path / name).glob("*/*/seed=3/*"))
        for name in ("ours", "other")
    ]
    assert names[0] == names[1]
    status, out, _ = command("hydra/launcher=basic", *sweep, output=tmp_path / "other")
    assert status == 0 and out.startswith("2 runs, all finished before")


@pytest.mark.parametrize("batches", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["whole", "ones"])
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=basic"]], ids=["ours", "basic"])
def test_a_failed_run_is_told_after_all_others_are_done(command, tmp_path, launcher, batches):
    status, _, err = command(*SMALL, *launcher, *batches, *DIVERGING)
    assert status == 1 and err.count("FAILED, the loss became") == 2
    assert (
        len(runs(tmp_path / "outputs", "result.json"))
        == len(runs(tmp_path / "outputs", "failure.json"))
        == 2
    )


def test_a_run_alone_that_fails_ends_with_status_1(command):
    assert command(*SMALL, "optimizer=sgd", "scheduler=none", "optimizer.lr=1e30")[0] == 1


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=basic"]])
def test_another_launcher_does_not_change_what_is_refused(command, tmp_path, launcher):
    status, out, err = command(*SMALL, *launcher, "-m", "seed=0,1,-1")
    assert (
        (status, out) == (2, "")
        and err.startswith("error: seed=-1 is not accepted")
        and err.count("\n") == 1
    )
    assert not runs(tmp_path / "outputs", "result.json")


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=basic"]])
def test_another_sweeper_is_refused_by_name(command, tmp_path, launcher):
    status, _, err = command(*SMALL, *launcher, "hydra/sweeper=basic", "-m", "seed=0,1")
    assert (
        status == 2
        and err.startswith("error: hydra/sweeper=basic is not accepted: digitpairs")
        and err.count("\n") == 1
    )
    assert not runs(tmp_path / "outputs", "result.json")


@pytest.mark.parametrize("size", ["0", "foo", "-1"])
def test_batches_of_no_size_are_refused(command, size):
    status, _, err = command(*SMALL, f"hydra.sweeper.max_batch_size={size}", "-m", "seed=0,1")
    assert status == 2 and err.startswith(
        f"error: hydra.sweeper.max_batch_size={size} is not accepted: a whole number of at least 1"
    )
