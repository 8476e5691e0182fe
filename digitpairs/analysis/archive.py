"""What a report's page was made of: its runs in one small file beside the page.

With it the page can be made again, and completed by further runs, on a machine that has none of their folders. Kept are each run's result,
its confusions, and of its history what the report looks at epoch by epoch; of a failed run the reason. A line of JSON a run, compressed by
xz. Runs are known by the fingerprints of their configs.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from digitpairs import files, records
from digitpairs.analysis.runs import Run
from digitpairs.checks import DataError, InvalidValueError
from digitpairs.files import DamagedFileError, MissingFileError

LONGEST = (
    2**26
)  # bytes of all lines; 1400 runs with the curves of their epochs have some four million
MEMORY = 2**27  # bytes for xz's dictionary, of which an archive needs 8 MiB


class Archive(NamedTuple):
    """Runs, and why others failed, by fingerprint."""

    runs: dict[str, Run]
    failures: dict[str, str]

    def with_newer(self, other: Archive) -> Archive:
        """These and the others; of what both have, the others'."""
        return Archive(self.runs | other.runs, self.failures | other.failures)


class ArchivedRun(Run):
    """A run of which its line of the archive is left."""

    def __init__(self, archive: Path, kept: dict[str, Any]) -> None:
        super().__init__(archive, kept["result"])
        self.kept_metrics = set(kept["history"])
        rows = (zip(kept["history"], row) for row in zip(*kept["history"].values()))
        self.history = [{name: value for name, value in row if value is not None} for row in rows]
        self.confusion = kept.get("confusion")


def read_archive(path: Path) -> Archive:
    """What is kept; nothing where there is no such file. DataError where it is damaged."""
    archive = Archive({}, {})
    try:
        for number, line in enumerate(_unpacked(path).splitlines(), 1):
            with records.raise_as_damaged(path, f"line {number}: "):
                _add(archive, path, _parsed(line))
    except MissingFileError:
        return archive
    except DamagedFileError as damage:
        raise DataError(f"{damage}: delete it, or get it back from version control") from None
    return archive


def _unpacked(path: Path) -> bytes:
    """The lines, decompressed only as far as an archive may be long: a small file can stand for terabytes of one letter."""
    unpack = lzma.LZMADecompressor(memlimit=MEMORY)
    try:
        content = unpack.decompress(files.read_bytes(path), max_length=LONGEST)
    except lzma.LZMAError as fault:
        raise DamagedFileError(path, fault) from None
    if not unpack.eof:
        fault = (
            "it ends too early"
            if len(content) < LONGEST
            else f"it unpacks to more than {LONGEST >> 20} MiB"
        )
        raise DamagedFileError(path, fault)
    if unpack.unused_data:
        raise DamagedFileError(path, "something follows its end")
    return content


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise InvalidValueError("it", line, f"JSON ({fault})") from None


def _add(archive: Archive, path: Path, line: Any) -> None:
    """Adds the run, or the failure, of a line. InvalidValueError where it is neither."""
    if not isinstance(line, dict):
        raise InvalidValueError("it", line, "a run or a failure")
    if "reason" in line:
        records.check_failure(line)
        archive.failures[line["fingerprint"]] = line["reason"]
        return
    records.check_result(line.get("result"))
    records.check_history(line.get("history"))
    records.check_confusion(line.get("confusion"))
    archive.runs[line["result"]["fingerprint"]] = ArchivedRun(path, line)


def write_archive(path: Path, archive: Archive, by_epoch: Collection[str]) -> None:
    """Keeps all; of histories the metrics `by_epoch`, and those that were kept before. Equal runs make equal files."""
    lines = [_kept(run, by_epoch) for _, run in sorted(archive.runs.items())]
    failed = sorted(
        (key, reason) for key, reason in archive.failures.items() if key not in archive.runs
    )  # others were run again since
    lines += [{"fingerprint": key, "reason": reason} for key, reason in failed]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    files.write_atomically(path, lzma.compress(text.encode()))


def _kept(run: Run, by_epoch: Collection[str]) -> dict[str, Any]:
    names = {*by_epoch, *(run.kept_metrics if isinstance(run, ArchivedRun) else ())}
    history = {name: [row.get(name) for row in run.history] for name in sorted(names)}
    result = {
        key: value for key, value in run.result.items() if key != files.FILES
    }  # which are not kept
    return {"result": result, "history": history, "confusion": run.confusion}
