"""The command: its arguments, its files, its messages."""

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from digitpairs.checks import DigitPairsWarning, InvalidValueError
from digitpairs.cli import CONF, expand_range, normalize_arguments, show_own_warnings_plainly
from digitpairs.data import PairDataModule, idx, sources
from digitpairs.training import PairComparison
from tests.conftest import ROOT, SMALL, SMALL_DATA_AND_MODEL, contents

SGD = ["optimizer=sgd", "scheduler=none"]
TINY = ["data=digits", "data.pairs=20", "data.test_pairs=10", "trainer.max_epochs=1"]


@pytest.mark.parametrize(
    "arguments, normalized",
    [
        ("model=mlp -m seed=0..9", "-m model=mlp seed=range(0,10)"),
        ("model=mlp seed=0..9..3 --multirun", "--multirun model=mlp seed=range(0,10,3)"),
        ("seed=3..3", "seed=range(3,4)"),
        ("seed=0..2,7", "seed=0,1,2,7"),
        ("aux.lambda=0.5..0.8..0.1", "aux.lambda=0.5,0.6,0.7,0.8"),
        ("optimizer.lr=1e-3..3e-3..1e-3", "optimizer.lr=0.001,0.002,0.003"),
        ("data.root=../data", "data.root=../data"),
        (
            "aux.lambda={schedule:linear,start:0,end:1,epochs:2}",
            "aux.lambda={schedule:linear,start:0,end:1,epochs:2}",
        ),
        ("--cfg job", "--cfg job"),
    ],
)
def test_arguments_are_normalized(arguments, normalized):
    assert normalize_arguments(arguments.split()) == normalized.split()


@pytest.mark.parametrize("argument", ["seed=9..0", "seed=0..9..0", "seed=0..5..-1"])
def test_a_range_that_goes_nowhere_is_refused(argument):
    with pytest.raises(InvalidValueError, match=f"^{argument} is not accepted: a range"):
        expand_range(argument)


def test_a_key_given_twice_is_refused(command):
    status, _, err = command("seed=0", "seed=1", "seed=2")
    accepted = "one value a key, and it was given 3 times; for a sweep write seed=0,1,2 -m"
    assert status == 2 and err == f"error: seed=0,1,2 is not accepted: {accepted}\n"


def test_the_main_job_in_small(command, tmp_path):
    status, out, err = command(*SMALL, "aux.lambda=0.7", "-m", "seed=0..2")
    assert status == 0 and err == ""
    (configuration,) = (tmp_path / "outputs").glob("[!.]*/*/")
    runs = sorted(configuration.glob("seed=*"))
    assert [run.name for run in runs] == ["seed=0", "seed=1", "seed=2"]
    errors = []
    for seed, run in enumerate(runs):
        result = json.loads((run / "result.json").read_text())
        assert (result["seed"], result["source"], result["epochs"]) == (seed, "digits", 2)
        assert {"torch", "digitpairs", "pytorch_lightning", "python"} <= result["versions"].keys()
        assert result["processor"] and result["cores"] >= 1 and "commit" in result
        assert result["seconds"] > 0
        errors.append(result["test/comparison_error"])
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["seed"] == config["data"]["seed"] == seed and config["aux"]["lambda"] == 0.7
        model = PairComparison.load_from_checkpoint(run / "checkpoint.ckpt", weights_only=True)
        parameters = sum(parameter.numel() for parameter in model.network.parameters())
        assert parameters == result["parameters"]
        assert len((run / "metrics.csv").read_text().splitlines()) == 3
        assert len(list(run.glob("events*"))) == 1 and len(list(run.iterdir())) == 7
    (row,) = [line for line in out.splitlines() if line.startswith(" siamese_mlp")]
    mean, std = statistics.fmean(errors), statistics.stdev(errors)
    assert row.split()[1:4] == ["3", f"{mean:.2f}", f"{std:.2f}"] and "digits" in out


