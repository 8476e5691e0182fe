"""Damaged files: readers name the file and the fault, and neither wait nor fill the memory."""

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
from digitpairs.inventory import DIGESTED_BYTES, digest, inventory, refuse_damage
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
    """The message of the file's reader for the content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedFileError) as caught:
        READERS[path.name](path.parent)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged: "), message
    assert "\n" not in message and len(message) < 600, message
    return message


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff\xfe\x00", b'"text"', b"3", b"[1, 2]", b"null"], ids=repr
)
def test_a_file_of_another_format_is_refused(tmp_path, name, content):
    if name == "metrics.csv" and content != b"\xff\xfe\x00":
        content = b"epoch,error\n0," + (content or b"x") + b"y"  # any line of text is a CSV header
    refusal(tmp_path / name, content)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[" * 100_000, "maximum recursion depth"),
        ("{}", "the result is {}, not one with the entry seed"),
        ('{"seed": 3', "Expecting ',' delimiter"),
    ],
)
def test_a_result_of_another_structure_is_refused(tmp_path, content, message):
    assert message in refusal(tmp_path / "result.json", content)


def test_a_result_needs_a_test_error(tmp_path):
    result = {name: value for name, value in GOOD.items() if "/" not in name}
    needed = "not one with the entry test/comparison_error or test/error"
    assert needed in refusal(tmp_path / "result.json", json.dumps(result))


INVENTORY_FAULT = "files.../x is {'bytes': 1, 'digest': ''}, not a file's size and digest"


@pytest.mark.parametrize(
    "entry, value, message",
    [
        ("test/comparison_error", float("nan"), "is nan, not a number from 0 to 100"),
        ("test/comparison_error", float("inf"), "test/comparison_error is inf"),
        ("test/comparison_error", "5.0", "test/comparison_error is '5.0'"),
        ("test/comparison_error", None, "test/comparison_error is None"),
        ("test/comparison_error", True, "test/comparison_error is True"),
        ("test/comparison_error", [5.0], "test/comparison_error is [5.0]"),
        ("test/comparison_error", 100.1, "test/comparison_error is 100.1"),
        ("test/loss", "0.1", "test/loss is '0.1', not a number"),
        ("a\n" * 1000 + "/error", "x", "/error is 'x', not a number from 0 to 100"),
        ("seconds", 10**400, "not a number of at least 0"),
        ("seconds", "1 s", "seconds is '1 s', not a number of at least 0"),
        ("seed", 1.5, "seed is 1.5, not a whole number of at least 0"),
        ("fingerprint", None, "fingerprint is None, not text"),
        ("source", "a\nb", "source is 'a\\nb', not printable text of one line"),
        ("source", "x" * 100_000 + "\x1b", "not printable text of one line"),
        ("versions", [], "versions is [], not a mapping from names"),
        ("files", ["x"], "files is ['x'], not a mapping from files"),
        ("files", {"../x": {"bytes": 1, "digest": ""}}, INVENTORY_FAULT),
        ("files", {"x": {"bytes": "1", "digest": ""}}, "files.x.bytes is '1', not a whole number"),
    ],
)
def test_a_result_with_a_wrong_entry_is_refused(tmp_path, entry, value, message):
    assert message in refusal(tmp_path / "result.json", json.dumps(GOOD | {entry: value}))


@pytest.mark.parametrize(
    "content, message",
    [
        ({}, "the confusion is {}, not one with the entry digit1"),
        ({"digit1": [[1] * 10] * 10}, "not one with the entry digit2"),
        ({"digit1": 3, "digit2": 3}, "digit1 is 3, not a list"),
        ({"digit1": [1], "digit2": 3}, "digit1 is 1, not a list of whole numbers"),
        ({"digit1": [[1.5] * 10] * 10, "digit2": 3}, "1.5, ...], not a list of whole numbers"),
        ({"digit1": [[1] * 10] * 9, "digit2": 3}, "not 10 rows of 10 counts"),
    ],
)
def test_a_damaged_confusion_is_refused(tmp_path, content, message):
    assert message in refusal(tmp_path / "confusion.json", json.dumps(content))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("failure.json", '{"fingerprint": "f"}', "not one with the entry reason"),
        ("failure.json", '{"fingerprint": "f", "reason": 3}', "reason is 3, not text"),
        ("metrics.csv", "epoch,error\n0,x\n", "could not convert string to float: 'x'"),
        ("metrics.csv", "epoch,error\n0,1,2\n", "float() argument"),
        ("metrics.csv", "epoch\n" + "1" * 200_000, "field larger than field limit"),
        ("config.yaml", "data: {}", "the config is {'data': {}}, not one with the entry model"),
        ("config.yaml", "data: {}\nmodel: {1: 2}", "model is {1: 2}, not a mapping from names"),
        ("config.yaml", "data: {}\nmodel: {a: [{1: 2}]}", "is {1: 2}, not a mapping from names"),
        ("config.yaml", "a: [1, 2", "expected ',' or ']'"),
        ("config.yaml", "a: " + "[" * 100_000, "nesting"),
        ("config.yaml", "data: {}\nmodel: {a: " + "[" * 60 + "]" * 60 + "}", "nested at most 50"),
        ("config.yaml", "data: &a {}\nmodel: *a", "it has aliases"),
        ("config.yaml", "data: {}\nmodel: !!python/object:os.system {}", "a constructor"),
    ],
)
def test_other_damaged_files_are_refused(tmp_path, name, content, message):
    assert message in refusal(tmp_path / name, content)


def test_files_are_read_as_they_were_written(tmp_path):
    shared = {"lr": 0.1, "hidden": [1, 2]}
    config = {"data": {"root": "a b"}, "model": shared, "optimizer": shared}
    rows = [{"epoch": 0.0, "a": 1.5}, {"epoch": 1.0, "b": 2.0}]
    files.write_config(tmp_path, config)
    files.write_metrics(tmp_path, rows)
    kept = inventory(tmp_path, ["config.yaml", "metrics.csv"])
    result = GOOD | {"files": kept, "test/loss": -1.0, "commit": None}
    files.write_json(tmp_path / "result.json", result)
    assert records.read_config(tmp_path) == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config
    assert records.read_metrics(tmp_path) == rows
    assert records.read_result(tmp_path) == result
    assert kept.keys() == {"config.yaml", "metrics.csv"}
    assert records.read_confusion(tmp_path) is records.read_failure(tmp_path) is None


def boundary(**arrays) -> bytes:
    shapes = {"epochs": (2,), "inside": (2, 4, 4), "points": (3, 2), "labels": (3,)}
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **(zeros | arrays))
    return content.getvalue()


@pytest.mark.parametrize(
    "content, message",
    [
        (boundary()[:-10], "File is not a zip file"),
        (boundary(inside=np.zeros((3, 4, 4))), "not numbers of shape (2, 4, 4)"),
        (boundary(inside=np.zeros((2, 4, 5))), "not numbers of shape (2, 5, 5)"),
        (boundary(inside=np.zeros(())), "inside"),
        (boundary(epochs=np.zeros(())), "epochs"),
        (boundary(epochs=np.zeros(0), inside=np.zeros((0, 4, 4))), "not numbers of shape (1,)"),
        (boundary(labels=np.array(["a", "b", "c"])), "not numbers of shape (3,)"),
        (boundary(labels=np.array([{}, {}, {}])), "Object arrays cannot be loaded"),
        (boundary(points=np.zeros((2**22 + 1, 2))), "it unpacks to more than 64 MiB"),
    ],
)
def test_a_damaged_boundary_is_refused(tmp_path, content, message):
    assert message in refusal(tmp_path / "boundary.npz", content)


def test_a_boundary_with_less_data_than_its_header_says_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    array = b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("epochs", "inside", "points", "labels"):
            archive.writestr(f"{name}.npy", array)
    refusal(tmp_path / "boundary.npz", content.getvalue())
    (tmp_path / "boundary.npz").write_bytes(boundary())
    assert records.read_boundary(tmp_path)["inside"].shape == (2, 4, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "make, message",
    [
        (os.mkfifo, "it is no regular file"),
        (os.mkdir, "it is no regular file"),
        (lambda path: os.symlink("/dev/zero", path), "it is no regular file"),
        (lambda path: (path.touch(), os.truncate(path, 2**31)), "it has more than "),
    ],
    ids=["pipe", "folder", "device", "2 GB"],
)
def test_other_than_small_regular_files_are_refused(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(DamagedFileError, match=f"{tmp_path / name} is damaged: {message}"):
        READERS[name](tmp_path)


@pytest.fixture
def run(tmp_path):
    """A run's folder and its result; one of its files is larger than `DIGESTED_BYTES`."""
    sizes = {"config.yaml": 100, "metrics.csv": 100, "checkpoint.ckpt": DIGESTED_BYTES + 1000}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
    return tmp_path, GOOD | {"files": inventory(tmp_path, sizes)}


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "checkpoint.ckpt"])
def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "it has 0 bytes, and had"),
    "shorter": (lambda path: os.truncate(path, 50), "it has 50 bytes, and had"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, and had"),
    "first byte": (lambda path: flip_bit(path, 0), "its content has changed"),
    "last byte": (lambda path: flip_bit(path, -1), "its content has changed"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "content has changed"),
    "folder": (make_folder, "it is no regular file"),
    "pipe": (make_pipe, "it is no regular file"),
}


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "checkpoint.ckpt"])
@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_differs_from_the_inventory_is_refused(run, name, damage, message):
    folder, result = run
    refuse_damage(folder, result)
    damage(folder / name)
    with pytest.raises(DamagedFileError, match=message) as caught:
        refuse_damage(folder, result)
    assert str(folder / name) in str(caught.value)
    refuse_damage(folder, result, only={"config.yaml", "metrics.csv", "checkpoint.ckpt"} - {name})


def test_a_result_without_inventory_needs_files_that_are_not_empty(run):
    folder, _ = run
    refuse_damage(folder, GOOD)
    flip_bit(folder / "metrics.csv", 3)
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


def test_an_inventory_leaves_out_files_of_others(run):
    folder, _ = run
    for name in ("events.out.tfevents.1", "launcher.log", "result.json"):
        (folder / name).write_text("x")
    assert inventory(folder, ["config.yaml"]).keys() == {"config.yaml", "events.out.tfevents.1"}


def test_the_digest_of_a_large_file_reads_only_its_ends(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**40)  # a sparse file: it uses no space, and takes hours to read
    assert len(digest(path)) == 64
