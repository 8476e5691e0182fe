"""The processes that carry a sweep out, and how it shows that it gets on."""

import io
import os
import signal
import time

import pytest
import torch
from rich.console import Console

from digitpairs.sweeps.progress import SweepProgress
from digitpairs.sweeps.workers import available_cores, run_in_processes


def test_work_is_done_in_other_processes_and_what_is_said_comes_back():
    def work(number):
        def call(send):
            send(number)
            return number**2, os.getpid(), torch.get_num_threads()

        return call

    heard = list(run_in_processes([work(i) for i in range(5)], 2, 1))
    assert sorted(each.value for each in heard if each.kind == "sent") == list(range(5))
    answers = {each.work: each.value for each in heard if each.kind == "returned"}
    assert [answers[i][0] for i in range(5)] == [0, 1, 4, 9, 16]
    pids = {pid for _, pid, _ in answers.values()}
    assert (
        len(pids) <= 2
        and os.getpid() not in pids
        and {threads for *_, threads in answers.values()} == {1}
    )


def test_a_worker_that_dies_or_raises_takes_only_its_own_work():
    def work(number):
        def call(send):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 2:
                raise ValueError("no")
            return number

        return call

    heard = {each.work: each for each in run_in_processes([work(i) for i in range(5)], 2, 1)}
    assert [heard[i].value for i in (0, 3, 4)] == [0, 3, 4]
    assert heard[1].kind == "died" and heard[1].value == "its process was ended by SIGKILL"
    assert heard[2].kind == "raised" and "ValueError: no" in heard[2].value


def test_leaving_early_ends_the_workers():
    def work(send):
        send(os.getpid())
        time.sleep(60)

    workers = run_in_processes([work] * 2, 2, 1)
    pids = [next(workers).value, next(workers).value]
    workers.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_tick_comes_when_nobody_says_anything():
    workers = run_in_processes([lambda send: time.sleep(60)], 1, 1, tick=0.05)
    assert next(workers) is None
    workers.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_workers_are_pinned_when_they_fill_the_machine():
    cores = available_cores()
    heard = list(
        run_in_processes(
            [lambda send: time.sleep(0.2) or available_cores()] * len(cores), len(cores), 1
        )
    )
    assert sorted(each.value for each in heard) == [[core] for core in cores]
    if len(cores) > 1:
        (alone,) = run_in_processes([lambda send: available_cores()], 1, 1)
        assert alone.value == cores


def progress_of(terminal: bool) -> tuple[SweepProgress, Console, Console]:
    consoles = [
        Console(record=True, file=open(os.devnull, "w"), force_terminal=terminal, width=120)
        for _ in range(2)
    ]
    return SweepProgress(["a seed=0", "a seed=1"], [10, 10], *consoles), *consoles


def test_progress_on_a_terminal_is_one_line_that_changes():
    progress, console, _ = progress_of(terminal=True)
    with progress:
        progress.epoch(0, {"epoch": 4, "learning_rate": 0.1, "train/comparison_error": 10.0})
        progress.epoch(1, {"epoch": 4, "learning_rate": 0.1, "train/comparison_error": 20.0})
        progress.epoch(
            1, {"epoch": 10, "test/comparison_error": 1.0}
        )  # the test's row is no epoch of training
        progress.ended(0, None)
        assert progress._display.finished is False and progress._display.tasks[0].completed == 15
        state = progress._display.tasks[0].fields
    assert state["runs"] == "1/2 runs" and state["state"].startswith(
        "15/20 epochs, train error 15.00 ± 7.07 %, "
    )
    assert state["state"].endswith(" s left")


def test_progress_elsewhere_is_quiet_but_for_failures(monkeypatch):
    progress, console, errors = progress_of(terminal=False)
    with progress:
        for epoch in range(10):
            progress.epoch(
                0, {"epoch": epoch, "learning_rate": 0.1, "train/comparison_error": 10.0}
            )
        progress.ended(0, "the loss became nan in epoch 3")
        progress.note("warning: small")
        progress.note("warning: small")
        monkeypatch.setattr("digitpairs.sweeps.progress.QUIET_SECONDS", -1)
        progress.epoch(1, {"epoch": 0, "learning_rate": 0.1, "train/comparison_error": 30.0})
    assert console.export_text().startswith("1/2 runs, 11/20 epochs, train error 20.00 ± 14.14 %, ")
    assert (
        errors.export_text() == "a seed=0: FAILED, the loss became nan in epoch 3\nwarning: small\n"
        and progress.failures == 1
    )


def test_progress_on_a_terminal_without_the_sign():
    progress, console, _ = progress_of(terminal=False)
    console.file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    for place, error in enumerate((10.0, 20.0)):
        progress.epoch(place, {"epoch": 4, "learning_rate": 0.1, "train/comparison_error": error})
    assert "train error 15.00 +- 7.07 %" in progress._state()
