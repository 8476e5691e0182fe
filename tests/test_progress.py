"""The state of a running sweep, and how it is shown."""

import io
import json
import mmap

import pytest
from rich.console import Console

from digitpairs.files import DamagedFileError
from digitpairs.sweeps import progress as progress_module
from digitpairs.sweeps import status as status_module
from digitpairs.sweeps.progress import ProgressDisplay, configuration_lines, duration, summary
from digitpairs.sweeps.state import RunPlan, SweepState, memory_in_use
from digitpairs.sweeps.status import STATUS, StatusFile, read_status
from digitpairs.terminal import make_console


@pytest.fixture
def state() -> SweepState:
    """Two runs each of two configurations, of ten epochs."""
    return SweepState([RunPlan(name, seed, 10) for name in "ab" for seed in (0, 1)])


def display_of(state: SweepState, terminal: bool) -> tuple[ProgressDisplay, Console, Console]:
    """The display of a state, and its consoles for output and errors."""
    consoles = [
        Console(record=True, file=io.StringIO(), force_terminal=terminal, width=120)
        for _ in range(2)
    ]
    return ProgressDisplay(state, *consoles), *consoles


def row(epoch: int, error: float) -> dict[str, float]:
    return {"epoch": epoch, "learning_rate": 0.1, "train/comparison_error": error}


def test_a_snapshot_counts_runs_and_epochs_and_averages_what_is_comparable(state):
    state.epoch(0, row(4, 10.0))
    state.epoch(1, row(4, 20.0))
    first, second = state.snapshot().configurations
    assert (first.mean, first.std, first.epoch) == (15.0, pytest.approx(50**0.5), 5)
    assert second.mean is None and second.epoch is None
    state.ended(0, None)  # stopped early: its epochs count as done
    state.ended(2, "the loss became nan")
    snapshot = state.snapshot()
    assert (snapshot.runs, snapshot.done, snapshot.failed) == (4, 2, 1)
    assert (snapshot.epochs, snapshot.epochs_in_all) == (10 + 5 + 10, 40)
    first, second = snapshot.configurations
    assert (first.done, first.mean, first.std) == (1, 10.0, None)  # of the finished run alone
    assert (second.done, second.failed, second.mean) == (1, 1, None)


def test_the_time_left_follows_from_the_epochs_behind(state, monkeypatch):
    now = iter([0.0, 30.0])
    monkeypatch.setattr("digitpairs.sweeps.state.time.monotonic", lambda: next(now))
    state = SweepState(state.runs)
    state.epoch(0, row(9, 10.0))
    assert state.snapshot().seconds_left == 90.0


def test_memory_is_that_of_this_process_at_least():
    size = memory_in_use()
    with mmap.mmap(-1, 2**26) as ballast:  # pages that no allocator had before
        ballast.write(b"x" * len(ballast))
        assert size is None or memory_in_use() - size > len(ballast) // 2


class CountedSet(set):
    """A set that counts how often another is subtracted from it."""

    subtractions = 0

    def __sub__(self, other):
        self.subtractions += 1
        return super().__sub__(other)


def test_a_snapshot_of_many_runs_looks_at_each_once():
    state = SweepState([RunPlan(f"{index % 2}", index, 1) for index in range(100)])
    state.done = CountedSet(range(50))
    assert len(state.snapshot().configurations) == 2
    assert state.done.subtractions <= 2


def test_progress_on_a_terminal_is_lines_that_change(state, monkeypatch):
    monkeypatch.setattr(progress_module, "LIVE_SECONDS", -1)
    display, console, _ = display_of(state, terminal=True)
    with display:
        state.epoch(0, row(4, 10.0))
        state.epoch(1, row(4, 20.0))
        state.epoch(2, row(0, 5.0))
        display.show()
        text = console.export_text()
    assert "0/4 runs" in text and "11/40 epochs, " in text and "best b" not in text
    assert text.index("b  0/2 runs  epoch 1  train error 5.00 %") < text.index(
        "a  0/2 runs  epoch 5  train error 15.00 ± 7.07 %"
    )


def test_progress_elsewhere_is_quiet_but_for_notes(state, monkeypatch):
    display, console, errors = display_of(state, terminal=False)
    with display:
        for epoch in range(10):
            state.epoch(0, row(epoch, 10.0))
            display.show()
        display.note("warning: small")
        display.note("warning: small")
        assert console.export_text(clear=False) == ""
        monkeypatch.setattr(progress_module, "QUIET_SECONDS", -1)
        display.show()
    assert console.export_text().startswith("0/4 runs, 10/40 epochs, best a: train error 10.00 %, ")
    assert errors.export_text() == "warning: small\n"


@pytest.mark.slow
def test_the_lines_of_a_long_sweep_become_rarer(state, monkeypatch):
    """A line after each twentieth of the time so far, and at first every ten seconds."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    display, console, _ = display_of(state, terminal=False)
    with display:
        for now[0] in range(1, 36_001):
            display.show()
    count = console.export_text().count("runs")
    assert 100 < count < 150  # of ten hours; 20 of the first 200 s, and log(180) / log(1.05)


def test_forced_colours_are_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = make_console()
    assert console.is_terminal and not console.is_interactive


def test_a_single_configuration_has_no_name_and_no_lines():
    state = SweepState([RunPlan("a", 0, 10), RunPlan("a", 1, 10)])
    for index, error in enumerate((10.0, 20.0)):
        state.epoch(index, row(4, error))
    snapshot = state.snapshot()._replace(memory=3 << 29)
    runs, rest = summary(snapshot, "+-")
    assert runs == "0/2 runs"
    assert rest.startswith("10/20 epochs, train error 15.00 +- 7.07 %, ")
    assert rest.endswith(" left, 1.5 GiB") and configuration_lines(snapshot, "±") == []


def test_lines_are_limited():
    state = SweepState([RunPlan(f"lr={number}", 0, 10) for number in range(12)])
    for index in range(12):
        state.epoch(index, row(0, 50.0 - index))
    lines = configuration_lines(state.snapshot(), "±", most=2)
    assert [line.split()[0] for line in lines] == ["lr=11", "lr=10", "and"]
    assert lines[-1] == "and 10 more"


@pytest.mark.parametrize(
    "seconds, text", [(5.4, "5 s"), (99, "99 s"), (150, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_status_file_holds_the_snapshot(state, tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "SECONDS", -1)
    assert read_status(tmp_path) is None
    file = StatusFile(tmp_path, state)
    state.epoch(0, row(4, 10.0))
    file.show()
    snapshot, age = read_status(tmp_path)
    assert snapshot.epochs == 5 and snapshot.configurations[0].mean == 10.0 and 0 <= age < 60
    file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["[]", "{}", '{"runs": 1', '{"written": 0, "more": 1}'])
def test_a_damaged_status_file_is_named(tmp_path, content):
    (tmp_path / STATUS).write_text(content)
    with pytest.raises(DamagedFileError, match=STATUS):
        read_status(tmp_path)


def test_a_status_of_other_types_is_damaged(state, tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "SECONDS", -1)
    StatusFile(tmp_path, state).show()
    content = json.loads((tmp_path / STATUS).read_text())
    (tmp_path / STATUS).write_text(json.dumps(content | {"epochs": "many"}))
    with pytest.raises(DamagedFileError, match="epochs"):
        read_status(tmp_path)
