"""Refused accesses are told within a second, and nobody fills the trail or the memory with them."""

from __future__ import annotations

import asyncio
import json
import time

import httpx2
import pytest
from trails import told, verified

from keyrelay.audit import refusals
from keyrelay.audit.refusals import Refusal, Refusals
from keyrelay.errors import StoreUnavailable
from live import SMTP, V2

WRONG = Refusal("jo", "192.0.2.1", SMTP, "GET", "sign_in_required")


@pytest.fixture
def hurried(monkeypatch):
    """A second lasts as long as 50 ms here, and a minute half a second."""
    monkeypatch.setattr(refusals, "_EVERY", 0.05)
    monkeypatch.setattr(refusals, "_MINUTE", 0.5)


def entries(server):
    return told(server, "Route")


def wait_for(server, number, within=5.0):
    deadline = time.monotonic() + within
    while len(found := entries(server)) < number:
        assert time.monotonic() < deadline, f"only {len(found)} of {number}"
        time.sleep(0.02)
    return found


def with_refusals(server, work):
    async def run(node):
        made = Refusals(node.store, node.journal)
        try:
            return await work(made)
        finally:
            await made.close()

    return server.run(run)


# --- Over HTTP -----------------------------------------------------------------------------------------------


def test_each_kind_of_refusal_is_told_with_who_where_and_why(server):
    server.add_user("reader", "long enough 1", "/system_settings/read/")
    server.add_user("roleless", "long enough 1")
    put = {"Host": "h.example.org", "Port": 25, "SenderAccount": "a@example.org", "SenderName": "a"}
    for auth, status in (
        (("reader", "long enough 1"), 403),
        (("roleless", "long enough 1"), 403),
        (("Admin", "wrong password"), 401),
    ):
        assert server.put_v2(put, auth=auth).status_code == status
    bearer = httpx2.get(server.url + "/api/v1/messages/0190/raw", headers={"authorization": "Bearer x.y.z"})
    assert bearer.status_code == 401
    found = {(entry["actor"], entry["details"]["reason"]): entry for entry in wait_for(server, 4)}
    assert {entry["category"] for entry in found.values()} == {2012}
    assert {entry["operation"].title for entry in found.values()} == {"Denied"}
    assert {entry["level"] for entry in found.values()} == {1}
    assert {entry["address"] for entry in found.values()} == {"127.0.0.1"}
    refused = found["reader", "permission_missing"]
    assert (refused["name"], refused["object"]) == (SMTP, SMTP)
    facts = {key: refused["details"][key] for key in ("route", "kind", "verb", "roles", "count")}
    assert facts == {"route": SMTP, "kind": "API", "verb": "PUT", "roles": ["role of reader"], "count": 1}
    assert found["roleless", "no_role"]["details"]["roles"] == []
    assert found["Admin", "sign_in_required"]["details"]["roles"] == []
    unknown = found["", "sign_in_required"]
    assert unknown["details"]["route"] == "/api/v1/messages/{id}/raw"  # the template, and no id of anybody's
    assert server.run(verified).broken is None


def test_a_request_without_credentials_is_nobodys_refused_access(sqlite_server):
    assert httpx2.get(sqlite_server.url + SMTP).status_code == 401
    sqlite_server.get(SMTP, headers=V2, auth=("admin", "wrong password"))
    (entry,) = wait_for(sqlite_server, 1)
    assert entry["actor"] == "admin"


def test_a_guesser_who_is_slowed_down_is_told_of_too(sqlite_server):
    for number in range(12):
        sqlite_server.get(SMTP, auth=("admin", f"guess {number}"))
    found = wait_for(sqlite_server, 2, within=8)
    by_reason = {entry["details"]["reason"]: entry["details"]["count"] for entry in found}
    assert by_reason.keys() == {"sign_in_required", "too_many_attempts"}


def test_no_secret_of_a_refused_request_is_told(sqlite_server):
    from canary import leaks, new_canary

    canaries = {"password": new_canary(), "token": new_canary(), "query": new_canary(), "id": new_canary()}
    sqlite_server.get(SMTP, auth=("admin", canaries["password"]), params={"x": canaries["query"]})
    httpx2.get(sqlite_server.url + SMTP, headers={"authorization": f"Bearer {canaries['token']}"})
    sqlite_server.get(f"/api/v1/messages/{canaries['id']}", auth=("admin", canaries["password"]))
    assert leaks(canaries, json.dumps(wait_for(sqlite_server, 3), default=str).encode()) == []


