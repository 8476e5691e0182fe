"""Output that does not end a sweep on limited terminals, closed pipes and full disks."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # its import takes time, and `--help` does not need it
    from _typeshed import ReadableBuffer
    from rich.console import Console

PLUS_MINUS, ASCII_PLUS_MINUS = "±", "+-"
_ENCODING_ERRORS = "digitpairs"  # the name of `_replace_unencodable` among the codecs


def make_output_robust() -> None:
    """Make standard output and standard error accept all text, and ignore errors of writing.

    Characters that the terminal lacks are replaced. A closed pipe, such as `| head -1`, is silent;
    a full disk gives one warning. Streams that a notebook or a test has replaced do not change.
    """
    sys.stdout, sys.stderr = _robust(sys.stdout), _robust(sys.stderr)


def make_console() -> Console:
    """The console of standard output, with a display that moves only on a terminal.

    FORCE_COLOR, which notebooks and services set, gives colours to pipes as well.
    """
    from rich.console import Console

    return Console(force_interactive=sys.stdout.isatty())


def plus_minus(console: Console) -> str:
    """± if the console can show it, else +-."""
    try:
        PLUS_MINUS.encode(console.encoding)
    except UnicodeEncodeError:
        return ASCII_PLUS_MINUS
    return PLUS_MINUS


class _RobustIO(io.FileIO):
    """A file that ignores errors of writing; after the first one it drops all data."""

    failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        size = len(memoryview(data))
        if self.failed:
            return size
        try:
            return super().write(data)
        except OSError as error:
            self.failed = True
            if not isinstance(error, BrokenPipeError):
                _warn_on_standard_error(error)
            return size


def _warn_on_standard_error(error: OSError) -> None:
    fault = f"standard output cannot be written ({error})"
    with suppress(OSError):  # standard error may be closed too
        os.write(2, f"warning: {fault}: the command goes on without it\n".encode())


def _robust(stream: TextIO) -> TextIO:
    """The stream with `_RobustIO` below it, if it is one of Python's own."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with `python -u` there is no buffer above it
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    robust = _RobustIO(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        robust if stream.write_through else io.BufferedWriter(robust),
        stream.encoding,
        _ENCODING_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """The replacement of a character that an encoding lacks, and where to continue."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] == PLUS_MINUS:
        return ASCII_PLUS_MINUS, error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error(_ENCODING_ERRORS, _replace_unencodable)
