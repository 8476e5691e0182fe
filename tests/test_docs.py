"""The generated pages of the docs."""

import runpy

from tests.conftest import ROOT


def test_the_config_reference_is_that_of_the_configs():
    reference = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    written = reference["PAGE"].read_text(encoding="utf-8")
    assert written == reference["page"](), "run: python docs/make_reference.py"