def test_what_was_refused_just_before_the_end_is_told_as_well(sqlite_settings, start):
    server = start(sqlite_settings)
    server.get(SMTP, auth=("admin", "wrong password"))
    server.stop()
    again = start(sqlite_settings)
    assert [entry["actor"] for entry in entries(again)] == ["admin"]


# --- Counting ------------------------------------------------------------------------------------------------


def test_the_same_refusal_is_told_once_with_a_count(server):
    async def many(made):
        for _ in range(500):
            made.note(WRONG)

    with_refusals(server, many)
    (entry,) = entries(server)
    assert entry["details"]["count"] == 500
    assert entry["details"]["first_at"] <= entry["details"]["last_at"]


def test_the_first_is_told_within_a_second_and_those_of_the_next_minute_as_one(sqlite_server, hurried):
    async def many(made):
        made.note(WRONG)
        await asyncio.sleep(0.2)
        for _ in range(10):
            made.note(WRONG)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.7)

    with_refusals(sqlite_server, many)
    assert [entry["details"]["count"] for entry in entries(sqlite_server)] == [1, 10]


def test_another_user_address_route_verb_or_reason_is_another_entry(sqlite_server):
    async def many(made):
        for each in (
            *(WRONG, Refusal("al", *WRONG_REST), Refusal("jo", "192.0.2.2", SMTP, "GET", "sign_in_required")),
            *(Refusal("jo", "192.0.2.1", "/x", "GET", "sign_in_required"),),
            *(Refusal("jo", "192.0.2.1", SMTP, "PUT", "sign_in_required"),),
            *(Refusal("jo", "192.0.2.1", SMTP, "GET", "no_role", ()),),
        ):
            made.note(each)

    with_refusals(sqlite_server, many)
    assert len(entries(sqlite_server)) == 6


WRONG_REST = ("192.0.2.1", SMTP, "GET", "sign_in_required")


def test_a_stranger_with_ever_new_names_fills_neither_the_trail_nor_the_memory(sqlite_server, hurried):
    async def flood(made):
        for number in range(20_000):
            made.note(Refusal(f"u{number}", *WRONG_REST))
        assert len(made._kinds) <= 1000
        await asyncio.sleep(1.2)
        for number in range(20_000):
            made.note(Refusal(f"v{number}", *WRONG_REST))
        assert len(made._kinds) <= 1000

    with_refusals(sqlite_server, flood)
    found = entries(sqlite_server)
    assert len(found) < 210
    assert sum(entry["details"]["count"] for entry in found) == 40_000
    untold = [entry for entry in found if "route" not in entry["details"]]
    assert untold
    assert sum(entry["details"]["count"] for entry in untold) > 39_000


def test_what_users_are_refused_is_told_whatever_strangers_do(sqlite_server, hurried):
    async def flood(made):
        for number in range(20_000):
            made.note(Refusal(f"u{number}", *WRONG_REST))
        made.note(Refusal("reader", "192.0.2.1", SMTP, "PUT", "permission_missing", ("readers",)))

    with_refusals(sqlite_server, flood)
    assert "reader" in {entry["actor"] for entry in entries(sqlite_server)}


def test_noting_costs_a_request_next_to_nothing(sqlite_server):
    async def many(made):
        began = time.perf_counter()
        for number in range(10_000):
            made.note(Refusal(f"u{number % 3000}", *WRONG_REST))
        return (time.perf_counter() - began) / 10_000

    assert with_refusals(sqlite_server, many) < 0.000_2


def test_they_wait_for_a_database_that_is_away_and_are_told_when_it_is_back(sqlite_server, hurried):
    async def work(node):
        made = Refusals(node.store, node.journal)
        perform, away = node.store.perform, True

        async def unavailable(work, **more):
            if away:
                raise StoreUnavailable("The database does not answer.")
            return await perform(work, **more)

        made._store = type("Away", (), {"perform": staticmethod(unavailable), "rows": node.store.rows})()
        made.note(WRONG)
        await asyncio.sleep(0.3)
        made.note(WRONG)
        away = False
        await asyncio.sleep(0.3)
        await made.close()

    sqlite_server.run(work)
    (entry,) = entries(sqlite_server)
    assert entry["details"]["count"] == 2


def test_the_task_that_tells_ends_when_there_is_nothing_left_to_tell(sqlite_server, hurried):
    async def work(made):
        made.note(WRONG)
        task = made._task
        await asyncio.wait_for(task, 5)
        assert made._task is None
        made.note(Refusal("al", *WRONG_REST))
        assert made._task is not task

    with_refusals(sqlite_server, work)
    assert len(entries(sqlite_server)) == 2
