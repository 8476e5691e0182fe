"""Pictures of what a run answers: wrong pairs, the digits' confusion, a decision boundary.

They are drawn with Pillow, which takes milliseconds; a plotting library would take a second to
import at the end of each sweep.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digitpairs import files, records

PAPER, INK, PALE = (255, 255, 255), (27, 31, 36), (208, 215, 222)
BLUE, ORANGE = (31, 119, 180), (230, 120, 20)
SCALE = 5  # pixels of a picture for a pixel of a digit
GAP = 10
LINE = 16  # height of a line of text
CELL = 30  # of a confusion table
MOST_PAIRS, COLUMNS = 16, 4

Arrays = Mapping[str, np.ndarray]
Result = Mapping[str, Any]


class Picture(NamedTuple):
    """A picture, and what it shows in words."""

    image: Image.Image
    text: str

    def png(self) -> bytes:
        """The picture as a PNG file."""
        content = io.BytesIO()
        self.image.save(content, "PNG")
        return content.getvalue()


class WrongPair(NamedTuple):
    """A test pair whose comparison is wrong."""

    images: np.ndarray  # (2, 14, 14), 0 to 255
    digits: tuple[int, int]
    answer: bool  # "first <= second"
    probability: float  # of the answer
    read_as: tuple[int, int] | None  # the network's digits; None if it does not classify digits

    def lines(self) -> list[str]:
        """The truth, the answer and the digits that were read."""
        first, second = self.digits
        sign = "<=" if self.answer else ">"
        read = [] if self.read_as is None else [f"read as {self.read_as[0]}, {self.read_as[1]}"]
        return [f"{first} and {second}", f"said {sign} ({self.probability:.2f})", *read]


def error_of(result: Result) -> float:
    """The test error that ranks the seeds, in per cent."""
    return next(result[name] for name in records.TEST_ERRORS if name in result)


def best_and_median(results: Mapping[Path, Result]) -> dict[str, Path]:
    """The runs with the lowest and with the (lower) median test error, if these are two runs."""
    ranked = sorted(results, key=lambda run: (error_of(results[run]), results[run]["seed"]))
    best, median = ranked[0], ranked[(len(ranked) - 1) // 2]
    return {"best": best} if median == best else {"best": best, "median": median}


def pictures_of(run: Path) -> Iterator[tuple[str, int, Picture]]:
    """A run's pictures, each with what it is and the epoch. Runs without such files have none."""
    predictions, confusion = records.read_predictions(run), records.read_confusion(run)
    wrong = draw_wrong_pairs(predictions) if predictions is not None else None
    if wrong is not None:
        yield "wrong pairs", 0, wrong
    if confusion is not None:
        yield "confusion of digits", 0, draw_confusion(confusion)
    if (run / files.BOUNDARY).exists():
        boundary = records.read_boundary(run)
        for place, epoch in enumerate(boundary["epochs"]):
            yield "decision boundary", int(epoch), draw_boundary(boundary, place)


def margins(predictions: Arrays) -> np.ndarray:
    """The logit of "first <= second" for each test pair (n,), float64."""
    comparison = predictions["comparison"].astype(np.float64)
    return comparison[:, -1] - (comparison[:, 0] if comparison.shape[1] == 2 else 0.0)


def wrong_pairs(predictions: Arrays) -> list[WrongPair]:
    """The wrong pairs whose images are kept, the most confident answer first."""
    margin = margins(predictions)
    logits = predictions.get("digit_logits")
    pairs = []
    for row, images in zip(predictions["wrong"], predictions["images"]):
        read = None if logits is None else _pair(logits[row].argmax(-1))
        digits = _pair(predictions["digits"][row])
        probability = 1 / (1 + math.exp(-min(abs(margin[row]), 700.0)))
        pairs.append(WrongPair(images, digits, bool(margin[row] > 0), probability, read))
    return pairs


