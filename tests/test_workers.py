"""The processes that run a sweep's pieces of work."""

import os
import signal
import time

import pytest
import torch

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
