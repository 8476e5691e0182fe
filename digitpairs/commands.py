"""What the commands `python -m digitpairs.NAME` share: their parsers and common arguments."""

from __future__ import annotations

import argparse
from pathlib import Path


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m MODULE`, with the module's docstring as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that uses a trained network."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="checkpoint.ckpt, a run or a sweep"
    )
    parser.add_argument(
        "--trust-classes",
        action="store_true",
        help="run the code of classes from outside digitpairs that the checkpoint names",
    )
