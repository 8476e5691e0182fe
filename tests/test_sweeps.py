"""Whole sweeps: their plans, what they leave, and how the same command resumes them."""

import json
import os
import re
from pathlib import Path

import pytest
import torch

from digitpairs.training import PairComparison
from tests.conftest import SMALL, SMALL_DATA_AND_MODEL, contents

ONE_EPOCH = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=1", "sweep.plan=serial"]
OF_A_LAUNCH = ("seconds", "array_size", "threads", "files")  # entries of a result


def files_of(folder: Path) -> dict[str, Path]:
    """All files of the runs, by their paths without the time and host in the names of events."""
    files = {}
    for path in folder.glob("*/*/seed=*/*"):
        name = re.sub(r"tfevents\..*", "tfevents", str(path.relative_to(folder)))
        files[name] = path
    return files


def modification_times(folder: Path) -> dict[str, int]:
    return {name: path.stat().st_mtime_ns for name, path in files_of(folder).items()}


def run_of(output: Path, seed: int) -> Path:
    (run,) = output.glob(f"*/*/seed={seed}")
    return run


def assert_same_results(one: Path, other: Path) -> None:
    results, others = contents(one), contents(other)
    assert results.keys() == others.keys() and results
    for run, result in results.items():
        for name in result.keys() - set(OF_A_LAUNCH):
            expected = others[run][name]
            if isinstance(expected, float):
                expected = pytest.approx(expected, rel=1e-4)
            assert result[name] == expected, name


@pytest.mark.slow
def test_every_plan_leaves_the_same_files_and_the_same_numbers(command, tmp_path):
    settings = ["model.body.dropout=0.2", "model.batch_norm=true", "optimizer=sgd"]
    grid = ["data.validation=0.2", "-m", "optimizer.lr=0.01,0.02", "seed=0,1"]
    sizes = {}
    for plan in ("array", "processes", "serial", "auto"):
        output = tmp_path / plan
        status, out, err = command(*SMALL, *settings, *grid, f"sweep.plan={plan}", output=output)
        assert status == 0 and err == "", err
        sizes[plan] = {result["array_size"] for result in contents(output).values()}
    assert sizes["array"] == {2} and sizes["processes"] == sizes["serial"] == {1}
    assert "4 runs: 4 alone, in this process" not in out
    for plan in ("processes", "serial", "auto"):
        assert_same_results(tmp_path / "array", tmp_path / plan)
        assert files_of(tmp_path / "array").keys() == files_of(tmp_path / plan).keys()
    for path in (tmp_path / "array").glob("*/*/*/checkpoint.ckpt"):
        serial_path = tmp_path / "serial" / path.relative_to(tmp_path / "array")
        weights, serial_weights = (
            PairComparison.load_from_checkpoint(each, weights_only=True).state_dict()
            for each in (path, serial_path)
        )
        assert all(torch.equal(value, serial_weights[name]) for name, value in weights.items())
        assert path.stat().st_size < 200_000  # only the member's own weights


@pytest.mark.slow
def test_arrays_of_networks_that_differ_only_in_their_comparisons_input(command, tmp_path):
    """Their parameters have the same shapes, yet they are two kinds of network."""
    sweep = [*SMALL, "-m", "model.comparison_input=probabilities,logits", "seed=0,1"]
    for plan in ("array", "serial"):
        assert command(*sweep, f"sweep.plan={plan}", output=tmp_path / plan)[0] == 0
    assert_same_results(tmp_path / "array", tmp_path / "serial")
    assert {result["array_size"] for result in contents(tmp_path / "array").values()} == {2}


@pytest.mark.slow
def test_the_same_command_does_only_what_is_not_finished(command, tmp_path):
    output = tmp_path / "outputs"
    assert command(*ONE_EPOCH, "-m", "seed=0..2")[0] == 0
    before = modification_times(output)
    interrupted = run_of(output, 1)
    (interrupted / "result.json").unlink()
    (interrupted / "junk").write_text("of a run that was interrupted")
    status, out, err = command(*ONE_EPOCH, "-m", "seed=0..4")
    assert status == 0 and out.startswith("5 runs, 2 finished before, 3 to do: ") and err == ""
    after = modification_times(output)
    assert all(after[name] == before[name] for name in before if "seed=1" not in name)
    assert not (interrupted / "junk").exists() and len(list(interrupted.glob("events*"))) == 1
    assert len(contents(output)) == 5
    status, out, _ = command(*ONE_EPOCH, "-m", "seed=0..1")
    assert status == 0 and out.startswith("2 runs, all finished before")
    (row,) = [line for line in out.splitlines() if line.startswith(" siamese_mlp")]
    assert row.split()[1] == "2"


