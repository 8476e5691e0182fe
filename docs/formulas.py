"""A hook of MkDocs that draws formulas as SVG, so that pages need no script and no network.

`pymdownx.arithmatex` marks $...$ in a line and $$...$$ on lines of their own. matplotlib sets them;
its syntax is a part of LaTeX's, and GitHub shows the same formulas by itself.
"""

from __future__ import annotations

import html
import re

import matplotlib
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

MARKED = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
SIZE, MARGIN = 16, 1  # points: an em, and the space around a formula


def on_page_content(content: str, **_: object) -> str:
    """Replace each marked formula by its picture; MkDocs calls this for every page."""
    return MARKED.sub(lambda match: _picture(match[2], block=match[1] == "div"), content)


def _picture(latex: str, block: bool) -> str:
    """The formula in the colour of the text, with its source for screen readers."""
    latex = " ".join(html.unescape(latex).split())
    displayed = latex.replace(r"\frac", r"\dfrac") if block else latex
    with matplotlib.rc_context({"mathtext.fontset": "cm"}):
        path = TextPath((0, 0), f"${displayed}$", size=1.15 * SIZE)
    box = Bbox([path.vertices.min(0), path.vertices.max(0)]).padded(MARGIN)
    d = "".join(
        LETTERS.get(code, "Z") + " ".join(f"{value:.2f}" for value in values if code in LETTERS)
        for values, code in path.iter_segments(simplify=False)
    )
    picture = (
        f'<svg role="img" aria-label="{html.escape(latex)}" fill="currentColor" '
        f'viewBox="{box.x0:.2f} {-box.y1:.2f} {box.width:.2f} {box.height:.2f}" '
        f'style="height: {box.height / SIZE:.3f}em; vertical-align: {box.y0 / SIZE:.3f}em">'
        f'<path transform="scale(1 -1)" d="{d}"/></svg>'
    )
    return f'<p style="text-align: center">{picture}</p>' if block else picture
