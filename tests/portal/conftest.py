"""A browser for the tests of a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="module")  # while there is one, this thread has a running event loop, which others cannot have
def chromium() -> Iterator[Browser]:
    """The system's Chromium; where none is installed, tests that need one are skipped (never in CI)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        advice = "Chromium is not installed; to run these tests: apt-get install chromium"
        if "CI" in os.environ:
            pytest.fail(advice)
        pytest.skip(advice)
    with sync_playwright() as playwright:
        # Within a container, as root, Chromium's own sandbox cannot be set up.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
