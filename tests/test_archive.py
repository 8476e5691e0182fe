"""The runs that a report's page was made of, kept beside it: pages made again and completed elsewhere, and what protects them."""

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
    Report,
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
from tests.test_reports import REPORTS, SMALL, _folder, only, small_study


def test_a_page_is_made_again_of_its_archive_and_completed_by_other_runs(
    small_study, tmp_path, only
):
    """As on two machines: one has run seed 0, the other seed 1; and a third, which has run nothing, makes the same page."""
    output, _ = small_study
    only("wang/dropout")
    machines = [tmp_path / name for name in ("first", "second", "third")]
    shutil.copytree(
        output, machines[0], ignore=lambda _, names: [each for each in names if each == "seed=1"]
    )
    shutil.copytree(
        output, machines[1], ignore=lambda _, names: [each for each in names if each == "seed=0"]
    )
    machines[2].mkdir()
    pages, whole = tmp_path / "pages", tmp_path / "whole"
    made = []
    for machine in machines:
        assert reproduction.main(["wang", *SMALL, f"output={machine}", "--to", str(pages)]) == 0
        made.append({path.name: path.read_bytes() for path in pages.iterdir()})
    reproduction.main(["wang", *SMALL, f"output={output}", "--to", str(whole)])
    assert b"4 of 8" in made[0]["wang.md"] and b"8 of 8" in made[1]["wang.md"]
    assert (
        f"`python train.py experiment=wang/dropout {' '.join(SMALL)} seed=1` runs them".encode()
        in made[0]["wang.md"]
    )
    assert made[1] == made[2] == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_an_archived_run_has_what_its_folder_had(tmp_path):
    folder = _folder(tmp_path / "run")
    (folder / "metrics.csv").write_text(
        "epoch,test/error,train/loss\n0,50.0,0.7\n1,,0.1234567890123456\n2,40.0,0.5\n"
    )
    (folder / "confusion.json").write_text(
        json.dumps({name: np.eye(10, dtype=int).tolist() for name in ("digit1", "digit2")})
    )
    run = Run(
        folder,
        result_of_a_run(50.0, fingerprint="f")
        | {"test/error": 40.0, "files": {"metrics.csv": {"bytes": 1, "digest": "0"}}},
    )
    path = tmp_path / "r.runs.xz"
    write_archive(
        path,
        Archive({"f": run}, {"g": "diverged", "f": "diverged once"}),
        {"test/error", "train/loss"},
    )
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
        write_archive(path, archive, set())  # a report that looks at them no more loses nothing
    assert read_archive(tmp_path / "none.runs.xz") == Archive({}, {})


def test_a_folder_counts_before_the_archive_and_nothing_archived_is_lost(
    small_study, tmp_path, only
):
    output, _ = small_study
    only("wang/dropout")
    place, path = [f"output={output}", "--to", str(tmp_path)], tmp_path / "wang.runs.xz"
    reproduction.main(["wang", *SMALL, *place])
    archive = read_archive(path)
    key = next(iter(archive.runs))
    archive.runs[key].result["test/comparison_error"], archive.failures["x"] = 99.0, "diverged"
    write_archive(path, archive, set())
    reproduction.main(["wang", *SMALL, *place])
    again = read_archive(path)
    assert (
        again.runs[key].value("test/comparison_error") != 99.0
        and again.failures == {"x": "diverged"}
        and len(again.runs) == 8
    )
    (
        tmp_path / "glance.md"
    ).unlink()  # or a page of other settings, with none of these runs, would be refused
    reproduction.main(["wang", *SMALL, "data.seed=7", *place])
    assert (
        read_archive(path).runs.keys() == again.runs.keys()
        and "0 of 8" in (tmp_path / "wang.md").read_text()
    )


RUN = {"result": result_of_a_run(5.0), "history": {"train/loss": [0.5, None]}, "confusion": None}


def lines(*kept) -> bytes:
    return lzma.compress("".join(json.dumps(each) + "\n" for each in kept).encode())


def without(key: str) -> dict:
    return {name: value for name, value in RUN["result"].items() if name != key}


