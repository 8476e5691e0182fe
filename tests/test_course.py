"""The course in docs/framework and its reference page: their code, outputs and formulas."""

import re
import runpy

import pytest

from tests.conftest import ROOT
from tests.pages import run_page

PAGES = [ROOT / "docs" / "framework.md", *sorted((ROOT / "docs" / "framework").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_prints_what_it_shows(page, global_generator_untouched):
    assert len(PAGES) == 8
    run_page(page)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nprint(0.25)\n```\n\n```text\n0.26\n```\n", "page.md, line 2"),
        ("```python\nprint('a')\n```\n\n```text\nb\n```\n", "page.md, line 2"),
        ("```python\nprint('a')\n```\n\nNo output.\n", "page.md, line 2"),
        (
            "```python\n# framework/layers.py\nclass Quadratic:\n```\n",
            "framework/layers.py has not",
        ),
    ],
)
def test_a_page_that_shows_something_else_is_found(text, error, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=error):
        run_page(page)


def test_numbers_may_differ_in_their_last_digits(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(0.1 + 0.2, 3e-10)\n```\n\n```text\n0.3 4.1e-10\n```\n")
    run_page(page)


@pytest.mark.slow
def test_every_formula_is_drawn():
    hook = runpy.run_path(str(ROOT / "docs" / "formulas.py"))["on_page_content"]
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", "\n".join(pages), flags=re.M | re.S)
    formulas = set(re.findall(r"(\$\$?)([^$]+)\1", prose))
    assert len(formulas) > 50
    for dollars, latex in formulas:
        kind, left, right = ("div", "[", "]") if dollars == "$$" else ("span", "(", ")")
        marked = f'<{kind} class="arithmatex">\\{left}{latex}\\{right}</{kind}>'
        assert '<path transform="scale(1 -1)" d="M' in hook(marked), latex
