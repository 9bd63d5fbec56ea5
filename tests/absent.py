"""What a test needs and this machine does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(advice: str) -> NoReturn:
    """Skip the test, with what to do about it; in CI, where nothing may be skipped, it has failed."""
    if "CI" in os.environ:
        pytest.fail(advice)
    pytest.skip(advice)
