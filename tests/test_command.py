"""The command line in this process: its arguments, its files, its messages."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF, expand_range, normalize_arguments
from digitpairs.training import PairComparison
from tests.conftest import ROOT

SMALL = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[16]",
    "data.pairs=60",
    "data.test_pairs=40",
    "trainer.max_epochs=2",
]


@pytest.mark.parametrize(
    "given, mended",
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
def test_arguments_are_mended(given, mended):
    assert normalize_arguments(given.split()) == mended.split()


@pytest.mark.parametrize("argument", ["seed=9..0", "seed=0..9..0", "seed=0..5..-1"])
def test_a_range_that_goes_nowhere_is_refused(argument):
    with pytest.raises(InvalidValueError, match=f"^{argument} is not accepted: a range"):
        expand_range(argument)


def test_a_key_given_twice_is_refused(command):
    status, _, err = command("seed=0", "seed=1", "seed=2")
    assert status == 2 and err == (
        "error: seed=0,1,2 is not accepted: one value a key, and it was given 3 times; for a sweep write seed=0,1,2 -m\n"
    )


def test_the_main_job_in_small(command, tmp_path):
    status, out, err = command(*SMALL, "aux.lambda=0.7", "-m", "seed=0..2")
    assert status == 0 and err == ""
    (sweep,) = [path for path in (tmp_path / "outputs").iterdir() if not path.name.startswith(".")]
    (configuration,) = sweep.glob("*/")
    runs = sorted(configuration.iterdir())
    assert [run.name for run in runs] == ["seed=0", "seed=1", "seed=2"]
    errors = []
    for seed, run in enumerate(runs):
        result = json.loads((run / "result.json").read_text())
        assert (
            result["seed"] == seed
            and result["source"] == "digits"
            and result["epochs"] == 2
            and result["seconds"] > 0
        )
        assert {"torch", "digitpairs", "pytorch_lightning", "python"} <= set(result["versions"])
        assert result["processor"] and result["cores"] >= 1 and "commit" in result
        errors.append(result["test/comparison_error"])
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["seed"] == config["data"]["seed"] == seed and config["aux"]["lambda"] == 0.7
        model = PairComparison.load_from_checkpoint(run / "checkpoint.ckpt", weights_only=True)
        assert (
            sum(parameter.numel() for parameter in model.network.parameters())
            == result["parameters"]
        )
        assert len((run / "metrics.csv").read_text().splitlines()) == 3
        assert len(list(run.glob("events*"))) == 1 and len(list(run.iterdir())) == 6
    mean = sum(errors) / 3
    std = (sum((error - mean) ** 2 for error in errors) / 2) ** 0.5
    (row,) = [line for line in out.splitlines() if line.startswith("  siamese_mlp")]
    assert row.split()[1:4] == ["3", f"{mean:.2f}", f"{std:.2f}"] and "digits" in out


def test_a_warning_is_one_line_however_many_runs_give_it():
    code = (
        "import warnings; from digitpairs.cli import show_own_warnings_plainly as plainly; from digitpairs.checks import DigitPairsWarning as W\n"
        "plainly()\nfor _ in range(3):\n  with warnings.catch_warnings():\n    warnings.warn('small data', W)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stderr == "warning: small data\n"


def checkpoints(folder: Path) -> dict[str, dict]:
    return {
        path.parent.name: torch.load(path, weights_only=True)["state_dict"]
        for path in folder.glob("*/*/*/checkpoint.ckpt")
    }


def test_a_run_alone_and_in_a_sweep_gives_the_same_bits(command, tmp_path):
    extra = ["model.body.dropout=0.3", "data.augmentation.shift=1", "aux=random"]
    assert (
        command(*SMALL, *extra, "sweep.plan=serial", "-m", "seed=2,0,1", output=tmp_path / "sweep")[
            0
        ]
        == 0
    )
    assert command(*SMALL, *extra, "seed=1", output=tmp_path / "alone")[0] == 0
    fresh = [
        sys.executable,
        ROOT / "train.py",
        *SMALL,
        *extra,
        "seed=1",
        f"output={tmp_path / 'fresh'}",
    ]
    subprocess.run(fresh, check=True, capture_output=True, cwd=tmp_path, env=None)
    sweep, alone, fresh = (
        checkpoints(tmp_path / name)["seed=1"] for name in ("sweep", "alone", "fresh")
    )
    assert all(torch.equal(sweep[name], alone[name]) for name in sweep)
    assert all(torch.equal(sweep[name], fresh[name]) for name in sweep)
    other = checkpoints(tmp_path / "sweep")["seed=0"]
    assert not all(torch.equal(sweep[name], other[name]) for name in sweep)


def folders(root: Path) -> set[str]:
    return {path.parent.relative_to(root).parts[0] for path in root.glob("*/*/seed=*/result.json")}


def test_folders_follow_from_what_was_asked(command, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert command(*SMALL, "-m", "seed=0", output=one)[0] == 0
    assert command(*SMALL, "-m", "seed=1", output=two)[0] == 0
    assert folders(one) == folders(two)  # the seeds and the place decide nothing
    assert command(*SMALL, "data.seed=0", output=two)[0] == 0
    assert command(*SMALL, "optimizer.lr=0.004", output=two)[0] == 0
    assert len(folders(two)) == 3
    assert (
        command(*SMALL, "-m", "optimizer.lr=0.001,0.002", "seed=0,1", output=tmp_path / "three")[0]
        == 0
    )
    names = {path.parent.parent.name for path in (tmp_path / "three").glob("*/*/*/result.json")}
    assert {re.sub("-[0-9a-f]{8}$", "", name) for name in names} == {
        "siamese_mlp,optimizer.lr=0.001",
        "siamese_mlp,optimizer.lr=0.002",
    }


@pytest.mark.parametrize("plan", ["array", "processes", "serial"])
def test_one_divergence_harms_no_other_run(command, tmp_path, plan):
    arguments = [
        "optimizer=sgd",
        "scheduler=none",
        "-m",
        "optimizer.lr=0.01,1e30",
        "seed=0,1",
        f"sweep.plan={plan}",
        "sweep.array_size=2",
    ]
    status, out, err = command(*SMALL, *arguments)
    assert status == 1 and "FAILED, the loss became nan in epoch" in err
    results = list((tmp_path / "outputs").glob("*/*/*/result.json"))
    failures = list((tmp_path / "outputs").glob("*/*/*/failure.json"))
    assert (len(results), len(failures)) == (2, 2)
    failure = json.loads(failures[0].read_text())
    assert failure["epoch"] in (0, 1) and "nan" in failure["reason"]
    rows = [line.split() for line in out.splitlines() if line.startswith("  optimizer.lr=")]
    assert (
        [row[:2] for row in rows] == [["optimizer.lr=0.01", "2"], ["optimizer.lr=1e+30", "0"]]
        and rows[1][-1] == "2"
        and out.count("failed") == 1
    )
    assert err.count("optimizer.lr=1e+30 seed=") == 2


def test_a_network_ruined_by_its_last_step_is_a_failure(command, tmp_path):
    arguments = [
        "optimizer=sgd",
        "optimizer.lr=1e30",
        "scheduler=none",
        "data.batch_size=60",
        "trainer.max_epochs=1",
    ]
    small = [item for item in SMALL if not item.startswith("trainer")]
    assert command(*small, *arguments)[0] == 1
    assert not list((tmp_path / "outputs").rglob("result.json")) and list(
        (tmp_path / "outputs").rglob("failure.json")
    )


def test_a_sweep_over_outputs_is_refused(command, tmp_path):
    status, _, err = command(*SMALL, "-m", f"output={tmp_path / 'a'},{tmp_path / 'b'}", output=None)
    assert status == 2 and "is not accepted: one folder a sweep" in err


@pytest.mark.parametrize("multirun", [["-m"], []])
def test_an_output_that_cannot_be_a_folder_is_named(command, tmp_path, multirun):
    (tmp_path / "file").write_text("")
    status, _, err = command(*SMALL, *multirun, output=tmp_path / "file" / "below")
    assert (
        status == 2
        and err.startswith(f"error: {tmp_path / 'file'}")
        and "output=FOLDER" in err
        and err.count("\n") == 1
    )


@pytest.mark.parametrize("plan", ["array", "processes", "serial"])
def test_an_exception_in_one_run_is_one_failed_row(command, tmp_path, monkeypatch, plan):
    from digitpairs.data import PairDataModule

    def setup(self, stage=None):
        if self.seed == 1:
            raise RuntimeError("this draw is cursed")
        original(self, stage)

    original = PairDataModule.setup
    monkeypatch.setattr(PairDataModule, "setup", setup)
    status, out, err = command(
        *SMALL, "-m", "seed=0..2", f"sweep.plan={plan}", "sweep.array_size=3"
    )
    assert status == 1 and "RuntimeError: this draw is cursed" in err and "Traceback" in err
    assert len(list((tmp_path / "outputs").glob("*/*/*/result.json"))) == 2
    (failure,) = (tmp_path / "outputs").glob("*/*/*/failure.json")
    content = json.loads(failure.read_text())
    assert content["seed"] == 1 and content["reason"] == "RuntimeError: this draw is cursed"
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("  siamese_mlp")] == [
        "1"
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("model=azzano/fcn", "model=azzano/fcn is not accepted: one of azzano/cnn, azzano/fcnn; did you mean azzano/fcnn?"),
        ("experiment=azano/fcnn", "experiment=azano/fcnn is not accepted: one of disk_best, azzano/batch_sizes, .* did you mean azzano/fcnn?"),
        ("variant=azzano/hour", "variant=azzano/hour is not accepted: one of azzano/minute, azzano/seconds; did you mean"),
        ("variant=hour", "variant=hour is not accepted: one of azzano/minute, azzano/seconds, "),
        ("model=foo", "model=foo is not accepted: one of cnn, disk_mlp, mlp, siamese_cnn, siamese_mlp, siamese_resnet, azzano/cnn"),
        ("modle=mlp", "modle=mlp is not accepted: there is no such key; .* did you mean model?"),
        ("aux.lamda=1", "aux.lamda=1 is not accepted: there is no such key; the keys here are lambda; did you mean lambda?"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc is not accepted: a whole number of at least 1"),
        ("seed=-1", "seed=-1 is not accepted: a whole number from 0 to 4294967295"),
        ("seed=0..9", "seed=0..9 is not accepted: one value, unless -m .*: write seed=0..9 -m"),
        ("aux.lambda=-1", "aux.lambda=-1 is not accepted: a number of at least 0"),
        ("aux.c=0.7", "aux.c=0.7 is not accepted: .* aux=convex has c"),
        ("aux=convex aux.c=0.7", "aux.c=0.7 is not accepted: a number from 0 to 0.5"),
        ("data.batch_size=0", "data.batch_size=0 is not accepted: a whole number of at least 1"),
        ("data.test_pairs=301", "data.test_pairs=301 is not accepted: at most 300"),
        ("data=idx data.root=/not/there", "/not/there holds no idx files"),
        ("data=folder data.root=/not/there", "/not/there is no folder"),
        ("model=siamese_cnn model.body.kernels=15", r"model.body.kernels=\[15, 15\] is not accepted: at most 14 in layer 1"),
        ("-m seed=0,1 aux.lambda=0.5,-1", "aux.lambda=-1 is not accepted"),
        ("model.digit_head=none model.comparison_input=features", "aux=LambdaWeighting is not accepted"),
        ("+trainer.foo=1", "trainer.foo=1 is not accepted: an argument of Lightning's Trainer"),
        ("+model.foo=1", "model.foo=1 is not accepted: one of body, .*SiameseNetwork takes"),
        ("model.body._target_=digitpairs.networks.Nobody", "model.body._target_=digitpairs.networks.Nobody is not accepted: a class that can be imported"),
        ("trainer.accelerator=abacus", "trainer.accelerator=abacus is not accepted: one of auto, cpu"),
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed is not accepted: one of 32-true"),
        ("seeds.weights=-4", "seeds.weights=-4 is not accepted"),
        ("-m seed=0,0", "seed=0 is not accepted: each seed once a configuration"),
        ("data.source=foo", "data.source=foo is not accepted: one of auto"),
        ("--cfg job -m seed=0,1", "--cfg goes only without -m"),
        ("+foo=1", "foo=1 is not accepted: one of the keys task, engine, data, model"),
        ("+trainer.max_steps=2", "trainer.max_steps=2 is not accepted"),
        ("trainer.gradient_clip_val=-1.0", "trainer.gradient_clip_val=-1.0 is not accepted: a number above 0"),
        ("trainer.gradient_clip_algorithm=max", "trainer.gradient_clip_algorithm=max is not accepted: one of norm, value"),
        ("early_stopping.patience=0", "early_stopping.patience=0 is not accepted: a whole number of at least 1"),
        ("early_stopping.patience=3", "early_stopping.monitor=validation/comparison_error is not accepted: a monitor of the training pairs"),
        ("early_stopping.monitor=test/loss", "early_stopping.monitor=test/loss is not accepted: one of validation/"),
        ("+early_stopping.wait=3", "early_stopping.wait=3 is not accepted: one of patience, monitor, min_delta"),
        ("data.validation=0.2 early_stopping.patience=3 +trainer.check_val_every_n_epoch=2", "trainer.check_val_every_n_epoch=2 is not accepted: 1"),
        ("+trainer.limit_test_batches=0", "trainer.limit_test_batches=0 is not accepted"),
        ("sweep.plan=fast", "sweep.plan=fast is not accepted: one of auto, array, processes, serial"),
        ("sweep.array_size=0", "sweep.array_size=0 is not accepted: a whole number of at least 1"),
        ("sweep.processes=two", "sweep.processes=two is not accepted"),
        ("+sweep.cores=2", "sweep.cores=2 is not accepted: one of plan, array_size, processes"),
        ("-m seed=0,1 sweep.plan=array,serial", "sweep=... is not accepted: one way to run the whole sweep"),
        ("model.batch_norm=true data.pairs=101", "data.batch_size=100 is not accepted: one that leaves no mini-batch of a single pair"),
        ("data.validation=0.0004", "data.validation=0.0004 is not accepted: 0, or a share"),
        ("data.augmentation.swap=2", "data.augmentation.swap=2 is not accepted"),
        ("optimizer.lr=fast", "optimizer.lr=fast is not accepted: a number above 0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_no_result(command, tmp_path, arguments, message):
    base = [] if "data=" in arguments else ["data=digits"]
    status, out, err = command(*base, *arguments.split())
    assert status == 2 and out == ""
    assert re.match(f"error: {message}", err) and err.count("\n") == 1, err
    written = [
        path for path in tmp_path.rglob("*") if path.is_file() and ".hydra" not in path.parts
    ]
    assert written == []


def test_help_names_every_choice_there_is(command):
    status, out, _ = command("--help", output=None)
    assert status == 0
    for group in ("task", "data", "model", "loss", "aux", "optimizer", "scheduler", "experiment"):
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [group]]
        assert set(line.split(maxsplit=1)[1].split(", ")) == {
            path.stem for path in (CONF / group).glob("*.yaml")
        }


def test_help_is_printed_without_composing_a_config(command, monkeypatch):
    monkeypatch.delattr("hydra.main")
    status, out, err = command("model=mlp", "-h", output=None)
    assert (status, err) == (0, "") and out.startswith("Train networks")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_help_and_config_answer_without_torch(arguments):
    code = f"import sys, runpy; sys.argv = ['train.py', *{arguments}]\ntry: runpy.run_path('train.py', run_name='__main__')\nfinally: print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "False" and len(answer.stdout.splitlines()) > 20


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
    small = [item for item in SMALL if group != "model" or not item.startswith("model")]
    rate = ["optimizer.lr=0.01"] if name == "sgd" else []
    status, out, err = command(*small, choice, *rate)
    assert status == 0, err


def test_configs_open_with_what_they_are():
    for path in CONF.rglob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# "), path


@pytest.mark.long
def test_the_main_job_reaches_four_per_cent_on_mnist(command, tmp_path):
    """n = 3 of the ten seeds; needs MNIST in DIGITPAIRS_DATA or data/."""
    from digitpairs.data import idx, sources

    if idx.find_folder(sources.default_root()) is None:
        pytest.skip("MNIST is not on this machine's disk")
    started = time.perf_counter()
    status, out, _ = command("model=siamese_cnn", "aux.lambda=0.8", "-m", "seed=0..2")
    errors = [
        json.loads(path.read_text())["test/comparison_error"]
        for path in (tmp_path / "outputs").glob("*/*/*/result.json")
    ]
    assert status == 0 and len(errors) == 3 and sum(errors) / 3 < 4, (
        out,
        time.perf_counter() - started,
    )
