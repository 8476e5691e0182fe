"""The Python blocks of a page of the docs: run in order, and compared with what the page shows.

- The ```python blocks of a page run in one namespace.
- A ```text block directly below one shows what it prints. Numbers that are not whole may differ in
  the last digits: by a thousandth, or by 1e-6.
- A ```python block whose first line is `# framework/FILE.py` quotes this file, and does not run.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d*(?:e[-+]?\d+)?|e[-+]?\d+)")


def run_page(page: Path) -> dict[str, Any]:
    """Run all blocks and return their namespace; AssertionError where the page is wrong."""
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in BLOCK.finditer(text):
        source, shown = block.groups()
        if source.startswith("# framework/"):
            check_quotation(*source.split("\n", 1))
            continue
        line = text.count("\n", 0, block.start(1))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + source, str(page), "exec"), namespace)
        check_output(printed.getvalue(), shown or "", f"{page.name}, line {line + 1}")
    return namespace


def check_output(printed: str, shown: str, where: str) -> None:
    """AssertionError unless both have the same text, and nearly the same numbers."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown), where
    numbers, expected = ([float(n) for n in NUMBER.findall(text)] for text in (printed, shown))
    assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-6), where


def check_quotation(header: str, quoted: str) -> None:
    """AssertionError unless the file has exactly these lines."""
    source = (ROOT / header.removeprefix("# ")).read_text(encoding="utf-8")
    assert f"\n{quoted}" in source, f"{header} has not:\n{quoted}"
