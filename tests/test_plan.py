"""The plan of a sweep, and the measurements that it follows from."""

import json
import os
import signal
import warnings

import pytest

from digitpairs.sweeps import measure
from digitpairs.sweeps.measure import Measurement, best_size, read_cache, write_cache
from digitpairs.sweeps.plan import Plan, cut
from tests.conftest import SMALL, SMALL_DATA_AND_MODEL, contents

FOUR_RUNS = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=1", "-m", "seed=0..3"]


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """The path of the cache of measurements, which does not exist. Two array sizes are measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "SIZES", {"cpu": (1, 4)})
    return tmp_path / "cache" / "digitpairs" / "step_times.json"


@pytest.fixture
def shown_warnings():
    """Warnings go to standard error, as in a command, and are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


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
    assert sorted(map(len, pieces)) == sorted(lengths)
    assert sum(pieces, []) == list(range(count))


def test_the_fastest_size_that_fits_is_chosen():
    seconds = {1: 1.0, 4: 0.5, 8: 0.4, 16: 0.41, 32: 0.5}
    measurements = {size: Measurement(value, 100) for size, value in seconds.items()}
    assert best_size(measurements, 0, 1e9) == 16  # about as fast as 8, with fewer arrays to start
    assert best_size(measurements, 900, 2 * 5000) == 4
    assert best_size(measurements, 900, 10) == 1
    assert best_size({1: Measurement(1.0, 1), 4: Measurement(1.1, 1)}, 0, 1e9) == 1


@pytest.mark.parametrize(
    "plan, text",
    [
        (
            Plan([[0, 1, 2], [3, 4], [5]], 2, 1),
            "2 arrays of 2 to 3 and 1 alone, in 2 processes of 1 thread",
        ),
        (Plan([[0, 1], [2, 3]], 1, 1), "2 arrays of 2, in 1 process of 1 thread"),
        (Plan([[0]], 0, 2), "1 alone, in this process of 2 threads"),
    ],
)
def test_a_plan_in_words(plan, text):
    assert str(plan) == text


@pytest.mark.slow
def test_a_sweep_whose_first_run_diverges_is_measured_and_goes_on(command, tmp_path, empty_cache):
    sgd = ["optimizer=sgd", "scheduler=none", "-m", "optimizer.lr=1e20,0.01", "seed=0..2"]
    status, _, err = command(*SMALL, *sgd)
    assert status == 1 and empty_cache.exists()
    assert err.count("FAILED, the loss became") == 3
    assert len(contents(tmp_path / "outputs")) == 3


@pytest.mark.slow
def test_runs_train_one_by_one_if_the_measurement_fails(
    command, tmp_path, monkeypatch, empty_cache, shown_warnings
):
    monkeypatch.setattr(measure, "measure", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    status, _, err = command(*FOUR_RUNS)
    reason = "could not be measured (its process was ended by SIGKILL)"
    assert status == 0 and f"{reason}; the runs train one by one" in err
    assert {result["array_size"] for result in contents(tmp_path / "outputs").values()} == {1}


@pytest.mark.slow
def test_a_measurement_with_watched_test_pairs_warns_of_nothing(
    command, empty_cache, shown_warnings
):
    """It has no test pairs, about which Lightning would warn."""
    status, _, err = command(*SMALL, "data.watch_test=true", "-m", "seed=0..3")
    assert status == 0 and err == "" and empty_cache.exists()


@pytest.mark.slow
def test_measurements_are_cached_and_a_damaged_cache_is_replaced(
    command, tmp_path, monkeypatch, empty_cache, shown_warnings
):
    calls = []
    original = measure.write_cache

    def counting_write_cache(*arguments):
        calls.append(arguments)
        original(*arguments)

    monkeypatch.setattr(measure, "write_cache", counting_write_cache)
    for output in ("first", "second"):
        assert command(*FOUR_RUNS, output=tmp_path / output)[0] == 0
    assert len(calls) == 1
    (entry,) = json.loads(empty_cache.read_text()).values()
    assert all(seconds > 0 for seconds, _ in entry.values())
    empty_cache.write_text("{")
    assert command(*FOUR_RUNS, output=tmp_path / "third")[0] == 0
    assert len(calls) == 2 and json.loads(empty_cache.read_text())
    empty_cache.unlink()
    empty_cache.mkdir()  # a path that cannot be written
    status, _, err = command(*FOUR_RUNS, output=tmp_path / "fourth")
    assert status == 0 and "cannot be kept" in err


DAMAGED_VALUES = [1.0, [1.0], [1.0, 2.0, 3.0], ["1", 2.0], [1.0, None], [-1.0, 2.0], {"seconds": 1}]
DAMAGED_SIZES = ["x", "0", "-4", "1.5", "9" * 5000]


@pytest.mark.parametrize(
    "entry",
    [
        *(3, "text", [], {}, None, [[1.0, 2.0]], {"4": [1.0, 2.0]}),
        *({"1": value} for value in DAMAGED_VALUES),
        *({"1": [1.0, 2.0], size: [1.0, 2.0]} for size in DAMAGED_SIZES),
    ],
    ids=lambda entry: repr(entry)[:30],
)
def test_a_damaged_entry_of_the_cache_is_replaced(empty_cache, entry):
    other = {1: Measurement(3.0, 4.0)}
    write_cache("a", "cpu", 1, {1: Measurement(1.0, 2.0)})
    write_cache("b", "cpu", 1, other)
    entries = json.loads(empty_cache.read_text())
    first = next(iter(entries))
    empty_cache.write_text(json.dumps(entries | {first: entry}))
    assert read_cache("a", "cpu", 1) is None
    assert read_cache("b", "cpu", 1) == other
    replacement = {1: Measurement(5.0, 6.0)}
    write_cache("a", "cpu", 1, replacement)
    assert read_cache("a", "cpu", 1) == replacement
    assert read_cache("b", "cpu", 1) == other
