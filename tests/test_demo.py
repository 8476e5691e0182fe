"""The page to draw on: the server's answers and limits, and the page in a real browser."""

import base64
import contextlib
import http.client
import io
import json
import re
import shutil
import socket
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image

import digitpairs
from digitpairs import demo
from digitpairs.checks import InvalidValueError
from digitpairs.use import as_images
from digitpairs.use.examples import hard_examples
from digitpairs.use.server import LARGEST_REQUEST, make_server
from tests.test_reading import mnist_made, on_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def png(array: np.ndarray) -> str:
    """A data URL."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def drawing(index: int) -> np.ndarray:
    return np.rint(255 * on_page(mnist_made(index), margin=20, side=200)).astype(np.uint8)


@pytest.fixture(scope="module")
def comparer(small_seeds):
    return digitpairs.load(small_seeds)


@pytest.fixture(scope="module")
def examples(comparer, small_seeds):
    return hard_examples(comparer, next(small_seeds.glob("*/*/seed=0")))


@contextlib.contextmanager
def running_server(comparer, examples):
    """The server in a thread; yields the page's address."""
    with make_server(comparer, examples, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def url(comparer, examples):
    with running_server(comparer, examples) as url:
        yield url


@pytest.fixture
def port(url) -> int:
    return urllib.parse.urlsplit(url).port


@pytest.fixture
def ask(port):
    """`ask(question)` posts JSON, or bytes as they are; returns (status, answer)."""

    def post(question, method="POST", path="/compare", **headers) -> tuple[int, dict]:
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    return post


@pytest.mark.slow
def test_drawings_are_answered_as_compare_does(ask, comparer):
    first, second = drawing(0), drawing(1)
    status, answer = ask({"first": png(first), "second": png(second)})
    expected = comparer.compare(first, second)
    assert status == 200
    assert answer["less_or_equal"] == expected.less_or_equal[0]
    assert answer["probability"] == pytest.approx(expected.probability[0], abs=1e-6)
    assert answer["digits"] == expected.digits[0].tolist()
    np.testing.assert_allclose(
        answer["digit_probabilities"], expected.digit_probabilities[0], atol=1e-6
    )
    assert [seed["name"] for seed in answer["seeds"]] == ["seed=0", "seed=1"]
    by_seed = [seed["probability"] for seed in answer["seeds"]]
    np.testing.assert_allclose(by_seed, expected.probability_by_seed[:, 0], atol=1e-6)
    seen = np.array(answer["seen"]).reshape(2, 14, 14)
    np.testing.assert_allclose(seen / 255, as_images([first, second]), atol=0.003)


def test_examples_are_those_with_the_least_probable_right_answer(ask, comparer, examples):
    data = digitpairs.PairDataModule(source="digits", pairs=60, test_pairs=40, seed=0)
    data.setup()
    pairs = data.test_set.take(slice(None))
    probability = comparer.compare_images(pairs.images).probability
    right = np.sort(np.where(pairs.target.bool(), probability, 1 - probability))
    for number, example in enumerate(examples):
        status, answer = ask({"example": number})
        is_less = example.digits[0] <= example.digits[1]
        found = answer["probability"] if is_less else 1 - answer["probability"]
        assert (status, found) == (200, pytest.approx(right[number], abs=1e-6))


def test_examples_need_data_that_are_there(small_seeds, comparer, tmp_path):
    run = next(small_seeds.glob("*/*/seed=0"))
    config = (run / "config.yaml").read_text()
    config = re.sub("  root: .*\n", f"  root: {tmp_path}\n", config, count=1)
    (tmp_path / "config.yaml").write_text(config.replace("source: digits", "source: auto", 1))
    with pytest.raises(digitpairs.checks.DataError, match="MNIST is not in"):
        hard_examples(comparer, tmp_path)


@pytest.mark.parametrize(
    ("question", "status", "message"),
    [
        (b"{", 400, "the request is not JSON"),
        (b"\xff\xfe", 400, "the request is not JSON"),
        (b"[" * 100_000, 400, "the request is not JSON"),
        (b"", 400, "the request is not JSON"),
        ([1], 400, "the request is no JSON object"),
        ({}, 400, "first is not a PNG image in a data URL"),
        ({"first": 3}, 400, "first is not a PNG image in a data URL"),
        ({"first": "data:image/png;base64,%%"}, 400, "first is not a PNG image of at most"),
        ({"first": "data:image/png;base64,AAAA"}, 400, "first is not a PNG image of at most"),
        ({"example": -1}, 400, "example is a number below"),
        ({"example": "1"}, 400, "example is a number below"),
    ],
)
def test_a_wrong_question_is_one_message(ask, question, status, message):
    found, answer = ask(question)
    assert found == status and answer["error"].startswith(message)


def test_an_empty_field_and_a_huge_drawing_are_refused(ask):
    blank, huge = png(np.full((50, 50), 255, np.uint8)), png(np.zeros((2000, 2000), np.uint8))
    status, answer = ask({"first": png(drawing(0)), "second": blank})
    assert status == 422 and answer["error"].startswith("the second drawing has no digit")
    assert ask({"first": huge, "second": huge})[0] == 400


def test_large_requests_are_refused_and_the_server_lives(ask):
    for size in (LARGEST_REQUEST + 1, 20 * LARGEST_REQUEST):
        status, answer = ask(b"0" * size)
        assert (status, answer["error"]) == (
            413,
            f"the request has {size} bytes, more than {LARGEST_REQUEST}",
        )
    assert ask({"example": 0})[0] == 200


@pytest.mark.parametrize("length", ["-1", "x", "1" * 5000, "²"])
def test_a_wrong_length_is_refused(port, length):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = f"POST /compare HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        status = connection.makefile("rb").readline().split()[1]
    assert status in (b"411", b"413")


def test_other_paths_are_not_found(ask):
    assert ask(b"", method="GET", path="/etc/passwd")[0] == 404
    assert ask({}, path="/other")[0] == 404


def test_the_page_loads_nothing_from_elsewhere(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    assert "http://" not in page and "https://" not in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_it_binds_to_loopback_by_default():
    options = demo._parser().parse_args(["run"])
    assert options.host == "127.0.0.1"


def test_a_port_in_use_is_one_message(port, comparer):
    with pytest.raises(InvalidValueError, match="address=127.0.0.1:.* whose port is free"):
        make_server(comparer, [], "127.0.0.1", port)


@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--host", "256.0.0.1"]])
def test_wrong_addresses_are_one_message(small_seeds, capsys, arguments):
    with pytest.raises(SystemExit) as leave:
        demo.main([str(small_seeds), *arguments])
    assert leave.value.code == 2
    assert "is not accepted" in capsys.readouterr().err.splitlines()[-1]


# Strokes in a field whose sides are 1, as a hand draws them
SEVEN = [[(0.25, 0.2), (0.5, 0.2), (0.75, 0.2), (0.62, 0.45), (0.52, 0.65), (0.45, 0.85)]]
TWO = [
    [(0.28, 0.32), (0.36, 0.2), (0.5, 0.15), (0.64, 0.2), (0.7, 0.34), (0.62, 0.5), (0.45, 0.66)]
    + [(0.27, 0.83), (0.5, 0.83), (0.75, 0.82)]
]


@contextlib.contextmanager
def open_browser():
    """A headless browser of this machine; nothing is downloaded."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def draw(page, place: str, strokes) -> None:
    box = page.locator(f"#{place} canvas.drawing").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=4)
        page.mouse.up()


def shown_answer(page) -> dict:
    return json.loads(page.locator("body[data-answer]").get_attribute("data-answer"))


def draw_two_digits(page, url: str) -> dict:
    """Draws a seven and a two; returns the answer."""
    page.goto(url)
    draw(page, "first", SEVEN)
    draw(page, "second", TWO)
    return shown_answer(page)


def check_page(page, url: str, comparer) -> None:
    """Draws two digits and compares what the page shows with what `compare` answers."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    answer = draw_two_digits(page, url)
    seen = np.array(answer["seen"], np.uint8).reshape(2, 14, 14)
    assert (seen.max((1, 2)) > 100).all()
    expected = comparer.compare(seen[:1], seen[1:])
    assert answer["probability"] == pytest.approx(expected.probability[0], abs=0.05)
    sign = "≤" if answer["less_or_equal"] else ">"
    first, second = answer["digits"]
    assert page.inner_text("#words") == f"{first} {sign} {second}"
    assert f"{100 * answer['probability']:.1f} %" in page.inner_text("#detail")
    for place, digit in (("#first", first), ("#second", second)):
        assert page.inner_text(f"{place} .bar.top span:first-child") == str(digit)
    assert page.locator("#seeds tbody tr").count() == len(comparer.models)
    widths = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]  # nothing is cut off at the side
    assert not faults


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_digits_drawn_in_a_browser_are_compared(browser, url, comparer, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    check_page(page, url, comparer)
    page.click("#first button")
    assert page.inner_text("#words") == "Draw two digits"
    page.locator("#examples .example").first.click()
    assert shown_answer(page)["seen"]
    assert "the labels are" in page.inner_text("#detail")


@pytest.mark.slow
def test_a_finger_draws(browser, url):
    context = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(url)
    for place in ("first", "second"):
        box = page.locator(f"#{place} canvas.drawing").bounding_box()
        touches = context.new_cdp_session(page)
        x, top = box["x"] + box["width"] / 2, box["y"]
        for kind, y in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8)):
            point = {"x": x, "y": top + y * box["height"]}
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert shown_answer(page)["seen"]
