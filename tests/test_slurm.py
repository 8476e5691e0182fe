"""Sweeps as job arrays of Slurm."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from digitpairs.checks import InvalidValueError
from digitpairs.cli import CONF
from digitpairs.files import DamagedFileError
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.executors import slurm, slurm_jobs
from digitpairs.sweeps.executors.settings import SlurmSettings
from digitpairs.sweeps.executors.slurm_jobs import Submission, Work, run_name
from digitpairs.sweeps.jobs import plan_jobs
from tests.conftest import ROOT, SMALL, SMALL_DATA_AND_MODEL, contents
from tests.processes import wait_for
from tests.test_one_answer import results_of

ON_SLURM = "sweep.executor=slurm"
NEEDED = [*slurm.COMMANDS, "slurmctld", "slurmd", "munged"]
HAS_SUBMITIT = importlib.util.find_spec("submitit") is not None
HAS_SLURM = HAS_SUBMITIT and os.geteuid() == 0 and all(map(shutil.which, NEEDED))
needs_slurm = pytest.mark.skipif(
    not HAS_SLURM, reason="needs root, submitit and Debian's slurm-wlm and munge"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def nodes(tmp_path_factory, monkeypatch):
    """Two Slurm nodes of one core, n1 and n2."""
    folder = tmp_path_factory.mktemp("slurm")
    for parent in folder.parents[:3]:  # munged runs as another user
        parent.chmod(parent.stat().st_mode | 0o011)
    monkeypatch.setenv("SLURM_NODES_PORT", str(min(free_port(), 65000)))
    script = str(ROOT / "tests" / "slurm_nodes")
    subprocess.run([script, "start", folder], check=True, stdout=subprocess.DEVNULL, timeout=60)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    yield
    subprocess.run([script, "stop", folder], check=True, timeout=60)


def run(*command: str) -> list[str]:
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return ended.stdout.split()


def jobs_in_queue(state: str) -> list[str]:
    return run("squeue", "-h", "-r", "-o", "%i", "-t", state)


@needs_slurm
@pytest.mark.long
def test_a_sweep_survives_what_happens_to_its_jobs_nodes_and_commands(
    nodes, launch, command, tmp_path
):
    sweep = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=400", "-m", "seed=0..4"]
    output, own = tmp_path / "slurm", tmp_path / "local"
    on_slurm = [*sweep, ON_SLURM, "sweep.plan=processes", f"output={output}"]

    leaving = launch(*on_slurm, "sweep.slurm.wait=false")
    out, err = leaving.output(timeout=120)
    assert leaving.exitcode == 0, err
    assert out.startswith("5 runs: 5 alone, in 2 Slurm jobs of 1 thread\n")
    assert "Slurm has 5 jobs named digitpairs-" in err and "the same command collects them" in err
    assert len(jobs_in_queue("running,pending")) >= 4
    status, _, err = command(*sweep, output=output)
    assert status == 2 and err.startswith("error: sweep.executor=local is not accepted: slurm, ")

    waiting = launch(*on_slurm)
    wait_for(lambda: jobs_in_queue("running"))
    run("scontrol", "requeue", jobs_in_queue("running")[0])
    wait_for(lambda: contents(output), 240)
    run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    waiting.kill()
    waiting.join()
    before = {path: path.stat() for path in output.glob("*/*/*/result.json")}
    run("scancel", jobs_in_queue("pending")[-1])

    collecting = launch(*on_slurm)
    out, err = collecting.output(timeout=400)
    assert collecting.exitcode == 1, err
    assert "are in Slurm already" in err and err.count("FAILED") == 1
    assert "FAILED, cancelled; Slurm's job " in err
    assert len(contents(output)) == 4
    run("scontrol", "update", "nodename=n2", "state=resume")

    last = launch(*on_slurm)
    out, err = last.output(timeout=240)
    assert last.exitcode == 0 and out.startswith("5 runs, 4 finished before, 1 to do: "), err
    for path, status in before.items():
        now = path.stat()
        assert (now.st_mtime_ns, now.st_ino) == (status.st_mtime_ns, status.st_ino)
    status, _, err = command(*sweep, output=own)
    assert status == 0, err
    assert results_of(output) == results_of(own)


@needs_slurm
@pytest.mark.long
def test_what_sbatch_refuses_is_one_message(nodes, command, tmp_path):
    status, _, err = command(*SMALL, ON_SLURM, "sweep.slurm.gpus=3")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: sweep.slurm={'time': 60, 'gpus': 3, 'wait': True} is not ")
    status, _, err = command(*SMALL, ON_SLURM, "sweep.slurm.partition=debgu")
    message = (
        "error: sweep.slurm.partition=debgu is not accepted: one of debug; did you mean debug?"
    )
    assert (status, err) == (2, f"{message}\n")
    status, _, err = command(*SMALL)  # nothing is left in Slurm
    assert status == 0, err


class FakeSlurm:
    """Answers to squeue, scontrol and sinfo."""

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.requeued: list[str] = []
        self.states: dict[str, str | None] = {}
        self.partitions = "debug* 0/2/0/2\nlong 0/8/0/8\n"

    def __call__(self, *command: str, **_: object) -> str:
        if command[0] == "squeue":
            return "\n".join(self.queue)
        if command[:2] == ("scontrol", "requeue"):
            self.requeued.append(command[-1])
            return ""
        if command[0] == "sinfo":
            return self.partitions
        state = self.states.get(command[-1], "FAILED")
        if state is None:  # an array's job that was cancelled before it started
            return f"Job {command[-1]} not found"
        return f"JobId=1 JobState={state} Reason=None"


def test_a_command_of_slurm_that_slurm_ends_has_not_failed():
    """`scontrol requeue` of the job in which it runs may be ended with the job."""
    command = ("sh", "-c", "kill -TERM $$")
    assert not slurm_jobs.slurm_answer(*command, accepted=(0, -signal.SIGTERM))
    with pytest.raises(subprocess.SubprocessError, match="sh: status -15"):
        slurm_jobs.slurm_answer(*command)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeSlurm()
    monkeypatch.setattr(slurm_jobs, "slurm_answer", fake)
    monkeypatch.setattr(slurm, "slurm_answer", fake)
    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    return fake


@pytest.fixture
def jobs(tmp_path):
    arguments = [*SMALL, f"output={tmp_path / 'outputs'}", "seed=range(2)"]
    return plan_jobs(compose_command(CONF, arguments))


@pytest.fixture
def folder(tmp_path, jobs):
    """The folder of a submission of two jobs, a run each."""
    folder = tmp_path / "digitpairs-0123"
    folder.mkdir()
    pieces = [[run_name(job)] for job in jobs]
    note = {"pieces": pieces, "collected": [], "ids": {}}
    (folder / "submission.json").write_text(json.dumps(note))
    return folder


def wanted(jobs) -> dict:
    return {run_name(job): (index, job) for index, job in enumerate(jobs)}


def events_of(messages) -> list[tuple]:
    return [event for message in messages if message.kind == "events" for event in message.value]


def test_the_events_of_a_job_reach_the_command_that_collects_it(fake, folder, jobs):
    """The second job has the index 1 in this command, whatever it had in the one that submitted."""
    fake.queue = ["7_0", "7_1"]
    submission = Submission(folder, wanted(jobs))
    Work(jobs[1:], folder, 1, 1)()
    events = events_of(submission.new_events())
    assert [event[:2] for event in events] == [
        ("epoch", 1),
        ("epoch", 1),
        ("epoch", 1),
        ("ended", 1),
    ]
    assert list(submission.new_events()) == []
    assert list(submission.ended_jobs()) == [] and submission.waiting == [0]
    assert submission.names() == {run_name(jobs[0])}


@pytest.mark.slow
def test_a_job_that_is_started_again_keeps_what_it_had_finished(folder, jobs):
    work = Work(jobs, folder, 0, 1)
    work()
    written = {path: path.stat().st_mtime_ns for path in jobs[0].folder.iterdir()}
    (jobs[1].folder / "result.json").unlink()
    with (folder / "0.events").open("a") as file:
        file.write('[["epoch", 0, {"ep')  # it was killed
    work()
    assert {path: path.stat().st_mtime_ns for path in jobs[0].folder.iterdir()} == written
    lines = (folder / "0.events").read_text().splitlines()
    again = lines[lines.index('[["epoch", 0, {"ep') + 1 :]
    assert {event[1] for line in again for event in json.loads(line) if len(event) > 1} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], ["early_stopping.patience=9", "data.validation=0.2"]])
def test_a_job_at_its_time_limit_queues_itself_and_goes_on_with_the_same_bits(
    fake, tmp_path, monkeypatch, settings
):
    """The signal comes in the second of four epochs."""
    four = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=4", "model.body.dropout=0.1", *settings]
    expected, jobs = (
        plan_jobs(compose_command(CONF, [*four, f"output={tmp_path / name}", "seed=range(2)"]))
        for name in ("expected", "outputs")
    )
    before = signal.getsignal(slurm_jobs.LIMIT_SIGNAL)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "whole").mkdir()
    Work(expected, tmp_path / "whole", 0, 1)()
    work = Work(jobs, tmp_path, 0, 1)
    send = work._send

    def interrupt(events):
        if any(event[:2] == ("epoch", 0) and event[2].get("epoch") == 1 for event in events):
            os.kill(os.getpid(), slurm_jobs.LIMIT_SIGNAL)
        send(events)

    monkeypatch.setattr("digitpairs.sweeps.executors.base.MESSAGE_INTERVAL", 0)
    monkeypatch.setattr(work, "_send", interrupt)
    with pytest.raises(SystemExit):
        work()
    assert fake.requeued == ["7"] and not contents(tmp_path / "outputs")
    assert not contents(tmp_path / "outputs", "failure.json")
    epochs = len((tmp_path / "0.events").read_text().splitlines())
    work()
    signal.signal(slurm_jobs.LIMIT_SIGNAL, before)
    assert fake.requeued == ["7"] and len(contents(tmp_path / "outputs")) == 2
    lines = (tmp_path / "0.events").read_text().splitlines()[epochs:]
    rows = [event for line in lines if line for event in json.loads(line) if event[0] == "epoch"]
    assert min(row["epoch"] for _, _, row in rows if "learning_rate" in row) == 2
    assert results_of(tmp_path / "outputs") == results_of(tmp_path / "expected")


def test_a_torn_line_of_events_is_left_out(fake, folder, jobs):
    submission = Submission(folder, wanted(jobs))
    with (folder / "0.events").open("w") as file:
        file.write('[["note", "one"]]\n[["no\n[["note", "two"]]\n[["note", "thr')
    assert events_of(submission.new_events()) == [("note", "one"), ("note", "two")]
    with (folder / "0.events").open("a") as file:
        file.write('ee"]]\n')
    assert events_of(submission.new_events()) == [("note", "three")]


def test_a_job_that_has_gone_fails_with_the_last_line_of_its_log(fake, folder, jobs):
    fake.queue = ["7_0", "7_1"]
    submission = Submission(folder, wanted(jobs))
    assert list(submission.ended_jobs()) == []
    fake.queue = ["7_1"]
    (folder / "7_0_0_log.out").write_text("submitit INFO\nImportError: no such module\n\n")
    assert list(submission.ended_jobs()) == []  # its last events may be on the way
    (message,) = submission.ended_jobs()
    assert message == ("failed", [0], "Slurm's job 7_0 ended: ImportError: no such module")
    later = Submission(folder, wanted(jobs))
    assert later.waiting == [1]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["CANCELLED", None])
def test_a_cancelled_job_is_a_failed_run_that_is_not_done_again(fake, folder, jobs, state):
    fake.queue, fake.states = ["7_0", "7_1"], {"7_1": state}
    submission = Submission(folder, wanted(jobs))
    list(submission.ended_jobs())
    fake.queue = ["7_0"]
    list(submission.ended_jobs())
    (message,) = submission.ended_jobs()
    reason = "cancelled; Slurm's job 7_1 left no log"
    assert message == ("events", [1], [("ended", 1, reason)])
    assert json.loads((jobs[1].folder / "failure.json").read_text())["reason"] == reason


@pytest.mark.slow
def test_a_collected_submission_is_not_found_again(fake, folder, jobs, tmp_path):
    sweep = tmp_path / "sweep"
    (sweep / slurm.FOLDER).mkdir(parents=True)
    folder = folder.rename(sweep / slurm.FOLDER / folder.name)
    with pytest.raises(
        InvalidValueError, match="sweep.executor=local is not accepted: slurm, since"
    ):
        slurm.refuse_submissions(sweep, "local")
    slurm.refuse_submissions(sweep, "slurm")
    submission = Submission(folder, wanted(jobs))
    for number, job in enumerate(jobs):
        Work([job], folder, number, 1)()
    assert [message.kind for message in submission.ended_jobs()] == ["events"] * 2
    slurm.refuse_submissions(sweep, "local")


@pytest.mark.slow
def test_runs_that_ended_while_no_command_listened_have_their_mean(command, fake, tmp_path):
    """Their submission is closed by the next command, whatever its executor."""
    output = tmp_path / "outputs"
    jobs = plan_jobs(compose_command(CONF, [*SMALL, f"output={output}", "seed=range(2)"]))
    sweep = jobs[0].folder.parent.parent
    folder = sweep / slurm.FOLDER / "digitpairs-0123"
    folder.mkdir(parents=True)
    note = {"pieces": [[run_name(job) for job in jobs]], "collected": [], "ids": {"0": "7"}}
    (folder / "submission.json").write_text(json.dumps(note))
    assert command(*SMALL, "-m", "seed=0,1", output=output)[0] == 2
    Work(jobs, folder, 0, 1)()
    status, out, err = command(*SMALL, "-m", "seed=0,1", output=output)
    assert (status, err) == (0, "") and out.startswith("2 runs, all finished before")
    assert list((jobs[0].folder.parent / "mean").glob("events*"))
    assert not (folder / "submission.json").exists()


def test_slurm_that_does_not_answer_for_a_while_is_waited_for(fake, folder, jobs, monkeypatch):
    def no_answer(*_: str) -> str:
        raise subprocess.SubprocessError("squeue: connection refused")

    submission = Submission(folder, wanted(jobs))
    monkeypatch.setattr(slurm_jobs, "slurm_answer", no_answer)
    for _ in range(3):
        (message,) = submission.ended_jobs()
        assert message.kind == "note" and "connection refused" in message.value
    assert submission.waiting == [0, 1]


def test_a_damaged_note_is_named(folder, jobs):
    (folder / "submission.json").write_text("{}")
    with pytest.raises(DamagedFileError, match="submission.json is damaged"):
        Submission(folder, wanted(jobs))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["sweep.slurm.partition=lng"],
            "sweep.slurm.partition=lng is not accepted: one of debug, ",
        ),
        (
            ["sweep.slurm.time=0"],
            "sweep.slurm.time=0 is not accepted: a whole number of at least 1",
        ),
        (["sweep.slurm.memory=much"], "sweep.slurm.memory=much is not accepted: a size such as"),
        (["sweep.slurm.wait=maybe"], "sweep.slurm.wait=maybe is not accepted: true or false"),
        (["sweep.slurm.gpus=-1"], "sweep.slurm.gpus=-1 is not accepted: a whole number"),
        (["sweep.slurm.account=3"], "sweep.slurm.account=3 is not accepted: a name of your"),
        (["sweep.slurm.options=3"], "sweep.slurm.options=3 is not accepted: a mapping of options"),
        (
            ["hydra/launcher=basic", "-m", "seed=0,1"],
            "sweep.executor=slurm is not accepted: local with another launcher of Hydra's",
        ),
    ],
)
def test_wrong_settings_are_one_message(command, fake, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    status, _, err = command(*SMALL, ON_SLURM, *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {message}") and not contents(tmp_path / "outputs")


@pytest.mark.slow
def test_a_machine_without_slurm_is_one_message(command, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda command: None)
    status, out, err = command(*SMALL, ON_SLURM)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: sweep.executor=slurm is not accepted: local on a machine without")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_controller_that_does_not_answer_is_one_message(command, fake, monkeypatch):
    def no_answer(*_: str) -> str:
        raise subprocess.SubprocessError("sinfo: Unable to contact slurm controller")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(slurm, "slurm_answer", no_answer)
    status, _, err = command(*SMALL, ON_SLURM)
    assert (status, err.count("\n")) == (2, 1) and "Unable to contact slurm controller" in err


def test_the_partition_decides_how_many_jobs_run_at_once(fake):
    assert slurm.jobs_at_once(SlurmSettings(), threads=1) == 2
    assert slurm.jobs_at_once(SlurmSettings(partition="long"), threads=3) == 2
    assert slurm.jobs_at_once(SlurmSettings(partition="long"), threads=30) == 1
    fake.partitions = "long 0/8/0/8\n"
    with pytest.raises(
        InvalidValueError, match="sweep.slurm.partition=None is not accepted: one of"
    ):
        slurm.jobs_at_once(SlurmSettings(), threads=1)


def test_commands_of_slurm_that_fail_are_their_last_line(monkeypatch):
    started = time.monotonic()
    with pytest.raises(subprocess.SubprocessError, match="^bash: no$"):
        slurm_jobs.slurm_answer("bash", "-c", "echo so; echo no >&2; exit 3")
    assert slurm_jobs.slurm_answer("echo", "yes") == "yes\n"
    assert time.monotonic() - started < slurm_jobs.COMMAND_SECONDS
