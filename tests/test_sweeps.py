"""How sweeps are composed, planned, carried out, resumed and held: by the real command, in this process and in others."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from omegaconf import OmegaConf

from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF
from digitpairs.sweeps.check import Checker
from digitpairs.sweeps.compose import compose_sweep
from digitpairs.sweeps.jobs import fingerprint, plan_jobs
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.measure import Measurement, best_size, read_cache, write_cache
from digitpairs.sweeps.plan import Plan, cut
from digitpairs.sweeps.workers import available_cores
from digitpairs.training import PairComparison
from tests.conftest import ROOT
from tests.processes import launch, session_has_ended, wait_for

SMALL = [
    "data=digits",
    "model=siamese_mlp",
    "model.body.hidden=[16]",
    "data.pairs=60",
    "data.test_pairs=40",
    "trainer.max_epochs=2",
]


def composed(*sweep: list[str]):
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        master = compose("config", return_hydra_config=True)
        with OmegaConf_writable(master):
            master.hydra.job.config_name = "config"
        return compose_sweep(loader, master, sweep)


class OmegaConf_writable:
    def __init__(self, config):
        self.config = config

    def __enter__(self):
        OmegaConf.set_readonly(self.config, False)
        OmegaConf.set_struct(self.config, False)

    def __exit__(self, *_):
        pass


SWEEP = [
    ["seed=0", "aux.lambda=0.5"],
    ["seed=1", "aux.lambda=0.5"],
    ["seed=1", "aux.lambda={schedule:linear,start:0,end:1,epochs:2}"],
    ["seed=2", "aux.lambda=0.7"],
    ["seed=3", "model=mlp", "data.seed=7"],
    ["seed=4", "model=mlp", "data.seed=7"],
    ["seed=5", "data.root=null"],
    ["seed=6", "data.root=a b"],
    ["seed=6", "data.augmentation.shift=1", "optimizer=sgd"],
    ["seed=7", "data.augmentation.shift=2", "optimizer=sgd"],
    ["seed=0", "aux.lambda=1"],
]


def test_configs_composed_once_are_those_that_hydra_composes():
    ours = composed(*SWEEP)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides, asked in zip(SWEEP, ours):
            assert asked.config == OmegaConf.to_container(
                compose("config", overrides=overrides), resolve=True
            )
            assert asked.overrides == overrides and asked.model == (
                "mlp" if "model=mlp" in overrides else "siamese_cnn"
            )
    assert ours[0].pattern == ours[1].pattern != ours[3].pattern
    assert (
        ours[4].pattern["seed"] == ours[4].pattern["seeds"]["order"] == "*"
        and ours[4].pattern["data"]["seed"] == 7
    )


def test_composition_is_once_a_combination_of_choices(monkeypatch):
    calls = []
    original = ConfigLoaderImpl.load_sweep_config
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "load_sweep_config",
        lambda self, *arguments, **named: calls.append(1) or original(self, *arguments, **named),
    )
    composed(
        *(
            [f"seed={seed}", f"optimizer.lr={rate}", f"model={model}"]
            for seed in range(20)
            for rate in (0.1, 0.2)
            for model in ("mlp", "cnn")
        )
    )
    assert len(calls) == 2


def keys(*sweep: list[str]) -> list:
    checker = Checker()
    return [
        checker.check(job.config)
        for job in plan_jobs(composed(*(["data=digits", *overrides] for overrides in sweep)))
    ]


def test_numbers_stack_and_kinds_do_not():
    free = ["optimizer.lr=0.1", "optimizer.weight_decay=0.1", "optimizer.betas=[0.8,0.9]", "aux.lambda=0.3", "seed=3", "data.seed=4",
            "scheduler=step", "trainer.gradient_clip_val=1", "data.augmentation.shift=1", "early_stopping.patience=2 early_stopping.monitor=train/loss"]  # fmt: skip
    assert len(set(keys(["seed=9"], *(each.split() for each in free)))) == 1
    kinds = [
        "model=mlp",
        "aux=gamma",
        "optimizer=adamw",
        "data.batch_size=50",
        "data.pairs=500",
        "trainer.max_epochs=3",
        "data.validation=0.1",
    ]
    assert len(set(keys([], *([each] for each in kinds)))) == 1 + len(kinds)
    folds = keys(*(["data.folds=5", f"data.fold={fold}"] for fold in range(5)))
    assert len(set(folds)) == 1 and None not in folds


@pytest.mark.parametrize(
    "count, size, processes, lengths",
    [
        (10, 8, 2, [5, 5]),
        (10, 1, 2, [1] * 10),
        (100, 16, 2, [12, 13] * 4),
        (3, 2, 2, [1, 2]),
        (1, 8, 2, [1]),
        (7, 100, 1, [7]),
        (2, 2, 2, [2]),
        (3, 3, 2, [3]),
        (4, 4, 2, [2, 2]),
    ],
)
def test_pieces_are_even_and_bounded(count, size, processes, lengths):
    pieces = cut(range(count), size, processes)
    assert sorted(map(len, pieces)) == sorted(lengths) and [
        place for piece in pieces for place in piece
    ] == list(range(count))


def test_the_fastest_size_that_fits_is_chosen():
    figures = {
        1: Measurement(1.0, 100),
        4: Measurement(0.5, 100),
        8: Measurement(0.4, 100),
        16: Measurement(0.41, 100),
        32: Measurement(0.5, 100),
    }
    assert best_size(figures, 0, 1e9) == 16  # about as fast as 8, and fewer to start
    assert best_size(figures, 900, 2 * 5000) == 4
    assert best_size({1: Measurement(1.0, 1), 4: Measurement(1.1, 1)}, 0, 1e9) == 1
    assert best_size(figures, 900, 10) == 1


def test_a_plan_in_words():
    assert (
        str(Plan([[0, 1, 2], [3, 4], [5]], 2, 1))
        == "2 arrays of 2 to 3 and 1 alone, in 2 processes of 1 thread"
    )
    assert str(Plan([[0]], 0, 2)) == "1 alone, in this process of 2 threads"


# Whole sweeps


def files_of(folder: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def results(folder: Path) -> dict[tuple[str, int], dict]:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/*/*/result.json"))]
    return {(result["fingerprint"], result["seed"]): result for result in found}


def assert_same_results(one: Path, other: Path, rel: float = 1e-4) -> None:
    ours, theirs = results(one), results(other)
    assert set(ours) == set(theirs) and ours
    for key, result in ours.items():
        for name, value in result.items():
            if name not in ("seconds", "array_size", "threads", "files"):
                assert value == (
                    pytest.approx(theirs[key][name], rel=rel)
                    if isinstance(value, float)
                    else theirs[key][name]
                ), name


def test_every_plan_leaves_the_same_files_and_the_same_numbers(command, tmp_path):
    sweep = [
        *SMALL,
        "model.body.dropout=0.2",
        "model.batch_norm=true",
        "optimizer=sgd",
        "data.validation=0.2",
        "-m",
        "optimizer.lr=0.01,0.02",
        "seed=0..2",
    ]
    sizes = {}
    for plan in ("array", "processes", "serial", "auto"):
        status, out, err = command(*sweep, f"sweep.plan={plan}", output=tmp_path / plan)
        assert status == 0 and err == "", err
        sizes[plan] = {result["array_size"] for result in results(tmp_path / plan).values()}
    assert sizes["array"] == {3} and sizes["processes"] == sizes["serial"] == {1}
    assert "6 runs: 6 alone, in this process" not in out
    for plan in ("processes", "serial", "auto"):
        assert_same_results(tmp_path / "array", tmp_path / plan)
        names = [
            {
                re.sub(r"tfevents\..*", "tfevents", name)
                for name in files_of(tmp_path / each)
                if ".hydra" not in name
            }
            for each in ("array", plan)
        ]
        assert names[0] == names[1]
    for path in (tmp_path / "array").glob("*/*/*/checkpoint.ckpt"):
        ours = PairComparison.load_from_checkpoint(path, weights_only=True)
        theirs = PairComparison.load_from_checkpoint(
            tmp_path / "serial" / path.relative_to(tmp_path / "array"), weights_only=True
        )
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name])
        assert path.stat().st_size < 200_000  # a member's own values, not the array's


def test_the_same_command_does_only_what_is_not_finished(command, tmp_path):
    assert command(*SMALL, "-m", "seed=0..2")[0] == 0
    before = {
        name: path.stat().st_mtime_ns
        for name, path in files_of(tmp_path / "outputs").items()
        if "seed=" in name
    }
    (half,) = (tmp_path / "outputs").glob("*/*/seed=1")
    (half / "result.json").unlink()
    (half / "junk").write_text("of a run that was cut short")
    status, out, err = command(*SMALL, "-m", "seed=0..4")
    assert status == 0 and out.startswith("5 runs, 2 finished before, 3 to do: ") and err == ""
    after = {
        name: path.stat().st_mtime_ns
        for name, path in files_of(tmp_path / "outputs").items()
        if "seed=" in name
    }
    assert all(after[name] == before[name] for name in before if "seed=1" not in name)
    assert not (half / "junk").exists() and len(list(half.glob("events*"))) == 1
    assert len(results(tmp_path / "outputs")) == 5
    status, out, _ = command(*SMALL, "-m", "seed=0..1", "sweep.plan=serial")
    assert status == 0 and out.startswith("2 runs, all finished before")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  siamese_mlp")] == [
        "2"
    ]


def test_a_failed_run_is_done_again(command, tmp_path):
    assert command(*SMALL, "seed=3")[0] == 0
    (run,) = (tmp_path / "outputs").glob("*/*/seed=3")
    (run / "result.json").rename(run / "failure.json")
    status, out, _ = command(*SMALL, "seed=3")
    assert status == 0 and out.startswith("1 run: 1 alone") and not (run / "failure.json").exists()


def test_a_result_of_another_config_is_never_overwritten(command, tmp_path):
    assert command(*SMALL, "seed=3")[0] == 0
    (path,) = (tmp_path / "outputs").glob("*/*/seed=3/result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "00000000"}))
    before = path.read_text()
    status, _, err = command(*SMALL, "seed=3")
    assert (
        status == 2
        and str(path.parent) in err
        and err.count("\n") == 1
        and path.read_text() == before
    )


def test_runs_from_before_a_setting_of_a_section_are_found_again():
    common = ["seed=0", "data=digits", "scheduler=warm_restarts"]
    now, delayed = (
        job.config for job in plan_jobs(composed(common, [*common, "scheduler.delay=1"]))
    )
    before = now | {
        "scheduler": {key: value for key, value in now["scheduler"].items() if key != "delay"}
    }
    assert before != now and fingerprint(before) == fingerprint(now) != fingerprint(delayed)


def run_of(output: Path, seed: int) -> Path:
    (run,) = output.glob(f"*/*/seed={seed}")
    return run


HARM = [
    ("result.json", lambda path: path.write_text('{"seed": 3')),
    ("result.json", lambda path: path.write_text("[]")),
    ("result.json", lambda path: path.write_text("null")),
    (
        "result.json",
        lambda path: path.write_text(
            json.dumps(json.loads(path.read_text()) | {"test/comparison_error": "5"})
        ),
    ),
    ("result.json", lambda path: (path.unlink(), os.mkfifo(path))),
    ("checkpoint.ckpt", lambda path: path.unlink()),
    ("checkpoint.ckpt", lambda path: path.write_bytes(b"")),
    ("checkpoint.ckpt", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    ("metrics.csv", lambda path: path.write_text("epoch\n0\n")),
    ("config.yaml", lambda path: (path.unlink(), os.mkfifo(path))),
    ("confusion.json", lambda path: path.unlink()),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
def test_runs_whose_files_came_to_harm_are_named_and_done_again(command, tmp_path):
    """Seed by seed another harm; the last run is whole, and stays."""
    sweep, output = (
        [*SMALL, "-m", f"seed=0..{len(HARM)}", "sweep.plan=serial"],
        tmp_path / "outputs",
    )
    assert command(*sweep)[0] == 0
    before = results(output)
    whole = {path: path.stat().st_mtime_ns for path in run_of(output, len(HARM)).iterdir()}
    for seed, (name, harm) in enumerate(HARM):
        harm(run_of(output, seed) / name)
    status, out, err = command(*sweep)
    assert status == 0 and out.startswith(
        f"{len(HARM) + 1} runs, 1 finished before, {len(HARM)} to do: "
    )
    *named, rest = err.splitlines()
    for seed, line in enumerate(named):
        assert line.startswith(
            f"warning: {run_of(output, seed) / HARM[seed][0]} is "
        ) and line.endswith("; its run is done again")
    assert (
        len(named) == 10
        and rest == "warning: damaged files that are not named here, and treated alike: 1"
    )
    assert whole == {path: path.stat().st_mtime_ns for path in run_of(output, len(HARM)).iterdir()}
    after = results(output)
    assert after.keys() == before.keys() and all(
        after[key]["test/loss"] == before[key]["test/loss"] for key in before
    )
    status, out, err = command(*sweep)
    assert (
        status == 0 and out.startswith(f"{len(HARM) + 1} runs, all finished before") and err == ""
    )


def test_results_from_before_the_inventory_are_finished(command, tmp_path):
    assert command(*SMALL, "-m", "seed=0,1")[0] == 0
    for path in (tmp_path / "outputs").glob("*/*/*/result.json"):
        path.write_text(
            json.dumps(
                {
                    key: value
                    for key, value in json.loads(path.read_text()).items()
                    if key != "files"
                }
            )
        )
    status, out, err = command(*SMALL, "-m", "seed=0,1")
    assert status == 0 and out.startswith("2 runs, all finished before") and err == ""
    (gone := run_of(tmp_path / "outputs", 1) / "checkpoint.ckpt").unlink()
    status, out, err = command(*SMALL, "-m", "seed=0,1")
    assert (
        status == 0
        and out.startswith("2 runs, 1 finished before, 1 to do")
        and err == f"warning: {gone} is missing; its run is done again\n"
    )


def test_a_run_whose_folder_is_a_link_is_refused_until_it_is_finished(command, tmp_path):
    assert command(*SMALL, "-m", "seed=0,1")[0] == 0
    run, elsewhere = run_of(tmp_path / "outputs", 1), tmp_path / "elsewhere"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    assert command(*SMALL, "-m", "seed=0,1")[1].startswith("2 runs, all finished before")
    (elsewhere / "result.json").unlink()
    status, out, err = command(*SMALL, "-m", "seed=0,1")
    assert (
        status == 2
        and out == ""
        and err.count("\n") == 1
        and f"{run} is a symbolic link: remove it" in err
        and (elsewhere / "checkpoint.ckpt").exists()
    )


# Folders and disks that fail


@pytest.mark.parametrize("plan", ["array", "serial"])
def test_an_output_folder_that_is_removed_is_one_message(command, tmp_path, monkeypatch, plan):
    """A run alone has failed; those of an array begin anew, in a folder of their own."""
    from digitpairs.sweeps.events import EventsLogger

    original, removed = EventsLogger.log_metrics, tmp_path / "removed"

    def log_metrics(logger, metrics, step=None):
        if not removed.exists():
            removed.mkdir()
            shutil.rmtree(tmp_path / "outputs")
        original(logger, metrics, step)

    monkeypatch.setattr(EventsLogger, "log_metrics", log_metrics)
    status, _, err = command(*SMALL, "-m", "seed=0,1", f"sweep.plan={plan}")
    assert (
        err.count("\n") == 1
        and "FileNotFoundError: [Errno 2] No such file or directory: " in err
        and "Traceback" not in err
    )
    assert (status, len(results(tmp_path / "outputs"))) == ((0, 2) if plan == "array" else (1, 1))


@pytest.mark.parametrize(
    "full",
    [
        "digitpairs.files.write_config",
        "digitpairs.files.write_metrics",
        "digitpairs.sweeps.events.EventsLogger._append",
    ],
)
def test_a_full_disk_is_one_message_a_run_and_the_same_command_goes_on(command, tmp_path, full):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full, no_space)
        patch.setattr("digitpairs.files.write_json", no_space)
        status, _, err = command(*SMALL, "-m", "seed=0,1", "sweep.plan=serial")
    assert status == 1 and err.splitlines() == [
        f"siamese_mlp seed={seed}: FAILED, OSError: [Errno 28] No space left on device; failure.json could not be written (No space left on device)"
        for seed in (0, 1)
    ]
    status, out, err = command(*SMALL, "-m", "seed=0,1", "sweep.plan=serial")
    assert status == 0 and out.startswith("2 runs: 2 alone") and err == ""


@pytest.mark.parametrize(
    "full, multirun",
    [
        ("omegaconf.OmegaConf.save", ["-m"]),
        ("pathlib.Path.mkdir", ["-m"]),
        ("pathlib.Path.mkdir", []),
    ],
)
def test_a_disk_too_full_for_the_first_file_is_one_message(command, monkeypatch, full, multirun):
    """Of Hydra, and of the sweep."""
    monkeypatch.setattr(full, no_space)
    status, out, err = command(*SMALL, *multirun, "seed=0")
    assert (
        status == 2
        and out == ""
        and err.count("\n") == 1
        and "(No space left on device): results go to output=FOLDER" in err
    )


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["ENOLCK", "EOPNOTSUPP", "ENOTSUP", "EIO"])
def test_a_file_system_without_locks_does_without(tmp_path, monkeypatch, capsys, fault):
    number = getattr(errno, fault)

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with sweep_lock(tmp_path / "sweep"):
        assert (tmp_path / "sweep" / ".holder.json").exists()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(
        f"warning: {tmp_path / 'sweep'} cannot be locked ([Errno {number}] {os.strerror(number)})"
    )
    assert not (tmp_path / "sweep" / ".holder.json").exists()


@pytest.mark.parametrize("note", ['{"process": 3}', "[]", "{", None])
def test_a_folder_that_is_held_is_refused_whatever_its_note_says(tmp_path, note):
    with sweep_lock(tmp_path):
        (tmp_path / ".holder.json").unlink()
        if note is not None:
            (tmp_path / ".holder.json").write_text(note)
        with (
            pytest.raises(InvalidValueError, match=r"process (3|\?) on \? since \? runs it in "),
            sweep_lock(tmp_path),
        ):
            pass
    with sweep_lock(tmp_path):
        pass


LONG = [*SMALL[:-1], "trainer.max_epochs=100000", "-m", "seed=0..3", "sweep.plan=processes"]


def running(output: Path) -> bool:
    return len(list(output.glob("*/*/*/events*"))) == len(available_cores())


def test_a_second_launch_is_told_who_holds_the_sweep_and_ctrl_c_how_far_it_came(tmp_path):
    process = launch(*LONG, f"output={tmp_path}")
    wait_for(lambda: running(tmp_path))
    second = launch(*LONG, f"output={tmp_path}")
    _, err = second.communicate(timeout=60)
    assert (
        second.returncode == 2 and f"process {process.pid} on " in err and err.count("\n") == 1
    ), err
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of the foreground
    started = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - started < 10
    assert err == "interrupted: 0 of 4 runs finished; the same command goes on with the rest\n"
    assert session_has_ended(process)


def test_ctrl_c_in_a_run_of_this_process(tmp_path):
    process = launch(*SMALL[:-1], "trainer.max_epochs=100000", f"output={tmp_path}")
    wait_for(lambda: list(tmp_path.glob("*/*/*/events*")))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted: 0 of 1 runs finished" in err


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    process = launch(*LONG, f"output={tmp_path}")
    wait_for(lambda: running(tmp_path))
    process.kill()
    process.communicate()
    wait_for(lambda: session_has_ended(process), 3)


def test_a_write_that_fails_half_way_is_a_failed_run_that_can_be_done_again(command, tmp_path):
    """As on a full disk: no file of more than 60 kB can be written, which stops a checkpoint in its middle."""
    arguments = [
        *SMALL,
        "model.body.dropout=0.1",
        "model.comparison_hidden=[500]",
        "-m",
        "seed=0..1",
        f"output={tmp_path / 'outputs'}",
    ]
    limit = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))"
    code = f"{limit}; sys.argv = ['train.py', *{arguments}]; runpy.run_path('train.py', run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1 and answer.stderr.count("FAILED, OSError") == 2, answer.stderr
    left = files_of(tmp_path / "outputs")
    assert (
        not [name for name in left if name.endswith(("result.json", ".ckpt"))]
        and sum(name.endswith("failure.json") for name in left) == 2
    )
    status, out, err = command(*arguments[:-1])
    assert status == 0 and len(results(tmp_path / "outputs")) == 2, err


def test_what_shapes_do_not_show_still_counts(command, tmp_path):
    """Two heads with as many inputs are two kinds of network, in an array of all that is alike."""
    sweep = [*SMALL, "-m", "model.comparison_input=probabilities,logits", "seed=0,1"]
    assert command(*sweep, "sweep.plan=array", output=tmp_path / "array")[0] == 0
    assert command(*sweep, "sweep.plan=serial", output=tmp_path / "serial")[0] == 0
    assert_same_results(tmp_path / "array", tmp_path / "serial")
    assert {result["array_size"] for result in results(tmp_path / "array").values()} == {2}


def test_a_sweep_whose_first_run_diverges_is_measured_and_goes_on(command, tmp_path):
    status, _, err = command(
        *SMALL, "optimizer=sgd", "scheduler=none", "-m", "optimizer.lr=1e20,0.01", "seed=0..2"
    )
    assert (
        status == 1
        and err.count("FAILED, the loss became") == 3
        and len(results(tmp_path / "outputs")) == 3
    )


def test_a_measurement_that_fails_leaves_the_runs_to_themselves(command, tmp_path, monkeypatch):
    monkeypatch.setattr("digitpairs.sweeps.measure.read_cache", lambda *_: None)
    monkeypatch.setattr(
        "digitpairs.sweeps.measure.measure", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = command(*SMALL, "-m", "seed=0..3")
    assert (
        status == 0
        and "could not be measured (its process was ended by SIGKILL); the runs train one by one"
        in err
    )
    assert {result["array_size"] for result in results(tmp_path / "outputs").values()} == {1}


# Measuring


def test_a_measurement_where_the_test_is_watched_says_nothing(command, tmp_path, monkeypatch):
    """It has no test pairs, of which Lightning would warn."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = command(*SMALL, "data.watch_test=true", "-m", "seed=0..3")
    assert status == 0 and err == ""


