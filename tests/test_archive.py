"""Archives of the runs behind a report's page: completed elsewhere, never lost, checked."""

import json
import lzma
import shutil
import tracemalloc

import numpy as np
import pytest

from digitpairs.analysis import reproduction
from digitpairs.analysis.archive import Archive, read_archive, write_archive
from digitpairs.analysis.reports import (
    Choice,
    Claim,
    Epochs,
    Final,
    Grid,
    Row,
    Table,
    read_report,
)
from digitpairs.analysis.runs import Run
from digitpairs.checks import DataError
from digitpairs.cli import CONF
from digitpairs.sweeps.compose import compose_command
from digitpairs.sweeps.jobs import fingerprint, plan_jobs
from tests.conftest import result_of_a_run
from tests.report_helpers import PLACE, REPORTS, SMALL_STUDY, report_of, reproduce

RUN = {"result": result_of_a_run(5.0), "history": {"train/loss": [0.5, None]}, "confusion": None}


@pytest.mark.slow
def test_a_page_is_made_again_from_its_archive_and_completed_by_other_runs(
    small_study, tmp_path, only_studies
):
    """One machine has run seed 0 and another seed 1; a third, without runs, makes the same page."""
    only_studies("wang/dropout")
    machines = [tmp_path / name for name in ("first", "second", "third")]
    shutil.copytree(small_study, machines[0], ignore=shutil.ignore_patterns("seed=1"))
    shutil.copytree(small_study, machines[1], ignore=shutil.ignore_patterns("seed=0"))
    machines[2].mkdir()

    def pages(output, name: str) -> dict[str, bytes]:
        reproduce("wang", *SMALL_STUDY, output=output, to=tmp_path / name)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first, second, third = (pages(machine, "shared") for machine in machines)
    command = f"`python train.py experiment=wang/dropout {' '.join(SMALL_STUDY)} seed=1` runs them"
    assert b"4 of 8" in first["wang.md"] and command.encode() in first["wang.md"]
    assert b"8 of 8" in second["wang.md"]
    assert second == third == pages(small_study, "alone")


def test_an_archived_run_has_the_values_of_its_folder(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,test/error,train/loss\n0,50.0,0.7\n1,,0.1234567890123456\n2,40.0,0.5\n"
    )
    confusion = dict.fromkeys(("digit1", "digit2"), np.eye(10, dtype=int).tolist())
    (tmp_path / "confusion.json").write_text(json.dumps(confusion))
    files = {"metrics.csv": {"bytes": 1, "digest": "0"}}
    result = result_of_a_run(50.0, fingerprint="f", files=files) | {"test/error": 40.0}
    run = Run(tmp_path, result)
    path = tmp_path / "r.runs.xz"
    failures = {"g": "diverged", "f": "diverged once"}
    write_archive(path, Archive({"f": run}, failures), {"test/error", "train/loss"})
    for _ in range(2):
        archive = read_archive(path)
        assert archive.failures == {"g": "diverged"} and "files" not in archive.runs["f"].result
        for metric in (
            "test/error",
            "test/error@best",
            "test/error@2",
            "test/error@3",
            "train/loss@2",
            "test/relabelled_digit_error",
            "test/none",
        ):
            assert archive.runs["f"].value(metric) == run.value(metric), metric
        write_archive(path, archive, set())  # a report that no longer reads them keeps them


@pytest.mark.slow
def test_a_folder_replaces_the_archived_run_and_no_other_run_is_lost(
    small_study, tmp_path, only_studies
):
    only_studies("wang/dropout")
    path = tmp_path / "wang.runs.xz"
    reproduce("wang", *SMALL_STUDY, output=small_study, to=tmp_path)
    archive = read_archive(path)
    key = next(iter(archive.runs))
    archive.runs[key].result["test/comparison_error"], archive.failures["x"] = 99.0, "diverged"
    write_archive(path, archive, set())
    reproduce("wang", *SMALL_STUDY, output=small_study, to=tmp_path)
    again = read_archive(path)
    assert again.runs[key].value("test/comparison_error") != 99.0
    assert again.failures == {"x": "diverged"} and len(again.runs) == 8
    (tmp_path / "glance.md").unlink()  # else a page of other settings, without runs, is refused
    reproduce("wang", *SMALL_STUDY, "data.seed=7", output=small_study, to=tmp_path)
    assert read_archive(path).runs.keys() == again.runs.keys()
    assert "0 of 8" in (tmp_path / "wang.md").read_text()


def archive_of(*entries) -> bytes:
    return lzma.compress("".join(json.dumps(entry) + "\n" for entry in entries).encode())


def archive_without(key: str) -> bytes:
    """An archive of one run whose result lacks this entry."""
    result = {name: value for name, value in RUN["result"].items() if name != key}
    return archive_of(RUN | {"result": result})


