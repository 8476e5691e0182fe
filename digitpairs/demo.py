"""A page to draw two digits on, which a trained network compares.

    python -m digitpairs.demo CHECKPOINT
    python -m digitpairs.demo SWEEP --port 9000

Open the address that is printed in a browser. The page shows the probabilities of both digits, the
answer, what the network sees, the answer of each seed of a sweep, and hard pairs of the run's test
set if its data are there. It loads nothing from the network.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from digitpairs.checks import DataError, integer
from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.commands import add_checkpoint_arguments, command_parser
from digitpairs.targets import add_import_folders
from digitpairs.terminal import make_output_robust

LOOPBACK = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; the exit status is 2 for a checkpoint that cannot be used."""
    options = _parser().parse_args(arguments)
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        port = integer("--port", options.port, at_most=65535)
        add_import_folders([Path.cwd()])  # own classes, as in training
        from digitpairs.use import load
        from digitpairs.use.checkpoints import find_checkpoints
        from digitpairs.use.examples import hard_examples
        from digitpairs.use.server import make_server

        comparer = load(options.checkpoint, options.trust_classes)
        try:
            run = find_checkpoints(options.checkpoint)[0].parent
            examples = hard_examples(comparer, run)
        except DataError as fault:
            examples = []
            print(f"The page has no examples: {fault}", file=sys.stderr)
        server = make_server(comparer, examples, options.host, port)
    with server, contextlib.suppress(KeyboardInterrupt):
        if options.host != LOOPBACK:
            print("warning: other machines can reach the page", file=sys.stderr)
        print(f"Page: http://{options.host}:{server.server_port} (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("digitpairs.demo", __doc__)
    add_checkpoint_arguments(parser)
    parser.add_argument("--port", type=int, default=8765, help="8765 by default; 0: a free one")
    parser.add_argument(
        "--host", default=LOOPBACK, help=f"{LOOPBACK} by default, which only this machine reaches"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