@pytest.mark.parametrize(
    "content, said",
    [
        (b"no xz", "Input format not supported by decoder"),
        (lines(RUN)[:-20], "it ends too early"),
        (lines(RUN) + b"more", "something follows its end"),
        (lines(RUN) * 2, "something follows its end"),
        (lzma.compress(b"no json"), "line 1: it is b'no json', not JSON"),
        (lzma.compress(b"\xff\xfe"), "line 1: it is b'\\xff\\xfe', not JSON"),
        (lzma.compress(b"[" * 100_000), "not JSON (maximum recursion depth exceeded"),
        (lines(RUN, 3), "line 2: it is 3, not a run or a failure"),
        (lines(["result"]), "line 1: it is ['result'], not a run or a failure"),
        (lines({}), "the result is None, not a mapping from names"),
        (lines({"result": None}), "the result is None, not a mapping from names"),
        (lines({"result": {}}), "the result is {}, not one with the entry seed"),
        *(
            (lines(RUN | {"result": without(key)}), f"not one with the entry {key}")
            for key in ("seed", "fingerprint", "source", "seconds", "versions")
        ),
        (
            lines(RUN | {"result": without("test/comparison_error")}),
            "not one with the entry test/comparison_error or test/error",
        ),
        (
            lines(RUN | {"result": RUN["result"] | {"versions": {"torch": "1"}}}),
            "versions is {'torch': '1'}, not one with the entry pytorch_lightning",
        ),
        (
            lines(RUN | {"result": RUN["result"] | {"processor": ["x"]}}),
            "processor is ['x'], not text",
        ),
        (
            lines({"result": RUN["result"], "confusion": None}),
            "the history is None, not a mapping from names",
        ),
        (
            lines(RUN | {"history": {"a": [1.0], "b": [1.0, 2.0]}}),
            "b is [1.0, 2.0], not a list of one number an epoch",
        ),
        (lines(RUN | {"history": {"a": ["x"]}}), "a is 'x', not a number"),
        (
            lines(RUN | {"confusion": {"digit1": [[1] * 10] * 9, "digit2": 3}}),
            "not 10 rows of 10 counts",
        ),
        (lines(RUN | {"confusion": [1]}), "the confusion is [1], not a mapping from names"),
        (
            lines({"reason": "diverged"}),
            "the failure is {'reason': 'diverged'}, not one with the entry fingerprint",
        ),
        (lines({"reason": None, "fingerprint": "f"}), "reason is None, not text"),
    ],
)
def test_a_damaged_archive_is_named_and_kept(content, said, tmp_path):
    path = tmp_path / "wang.runs.xz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_archive(path)
    message = str(caught.value)
    assert (
        message.startswith(f"{path} is damaged: ")
        and said in message
        and message.endswith(": delete it, or get it back from version control")
    )
    assert "\n" not in message and len(message) < 500 and path.read_bytes() == content


def test_an_archive_of_no_runs_and_one_of_the_least_that_a_run_has(tmp_path):
    (tmp_path / "none.runs.xz").write_bytes(lines())
    assert read_archive(tmp_path / "none.runs.xz") == Archive({}, {})
    (tmp_path / "one.runs.xz").write_bytes(
        lines(RUN | {"history": {"train/loss": [0.5, float("nan"), None]}})
    )
    (run,) = read_archive(tmp_path / "one.runs.xz").runs.values()
    assert (
        run.result == RUN["result"]
        and len(run.by_epoch("train/loss")) == 2
        and run.confusion is None
    )


def test_a_damaged_archive_ends_the_command_and_is_kept(tmp_path, capsys):
    (archive := tmp_path / "wang.runs.xz").write_bytes(b"no xz")
    with pytest.raises(SystemExit) as left:
        reproduction.main(["wang", f"output={tmp_path}", "--to", str(tmp_path)])
    assert (
        left.value.code == 2
        and f"{archive} is damaged" in capsys.readouterr().err
        and archive.read_bytes() == b"no xz"
    )


def test_an_archive_is_unpacked_no_further_than_an_archive_may_be_long(tmp_path):
    """80 MiB of zeros in 12 kB; more would be cut off at the same place."""
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


def test_text_of_an_archive_is_shown_as_it_is(tmp_path, only, capsys):
    only("wang/dropout")
    jobs = plan_jobs(compose_command(CONF, ["experiment=wang/dropout", "data=digits"]))
    keys = [fingerprint(job.config) for job in jobs[:2]]
    script = "<script>alert(1)</script>"
    versions = {"torch": script, "pytorch_lightning": script, "python": script}
    result = result_of_a_run(
        5.0, fingerprint=keys[0], source=script, commit=script, processor=script, versions=versions
    )
    (tmp_path / "wang.runs.xz").write_bytes(
        lines(RUN | {"result": result}, {"fingerprint": keys[1], "reason": script})
    )
    assert (
        reproduction.main(["wang", "data=digits", f"output={tmp_path}", "--to", str(tmp_path)]) == 0
    )
    page = (tmp_path / "wang.md").read_text()
    assert (
        "<script" not in page
        and "<script" not in capsys.readouterr().out
        and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 7
    )