def test_a_warning_is_one_line_however_many_runs_give_it(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    show_own_warnings_plainly()
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("small data", DigitPairsWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: small data\n"


def weights(folder: Path) -> dict[str, dict]:
    """The weights of the runs' networks by seed."""
    return {
        path.parent.name: torch.load(path, weights_only=True)["state_dict"]
        for path in folder.glob("*/*/*/checkpoint.ckpt")
    }


@pytest.mark.slow
def test_a_run_alone_and_in_a_sweep_gives_the_same_bits(command, tmp_path):
    """Also in a new process, which starts in another folder and whose reader leaves early."""
    run = [*TINY, "model=mlp", "model.body.dropout=0.3", "data.augmentation.shift=1", "aux=random"]
    sweep, alone, fresh = (tmp_path / name for name in ("sweep", "alone", "fresh"))
    assert command(*run, "sweep.plan=serial", "-m", "seed=2,0,1", output=sweep)[0] == 0
    assert command(*run, "seed=1", output=alone)[0] == 0
    train = shlex.join([sys.executable, str(ROOT / "train.py"), *run, f"output={fresh}"])
    script = f"{train} sweep.plan=serial -m seed=1,0 | head -1; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    piped = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    line, status = piped.stdout.splitlines()
    assert "2 runs" in line and (status, piped.stderr) == ("0", "")
    expected, other = (weights(sweep)[seed] for seed in ("seed=1", "seed=0"))
    for output in (alone, fresh):
        found = weights(output)["seed=1"]
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not all(torch.equal(expected[name], other[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["array", "processes", "serial"])
def test_one_divergence_harms_no_other_run(command, tmp_path, plan):
    grid = ["-m", "optimizer.lr=0.01,1e30", "seed=0,1"]
    status, out, err = command(*SMALL, *SGD, *grid, f"sweep.plan={plan}", "sweep.array_size=2")
    assert status == 1 and "FAILED, the loss became nan in epoch" in err
    assert err.count("optimizer.lr=1e+30 seed=") == 2
    assert len(contents(tmp_path / "outputs")) == 2
    failures = list(contents(tmp_path / "outputs", "failure.json").values())
    assert len(failures) == 2
    assert failures[0]["epoch"] in (0, 1) and "nan" in failures[0]["reason"]
    rows = [line.split() for line in out.splitlines() if line.startswith(" optimizer.lr=")]
    assert [row[:2] for row in rows] == [["optimizer.lr=0.01", "2"], ["optimizer.lr=1e+30", "0"]]
    assert rows[1][-1] == "2" and out.count("failed") == 1


@pytest.mark.slow
def test_a_network_ruined_by_its_last_step_is_a_failure(command, tmp_path):
    one_step = ["data.batch_size=60", "trainer.max_epochs=1"]
    assert command(*SMALL_DATA_AND_MODEL, *SGD, "optimizer.lr=1e30", *one_step)[0] == 1
    assert not contents(tmp_path / "outputs")
    assert contents(tmp_path / "outputs", "failure.json")


@pytest.mark.parametrize("multirun", [["-m"], []])
def test_an_output_that_cannot_be_a_folder_is_named(command, tmp_path, multirun):
    (tmp_path / "file").write_text("")
    status, _, err = command(*SMALL, *multirun, output=tmp_path / "file" / "below")
    assert status == 2 and err.startswith(f"error: {tmp_path / 'file'}")
    assert "output=FOLDER" in err and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["array", "processes", "serial"])
def test_an_exception_in_one_run_is_one_failed_row(command, tmp_path, monkeypatch, plan):
    original = PairDataModule.setup

    def setup(self, stage=None):
        if self.seed == 1:
            raise RuntimeError("this draw is cursed")
        original(self, stage)

    monkeypatch.setattr(PairDataModule, "setup", setup)
    sweep = ["-m", "seed=0..2", f"sweep.plan={plan}", "sweep.array_size=3"]
    status, out, err = command(*SMALL, *sweep)
    assert status == 1 and "RuntimeError: this draw is cursed" in err and "Traceback" in err
    assert len(contents(tmp_path / "outputs")) == 2
    (failure,) = contents(tmp_path / "outputs", "failure.json").values()
    assert (failure["seed"], failure["reason"]) == (1, "RuntimeError: this draw is cursed")
    (row,) = [line for line in out.splitlines() if line.startswith(" siamese_mlp")]
    assert row.split()[-1] == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ("aux.lamda=1", "aux.lamda=1 is not accepted: there is no such key; the keys here are "),
        ("data.test_pairs=301", "data.test_pairs=301 is not accepted: at most 300"),
        ("-m seed=0,1 aux.lambda=0.5,-1", "aux.lambda=-1 is not accepted"),
        ("-m seed=0..1000000", "sweep.max_runs=10000 is not accepted: at least 1000001"),
        ("-m seed=0,0", "seed=0 is not accepted: each seed once a configuration"),
        ("-m seed=0,1 sweep.plan=array,serial", "sweep=... is not accepted: one way to run the "),
    ],
)
def test_bad_input_is_one_message_and_no_result(command, tmp_path, arguments, message):
    status, out, err = command("data=digits", *arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1, err
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and ".hydra" not in path.parts
    ]


def test_help_names_every_choice_there_is(command):
    status, out, _ = command("--help", output=None)
    assert status == 0
    for group in ("task", "data", "model", "loss", "aux", "optimizer", "scheduler", "experiment"):
        (listed,) = re.findall(rf"^  {group} +(.*(?:\n {{13}}.*)*)", out, re.MULTILINE)
        choices = {path.stem for path in (CONF / group).glob("*.yaml")}
        assert set(re.split(r",\s+", listed)) == choices


def test_help_is_printed_without_composing_a_config(command, monkeypatch):
    monkeypatch.delattr("hydra.main")
    status, out, err = command("model=mlp", "-h", output=None)
    assert (status, err) == (0, "") and out.startswith("Train networks")


def test_the_status_is_shown_without_importing_torch():
    code = "import sys, digitpairs.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_config_are_printed_without_importing_torch(arguments):
    code = [
        "import runpy, sys",
        f"sys.argv = ['train.py', *{arguments}]",
        "try: runpy.run_path('train.py', run_name='__main__')",
        "finally: print('torch' in sys.modules)",
    ]
    command = [sys.executable, "-c", "\n".join(code)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, last = answer.stdout.splitlines()
    assert last == "False" and len(lines) > 20


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={path.stem}"
        for group in ("model", "aux", "optimizer", "scheduler")
        for path in sorted((CONF / group).glob("*.yaml"))
        if path.stem != "disk_mlp"
    ],
)
def test_every_choice_trains(command, choice):
    group, _, name = choice.partition("=")
    model = [choice] if group == "model" else ["model=siamese_mlp", choice]
    rate = ["optimizer.lr=0.01"] if name == "sgd" else []
    status, _, err = command(*TINY, *model, *rate)
    assert status == 0, err


def test_configs_begin_with_a_comment():
    for path in CONF.rglob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# "), path


@pytest.mark.long
def test_the_main_job_reaches_four_per_cent_on_mnist(command, tmp_path):
    """Three of the ten seeds; needs MNIST in DIGITPAIRS_DATA or data/."""
    if idx.find_folder(sources.default_root()) is None:
        pytest.skip("MNIST is not on this machine's disk")
    started = time.perf_counter()
    status, out, _ = command("model=siamese_cnn", "aux.lambda=0.8", "-m", "seed=0..2")
    results = contents(tmp_path / "outputs").values()
    errors = [result["test/comparison_error"] for result in results]
    seconds = time.perf_counter() - started
    assert status == 0 and len(errors) == 3 and statistics.fmean(errors) < 4, (out, seconds)
