"""Files that came to harm: whoever reads them names the file and the fault, and neither waits nor fills the memory."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from digitpairs import files, records
from digitpairs.files import DamagedFileError
from digitpairs.inventory import WHOLE, digest, inventory, refuse_damage
from tests.conftest import result_of_a_run

GOOD = result_of_a_run(5.0)
READERS = {
    "result.json": records.read_result,
    "failure.json": records.read_failure,
    "confusion.json": records.read_confusion,
    "metrics.csv": records.read_metrics,
    "config.yaml": records.read_config,
    "boundary.npz": records.read_boundary,
}


def refusal(path: Path, content: str | bytes) -> str:
    """What the file's reader says of the content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedFileError) as caught:
        READERS[path.name](path.parent)
    said = str(caught.value)
    assert said.startswith(f"{path} is damaged: ") and "\n" not in said and len(said) < 600, said
    return said


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff\xfe\x00", b'"text"', b"3", b"[1, 2]", b"null"], ids=repr
)
def test_a_file_of_another_shape(tmp_path, name, content):
    if name == "metrics.csv" and content != b"\xff\xfe\x00":
        content = (
            b"epoch,error\n0," + (content or b"x") + b"y"
        )  # a line of text is a head, and any number of numbers is metrics
    refusal(tmp_path / name, content)


@pytest.mark.parametrize(
    "content, said",
    [
        ("[" * 100_000, "maximum recursion depth"),
        ("{}", "the result is {}, not one with the entry seed"),
        ('{"seed": 3', "Expecting ',' delimiter"),
        (
            json.dumps({name: value for name, value in GOOD.items() if "/" not in name}),
            "not one with the entry test/comparison_error or test/error",
        ),
        (
            json.dumps(GOOD | {"test/comparison_error": float("nan")}),
            "test/comparison_error is nan, not a number from 0 to 100",
        ),
        (
            json.dumps(GOOD | {"test/comparison_error": float("inf")}),
            "test/comparison_error is inf",
        ),
        (json.dumps(GOOD | {"test/comparison_error": "5.0"}), "test/comparison_error is '5.0'"),
        (json.dumps(GOOD | {"test/comparison_error": None}), "test/comparison_error is None"),
        (json.dumps(GOOD | {"test/comparison_error": True}), "test/comparison_error is True"),
        (json.dumps(GOOD | {"test/comparison_error": [5.0]}), "test/comparison_error is [5.0]"),
        (json.dumps(GOOD | {"test/comparison_error": 100.1}), "test/comparison_error is 100.1"),
        (json.dumps(GOOD | {"test/loss": "0.1"}), "test/loss is '0.1', not a number"),
        (json.dumps(GOOD | {"seconds": 10**400}), "not a number of at least 0"),
        (json.dumps(GOOD | {"seconds": "1 s"}), "seconds is '1 s', not a number of at least 0"),
        (json.dumps(GOOD | {"seed": 1.5}), "seed is 1.5, not a whole number of at least 0"),
        (json.dumps(GOOD | {"fingerprint": None}), "fingerprint is None, not text"),
        (
            json.dumps(GOOD | {"source": "a\nb"}),
            "source is 'a\\nb', not printable text of one line",
        ),
        (json.dumps(GOOD | {"source": "x" * 100_000 + "\x1b"}), "not printable text of one line"),
        (json.dumps(GOOD | {"versions": []}), "versions is [], not a mapping from names"),
        (
            json.dumps(GOOD | {"files": {"../x": {"bytes": 1, "digest": ""}}}),
            "files.../x is {'bytes': 1, 'digest': ''}, not a file's size and digest",
        ),
        (
            json.dumps(GOOD | {"files": {"x": {"bytes": "1", "digest": ""}}}),
            "files.x.bytes is '1', not a whole number",
        ),
        (
            json.dumps(GOOD | {"a\n" * 1000 + "/error": "x"}),
            "/error is 'x', not a number from 0 to 100",
        ),
        (json.dumps(GOOD | {"files": ["x"]}), "files is ['x'], not a mapping from files"),
    ],
)
def test_a_damaged_result(tmp_path, content, said):
    assert said in refusal(tmp_path / "result.json", content)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("failure.json", '{"fingerprint": "f"}', "not one with the entry reason"),
        ("failure.json", '{"fingerprint": "f", "reason": 3}', "reason is 3, not text"),
        ("confusion.json", "{}", "the confusion is {}, not one with the entry digit1"),
        (
            "confusion.json",
            json.dumps({"digit1": [[1] * 10] * 10}),
            "not one with the entry digit2",
        ),
        ("confusion.json", json.dumps({"digit1": 3, "digit2": 3}), "digit1 is 3, not a list"),
        (
            "confusion.json",
            json.dumps({"digit1": [1], "digit2": 3}),
            "digit1 is 1, not a list of whole numbers",
        ),
        (
            "confusion.json",
            json.dumps({"digit1": [[1.5] * 10] * 10, "digit2": 3}),
            "digit1 is [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, ...], not a list of whole numbers",
        ),
        (
            "confusion.json",
            json.dumps({"digit1": [[1] * 10] * 9, "digit2": 3}),
            "not 10 rows of 10 counts",
        ),
        ("metrics.csv", "epoch,error\n0,x\n", "could not convert string to float: 'x'"),
        ("metrics.csv", "epoch,error\n0,1,2\n", "float() argument"),
        ("metrics.csv", "epoch\n" + "1" * 200_000, "field larger than field limit"),
        ("config.yaml", "data: {}", "the config is {'data': {}}, not one with the entry model"),
        ("config.yaml", "data: {}\nmodel: {1: 2}", "model is {1: 2}, not a mapping from names"),
        (
            "config.yaml",
            "data: {}\nmodel: {a: [{1: 2}]}",
            "the config is {1: 2}, not a mapping from names",
        ),
        ("config.yaml", "a: [1, 2", "expected ',' or ']'"),
        ("config.yaml", "a: " + "[" * 100_000, "nesting"),
        (
            "config.yaml",
            "data: {}\nmodel: {a: " + "[" * 60 + "]" * 60 + "}",
            "nested at most 50 deep",
        ),
        ("config.yaml", "data: &a {}\nmodel: *a", "it has aliases"),
        (
            "config.yaml",
            "data: {}\nmodel: !!python/object:os.system {}",
            "could not determine a constructor",
        ),
    ],
)
def test_other_damaged_files(tmp_path, name, content, said):
    assert said in refusal(tmp_path / name, content)


