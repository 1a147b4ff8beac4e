"""A page's server without a network."""

from pathlib import Path

import pytest
from page_server import Page


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """The server of a page, in a home of its own."""
    return Page(tmp_path)
