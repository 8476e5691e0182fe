"""The wheel: what is in it, and the installed command in a folder without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from digitpairs import arguments
from tests.conftest import ROOT

PACKAGES = ("conf", "digitpairs", "framework", "hydra_plugins")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-deps", "--no-index"]
SUFFIXES = (".py", ".yaml", ".typed", ".html")
SMALL = ["data=digits", "data.pairs=100", "data.test_pairs=100", "trainer.max_epochs=1"]


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("train.py", "python train.py"),
        ("/project/train.py", "python /project/train.py"),
        ("/site-packages/digitpairs/__main__.py", "python -m digitpairs"),
        ("/venv/bin/digitpairs", "digitpairs"),
        ("digitpairs.exe", "digitpairs"),
        ("/project/digitpairs/analysis/reproduction.py", "python train.py"),
    ],
)
def test_hints_name_the_command_as_it_was_called(program, name, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [program])
    assert arguments.command_name() == name


def test_outside_of_the_checkout_hints_name_the_installed_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/project/digitpairs/analysis/reproduction.py"])
    assert arguments.command_name() == "digitpairs"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since setuptools leaves files in the folder that it builds."""
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", built, source]
    subprocess.run(build, check=True)
    return next(built.glob("digitpairs-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`installed(program, ...)` runs a program with the installed wheel, in a folder."""
    target = tmp_path_factory.mktemp("site-packages")
    subprocess.run([*PIP, "install", *OFFLINE, "--target", target, wheel], check=True)
    environment = os.environ | {"PYTHONPATH": str(target), "COLUMNS": "200"}
    environment.pop("DIGITPAIRS_DATA", None)

    def run(folder: Path, *program: str) -> str:
        path = f"{target / 'bin'}{os.pathsep}{environment['PATH']}"
        answer = subprocess.run(
            program, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    return run


@pytest.mark.long
def test_the_wheel_has_all_modules_and_all_configs_and_nothing_else(wheel):
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    sources = {path.relative_to(ROOT).as_posix() for path in files if path.suffix in SUFFIXES}
    expected = {f"digitpairs/{name}" if name.startswith("conf/") else name for name in sources}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert "hydra_plugins/__init__.py" not in names  # it would hide other plugins


@pytest.mark.long
def test_the_installed_command_trains_in_an_empty_folder(installed, tmp_path):
    printed = installed(tmp_path, "digitpairs", "model=siamese_cnn", *SMALL, "-m", "seed=0..1")
    assert "siamese_cnn" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert len(list(tmp_path.glob("outputs/*/*/seed=*/result.json"))) == 2


@pytest.mark.long
def test_the_installed_command_finds_own_configs_and_classes(installed, tmp_path):
    own = tmp_path / "own" / "aux" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: mine.Mine\n")
    (tmp_path / "mine.py").write_text("from digitpairs.losses import NoAuxWeighting as Mine\n")
    assert "aux=mine" in installed(tmp_path, "digitpairs", *SMALL, "--config-dir=own", "aux=mine")


@pytest.mark.long
def test_python_runs_the_installed_package_as_the_command(installed, tmp_path):
    printed = installed(tmp_path, sys.executable, "-m", "digitpairs", "--help")
    assert "\n  python -m digitpairs model=siamese_cnn" in printed
