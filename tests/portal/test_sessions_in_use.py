"""What keeps somebody signed in: what they ask for, and not what a page that was left open asks for by itself."""

from __future__ import annotations

import httpx2
import pytest
from browsing import cookie_of

NAVIGATION = {"sec-fetch-dest": "document"}


@pytest.mark.parametrize("path", ["/portal/", "/api/v1/outbox"])
@pytest.mark.parametrize(("fetched", "seen"), [({"sec-fetch-dest": "empty"}, False), ({}, True), (NAVIGATION, True)])
def test_requests_of_scripts_are_no_use_of_it(module_server, path, fetched, seen):
    cookie = cookie_of(module_server)

    async def grow_old(node) -> None:
        async with node.store.change() as change:
            await change.run("UPDATE portal_session SET seen_at = seen_at - $1", 120_000_000)

    async def seen_at(node) -> list[int]:
        return [row[0] for row in await node.store.rows("SELECT seen_at FROM portal_session ORDER BY id")]

    module_server.run(grow_old)
    before = module_server.run(seen_at)
    answer = httpx2.get(module_server.url + path, headers={"cookie": cookie, **fetched})
    assert answer.status_code == 200
    assert (module_server.run(seen_at) != before) == seen
