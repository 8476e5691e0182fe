"""The processes that run a sweep's pieces of work, and the progress of a sweep."""

import io
import os
import signal
import time

import pytest
import torch
from rich.console import Console

from digitpairs.sweeps.progress import SweepProgress
from digitpairs.sweeps.workers import available_cores, run_in_processes


def test_work_is_done_in_other_processes_and_its_values_come_back():
    def work(number):
        def call(send):
            send(number)
            return number**2, os.getpid(), torch.get_num_threads()

        return call

    messages = list(run_in_processes([work(i) for i in range(5)], 2, 1))
    assert sorted(each.value for each in messages if each.kind == "sent") == list(range(5))
    returned = {each.work: each.value for each in messages if each.kind == "returned"}
    squares, processes, threads = zip(*(returned[i] for i in range(5)))
    assert squares == (0, 1, 4, 9, 16)
    assert len(set(processes)) <= 2 and os.getpid() not in processes
    assert set(threads) == {1}


def test_a_worker_that_dies_or_raises_takes_only_its_own_work():
    def work(number):
        def call(send):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 2:
                raise ValueError("no")
            return number

        return call

    messages = {each.work: each for each in run_in_processes([work(i) for i in range(5)], 2, 1)}
    assert [messages[i].value for i in (0, 3, 4)] == [0, 3, 4]
    assert messages[1][1:] == ("died", "its process was ended by SIGKILL")
    assert messages[2].kind == "raised" and "ValueError: no" in messages[2].value


def test_leaving_early_ends_the_workers():
    def work(send):
        send(os.getpid())
        time.sleep(60)

    messages = run_in_processes([work] * 2, 2, 1)
    processes = [next(messages).value, next(messages).value]
    messages.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_tick_comes_when_there_is_no_message():
    messages = run_in_processes([lambda send: time.sleep(60)], 1, 1, tick=0.05)
    assert next(messages).kind == "tick"
    messages.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_workers_are_pinned_when_they_fill_the_machine():
    def work(send):
        time.sleep(0.2)  # so that no worker does the work of another
        return available_cores()

    cores = available_cores()
    messages = run_in_processes([work] * len(cores), len(cores), 1)
    assert sorted(each.value for each in messages) == [[core] for core in cores]
    if len(cores) > 1:
        (alone,) = run_in_processes([work], 1, 1)
        assert alone.value == cores


def progress_of(terminal: bool) -> tuple[SweepProgress, Console, Console]:
    """The progress of two runs of ten epochs, and its consoles for output and errors."""
    consoles = [
        Console(record=True, file=io.StringIO(), force_terminal=terminal, width=120)
        for _ in range(2)
    ]
    return SweepProgress(["a seed=0", "a seed=1"], [10, 10], *consoles), *consoles


def row(epoch: int, error: float) -> dict[str, float]:
    return {"epoch": epoch, "learning_rate": 0.1, "train/comparison_error": error}


def test_progress_on_a_terminal_is_one_line_that_changes():
    progress, *_ = progress_of(terminal=True)
    with progress:
        progress.epoch(0, row(4, 10.0))
        progress.epoch(1, row(4, 20.0))
        progress.epoch(1, {"epoch": 10, "test/comparison_error": 1.0})  # the test is no epoch
        progress.ended(0, None)
        assert not progress._display.finished
        (task,) = progress._display.tasks
    assert task.completed == 15 and task.fields["runs"] == "1/2 runs"
    state = task.fields["state"]
    assert state.startswith("15/20 epochs, train error 15.00 ± 7.07 %, ")
    assert state.endswith(" s left")


def test_progress_elsewhere_is_quiet_but_for_failures(monkeypatch):
    progress, console, errors = progress_of(terminal=False)
    with progress:
        for epoch in range(10):
            progress.epoch(0, row(epoch, 10.0))
        progress.ended(0, "the loss became nan in epoch 3")
        progress.note("warning: small")
        progress.note("warning: small")
        monkeypatch.setattr("digitpairs.sweeps.progress.QUIET_SECONDS", -1)
        progress.epoch(1, row(0, 30.0))
    assert console.export_text().startswith("1/2 runs, 11/20 epochs, train error 20.00 ± 14.14 %, ")
    failure = "a seed=0: FAILED, the loss became nan in epoch 3\n"
    assert errors.export_text() == f"{failure}warning: small\n" and progress.failures == 1


def test_progress_on_a_terminal_without_the_sign():
    progress, console, _ = progress_of(terminal=False)
    console.file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    for index, error in enumerate((10.0, 20.0)):
        progress.epoch(index, row(4, error))
    assert "train error 15.00 +- 7.07 %" in progress._state()