def test_measured_speeds_are_kept_and_a_damaged_file_is_measured_anew(
    command, tmp_path, monkeypatch
):
    from digitpairs.sweeps import measure

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    measured = []
    original = measure.write_cache
    monkeypatch.setattr(
        measure, "write_cache", lambda *arguments: measured.append(1) or original(*arguments)
    )
    sweep = [*SMALL, "-m", "seed=0..3"]
    path = tmp_path / "cache" / "digitpairs" / "step_times.json"
    for number in range(2):
        assert command(*sweep, output=tmp_path / f"{number}")[0] == 0
    assert len(measured) == 1 and all(
        figure[0] > 0
        for entry in json.loads(path.read_text()).values()
        for figure in entry.values()
    )
    path.write_text("{")
    assert (
        command(*sweep, output=tmp_path / "third")[0] == 0
        and len(measured) == 2
        and json.loads(path.read_text())
    )
    path.unlink()
    path.mkdir()  # as where nothing can be written
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = command(*sweep, output=tmp_path / "fourth")
    assert status == 0 and "cannot be kept" in err


@pytest.mark.parametrize(
    "entry",
    [
        *(3, "text", [], {}, None, [[1.0, 2.0]]),
        *(
            {"1": figure}
            for figure in (
                1.0,
                [1.0],
                [1.0, 2.0, 3.0],
                ["1", 2.0],
                [1.0, None],
                [-1.0, 2.0],
                {"seconds": 1.0},
            )
        ),
        *({"1": [1.0, 2.0], size: [1.0, 2.0]} for size in ("x", "0", "-4", "1.5", "9" * 5000)),
        {"4": [1.0, 2.0]},
    ],
    ids=lambda entry: repr(entry)[:30],
)
def test_speeds_of_another_type_are_measured_anew(tmp_path, monkeypatch, entry):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_cache("a", "cpu", 1, {1: Measurement(1.0, 2.0)})
    write_cache("b", "cpu", 1, {1: Measurement(3.0, 4.0)})
    path = tmp_path / "digitpairs" / "step_times.json"
    keys = list(json.loads(path.read_text()))
    path.write_text(json.dumps(json.loads(path.read_text()) | {keys[0]: entry}))
    assert read_cache("a", "cpu", 1) is None and read_cache("b", "cpu", 1) == {
        1: Measurement(3.0, 4.0)
    }
    write_cache("a", "cpu", 1, {1: Measurement(5.0, 6.0)})
    assert read_cache("a", "cpu", 1) == {1: Measurement(5.0, 6.0)} and read_cache(
        "b", "cpu", 1
    ) == {1: Measurement(3.0, 4.0)}
