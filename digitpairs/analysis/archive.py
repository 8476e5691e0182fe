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

from digitpairs import files
from digitpairs.analysis.runs import Run
from digitpairs.checks import DataError


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
        self.confusion = kept["confusion"]


def read_archive(path: Path) -> Archive:
    """What is kept; nothing where there is no such file. DataError where it is damaged."""
    archive = Archive({}, {})
    try:
        for line in map(json.loads, lzma.decompress(path.read_bytes()).decode().splitlines()):
            if "reason" in line:
                archive.failures[line["fingerprint"]] = line["reason"]
            else:
                archive.runs[line["result"]["fingerprint"]] = ArchivedRun(path, line)
    except FileNotFoundError:
        pass
    except (lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError) as error:  # not xz, no JSON, or not of this form
        raise DataError(f"{path} is damaged ({error!r}): delete it, or get it back from version control") from None
    return archive


def write_archive(path: Path, archive: Archive, by_epoch: Collection[str]) -> None:
    """Keeps all; of histories the metrics `by_epoch`, and those that were kept before. Equal runs make equal files."""
    lines = [_kept(run, by_epoch) for _, run in sorted(archive.runs.items())]
    failed = sorted((key, reason) for key, reason in archive.failures.items() if key not in archive.runs)  # others were run again since
    lines += [{"fingerprint": key, "reason": reason} for key, reason in failed]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    files.write_whole(path, lzma.compress(text.encode()))


def _kept(run: Run, by_epoch: Collection[str]) -> dict[str, Any]:
    names = {*by_epoch, *(run.kept_metrics if isinstance(run, ArchivedRun) else ())}
    history = {name: [row.get(name) for row in run.history] for name in sorted(names)}
    return {"result": run.result, "history": history, "confusion": run.confusion}
