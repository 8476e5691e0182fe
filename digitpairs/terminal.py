"""Output that does not end a sweep: on terminals without some signs, and into pipes that are closed or files that are full."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:  # which takes its time, and `--help` needs none of it
    from rich.console import Console

PLUS_MINUS, PLAIN_PLUS_MINUS = "±", "+-"
_ERRORS = "digitpairs"  # the name under which codecs know `_replacement`


def make_output_robust() -> None:
    """From now on standard output and standard error take every text, and go nowhere once they cannot be written to.

    Signs that the terminal lacks are replaced. A closed pipe, as of `| head -1`, is no failure; a full disk is told once.
    Only this process's own streams are changed, not what a notebook or a test has put in their place.
    """
    sys.stdout, sys.stderr = (_robust(each) for each in (sys.stdout, sys.stderr))


def plus_minus(console: Console) -> str:
    """± where the console can show it."""
    try:
        PLUS_MINUS.encode(console.encoding)
    except UnicodeEncodeError:
        return PLAIN_PLUS_MINUS
    return PLUS_MINUS


class _RobustIO(io.FileIO):
    """A file whose writes all succeed: what cannot be written is lost."""

    failed = False

    def write(self, data: bytes) -> int:
        if not self.failed:
            try:
                return super().write(data)
            except OSError as fault:
                self.failed = True
                if not isinstance(fault, BrokenPipeError):
                    with suppress(
                        OSError
                    ):  # standard error may be gone as well, and there is no other place
                        os.write(
                            2,
                            f"warning: standard output cannot be written ({fault}): the command goes on without it\n".encode(),
                        )
        return len(data)


def _robust(stream: IO[str] | None) -> IO[str] | None:
    raw = getattr(
        getattr(stream, "buffer", None), "raw", getattr(stream, "buffer", None)
    )  # the same with `python -u`
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    lasting = _RobustIO(stream.fileno(), "w", closefd=False)
    through = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(
        lasting if stream.write_through else io.BufferedWriter(lasting),
        stream.encoding,
        _ERRORS,
        **through,
    )


def _replacement(fault: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for text that an encoding lacks."""
    if isinstance(fault, UnicodeEncodeError) and fault.object[fault.start] == PLUS_MINUS:
        return PLAIN_PLUS_MINUS, fault.start + 1
    return codecs.backslashreplace_errors(fault)


codecs.register_error(_ERRORS, _replacement)