@pytest.mark.parametrize(
    "content, fault",
    [
        (b"no xz", "Input format not supported by decoder"),
        (archive_of(RUN)[:-20], "it ends too early"),
        (archive_of(RUN) + b"more", "something follows its end"),
        (archive_of(RUN) * 2, "something follows its end"),
        (lzma.compress(b"no json"), "line 1: it is b'no json', not JSON"),
        (lzma.compress(b"\xff\xfe"), "line 1: it is b'\\xff\\xfe', not JSON"),
        (lzma.compress(b"[" * 100_000), "not JSON (maximum recursion depth exceeded"),
        (archive_of(RUN, 3), "line 2: it is 3, not a run or a failure"),
        (archive_of(["result"]), "line 1: it is ['result'], not a run or a failure"),
        (archive_of({}), "the result is None, not a mapping from names"),
        (archive_of({"result": None}), "the result is None, not a mapping from names"),
        (archive_of({"result": {}}), "the result is {}, not one with the entry seed"),
        (archive_without("seed"), "not one with the entry seed"),
        (archive_without("fingerprint"), "not one with the entry fingerprint"),
        (archive_without("source"), "not one with the entry source"),
        (archive_without("seconds"), "not one with the entry seconds"),
        (archive_without("versions"), "not one with the entry versions"),
        (
            archive_without("test/comparison_error"),
            "not one with the entry test/comparison_error or test/error",
        ),
        (
            archive_of(RUN | {"result": RUN["result"] | {"versions": {"torch": "1"}}}),
            "versions is {'torch': '1'}, not one with the entry pytorch_lightning",
        ),
        (
            archive_of(RUN | {"result": RUN["result"] | {"processor": ["x"]}}),
            "processor is ['x'], not text",
        ),
        (
            archive_of({"result": RUN["result"], "confusion": None}),
            "the history is None, not a mapping from names",
        ),
        (
            archive_of(RUN | {"history": {"a": [1.0], "b": [1.0, 2.0]}}),
            "b is [1.0, 2.0], not a list of one number an epoch",
        ),
        (archive_of(RUN | {"history": {"a": ["x"]}}), "a is 'x', not a number"),
        (
            archive_of(RUN | {"confusion": {"digit1": [[1] * 10] * 9, "digit2": 3}}),
            "not 10 rows of 10 counts",
        ),
        (archive_of(RUN | {"confusion": [1]}), "the confusion is [1], not a mapping from names"),
        (
            archive_of({"reason": "diverged"}),
            "the failure is {'reason': 'diverged'}, not one with the entry fingerprint",
        ),
        (archive_of({"reason": None, "fingerprint": "f"}), "reason is None, not text"),
    ],
)
def test_a_damaged_archive_is_named_and_kept(content, fault, tmp_path):
    path = tmp_path / "wang.runs.xz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_archive(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged: ") and fault in message
    assert message.endswith(": delete it, or get it back from version control")
    assert "\n" not in message and len(message) < 500 and path.read_bytes() == content


def test_a_missing_or_empty_archive_has_no_runs(tmp_path):
    path = tmp_path / "none.runs.xz"
    assert read_archive(path) == Archive({}, {})
    path.write_bytes(archive_of())
    assert read_archive(path) == Archive({}, {})


def test_a_run_needs_few_entries(tmp_path):
    path = tmp_path / "one.runs.xz"
    path.write_bytes(archive_of(RUN | {"history": {"train/loss": [0.5, float("nan"), None]}}))
    (run,) = read_archive(path).runs.values()
    assert run.result == RUN["result"] and run.confusion is None
    assert len(run.by_epoch("train/loss")) == 2


def test_a_damaged_archive_ends_the_command_and_is_kept(tmp_path, capsys):
    (archive := tmp_path / "wang.runs.xz").write_bytes(b"no xz")
    with pytest.raises(SystemExit) as exit_:
        reproduction.main(["wang", f"output={tmp_path}", "--to", str(tmp_path)])
    assert exit_.value.code == 2 and f"{archive} is damaged" in capsys.readouterr().err
    assert archive.read_bytes() == b"no xz"


@pytest.mark.slow
def test_decompression_stops_at_the_largest_size_of_an_archive(tmp_path):
    """The file has 80 MiB of zeros in 12 kB; a larger one is cut off at the same size."""
    packer = lzma.LZMACompressor(preset=0)
    bomb = b"".join([*(packer.compress(bytes(2**20)) for _ in range(80)), packer.flush()])
    (path := tmp_path / "wang.runs.xz").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="it unpacks to more than 64 MiB"):
            read_archive(path)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_text_of_an_archive_is_shown_literally(tmp_path, only_studies, capsys):
    only_studies("wang/dropout")
    jobs = plan_jobs(compose_command(CONF, ["experiment=wang/dropout", *SMALL_STUDY]))
    keys = [fingerprint(job.config) for job in jobs[:2]]
    script = "<script>alert(1)</script>"
    texts = dict.fromkeys(("source", "commit", "processor"), script)
    versions = dict.fromkeys(("torch", "pytorch_lightning", "python"), script)
    result = result_of_a_run(5.0, fingerprint=keys[0], versions=versions, **texts)
    failure = {"fingerprint": keys[1], "reason": script}
    (tmp_path / "wang.runs.xz").write_bytes(archive_of(RUN | {"result": result}, failure))
    reproduce("wang", *SMALL_STUDY, output=tmp_path, to=tmp_path)
    page = (tmp_path / "wang.md").read_text()
    assert "<script" not in page and "<script" not in capsys.readouterr().out
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 7


