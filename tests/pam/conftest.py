"""What the tests of fetching share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fetching_kit import worked


@pytest.fixture
def run(sqlite_settings) -> Callable[..., Any]:
    return lambda work, **more: asyncio.run(worked(sqlite_settings, work, **more))
