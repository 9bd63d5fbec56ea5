"""Tokens for machines: shown once, kept as a hash, narrow, ending, and revoked at once everywhere."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from bearing import CHIEF, PROBE, READ, ask, entries, held, status, who
from keyrelay.access import sign_in as sign_in_module
from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.identity import Identity
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.errors import InUse, NameTaken, PermissionMissing, UnknownName, Unsuitable


def create(server, name="deploy", permissions=(READ,), expires_at=None, by=CHIEF) -> str:
    async def work(node) -> str:
        act_as(Actor("jo (command line)"))
        _, text = await ApiTokens(node.store, node.journal).create(name, permissions, expires_at, by)
        return text.reveal()

    return server.run(work)


def revoke(server, name="deploy") -> None:
    async def work(node) -> None:
        act_as(Actor("jo (command line)"))
        await ApiTokens(node.store, node.journal).revoke(name)

    server.run(work)


def test_a_token_grants_what_it_holds_and_nothing_else(server):
    token = create(server, permissions=("/system_settings/read", "/pam/read/", "/pam/read/3/"))
    assert re.fullmatch(r"keyrelay_[0-9a-f]{16}_[0-9a-f]{64}", token)
    assert status(server, token) == status(server, token, PROBE) == 200
    assert held(server, token) == ["/pam/read/", READ]
    assert who(server, token) == "token:deploy"


def test_a_revoked_token_stops_at_once_here_and_within_a_second_elsewhere(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    token = create(here)
    assert status(here, token) == 200
    deadline = time.monotonic() + 5
    while status(there, token) != 200:
        assert time.monotonic() < deadline
    revoke(here)
    began = time.monotonic()
    assert status(here, token) == 401
    while status(there, token) != 401:
        assert time.monotonic() - began < 1
        time.sleep(0.01)


def test_a_token_that_has_ended_is_refused_also_when_it_was_remembered(server, monkeypatch, logged):
    token = create(server, expires_at=datetime.now(UTC) + timedelta(seconds=2))
    assert status(server, token) == 200
    real = time.time
    monkeypatch.setattr(sign_in_module, "time", type("Later", (), {"time": staticmethod(lambda: real() + 3)}))
    assert status(server, token) == 200  # looked at again, and not over by the clock that counts
    time.sleep(2)
    assert status(server, token) == 401
    assert '"reason": "expired API token", "token": "deploy"' in logged.getvalue()


def test_no_other_text_is_taken_for_it(sqlite_server, logged):
    token = create(sqlite_server)
    prefix, number, secret = token.split("_")
    others = [
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        f"{prefix}_{number}_{'0' * 64}",
        f"{prefix}_{'0' * 16}_{secret}",
        token.upper().replace("KEYRELAY", "keyrelay"),
        token + "0",
        token[:-1],
        f"{prefix}_{number}",
        f"{prefix}_' OR '1'='1_{secret}",
        f"{prefix}_",
        "keyrelay_\xff",
    ]
    for place, other in enumerate(others, 1):
        assert ask(sqlite_server, other, address=f"127.0.2.{place}").status_code == 401, other
    assert logged.getvalue().count('"unknown API token"') == len(others)
    assert status(sqlite_server, token) == 200
    assert secret not in logged.getvalue()


def test_neither_the_database_nor_the_trail_holds_the_token(sqlite_server, database_text):
    token = create(sqlite_server)
    assert status(sqlite_server, token) == 200
    text = database_text()
    assert token.encode() not in text
    assert token.rpartition("_")[2].encode() not in text


def test_a_token_is_compared_once_and_remembered(sqlite_server, monkeypatch):
    token = create(sqlite_server)
    assert status(sqlite_server, token) == 200
    sqlite_server.run(lambda node: _forget(node, monkeypatch))
    assert {status(sqlite_server, token) for _ in range(10)} == {200}


async def _forget(node, monkeypatch) -> None:
    async def away(_) -> None:
        raise AssertionError

    monkeypatch.setattr(node.bearers, "admit", away)


@pytest.mark.parametrize(
    ("name", "permissions", "expires_at"),
    [
        ("", (READ,), None),
        ("a b", (READ,), None),
        ("a:b", (READ,), None),
        ("x" * 65, (READ,), None),
        ("deploy", (), None),
        ("deploy", ("no\nstring",), None),
        ("deploy", (f"/a{n}/" for n in range(101)), None),
        ("deploy", (READ,), datetime.now(UTC) - timedelta(seconds=1)),
    ],
)
def test_what_makes_no_sense_is_not_made(sqlite_server, name, permissions, expires_at):
    with pytest.raises(Unsuitable):
        create(sqlite_server, name, tuple(permissions), expires_at)


def test_names_are_taken_once_and_freed_again(server):
    create(server, "Deploy")
    with pytest.raises(NameTaken):
        create(server, "DEPLOY")
    revoke(server, "dePloy")
    with pytest.raises(UnknownName):
        revoke(server, "deploy")
    create(server, "deploy")


def test_their_number_has_a_bound(sqlite_server, monkeypatch):
    monkeypatch.setattr("keyrelay.access.api_tokens._MOST", 2)
    create(sqlite_server, "one")
    create(sqlite_server, "two")
    with pytest.raises(InUse):
        create(sqlite_server, "three")


# --- The trail -----------------------------------------------------------------------------------------------


def test_making_and_revoking_are_in_the_audit_trail_without_the_token(server):
    end = datetime.now(UTC) + timedelta(days=1)
    token = create(server, expires_at=end)
    revoke(server)
    by = "jo (command line)"
    assert entries(server, "ApiToken") == [
        (by, 1, "deploy", {"permissions": [READ], "expires_at": end.isoformat()}),
        (by, 6, "deploy", {}),
    ]
    assert token.rpartition("_")[2] not in str(entries(server, "ApiToken"))


def test_a_token_may_no_more_than_who_makes_it(server):
    deputy = Identity("deputy", ("Deputy",), frozenset({READ, "/security/"}))
    for permissions in (("/",), (READ, "/system_settings/modify/"), ("/system_settings/",)):
        with pytest.raises(PermissionMissing):
            create(server, permissions=permissions, by=deputy)
    assert held(server, create(server, permissions=(READ,), by=deputy)) == [READ]
