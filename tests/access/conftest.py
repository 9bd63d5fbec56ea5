"""A server that accepts the tokens of one identity provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bearing import furnished, trusting
from live import LiveServer
from oidc_server import OidcServer


@pytest.fixture
def provider(tmp_path) -> Iterator[OidcServer]:
    with OidcServer(tmp_path / "provider") as provider:
        yield provider


@pytest.fixture
def open_house(fresh_settings, provider, start) -> LiveServer:
    """A server, on SQLite and on PostgreSQL, where who has the role Readers may read the profile."""
    return furnished(start(trusting(fresh_settings, provider)), provider)


@pytest.fixture
def house(sqlite_settings, provider, start) -> LiveServer:
    """The same on SQLite alone, for what has nothing to do with the database."""
    return furnished(start(trusting(sqlite_settings, provider)), provider)
