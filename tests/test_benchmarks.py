"""The benchmarks run to their end; docs/benchmarks.md has their results."""

import os
import runpy
import subprocess
import sys

import pytest

from tests.conftest import ROOT, write_mnist_like


@pytest.fixture
def benchmark(tmp_path):
    """`benchmark("main_job.py", "--rounds 1")` runs a benchmark and returns its output."""
    data = write_mnist_like(tmp_path / "data", train=2000, test=2000)
    environment = {**os.environ, "DIGITPAIRS_DATA": str(data)}
    environment.pop("HYDRA_FULL_ERROR", None)  # other tests set it in this process

    def run(name: str, options: str) -> str:
        command = [sys.executable, ROOT / "benchmarks" / name, *options.split()]
        process = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


@pytest.mark.long
def test_all_contenders_run(benchmark):
    rounds = "--rounds 1 --seeds 2 --loop-seeds 1 --many 3 --epochs 1"
    out = benchmark("main_job.py", f"{rounds} --case siamese_mlp:50")
    lines = [line.split("  ")[1].strip() for line in out.splitlines() if line.startswith("  ")]
    projects = ["this project, 2 seeds", "this project, 3 seeds"]
    assert lines == ["plain loop", *projects, "stock Lightning"]


@pytest.mark.long
def test_the_costs_of_the_command(benchmark):
    out = benchmark("command.py", "--rounds 1 --jobs 12 --hydra-jobs 2 --seeds 2")
    for line in ("first training step after", "a further job of 12", "peak memory"):
        assert line in out


@pytest.mark.long
def test_what_executors_add(benchmark):
    pytest.importorskip("ray", reason="Ray is not installed (extra: ray)")
    assert "Ray adds " in benchmark("executors.py", "--rounds 1 --pieces 5")


@pytest.mark.long
def test_the_coukos_cnn(benchmark):
    assert benchmark("coukos_cnn.py", "--rounds 1").count("median") == 3


@pytest.mark.long
def test_the_search(benchmark):
    pytest.importorskip("optuna")
    short = "--trials 4 --seeds 2 --epochs 4 --repetitions 1 --final-seeds 2"
    out = benchmark("search.py", short)
    assert out.count("trained again") == 4 and "times as fast" in out


def test_steps_of_framework(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["framework_steps.py", "--rounds", "1", "--steps", "5"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(ROOT / "benchmarks" / "framework_steps.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert out.count("times as fast") == 8 and out.count("torch.nn") == 4
