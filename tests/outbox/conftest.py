"""Sites whose books are looked at when the test is over."""

from __future__ import annotations

import pytest

from outboxes import Time, ensure_books_are_right, site
from relaying import run


@pytest.fixture
def clocks() -> Time:
    return Time()


def _runner(settings, clocks):
    """Runs a test on a site, and looks at its books at the end."""

    def go(test) -> None:
        async def main() -> None:
            async with site(settings, clocks) as made:
                await test(made)
                await ensure_books_are_right(made.store)

        run(main())

    return go


@pytest.fixture
def on_both(fresh_settings, clocks):
    return _runner(fresh_settings, clocks)


@pytest.fixture
def on_site(sqlite_settings, clocks):
    return _runner(sqlite_settings, clocks)
