"""The runs behind a report's page, in one small file beside the page.

From the archive, a page can be made again, and completed by further runs, on a machine that has
none of the runs' folders. The archive keeps each run's result, its confusion matrices, and the
metrics that the report reads epoch by epoch; of a failed run it keeps the reason. Each run is one
line of JSON, identified by the fingerprint of its config; the file is compressed by xz.
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

MAX_BYTES = 2**26  # of all lines; 1400 runs with curves have some four million
XZ_MEMORY = 2**27  # bytes for xz's dictionary; an archive needs 8 MiB


class Archive(NamedTuple):
    """Finished runs, and the reasons of failed ones, by fingerprint."""

    runs: dict[str, Run]
    failures: dict[str, str]

    def with_newer(self, other: Archive) -> Archive:
        """Both archives' entries; the other's replace those with the same fingerprint."""
        return Archive(self.runs | other.runs, self.failures | other.failures)


class ArchivedRun(Run):
    """A run read from its line of an archive."""

    def __init__(self, archive: Path, entry: dict[str, Any]) -> None:
        super().__init__(archive, entry["result"])
        columns = entry["history"]
        self.archived_metrics = set(columns)
        rows = (zip(columns, values) for values in zip(*columns.values()))
        self.history = [{name: value for name, value in row if value is not None} for row in rows]
        self.confusion = entry.get("confusion")


def read_archive(path: Path) -> Archive:
    """Read an archive; a missing file is an empty one. Raises DataError where it is damaged."""
    archive = Archive({}, {})
    try:
        for number, line in enumerate(_decompressed(path).splitlines(), 1):
            with records.raise_as_damaged(path, f"line {number}: "):
                _add(archive, path, _parsed(line))
    except MissingFileError:
        return archive
    except DamagedFileError as damage:
        raise DataError(f"{damage}: delete it, or get it back from version control") from None
    return archive


def _decompressed(path: Path) -> bytes:
    """The archive's lines; at most `MAX_BYTES`, since a small file can unpack to terabytes."""
    decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
    try:
        content = decompressor.decompress(files.read_bytes(path), max_length=MAX_BYTES)
    except lzma.LZMAError as error:
        raise DamagedFileError(path, error) from None
    if not decompressor.eof and len(content) < MAX_BYTES:
        raise DamagedFileError(path, "it ends too early")
    if not decompressor.eof:
        raise DamagedFileError(path, f"it unpacks to more than {MAX_BYTES >> 20} MiB")
    if decompressor.unused_data:
        raise DamagedFileError(path, "something follows its end")
    return content


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError("it", line, f"JSON ({error})") from None


def _add(archive: Archive, path: Path, entry: Any) -> None:
    """Add the run, or the failure, of a line. Raises InvalidValueError for anything else."""
    if not isinstance(entry, dict):
        raise InvalidValueError("it", entry, "a run or a failure")
    if "reason" in entry:
        records.check_failure(entry)
        archive.failures[entry["fingerprint"]] = entry["reason"]
        return
    records.check_result(entry.get("result"))
    records.check_history(entry.get("history"))
    records.check_confusion(entry.get("confusion"))
    archive.runs[entry["result"]["fingerprint"]] = ArchivedRun(path, entry)


def write_archive(path: Path, archive: Archive, by_epoch: Collection[str]) -> None:
    """Write all runs and failures; equal runs make equal files.

    Histories keep the metrics `by_epoch`, and the metrics that were archived before. A failure is
    left out where the same config has been run again with success.
    """
    entries: list[dict[str, Any]] = [
        _entry(run, by_epoch) for _, run in sorted(archive.runs.items())
    ]
    for fingerprint, reason in sorted(archive.failures.items()):
        if fingerprint not in archive.runs:
            entries.append({"fingerprint": fingerprint, "reason": reason})
    text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)
    files.write_atomically(path, lzma.compress(text.encode()))


def _entry(run: Run, by_epoch: Collection[str]) -> dict[str, Any]:
    metrics = set(by_epoch)
    if isinstance(run, ArchivedRun):
        metrics |= run.archived_metrics
    history = {name: [row.get(name) for row in run.history] for name in sorted(metrics)}
    result = dict(run.result)
    result.pop(files.FILES, None)  # the archive does not keep the run's files
    return {"result": result, "history": history, "confusion": run.confusion}
