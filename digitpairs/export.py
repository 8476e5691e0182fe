"""Export of a trained network to ONNX.

    python -m digitpairs.export CHECKPOINT --to model.onnx

The model takes pixels (batch, 2, 14, 14) in [0, 1], for any batch, and gives the probability of
first <= second and the probabilities of the digits. A sweep's seeds become one model, which gives
the means. The file is checked against the network on 1000 pairs, to 1e-5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.commands import add_checkpoint_arguments, command_parser
from digitpairs.targets import add_import_folders
from digitpairs.terminal import make_output_robust


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for a checkpoint that cannot be exported."""
    parser = command_parser("digitpairs.export", __doc__)
    add_checkpoint_arguments(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.onnx")
    options = parser.parse_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        add_import_folders([Path.cwd()])  # own classes, as in training
        from digitpairs.use import load
        from digitpairs.use.onnx import CHECKED_PAIRS, export

        difference = export(load(options.checkpoint, options.trust_classes), options.to)
        size = options.to.stat().st_size / 1e6
        checked = f"largest difference {difference:.1g} on {CHECKED_PAIRS} pairs"
        print(f"{options.to}: {size:.1f} MB, {checked}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
