"""Setting one's own password is bounded: each time, all nodes forget what they remember of everybody."""

from __future__ import annotations

import re

import httpx2
from browsing import cookie_of

from live import LiveServer

FIRST = "password number 0"


def change(server: LiveServer, current: str, new: str) -> httpx2.Response:
    headers = {"cookie": cookie_of(server, "jo", current)}
    url = f"{server.url}/portal/access/password"
    token = re.search(r'name="form_token" value="(\w+)"', httpx2.get(url, headers=headers).text)[1]
    fields = {"form_token": token, "current": current, "password": new, "again": new}
    return httpx2.post(url, data=fields, headers=headers)


def mark(server: LiveServer) -> int:
    return server.node.store.marks["access"]


def test_somebody_without_a_role_does_not_empty_the_memory_of_all_for_ever(sqlite_server):
    sqlite_server.add_user("jo", FIRST)
    assert [change(sqlite_server, FIRST, "short").status_code for _ in range(6)] == [400] * 6  # nothing is set
    for number in range(5):
        answer = change(sqlite_server, f"password number {number}", f"password number {number + 1}")
        assert answer.status_code == 303
    before = mark(sqlite_server)
    answer = change(sqlite_server, "password number 5", "password number 6")
    assert answer.status_code == 429
    assert "changed too often" in answer.text
    assert re.search(r"Try again in \d+ seconds", answer.text)
    assert mark(sqlite_server) == before
    assert cookie_of(sqlite_server, "jo", "password number 5")
