"""The benchmarks run; what they measure is in docs/benchmarks.md."""

import os
import subprocess
import sys

from tests.conftest import ROOT, write_mnist_like


def test_all_contenders_run(tmp_path):
    data = write_mnist_like(tmp_path / "data", train=2000, test=2000)
    command = [sys.executable, ROOT / "benchmarks" / "main_job.py", "--rounds", "1", "--seeds", "1", "--epochs", "1"]
    environment = {**os.environ, "DIGITPAIRS_DATA": str(data)}
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert answer.returncode == 0, answer.stderr
    for name in ("plain", "this project", "stock Lightning"):
        assert sum(line.split("  ")[1] == name for line in answer.stdout.splitlines() if line.startswith("  ")) == 2