def test_what_is_written_is_read(tmp_path):
    shared = {"lr": 0.1, "hidden": [1, 2]}
    config, rows = (
        {"data": {"root": "a b"}, "model": shared, "optimizer": shared},
        [{"epoch": 0.0, "a": 1.5}, {"epoch": 1.0, "b": 2.0}],
    )
    files.write_config(tmp_path, config)
    files.write_metrics(tmp_path, rows)
    files.write_json(
        tmp_path / "result.json",
        GOOD
        | {
            "files": inventory(tmp_path, ["config.yaml", "metrics.csv"]),
            "test/loss": -1.0,
            "commit": None,
        },
    )
    assert (
        records.read_config(tmp_path)
        == config
        == yaml.safe_load((tmp_path / "config.yaml").read_text())
    )
    assert (
        records.read_metrics(tmp_path) == rows
        and records.read_confusion(tmp_path) is records.read_failure(tmp_path) is None
    )
    assert records.read_result(tmp_path)["files"].keys() == {"config.yaml", "metrics.csv"}


def boundary(**arrays) -> bytes:
    shapes = {"epochs": (2,), "inside": (2, 4, 4), "points": (3, 2), "labels": (3,)}
    content = io.BytesIO()
    np.savez_compressed(
        content, **{name: np.zeros(shape) for name, shape in shapes.items()} | arrays
    )
    return content.getvalue()