@pytest.mark.slow
def test_a_result_of_another_config_is_never_overwritten(command, tmp_path):
    assert command(*ONE_EPOCH, "seed=3")[0] == 0
    path = run_of(tmp_path / "outputs", 3) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "00000000"}))
    before = path.read_text()
    status, _, err = command(*ONE_EPOCH, "seed=3")
    assert status == 2 and str(path.parent) in err and err.count("\n") == 1
    assert path.read_text() == before


def write_text_as_error(path: Path) -> None:
    result = json.loads(path.read_text()) | {"test/comparison_error": "5"}
    path.write_text(json.dumps(result))


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# Ways to damage a run; at most ten damaged files are named.
DAMAGE = [
    ("result.json", lambda path: path.write_text('{"seed": 3')),
    ("result.json", lambda path: path.write_text("[]")),
    ("result.json", lambda path: path.write_text("null")),
    ("result.json", write_text_as_error),
    ("result.json", replace_by_pipe),
    ("checkpoint.ckpt", Path.unlink),
    ("checkpoint.ckpt", lambda path: path.write_bytes(b"")),
    ("checkpoint.ckpt", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    ("metrics.csv", lambda path: path.write_text("epoch\n0\n")),
    ("config.yaml", replace_by_pipe),
    ("confusion.json", Path.unlink),
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_runs_with_damaged_files_are_named_and_done_again(command, tmp_path):
    """Each seed has another damage, but for the last seed."""
    damaged, output = len(DAMAGE), tmp_path / "outputs"
    sweep = [*ONE_EPOCH, "-m", f"seed=0..{damaged}"]
    assert command(*sweep)[0] == 0
    losses = {run: result["test/loss"] for run, result in contents(output).items()}
    times = modification_times(output)
    for seed, (name, damage) in enumerate(DAMAGE):
        damage(run_of(output, seed) / name)
    status, out, err = command(*sweep)
    assert status == 0
    assert out.startswith(f"{damaged + 1} runs, 1 finished before, {damaged} to do: ")
    *lines, last = err.splitlines()
    assert len(lines) == 10
    for seed, line in enumerate(lines):
        assert line.startswith(f"warning: {run_of(output, seed) / DAMAGE[seed][0]} is ")
        assert line.endswith("; its run is done again")
    assert last == "warning: damaged files that are not named here, and treated alike: 1"
    unchanged = {name for name in times if f"seed={damaged}/" in name}
    assert unchanged and all(modification_times(output)[name] == times[name] for name in unchanged)
    assert losses == {run: result["test/loss"] for run, result in contents(output).items()}
    status, out, err = command(*sweep)
    assert status == 0 and out.startswith(f"{damaged + 1} runs, all finished before") and err == ""


@pytest.mark.slow
def test_results_from_before_the_inventory_are_finished(command, tmp_path):
    output = tmp_path / "outputs"
    assert command(*ONE_EPOCH, "-m", "seed=0,1")[0] == 0
    for run, result in contents(output).items():
        del result["files"]
        (output / run / "result.json").write_text(json.dumps(result))
    status, out, err = command(*ONE_EPOCH, "-m", "seed=0,1")
    assert status == 0 and out.startswith("2 runs, all finished before") and err == ""
    checkpoint = run_of(output, 1) / "checkpoint.ckpt"
    checkpoint.unlink()
    status, out, err = command(*ONE_EPOCH, "-m", "seed=0,1")
    assert status == 0 and out.startswith("2 runs, 1 finished before, 1 to do")
    assert err == f"warning: {checkpoint} is missing; its run is done again\n"


@pytest.mark.slow
def test_a_run_whose_folder_is_a_link_is_refused_until_it_is_finished(command, tmp_path):
    assert command(*ONE_EPOCH, "-m", "seed=0,1")[0] == 0
    run, elsewhere = run_of(tmp_path / "outputs", 1), tmp_path / "elsewhere"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    assert command(*ONE_EPOCH, "-m", "seed=0,1")[1].startswith("2 runs, all finished before")
    (elsewhere / "result.json").unlink()
    status, out, err = command(*ONE_EPOCH, "-m", "seed=0,1")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert f"{run} is a symbolic link: remove it" in err
    assert (elsewhere / "checkpoint.ckpt").exists()