def draw_wrong_pairs(predictions: Arrays) -> Picture | None:
    """The most confidently wrong pairs with their digits and answers; None if there are none."""
    pairs = wrong_pairs(predictions)[:MOST_PAIRS]
    if not pairs:
        return None
    side = predictions["images"].shape[-1] * SCALE
    width, height = 2 * side + 3 * GAP, side + 3 * LINE + 2 * GAP
    rows = math.ceil(len(pairs) / COLUMNS)
    image, draw = _canvas(width * min(len(pairs), COLUMNS), height * rows)
    for number, pair in enumerate(pairs):
        left, top = width * (number % COLUMNS) + GAP, height * (number // COLUMNS) + GAP
        for place, digit in enumerate(pair.images):
            enlarged = Image.fromarray(255 - digit).resize((side, side), Image.Resampling.NEAREST)
            image.paste(enlarged, (left + place * (side + GAP // 2), top))
        for place, line in enumerate(pair.lines()):
            draw.text((left, top + side + 2 + place * LINE), line, INK, _font())
    texts = "; ".join(", ".join(pair.lines()) for pair in pairs)
    return Picture(image, f"The most confidently wrong test pairs: {texts}")


def draw_confusion(tables: Mapping[str, Any]) -> Picture:
    """How often each digit of the test pairs was read as each digit, over both images."""
    counts = np.add(*(np.asarray(table) for table in tables.values()))
    size = len(counts)
    image, draw = _canvas((size + 2) * CELL, (size + 2) * CELL)
    draw.text((CELL * (size / 2 + 1), CELL // 2), "read as", INK, _font(), anchor="mm")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for digit in range(size):
        middle = CELL * (digit + 1.5)
        draw.text((middle, CELL * 1.2), str(digit), INK, _font(), anchor="mm")
        draw.text((CELL // 2, CELL * (digit + 2)), str(digit), INK, _font(), anchor="mm")
    for row, column in np.ndindex(size, size):
        box = _cell(row, column)
        color = BLUE if row == column else ORANGE
        strength = shares[row, column] if row == column else min(1.0, 8 * shares[row, column])
        draw.rectangle(box, _mix(color, strength), PALE)
        if counts[row, column]:
            place = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            ink = PAPER if strength > 0.6 else INK
            draw.text(place, str(counts[row, column]), ink, _font(), anchor="mm")
    wrong = [
        f"{row} as {column}: {counts[row, column]}"
        for row, column in np.argwhere((counts > 0) & ~np.eye(size, dtype=bool))
    ]
    return Picture(image, f"Digits read wrongly: {', '.join(wrong) or 'none'}")


def draw_boundary(boundary: Arrays, place: int) -> Picture:
    """The decisions over the unit square after one of the kept epochs, with the training points."""
    side = 6 * boundary["inside"].shape[-1]
    inside = boundary["inside"][place][::-1]  # the first row is the bottom
    colors = np.where(inside[..., None].astype(bool), _mix(BLUE, 0.35), _mix(ORANGE, 0.25))
    image = Image.fromarray(colors.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for (x, y), label in zip(boundary["points"], boundary["labels"]):
        left, top = x * side, (1 - y) * side
        draw.ellipse((left - 2, top - 2, left + 2, top + 2), BLUE if label else ORANGE)
    epoch = int(boundary["epochs"][place])
    return Picture(image, f"Decision boundary after {epoch} epochs, with the training points")


def _pair(values: np.ndarray) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _canvas(width: float, height: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (int(width), int(height)), PAPER)
    return image, ImageDraw.Draw(image)


def _cell(row: int, column: int) -> tuple[float, float, float, float]:
    left, top = CELL * (column + 1), CELL * (row + 1.5)
    return left, top, left + CELL, top + CELL


def _mix(color: Sequence[int], share: float) -> tuple[int, int, int]:
    """The colour on paper, with this share of it."""
    red, green, blue = (round(share * c + (1 - share) * p) for c, p in zip(color, PAPER))
    return red, green, blue


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=13)