def test_a_report_says_what_it_looks_at_epoch_by_epoch():
    metrics = {
        name: read_report(CONF / "reports" / f"{name}.yaml").metrics_by_epoch for name in REPORTS
    }
    assert (
        metrics["wang"] == {"test/comparison_error"}
        and "test/comparison_error" in metrics["pillonel"]
    )
    place = {"place": "p", "study": "s"}
    row = Row(name="r", settings=[])
    shows = [
        Table(
            table="t",
            **place,
            rows=[row],
            columns={"x": "table@best", "y": ["column@3", "min"], "z": "none"},
        ),
        Table(
            table="o",
            **place,
            rows=[row, Row(name="after 3", settings=[], epoch=3)],
            columns={"x": ["row", "min"]},
        ),
        Grid(grid="g", **place, x="x", metrics={"x": "grid@best", "y": "none"}),
        Epochs(epochs="e", **place, rows=[row], metrics={"x": "epochs"}),
        Choice(choice="c", **place, report=[], by="by@best", metric="metric@best"),
        Choice(
            choice="e",
            **place,
            report=[],
            by="by epoch",
            metric="metric by epoch",
            by_study="another",
            last_epoch=3,
        ),
    ]
    finals = [Final(final="f", **place, settings=[], report=[1.0], metric="final@best")]
    claims = [
        Claim(claim="c", **place, first=[], second=[], metric="first@2", second_metric="second@2"),
        Claim(claim="c", **place, first=[], second=[]),
    ]
    report = Report(title="t", about="a", shows=shows, finals=finals, claims=claims)
    assert report.metrics_by_epoch == {
        "table",
        "column",
        "row",
        "grid",
        "epochs",
        "by",
        "metric",
        "by epoch",
        "metric by epoch",
        "final",
        "first",
        "second",
    }
    assert report.studies == ["another", "s"]


def test_a_page_that_is_written_leaves_the_others_and_their_lines_and_none_is_lost(
    small_study, tmp_path, capsys, only
):
    only("wang/dropout", "skura/resnet")
    place = [f"output={small_study[0]}", "--to", str(tmp_path)]
    skura = "| [skura](skura.md) | 3 of 60 | 1 | 2 | 3 | 0 of 0 |"
    (tmp_path / "glance.md").write_text(f"# At a glance\n\n{skura}\n")
    assert reproduction.main(["wang", *SMALL, *place]) == 0
    glance, page = (tmp_path / "glance.md").read_text(), (tmp_path / "wang.md").read_bytes()
    assert [each.split() for each in glance.splitlines() if "[skura]" in each] == [
        skura.split()
    ] and "[wang](wang.md)" in glance
    with pytest.raises(SystemExit) as left:
        reproduction.main(["skura", "wang", *SMALL, *place])
    said = f"--to={tmp_path} is not accepted: another folder, since {tmp_path / 'skura.md'} was made of 3 runs, and 0 of these settings are here"
    assert left.value.code == 2 and said in capsys.readouterr().err
    assert (tmp_path / "glance.md").read_text() == glance and (
        tmp_path / "wang.md"
    ).read_bytes() == page
    with pytest.raises(SystemExit) as left:  # runs that are kept, and of other settings
        reproduction.main(["wang", *SMALL, "data.seed=7", *place])
    assert (
        left.value.code == 2
        and "runs, and 0 of these settings are here" in capsys.readouterr().err
        and (tmp_path / "wang.md").read_bytes() == page
    )
    (tmp_path / "glance.md").write_text(glance[: glance.index("[wang]") + 20])  # as of a full disk
    assert (
        reproduction.main(["wang", *SMALL, *place]) == 0
        and (tmp_path / "glance.md").read_text() == glance
    )


def test_the_digits_need_not_be_where_a_page_is_made(tmp_path, monkeypatch, only):
    def no_network(root):
        raise DataError("no network")

    monkeypatch.setenv("DIGITPAIRS_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr("digitpairs.data.sources.download_mnist", no_network)
    only("wang/dropout")
    (job, *_) = plan_jobs(compose_command(CONF, ["experiment=wang/dropout", "data=mnist"]))
    key = fingerprint(job.config)
    write_archive(
        tmp_path / "wang.runs.xz",
        Archive({key: Run(tmp_path, result_of_a_run(7.5, fingerprint=key))}, {}),
        set(),
    )
    assert (
        reproduction.main(["wang", "data=mnist", f"output={tmp_path}", "--to", str(tmp_path)]) == 0
    )
    page = (tmp_path / "wang.md").read_text()
    assert "| `wang/dropout` | 1 of 40" in page and "7.50 (n = 1 of 10)" in page
