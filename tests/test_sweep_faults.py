"""Sweeps whose folders, disks and processes fail, and sweeps that are interrupted."""

import errno
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from digitpairs.checks import InvalidValueError
from digitpairs.dashboard.events import EventsLogger
from digitpairs.sweeps.lock import sweep_lock
from digitpairs.sweeps.workers import available_cores
from tests.conftest import SMALL, SMALL_DATA_AND_MODEL, contents
from tests.processes import wait_for

ENDLESS = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=100000"]
ENDLESS_SWEEP = [*ENDLESS, "-m", "seed=0..3", "sweep.plan=processes"]


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def has_events(output: Path, runs: int) -> bool:
    return len(list(output.glob("*/*/*/events*"))) == runs


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["array", "serial"])
def test_an_output_folder_that_is_removed_is_one_message(command, tmp_path, monkeypatch, plan):
    """A run alone fails; the runs of an array are done again, in new folders."""
    output, mark = tmp_path / "outputs", tmp_path / "removed"
    original = EventsLogger.log_metrics

    def log_metrics(logger, metrics, step=None):
        if not mark.exists():
            mark.touch()
            shutil.rmtree(output)
        original(logger, metrics, step)

    monkeypatch.setattr(EventsLogger, "log_metrics", log_metrics)
    status, _, err = command(*SMALL, "-m", "seed=0,1", f"sweep.plan={plan}")
    assert err.count("\n") == 1 and "Traceback" not in err
    assert "FileNotFoundError: [Errno 2] No such file or directory: " in err
    assert (status, len(contents(output))) == ((0, 2) if plan == "array" else (1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "full",
    [
        "digitpairs.files.write_config",
        "digitpairs.files.write_metrics",
        "digitpairs.dashboard.events.EventFile._write",
    ],
)
def test_a_full_disk_is_one_message_a_run_and_the_same_command_goes_on(command, full):
    one_epoch = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=1"]
    sweep = [*one_epoch, "-m", "seed=0,1", "sweep.plan=serial"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full, no_space)
        patch.setattr("digitpairs.files.write_json", no_space)
        status, _, err = command(*sweep)
    assert status == 1
    reason = "OSError: [Errno 28] No space left on device"
    not_written = "failure.json could not be written (No space left on device)"
    assert err.splitlines() == [
        f"siamese_mlp seed={seed}: FAILED, {reason}; {not_written}" for seed in (0, 1)
    ]
    status, out, err = command(*sweep)
    assert status == 0 and out.startswith("2 runs: 2 alone") and err == ""


@pytest.mark.parametrize(
    "full, multirun",
    [
        ("omegaconf.OmegaConf.save", ["-m"]),  # in the sweeper
        ("pathlib.Path.mkdir", ["-m"]),
        ("pathlib.Path.mkdir", []),
    ],
)
def test_a_disk_too_full_for_the_first_file_is_one_message(command, monkeypatch, full, multirun):
    monkeypatch.setattr(full, no_space)
    status, out, err = command(*SMALL, *multirun, "seed=0")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "(No space left on device): results go to output=FOLDER" in err


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_whole_is_a_failed_run(command, tmp_path):
    """Files of at most 50 kB can be written, which stops a checkpoint in its middle."""
    output = tmp_path / "outputs"
    sweep = [*SMALL, "model.body.dropout=0.1", "model.comparison_hidden=[500]", "-m", "seed=0,1"]
    _, hard_limit = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard_limit))
    try:
        status, _, err = command(*sweep)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1 and err.count("FAILED, OSError") == 2, err
    assert len(contents(output, "failure.json")) == 2 and not contents(output)
    assert not list(output.rglob("*.ckpt*"))
    status, _, err = command(*sweep)
    assert status == 0 and len(contents(output)) == 2, err
    assert not contents(output, "failure.json")


@pytest.mark.parametrize("fault", ["ENOLCK", "EOPNOTSUPP", "ENOTSUP", "EIO"])
def test_a_file_system_without_locks_is_used_without_one(tmp_path, monkeypatch, capsys, fault):
    number, sweep = getattr(errno, fault), tmp_path / "sweep"
    holder = sweep / ".holder.json"

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with sweep_lock(sweep):
        assert holder.exists()
    err = capsys.readouterr().err
    reason = f"[Errno {number}] {os.strerror(number)}"
    assert err.startswith(f"warning: {sweep} cannot be locked ({reason})") and err.count("\n") == 1
    assert not holder.exists()


@pytest.mark.parametrize("note", ['{"process": 3}', "[]", "{", None])
def test_a_locked_folder_is_refused_whatever_its_note_says(tmp_path, note):
    message = r"process (3|\?) on \? since \? runs it in "
    with sweep_lock(tmp_path):
        (tmp_path / ".holder.json").unlink()
        if note is not None:
            (tmp_path / ".holder.json").write_text(note)
        with pytest.raises(InvalidValueError, match=message), sweep_lock(tmp_path):
            pass
    with sweep_lock(tmp_path):
        pass


@pytest.mark.slow
def test_a_second_launch_names_the_first_and_ctrl_c_counts_finished_runs(launch, tmp_path):
    first = launch(*ENDLESS_SWEEP, f"output={tmp_path}")
    wait_for(lambda: has_events(tmp_path, len(available_cores())))
    second = launch(*ENDLESS_SWEEP, f"output={tmp_path}")
    _, err = second.output(timeout=60)
    assert second.exitcode == 2 and f"process {first.pid} on " in err and err.count("\n") == 1
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does, to all processes in the foreground
    started = time.monotonic()
    _, err = first.output(timeout=30)
    assert first.exitcode == 130 and time.monotonic() - started < 10
    assert err == "interrupted: 0 of 4 runs finished; the same command goes on with the rest\n"
    assert first.session_has_ended()


@pytest.mark.slow
def test_ctrl_c_in_a_run_of_this_process(launch, tmp_path):
    process = launch(*ENDLESS, f"output={tmp_path}")
    wait_for(lambda: has_events(tmp_path, 1))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.output(timeout=30)
    assert process.exitcode == 130 and "interrupted: 0 of 1 runs finished" in err


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(launch, tmp_path):
    process = launch(*ENDLESS_SWEEP, f"output={tmp_path}")
    wait_for(lambda: has_events(tmp_path, len(available_cores())))
    process.kill()
    process.join()
    wait_for(process.session_has_ended, 3)
