"""The lines at the end of a sweep, and the status of a running one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from digitpairs import status as status_command
from digitpairs.analysis import against_best
from digitpairs.analysis.against_best import lines_against_best
from digitpairs.analysis.statistics import bca_interval, sign_flip
from digitpairs.dashboard.closing import ranked_results
from digitpairs.sweeps import status
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.state import RunPlan, SweepState
from tests.conftest import SMALL, contents, result_of_a_run

RATES = {0.1: [3.0, 5.0, 4.0, 6.0, 4.5, 5.5], 0.2: [4.0, 6.5, 5.5, 6.0, 7.5, 6.5]}


@pytest.fixture
def runs(tmp_path):
    """The folders of six runs each of two learning rates; the lower one is better."""
    folders = []
    for rate, errors in RATES.items():
        for seed, error in enumerate(errors):
            folder = tmp_path / f"mlp,optimizer.lr={rate}-{int(rate * 10):08d}" / f"seed={seed}"
            folder.mkdir(parents=True)
            result = result_of_a_run(error, seed, test_pairs=100)
            result["fingerprint"] = f"{rate}{seed}"
            (folder / "result.json").write_text(json.dumps(result))
            config = {"data": {}, "model": {}, "optimizer": {"lr": rate}, "seed": seed}
            (folder / "config.yaml").write_text(json.dumps(config))
            (folder / "metrics.csv").write_text("epoch\n0\n")
            folders.append(folder)
    return folders


@pytest.mark.slow
def test_each_configuration_is_compared_with_the_best_by_seed(runs):
    head, line = lines_against_best(ranked_results([*runs, runs[0].parent / "seed=9"]))
    difference = [high - low for low, high in zip(*RATES.values())]
    low, high = bca_interval(difference)
    assert head.startswith("Above the best, optimizer.lr=0.1 (by seed; ")
    mean, p = sum(difference) / 6, sign_flip(np.array(difference))
    assert (
        line.split()
        == (
            f"optimizer.lr=0.2 {mean:+.2f} {low:.2f} to {high:.2f} p = {p:.4f} n = 6 not decided"
        ).split()
    )


def test_nothing_is_compared_without_results(tmp_path):
    assert lines_against_best(ranked_results([tmp_path / "seed=0"])) == []


@pytest.mark.slow
def test_only_the_next_best_are_compared_and_p_counts_the_others(runs, monkeypatch):
    results = ranked_results(runs)
    two = {Path(f"{number}"): [] for number in range(2)}
    monkeypatch.setattr(against_best, "MOST", 1)
    (_, line), (_, alone) = lines_against_best({**results, **two}), lines_against_best(results)
    p, adjusted = (float(re.search(r"p = ([\d.]+)", each)[1]) for each in (alone, line))
    assert adjusted == pytest.approx(3 * p)


@pytest.mark.slow
def test_a_sweep_of_several_configurations_ends_with_comparisons(command, tmp_path):
    _, out, _ = command(*SMALL, "-m", "seed=0,1", "optimizer.lr=0.01,0.02")
    (sweep,) = {folder.split("/")[0] for folder in contents(tmp_path / "outputs")}
    path = tmp_path / "outputs" / sweep
    *_, head, line, results, curves, more = out.splitlines()
    assert head.startswith("Above the best, optimizer.lr=0.0") and "too few seeds" in line
    assert results == f"Results: {path}" and curves == f"Curves:  tensorboard --logdir {path}"
    assert more == f"More:    python -m digitpairs.analysis {path} --html page.html"


def test_the_status_of_a_running_sweep(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(status, "SECONDS", -1)
    state = SweepState([RunPlan(f"lr={rate}", 0, 10) for rate in (0.1, 0.2)])
    state.epoch(0, {"epoch": 4, "train/error": 10.0})
    sweep = tmp_path / "sweep-12345678"
    with sweep_lock(sweep):
        assert status_command.main([str(tmp_path)]) == 0
        assert "nothing has been trained yet" in capsys.readouterr().out
        status.StatusFile(sweep, state).show()
        assert status_command.main([str(sweep)]) == 0
        out = capsys.readouterr().out
        assert f"{sweep}\n  process " in out and "0/2 runs, 5/20 epochs" in out
        assert "lr=0.1  0/1 runs  epoch 5  train error 10.00 %" in out
        (sweep / status.STATUS).write_text("{")
        assert status_command.main([str(sweep)]) == 0 and "damaged" in capsys.readouterr().out
    assert status_command.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no sweep is running (1 sweep found)\n"


def test_a_folder_without_sweeps_has_no_status(tmp_path, capsys):
    with pytest.raises(SystemExit) as leave:
        status_command.main([str(tmp_path / "nothing")])
    assert leave.value.code == 2 and "a sweep's folder" in capsys.readouterr().err