def test_reports_list_the_metrics_that_they_read_by_epoch():
    metrics = {}
    for name in REPORTS:
        metrics[name] = read_report(CONF / "reports" / f"{name}.yaml").metrics_by_epoch
    assert metrics["wang"] == {"test/comparison_error"}
    assert "test/comparison_error" in metrics["pillonel"]
    row, third = Row(name="r", settings=[]), Row(name="after 3", settings=[], epoch=3)
    columns = {"x": "table@best", "y": ["column@3", "min"], "z": "none"}
    shows = [
        Table(table="t", **PLACE, rows=[row], columns=columns),
        Table(table="o", **PLACE, rows=[row, third], columns={"x": ["row", "min"]}),
        Grid(grid="g", **PLACE, x="x", metrics={"x": "grid@best", "y": "none"}),
        Epochs(epochs="e", **PLACE, rows=[row], metrics={"x": "epochs"}),
        Choice(choice="c", **PLACE, report=[], by="by@best", metric="metric@best"),
        Choice(choice="e", **PLACE, report=[], by="held out", metric="test", last_epoch=3),
        Choice(choice="s", **PLACE, report=[], by="none", by_study="another"),
    ]
    finals = [Final(final="f", **PLACE, settings=[], report=[1.0], metric="final@best")]
    compared = {"claim": "c", **PLACE, "first": [], "second": []}
    claims = [Claim(**compared, metric="first@2", second_metric="second@2"), Claim(**compared)]
    report = report_of(shows, finals, claims)
    of_parts = {"table", "column", "row", "grid", "epochs", "final", "first", "second"}
    assert report.metrics_by_epoch == of_parts | {"by", "metric", "held out", "test"}
    assert report.studies == ["another", "s"]


@pytest.mark.slow
def test_writing_a_page_keeps_the_other_pages_and_none_with_more_runs_is_replaced(
    small_study, tmp_path, capsys, only_studies
):
    only_studies("wang/dropout", "skura/resnet")
    glance_path, page_path = tmp_path / "glance.md", tmp_path / "wang.md"
    skura = "| [skura](skura.md) | 3 of 60 | 1 | 2 | 3 | 0 of 0 |"
    glance_path.write_text(f"# At a glance\n\n{skura}\n")
    reproduce("wang", *SMALL_STUDY, output=small_study, to=tmp_path)
    glance, page = glance_path.read_text(), page_path.read_bytes()
    skura_lines = [line.split() for line in glance.splitlines() if "[skura]" in line]
    assert skura_lines == [skura.split()] and "[wang](wang.md)" in glance

    def refusal(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            reproduction.main([*arguments, f"output={small_study}", "--to", str(tmp_path)])
        assert exit_.value.code == 2
        assert glance_path.read_text() == glance and page_path.read_bytes() == page
        return capsys.readouterr().err

    refused = f"--to={tmp_path} is not accepted: another folder, since {tmp_path / 'skura.md'}"
    counts = "was made of 3 runs, and 0 of these settings are here"
    assert f"{refused} {counts}" in refusal("skura", "wang", *SMALL_STUDY)
    archived_runs_of_other_settings = refusal("wang", *SMALL_STUDY, "data.seed=7")
    assert "runs, and 0 of these settings are here" in archived_runs_of_other_settings
    glance_path.write_text(glance[: glance.index("[wang]") + 20])  # as a full disk leaves it
    reproduce("wang", *SMALL_STUDY, output=small_study, to=tmp_path)
    assert glance_path.read_text() == glance


@pytest.mark.slow
def test_a_page_can_be_made_without_the_digits(tmp_path, monkeypatch, only_studies):
    def no_network(root):
        raise DataError("no network")

    monkeypatch.setenv("DIGITPAIRS_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr("digitpairs.data.sources.download_mnist", no_network)
    only_studies("wang/dropout")
    settings = ["data=mnist", "smoke=on"]
    (job, *_) = plan_jobs(compose_command(CONF, ["experiment=wang/dropout", *settings]))
    key = fingerprint(job.config)
    run = Run(tmp_path, result_of_a_run(7.5, fingerprint=key))
    write_archive(tmp_path / "wang.runs.xz", Archive({key: run}, {}), set())
    reproduce("wang", *settings, output=tmp_path, to=tmp_path)
    page = (tmp_path / "wang.md").read_text()
    assert "| `wang/dropout` | 1 of 8" in page and "7.50 (n = 1 of 2)" in page
