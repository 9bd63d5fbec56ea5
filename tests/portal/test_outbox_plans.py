"""However many messages there are, the pages of the outbox look at few: every statement goes along an index."""

from __future__ import annotations

import re

import httpx2
import pytest
from browsing import cookie_of

from live import ANONYMOUS, LiveServer
from many_messages import filled

MANY = 20_000
ONE = "01960000-0000-7000-8000-000000010000"
LARGE = {
    *("message", "message_recipient", "message_content", "attempt", "submission_key"),
    *("outbox_event", "outbox_minute"),
}
PAGES = {
    "": "the list",
    "?state=refused": "a state",
    "?state=held": "a state in which none is",
    "?state=refused&state=queued": "states",
    "?recipient=ops@example.org": "a recipient",
    "?recipient=ops@example.org&state=refused": "a recipient, in a state",
    "?since=2026-03-01T00:10&until=2026-03-01T00:20": "a time",
    f"?after={ONE}": "a page far down",
    f"/{ONE}": "one message",
}


@pytest.fixture(scope="module")
def asked(module_server) -> list[tuple[str, tuple[object, ...]]]:
    """The statements that pages ask, with their values."""
    module_server.put_v2(ANONYMOUS).raise_for_status()
    module_server.run(lambda node: filled(node.store, MANY))
    found = []
    store = module_server.node.store
    rows = type(store).rows

    async def told(self, sql, *values):
        found.append((sql, values))
        return await rows(self, sql, *values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "rows", told)
        yield found


def plan(server: LiveServer, sql: str, values: tuple[object, ...]) -> list[str]:
    rows = server.run(lambda node: node.store.rows(f"EXPLAIN QUERY PLAN {sql}", *values))
    return [row[3] for row in rows]


@pytest.mark.parametrize("query", PAGES)
def test_no_statement_of_a_page_goes_through_a_large_table(module_server, asked, query):
    headers = {"cookie": cookie_of(module_server)}
    asked.clear()
    page = httpx2.get(f"{module_server.url}/portal/outbox{query}", headers=headers)
    assert page.status_code == 200
    statements = list(asked)
    assert 5 <= len(statements) < 40
    assert any("FROM message" in sql for sql, _ in statements)
    for sql, values in statements:
        for step in plan(module_server, sql, values):
            scanned = re.match(r"SCAN (\w+)( USING)?", step)
            if scanned and scanned[1] in LARGE:  # along an index is well, as long as it ends soon
                assert scanned[2], f"{step}: {sql}"
                assert "LIMIT" in sql, f"{step}: {sql}"
        assert "COUNT(*)" not in sql.upper(), sql
