"""Sweeps by Hydra's other launchers, and in batches."""

import pytest

from tests.conftest import SMALL_DATA_AND_MODEL, contents

ONE_EPOCH = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=1"]
SGD = ["optimizer=sgd", "scheduler=none"]
BASIC = ["hydra/launcher=basic"]
BATCH_SIZE = "hydra.sweeper.max_batch_size"


@pytest.mark.slow
def test_another_launcher_leaves_the_same_runs(command, tmp_path):
    sweep = [*ONE_EPOCH, "optimizer.lr=0.01,0.02", "-m", "seed=3"]
    ours, other = tmp_path / "ours", tmp_path / "other"
    assert command(*sweep, "sweep.plan=serial", output=ours)[0] == 0
    status, out, err = command(*BASIC, *sweep, output=other)
    assert (status, err) == (0, "") and out.count("Results: ") == 1
    assert out.startswith("2 runs: by Hydra's launcher, a run a job\n")
    losses, other_losses = (
        {run: result["test/loss"] for run, result in contents(output).items()}
        for output in (ours, other)
    )
    assert len(losses) == 2 and other_losses == pytest.approx(losses, rel=1e-5)
    names, other_names = (
        sorted(path.name.partition(".")[0] for path in output.glob("*/*/seed=3/*"))
        for output in (ours, other)
    )
    assert names == other_names
    status, out, _ = command(*BASIC, *sweep, output=other)
    assert status == 0 and out.startswith("2 runs, all finished before")


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [BASIC, [f"{BATCH_SIZE}=1"], [*BASIC, f"{BATCH_SIZE}=1"]],
    ids=["basic", "ours, in batches", "basic, in batches"],
)
def test_all_runs_are_done_before_a_failed_one_ends_the_command(command, tmp_path, launcher):
    sweep = ["-m", "optimizer.lr=1e30,0.01", "seed=0"]
    status, _, err = command(*ONE_EPOCH, *SGD, *launcher, *sweep)
    assert status == 1 and err.count("FAILED, the loss became") == 1
    for name in ("result.json", "failure.json"):
        assert len(contents(tmp_path / "outputs", name)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*BASIC, "seed=0,1,-1"], "seed=-1 is not accepted"),
        (["hydra/sweeper=basic", "seed=0,1"], "hydra/sweeper=basic is not accepted: digitpairs"),
        ([*BASIC, "hydra/sweeper=basic", "seed=0,1"], "hydra/sweeper=basic is not accepted: "),
        ([f"{BATCH_SIZE}=0", "seed=0,1"], f"{BATCH_SIZE}=0 is not accepted: a whole"),
        ([*BASIC, f"{BATCH_SIZE}=foo", "seed=0,1"], f"{BATCH_SIZE}=foo is not accepted: a whole"),
    ],
)
def test_every_launcher_refuses_the_same(command, tmp_path, arguments, message):
    status, out, err = command(*ONE_EPOCH, "-m", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not contents(tmp_path / "outputs")
