"""Output on terminals that lack characters, into closed pipes and full files."""

import io
import os
import sys

import pytest

from digitpairs.terminal import make_output_robust


@pytest.fixture
def standard_output(monkeypatch):
    """A function that makes a descriptor the standard output, as Python does at its start."""

    def make(descriptor: int, encoding: str = "utf-8") -> None:
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding))
        make_output_robust()

    return make


@pytest.mark.parametrize(
    "encoding, shown",
    [
        ("utf-8", "5 ± 1 ─ ü €"),
        ("ascii", r"5 +- 1 \u2500 \xfc \u20ac"),
        ("iso8859-2", r"5 +- 1 \u2500 ü \u20ac"),
        ("cp852", r"5 +- 1 ─ ü \u20ac"),
        ("latin-1", r"5 ± 1 \u2500 ü \u20ac"),
    ],
)
def test_characters_that_an_encoding_lacks_are_replaced(standard_output, encoding, shown):
    reader, writer = os.pipe()
    standard_output(writer, encoding)
    print("5 ± 1 ─ ü €")
    sys.stdout.flush()
    assert os.read(reader, 1000).decode(encoding) == shown + os.linesep
    os.close(reader)
    os.close(writer)


def test_a_closed_pipe_is_no_failure(standard_output, capfd):
    reader, writer = os.pipe()
    standard_output(writer)
    os.close(reader)
    for _ in range(3):
        print("x" * 100_000)
        sys.stdout.flush()
    os.close(writer)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_gives_one_warning(standard_output, capfd):
    full = os.open("/dev/full", os.O_WRONLY)
    standard_output(full)
    for _ in range(3):
        print("x" * 100_000)
        sys.stdout.flush()
    os.close(full)
    err = capfd.readouterr().err
    fault = "standard output cannot be written ([Errno 28] No space left on device)"
    assert err.count("\n") == 1 and err.startswith(f"warning: {fault}")


@pytest.mark.parametrize("stream", [io.StringIO(), None, io.TextIOWrapper(io.BytesIO())])
def test_replaced_streams_do_not_change(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    make_output_robust()
    assert sys.stdout is stream
