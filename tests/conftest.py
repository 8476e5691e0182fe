"""Fixtures and helpers of several tests: small data, and ways to run the command.

Functions import torch and numpy, since pytest-xdist's main process reads this module and needs
neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np

pytest.register_assert_rewrite("tests.framework_twins", "tests.report_helpers")

ROOT = Path(__file__).resolve().parent.parent
SMALL_DATA_AND_MODEL = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[16]",
    "data.pairs=60",
    "data.test_pairs=40",
]
SMALL = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=2"]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """The measured speed of this machine is cached in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """As in sweeps: bits depend on the number of threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def global_generator_untouched():
    """Fails the test if anything draws from torch's global generator."""
    import torch

    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


def result_of_a_run(error: float, seed: int = 0, **more) -> dict:
    """The entries that every result has."""
    common = {
        "seed": seed,
        "fingerprint": "01234567",
        "source": "mnist",
        "test/comparison_error": error,
        "seconds": 2.0,
        "versions": {"torch": "1", "pytorch_lightning": "1", "python": "3"},
    }
    return common | more


def contents(output: Path, name: str = "result.json") -> dict[str, dict]:
    """The contents of the runs' JSON files of that name, by the runs' folders."""
    paths = sorted(output.glob(f"*/*/*/{name}"))
    return {str(path.parent.relative_to(output)): json.loads(path.read_text()) for path in paths}


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an idx file by the format's description, with struct alone."""
    magic = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(magic + shape + array.astype("uint8").tobytes())


def write_mnist_like(folder: Path, train: int = 60, test: int = 40) -> Path:
    """Write four idx files of random images in torchvision's layout below `folder`."""
    import numpy as np

    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    return folder


@pytest.fixture
def mnist_like(tmp_path: Path) -> Path:
    return write_mnist_like(tmp_path / "data")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Enough images for the small trainings of several tests."""
    return write_mnist_like(tmp_path / "data", train=160, test=80)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """`command("model=mlp", ...)` runs train.py in this process; returns (status, out, err).

    Its outputs go to a temporary folder.
    """
    from digitpairs.cli import main
    from digitpairs.sweeps import progress

    # Else a slow machine begins its output with "1 of 2 runs checked".
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", math.inf)

    def run(*arguments: str, output: Path | None = tmp_path / "outputs") -> tuple[int, str, str]:
        outputs = [f"output={output}"] if output else []
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *outputs])
        try:
            main()
            status = 0
        except SystemExit as leave:
            status = leave.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def launch(tmp_path_factory):
    """`launch("model=mlp", ...)` starts train.py in another process; returns a `Command`.

    Commands that still run are killed at the end of the test.
    """
    from tests.processes import Command

    commands = []

    def start(*arguments: str) -> Command:
        commands.append(Command(arguments, tmp_path_factory.mktemp("command")))
        commands[-1].start()
        return commands[-1]

    yield start
    for each in commands:
        each.kill_session()


@pytest.fixture(scope="session")
def small_study(tmp_path_factory):
    """The output folder of the wang report's dropout study with the settings SMALL_STUDY."""
    from digitpairs.cli import main
    from tests.report_helpers import SMALL_STUDY

    output = tmp_path_factory.mktemp("outputs")
    settings = [*SMALL_STUDY, "sweep.plan=serial", f"output={output}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", "experiment=wang/dropout", *settings])
        main()
    return output


@pytest.fixture(scope="session")
def small_seeds(tmp_path_factory):
    """The output folder of two seeds with the settings SMALL."""
    from digitpairs.cli import main

    output = tmp_path_factory.mktemp("outputs")
    settings = [*SMALL, "-m", "seed=0..1", "sweep.plan=serial", f"output={output}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *settings])
        main()
    return output


@pytest.fixture
def only_studies(monkeypatch):
    """`only_studies("wang/dropout")` leaves only these studies in every report, to save time."""
    from digitpairs.analysis import reproduction

    read_report = reproduction.read_report

    def limit(*studies: str) -> None:
        def read(path: Path):
            report = read_report(path)
            parts = {}
            for name in ("shows", "finals", "claims"):
                parts[name] = [part for part in getattr(report, name) if part.study in studies]
            return dataclasses.replace(report, **parts)

        monkeypatch.setattr(reproduction, "read_report", read)

    return limit
