"""Draw the pictures of docs/dashboards.md: terminal, TensorBoard's tabs, and the analysis page.

    python train.py -m model=mlp,siamese_mlp optimizer.lr=0.001,0.003 seed=0..5 data.validation=0.2
    python docs/make_dashboard_pictures.py FOLDER

FOLDER is the sweep's folder, which the table names. The tabs and pages are shown by Chromium, which
must be installed; nothing is loaded from other hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from rich.console import Console

from digitpairs.analysis.against_best import lines_against_best
from digitpairs.analysis.runs import names_of
from digitpairs.analysis.table import print_table
from digitpairs.dashboard.closing import ranked_results

IMAGES = Path(__file__).resolve().parent / "images"
TABS = ("timeseries", "custom_scalars", "hparams", "images", "text")
PATIENCE = 120  # seconds for TensorBoard to answer
COLORS = 128  # of a PNG, which halves its size


def main() -> None:
    """Draw the sweep in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    sweep = parser.parse_args().sweep
    IMAGES.mkdir(exist_ok=True)
    draw_terminal(sweep)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        analyse = [sys.executable, "-m", "digitpairs.analysis", str(sweep), "--html", str(page)]
        subprocess.run(analyse, check=True, stdout=subprocess.DEVNULL)
        url = page.as_uri()
        show(url, "page-wide", 1280, 1500)
        show(url, "page-narrow", 500, 1500)  # Chromium's narrowest window
        show(url, "page-dark", 1280, 1500, "--blink-settings=preferredColorScheme=0")
    with tensorboard(sweep) as url:
        for tab in TABS:
            show(f"{url}/?darkMode=false#{tab}", f"tensorboard-{tab.replace('_', '-')}", 1400, 900)


def draw_terminal(sweep: Path) -> None:
    """The end of the sweep as the terminal shows it."""
    runs = sorted(path.parent for path in sweep.glob("*/seed=*/result.json"))
    console = Console(record=True, width=110, file=io.StringIO())
    print_table(runs, console, names_of(runs))
    for line in lines_against_best(ranked_results(runs)):
        console.print(line, highlight=False, markup=False)
    svg = console.export_svg(title="the end of a sweep")
    fonts = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # which would be loaded from elsewhere
    (IMAGES / "terminal.svg").write_text(fonts.sub("", svg), encoding="utf-8")


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """TensorBoard on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://localhost:{port}"
    try:
        wait_for(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Wait until the server answers and has had time to read the events."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{url}/data/runs").close()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
    time.sleep(15)


def show(url: str, name: str, width: int, height: int, *options: str) -> None:
    """Save what Chromium shows at a page's address."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
    path = IMAGES / f"{name}.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},{height}", "--virtual-time-budget=30000", *options]
    subprocess.run([*command, f"--screenshot={path}", url], check=True, stderr=subprocess.DEVNULL)
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(COLORS)
    smaller.save(path, optimize=True)
    print(f"{path} ({path.stat().st_size >> 10} kB)")


if __name__ == "__main__":
    main()
