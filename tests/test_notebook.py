"""Sweeps from a notebook."""

import pytest

import digitpairs
from digitpairs import notebook
from tests.conftest import SMALL, contents


@pytest.mark.slow
def test_a_sweep_returns_its_runs_and_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a kernel of Jupyter
    result = digitpairs.run(*SMALL, "optimizer.lr=0.01,0.02", f"output={tmp_path}", seeds=range(2))
    out = capsys.readouterr().out
    assert "4 runs" in out and f"Results: {result.folder}" in out
    assert "\x1b[2K" not in out  # no display whose every state stays in the notebook
    stored = sorted(each["test/comparison_error"] for each in contents(tmp_path).values())
    assert sorted(result.runs["test/comparison_error"]) == stored
    assert len(result.curves) == 4 * 2 and set(result.runs["optimizer.lr"]) == {0.01, 0.02}
    assert result.folder.parent == tmp_path


@pytest.mark.slow
def test_arguments_that_the_command_refuses_are_an_error(capsys, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # which other tests have set
    with pytest.raises(notebook.CommandError, match=r"optimizer.lr=fast is not accepted: a number"):
        digitpairs.run(*SMALL, "optimizer.lr=fast")
    assert "error: optimizer.lr=fast" in capsys.readouterr().out
