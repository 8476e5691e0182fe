"""The benchmarks run; what they measure is in docs/benchmarks.md."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, write_mnist_like


def run(tmp_path, name: str, *arguments: str) -> str:
    data = write_mnist_like(tmp_path / "data", train=2000, test=2000)
    environment = {**os.environ, "DIGITPAIRS_DATA": str(data)}
    environment.pop("HYDRA_FULL_ERROR", None)  # set by tests in this process
    answer = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_all_contenders_run(tmp_path):
    out = run(
        tmp_path,
        "main_job.py",
        "--rounds",
        "1",
        "--seeds",
        "2",
        "--loop-seeds",
        "1",
        "--many",
        "3",
        "--epochs",
        "1",
        "--case",
        "siamese_mlp:50",
    )
    lines = [line.split("  ")[1].strip() for line in out.splitlines() if line.startswith("  ")]
    assert lines == [
        "plain loop",
        "this project, 2 seeds",
        "this project, 3 seeds",
        "stock Lightning",
    ]


@pytest.mark.long
def test_the_commands_costs(tmp_path):
    out = run(
        tmp_path, "command.py", "--rounds", "1", "--jobs", "12", "--hydra-jobs", "2", "--seeds", "2"
    )
    assert (
        "first training step after" in out and "a further job of 12" in out and "peak memory" in out
    )


def test_the_coukos_cnn(tmp_path):
    out = run(tmp_path, "coukos_cnn.py", "--rounds", "1")
    assert out.count("median") == 3


def test_steps_of_framework(tmp_path):
    out = run(tmp_path, "framework_steps.py", "--rounds", "1", "--steps", "10")
    assert out.count("times as fast") == 8 and out.count("torch.nn") == 4
