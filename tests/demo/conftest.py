"""One demo for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo_process import DemoProcess, started


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[DemoProcess]:
    """A demo that all tests of a module share."""
    with started(tmp_path_factory.mktemp("demo")) as demo:
        yield demo
