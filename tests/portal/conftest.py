"""A browser for the tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from absent import absent


@pytest.fixture(scope="module")  # while there is one, this thread has a running event loop, which others cannot have
def chromium() -> Iterator[Browser]:
    """The system's Chromium; where none is installed, tests that need one are skipped (never in CI)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        absent("Chromium is not installed; to run these tests: apt-get install chromium")
    with sync_playwright() as playwright:
        # Within a container, as root, Chromium's own sandbox cannot be set up.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