@pytest.mark.parametrize(
    "content, said",
    [
        (boundary()[:-10], "File is not a zip file"),
        (boundary(inside=np.zeros((3, 4, 4))), "not numbers of shape (2, 4, 4)"),
        (boundary(inside=np.zeros((2, 4, 5))), "not numbers of shape (2, 5, 5)"),
        (boundary(inside=np.zeros(())), "inside"),
        (boundary(epochs=np.zeros(())), "epochs"),
        (boundary(epochs=np.zeros(0), inside=np.zeros((0, 4, 4))), "not numbers of shape (1,)"),
        (boundary(labels=np.array(["a", "b", "c"])), "not numbers of shape (3,)"),
        (boundary(labels=np.array([{}, {}, {}])), "Object arrays cannot be loaded"),
        (boundary(points=np.zeros((2**24, 2))), "it unpacks to more than 64 MiB"),
    ],
)
def test_a_damaged_boundary(tmp_path, content, said):
    assert said in refusal(tmp_path / "boundary.npz", content)


def test_a_boundary_whose_head_promises_more_than_there_is(tmp_path):
    head = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
        + b"\n"
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("epochs", "inside", "points", "labels"):
            archive.writestr(f"{name}.npy", head)
    refusal(tmp_path / "boundary.npz", content.getvalue())
    (tmp_path / "boundary.npz").write_bytes(boundary())
    assert records.read_boundary(tmp_path)["inside"].shape == (2, 4, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "make, said",
    [
        (os.mkfifo, "it is no regular file"),
        (os.mkdir, "it is no regular file"),
        (lambda path: os.symlink("/dev/zero", path), "it is no regular file"),
        (lambda path: (path.touch(), os.truncate(path, 2**31)), "it has more than "),
    ],
    ids=["pipe", "folder", "device", "2 GB"],
)
def test_what_is_no_file_of_a_run(tmp_path, name, make, said):
    make(tmp_path / name)
    with pytest.raises(DamagedFileError, match=f"{tmp_path / name} is damaged: {said}"):
        READERS[name](tmp_path)


@pytest.fixture
def run(tmp_path):
    """A run's folder and its result; one of its files is larger than what is digested whole."""
    sizes = {"config.yaml": 100, "metrics.csv": 100, "checkpoint.ckpt": WHOLE + 1000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    return tmp_path, GOOD | {"files": inventory(tmp_path, sizes)}


def overwrite(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "checkpoint.ckpt"])
@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "it has 0 bytes, and had"),
        (lambda path: os.truncate(path, 50), "it has 50 bytes, and had"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, and had"),
        (lambda path: overwrite(path, 0), "its content has changed"),
        (lambda path: overwrite(path, -1), "its content has changed"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "its content has changed"),
        (lambda path: (path.unlink(), path.mkdir()), "it is no regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is no regular file"),
    ],
    ids=[
        "missing",
        "emptied",
        "cut",
        "longer",
        "first byte",
        "last byte",
        "zeroed",
        "folder",
        "pipe",
    ],
)
def test_files_are_as_the_result_says(run, name, harm, said):
    folder, result = run
    refuse_damage(folder, result)
    harm(folder / name)
    with pytest.raises(DamagedFileError, match=said) as caught:
        refuse_damage(folder, result)
    assert str(folder / name) in str(caught.value)
    refuse_damage(folder, result, only={"config.yaml", "metrics.csv", "checkpoint.ckpt"} - {name})


def test_results_from_before_the_inventory_need_files_that_are_not_empty(run):
    folder, _ = run
    refuse_damage(folder, GOOD)
    overwrite(folder / "metrics.csv", 3)
    refuse_damage(folder, GOOD)
    for name in ("config.yaml", "metrics.csv", "checkpoint.ckpt"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(b"")
        with pytest.raises(DamagedFileError, match=f"{name} is damaged: it is empty"):
            refuse_damage(folder, GOOD)
        (folder / name).unlink()
        with pytest.raises(DamagedFileError, match=f"{name} is missing"):
            refuse_damage(folder, GOOD)
        (folder / name).write_bytes(content)


def test_an_inventory_is_of_what_a_run_wrote(run):
    folder, _ = run
    for name in ("events.out.tfevents.1", "launcher.log", "result.json"):
        (folder / name).write_text("x")
    assert inventory(folder, ["config.yaml"]).keys() == {"config.yaml", "events.out.tfevents.1"}


def test_digests_of_large_files_read_their_ends_alone(tmp_path):
    (path := tmp_path / "large").touch()
    os.truncate(path, 2**40)  # which takes no room, and hours to read
    assert len(digest(path)) == 64
