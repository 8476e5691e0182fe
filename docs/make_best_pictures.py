"""Draw the digits that the networks of `experiment=best` misread, for docs/reproduction/best.md.

    python train.py experiment=best
    python docs/make_best_pictures.py FOLDER

FOLDER is the sweep's folder, which the table names. With 5000 test pairs each seed sees every test
image once, so that a digit can be in a wrong pair once for each seed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digitpairs import records
from digitpairs.analysis.calibration import answers_by_kind, expected_calibration_error, joined
from digitpairs.analysis.drawing import panel_grid, save

PICTURE = Path(__file__).resolve().parent / "images" / "best-misread.png"
SHOWN, ACROSS = 24, 8


class Misread(NamedTuple):
    """A digit of wrong pairs."""

    image: np.ndarray  # (14, 14) uint8
    digit: int
    answers: list[int]  # the digits that the networks saw in it, one for each wrong pair


def main() -> None:
    """Draw the digits of the sweep in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    folders = sorted(path.parent for path in parser.parse_args().sweep.glob("*/seed=*/result.json"))
    found = [records.read_predictions(folder) for folder in folders]
    predictions = [each for each in found if each is not None]
    for kind in ("comparison", "digits"):
        answers = joined([answers_by_kind(each)[kind] for each in predictions])
        error = expected_calibration_error(answers)
        print(f"calibration error, {kind}: {error:.2f} % over {len(answers.right)} answers")
    misread = misread_digits(predictions)
    draw(misread[:SHOWN], len(folders))
    wrong = sum(len(each.answers) for each in misread)
    always = [each for each in misread if 2 * len(each.answers) > len(folders)]
    share = sum(len(each.answers) for each in always) / wrong
    print(f"{len(folders)} runs, {wrong} misread digits in wrong pairs, {len(misread)} different")
    print(f"{len(always)} are misread by more than half of the runs: {100 * share:.0f} % of all")
    print(PICTURE)


def misread_digits(predictions: Iterable[Mapping[str, np.ndarray]]) -> list[Misread]:
    """The misread digits of all wrong pairs, the one that is misread most often first."""
    found: dict[tuple[bytes, int], Misread] = {}
    for arrays in predictions:
        rows = arrays["wrong"]
        answers = arrays["digit_logits"][rows].argmax(-1)
        for images, digits, seen in zip(arrays["images"], arrays["digits"][rows], answers):
            for image, digit, answer in zip(images, digits, seen):
                if digit != answer:
                    key = image.tobytes(), int(digit)
                    misread = found.setdefault(key, Misread(image, int(digit), []))
                    misread.answers.append(int(answer))
    return sorted(found.values(), key=lambda each: -len(each.answers))


def draw(misread: list[Misread], runs: int) -> None:
    """Draw each digit with its class, the networks' answers, and how many have given them."""
    figure, axes = panel_grid(len(misread), ACROSS, 1.35, 1.75, layout="constrained")
    for panel, (image, digit, answers) in zip(axes.flat, misread):
        named = ", ".join(str(answer) for answer, _ in Counter(answers).most_common())
        panel.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        panel.set_title(f"{digit}, read as {named}\n{len(answers)} of {runs}", fontsize=7)
        panel.set_axis_off()
    save(figure, PICTURE, dpi=110)


if __name__ == "__main__":
    main()
