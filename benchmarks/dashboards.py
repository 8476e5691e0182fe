"""What TensorBoard's files cost a sweep of many short runs, and how long TensorBoard reads them.

    python benchmarks/dashboards.py                # 1000 runs of 25 epochs
    python benchmarks/dashboards.py --runs 100     # a shorter trial

The sweep itself is not trained: its rows are random numbers of the usual shape, so that the cost is
measured alone. Prints CPU milliseconds a run for each part, and the seconds until TensorBoard lists
all runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import torch

from digitpairs import files
from digitpairs.dashboard.events import EventsLogger
from digitpairs.dashboard.means import MeanCurves
from digitpairs.data.pairs import PairSet
from digitpairs.engines.predictions import predictions_file
from digitpairs.networks import Prediction

EPOCHS, PAIRS, PORT = 25, 1000, 6123
ERRORS = ("comparison_error", "digit1_error", "digit2_error", "digit_error", "posterior_error")
LOSSES = ("digit1_loss", "digit2_loss", "comparison_loss", "loss")
SETTINGS = {"model": "siamese_mlp", "optimizer.lr": 0.003, "aux.lambda": 0.8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        configuration = Path(name, "sweep", "siamese_mlp")
        folders = [configuration / f"seed={seed}" for seed in range(runs)]
        for folder in folders:
            folder.mkdir(parents=True)
        rows = [row(epoch, random) for epoch in range(EPOCHS)]
        seconds = {
            "events of each epoch": timed(write_events, folders, rows),
            "HPARAMS": timed(write_hparams, folders),
            "predictions": timed(write_predictions, folders),
            "means, live and at the end": timed(write_means, configuration, runs, rows),
        }
        for part, duration in seconds.items():
            print(f"{part:30} {1000 * duration / runs:6.2f} ms a run")
        print(f"{'TensorBoard lists all runs after':30} {load_seconds(Path(name), runs):6.1f} s")


def row(epoch: int, random: np.random.Generator) -> dict[str, float]:
    metrics = {
        f"{split}/{name}": float(random.random())
        for split in ("train", "validation")
        for name in (*LOSSES, *ERRORS)
    }
    weights = {f"aux/{part}_weight": 1.0 for part in ("digit1", "digit2", "comparison")}
    return {"epoch": epoch, "learning_rate": 0.003, **weights, **metrics}


def timed(work, *arguments) -> float:
    """CPU seconds of this process, which other programs disturb less than the wall clock."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def write_events(folders, rows) -> None:
    for folder in folders:
        logger = EventsLogger(folder)
        for each in rows:
            logger.log_metrics(each, int(each["epoch"]))


def write_hparams(folders) -> None:
    for seed, folder in enumerate(folders):
        EventsLogger(folder, {**SETTINGS, "seed": seed}).end(failed=False)


def write_predictions(folders) -> None:
    torch.set_num_threads(1)
    images, classes = torch.rand(2 * PAIRS, 14, 14), torch.arange(2 * PAIRS) % 10
    test_set = PairSet(images, classes, torch.arange(2 * PAIRS).view(PAIRS, 2))
    logits = Prediction(torch.randn(PAIRS, 1), torch.randn(PAIRS, 2, 10))
    for folder in folders:
        content = predictions_file(logits, test_set)
        files.write_atomically(folder / files.PREDICTIONS, content)


def write_means(configuration, runs, rows) -> None:
    curves = MeanCurves(configuration, {})
    for each in rows:
        for run in range(runs):
            curves.add(run, each)
    curves.write()


def load_seconds(folder: Path, runs: int) -> float:
    """Wall seconds from TensorBoard's start until it lists all runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(f"http://localhost:{PORT}/data/runs") as answer:
                    listed = json.load(answer)
            except OSError:
                continue
            if len(listed) > runs:  # and their mean
                return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
