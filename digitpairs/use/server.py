"""The page to draw two digits on, served by Python's own HTTP server.

It has one page, which loads nothing from elsewhere, and one question: POST /compare with JSON, the
two drawings as PNG in data URLs, or the number of an example.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from digitpairs.checks import DataError, InvalidValueError
from digitpairs.use.comparer import Comparer, Comparison
from digitpairs.use.examples import Example
from digitpairs.use.images import as_images

LARGEST_REQUEST = 2**20  # bytes
_LARGEST_DRAWING = 2**20  # pixels
_DATA_URL = "data:image/png;base64,"
_PATIENCE_SECONDS = 10  # for a slow request, and for the rest of one that is refused
_ONLY_THIS_PAGE = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class RequestError(Exception):
    """A request that is not answered: a status and a message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_server(
    comparer: Comparer, examples: Sequence[Example], host: str, port: int
) -> ThreadingHTTPServer:
    """A server of the page; port 0 is any free port. Raises InvalidValueError for no address."""

    class Handler(_Handler):
        questions = Questions(comparer, examples)

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as fault:
        accepted = f"an address of this machine whose port is free ({fault})"
        raise InvalidValueError("address", f"{host}:{port}", accepted) from fault


class Questions:
    """Answers the page's requests."""

    def __init__(self, comparer: Comparer, examples: Sequence[Example]) -> None:
        self.comparer, self.examples = comparer, examples

    def shown_examples(self) -> list[dict[str, Any]]:
        """The examples for the page."""
        return [
            {"seen": _levels(each.images.numpy()), "digits": each.digits} for each in self.examples
        ]

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a question in JSON. Raises RequestError for one that is not valid."""
        try:
            question = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the request is not JSON") from None
        if not isinstance(question, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the request is no JSON object")
        return _answer(self.comparer.compare_images(self._pair(question)[None]))

    def _pair(self, question: dict[str, Any]) -> Tensor:
        """The two images, (2, 14, 14)."""
        if "example" in question:
            number = question["example"]
            if not isinstance(number, int) or not 0 <= number < len(self.examples):
                accepted = f"example is a number below {len(self.examples)}"
                raise RequestError(HTTPStatus.BAD_REQUEST, accepted)
            return self.examples[number].images
        return torch.cat([_drawing(question, place) for place in ("first", "second")])


class _Handler(BaseHTTPRequestHandler):
    questions: Questions
    timeout = _PATIENCE_SECONDS
    server_version, sys_version = "digitpairs", ""

    def do_GET(self) -> None:
        if self.path == "/":
            page = resources.files("digitpairs.use").joinpath("page.html").read_bytes()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif self.path == "/examples":
            self._send_json(HTTPStatus.OK, self.questions.shown_examples())
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})

    def do_POST(self) -> None:
        try:
            if self.path != "/compare":
                raise RequestError(HTTPStatus.NOT_FOUND, "there is no such page")
            self._send_json(HTTPStatus.OK, self.questions.answer(self._body()))
        except RequestError as fault:
            self._send_json(fault.status, {"error": str(fault)})
            self._drop_the_rest()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
        if len(length) > 12 or int(length) > LARGEST_REQUEST:
            message = f"the request has {length[:12]} bytes, more than {LARGEST_REQUEST}"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the request is cut off")
        return body

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _ONLY_THIS_PAGE)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def _drop_the_rest(self) -> None:
        """Read what still comes: a browser that has not sent all would not see the answer."""
        self.wfile.flush()
        self.connection.settimeout(1)
        end = time.monotonic() + _PATIENCE_SECONDS
        with contextlib.suppress(OSError):  # also a timeout
            while time.monotonic() < end and self.rfile.read1(LARGEST_REQUEST):
                pass


def _drawing(question: dict[str, Any], place: str) -> Tensor:
    """The drawing as the network sees it, (1, 14, 14)."""
    url = question.get(place)
    if not isinstance(url, str) or not url.startswith(_DATA_URL):
        message = f"{place} is not a PNG image in a data URL"
        raise RequestError(HTTPStatus.BAD_REQUEST, message)
    try:
        content = base64.b64decode(url[len(_DATA_URL) :], validate=True)
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > _LARGEST_DRAWING:
            raise ValueError("too large")
        image.load()
    except Exception:  # a damaged file makes Pillow raise errors of almost any class
        message = f"{place} is not a PNG image of at most {_LARGEST_DRAWING} pixels"
        raise RequestError(HTTPStatus.BAD_REQUEST, message) from None
    try:
        return as_images(image, name=f"the {place} drawing")
    except DataError as fault:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(fault)) from None


def _answer(comparison: Comparison) -> dict[str, Any]:
    """The answer for one pair, as plain values."""
    seeds = [
        {"name": name, "probability": float(probability)}
        for name, probability in zip(comparison.names, comparison.probability_by_seed[:, 0])
    ]
    digits = comparison.digit_probabilities
    if comparison.digit_probabilities_by_seed is not None:
        for seed, probabilities in zip(seeds, comparison.digit_probabilities_by_seed[:, 0]):
            seed["digits"] = probabilities.argmax(-1).tolist()
    return {
        "less_or_equal": bool(comparison.less_or_equal[0]),
        "probability": float(comparison.probability[0]),
        "digits": None if comparison.digits is None else comparison.digits[0].tolist(),
        "digit_probabilities": None if digits is None else digits[0].tolist(),
        "seeds": seeds,
        "seen": _levels(comparison.images[0]),
    }


def _levels(images: np.ndarray) -> list[list[int]]:
    """(2, 14, 14) in [0, 1] -> two lists of 196 levels from 0 to 255."""
    return np.rint(255 * images).astype(int).reshape(2, -1).tolist()
