"""What a report's page was made of: its runs in one small file beside the page.

With it the page can be made again, and completed by further runs, on a machine that has none of their folders. Kept are each run's result,
its confusions, and of its history what the report looks at epoch by epoch; a line of JSON a run, compressed by xz.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from digitpairs import files
from digitpairs.analysis.runs import Run
from digitpairs.checks import DataError


class ArchivedRun(Run):
    """A run of which its line of the archive is left."""

    def __init__(self, archive: Path, kept: dict[str, Any]) -> None:
        super().__init__(archive, kept["result"])
        rows = (zip(kept["history"], row) for row in zip(*kept["history"].values()))
        self.history = [{name: value for name, value in row if value is not None} for row in rows]
        self.confusion = kept["confusion"]


def read_archive(path: Path) -> dict[str, Run]:
    """The runs by fingerprint; none where there is no such file. DataError where it is damaged."""
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
        runs = [ArchivedRun(path, json.loads(line)) for line in lines]
        return {run.result["fingerprint"]: run for run in runs}
    except FileNotFoundError:
        return {}
    except (lzma.LZMAError, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error!r}): delete it, or get it back from version control") from None


def write_archive(path: Path, runs: Mapping[str, Run], by_epoch: Collection[str]) -> None:
    """Keeps the runs, by fingerprint; of their histories the metrics `by_epoch`. Equal runs make equal files."""
    lines = [json.dumps(_kept(run, by_epoch), separators=(",", ":")) + "\n" for _, run in sorted(runs.items())]
    files.write_whole(path, lzma.compress("".join(lines).encode()))


def _kept(run: Run, by_epoch: Collection[str]) -> dict[str, Any]:
    history = {name: [row.get(name) for row in run.history] for name in sorted(by_epoch)}
    return {"result": run.result, "history": history, "confusion": run.confusion}
