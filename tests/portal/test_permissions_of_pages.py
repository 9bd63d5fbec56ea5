"""Every page and action of the portal against every permission string there is: generated, none missing.

What each needs stands here once more; a new one without an entry fails.
"""

from __future__ import annotations

import httpx2
import pytest
from browsing import cookie_of

from keyrelay.access import permissions
from keyrelay.access.accounts import Proof
from keyrelay.access.passwords import hash_password
from keyrelay.access.permissions import (
    MODIFY_MESSAGES,
    MODIFY_PAM,
    MODIFY_SECURITY,
    MODIFY_SETTINGS,
    READ_AUDIT,
    READ_CONTENT,
    READ_MESSAGES,
    READ_PAM,
    READ_SECURITY,
    READ_SETTINGS,
)
from keyrelay.access.sessions import Sessions
from keyrelay.portal.portal import ROOMS
from live import LiveServer

PASSWORD = "long enough 1"
IN_PLACE = "5"  # of {id}
ANYBODY = "anybody who has signed in"
SOME = "some of "
# An action that is refused shows its page again, and so needs what that needs as well.
NEEDS: dict[str, str | tuple[str, ...]] = {
    "GET /": ANYBODY,
    "POST /sign-out": ANYBODY,
    "GET /test": MODIFY_SETTINGS,
    "POST /test": MODIFY_SETTINGS,
    "GET /smtp": READ_SETTINGS,
    "POST /smtp": (MODIFY_SETTINGS, READ_SETTINGS),
    "GET /history": READ_SETTINGS,
    "GET /history/{id}": READ_SETTINGS,
    "POST /history/{id}": (MODIFY_SETTINGS, READ_SETTINGS),
    "GET /outbox": READ_MESSAGES,
    "POST /outbox": (MODIFY_MESSAGES, READ_MESSAGES),
    "GET /outbox/{id}/raw": READ_CONTENT,
    "GET /outbox/{id}": READ_MESSAGES,
    "POST /outbox/{id}": (MODIFY_MESSAGES, READ_MESSAGES),
    "GET /pam": SOME + READ_PAM,
    "GET /pam/types": SOME + READ_PAM,
    "GET /pam/add": MODIFY_PAM,
    "POST /pam/add": MODIFY_PAM,
    "GET /pam/{id}": READ_PAM + "{id}/",
    "POST /pam/{id}/try": READ_PAM + "{id}/",
    "GET /pam/{id}/change": MODIFY_PAM + "{id}/",
    "POST /pam/{id}/change": MODIFY_PAM + "{id}/",
    "POST /pam/{id}/remove": (MODIFY_PAM + "{id}/", READ_PAM + "{id}/"),
    "GET /pam/{id}/entries": READ_PAM + "{id}/",
    "POST /pam/{id}/entries": (MODIFY_PAM + "{id}/", READ_PAM + "{id}/"),
    "GET /pam/{id}/entry": READ_PAM + "{id}/",
    "POST /pam/{id}/entry": (MODIFY_PAM + "{id}/", READ_PAM + "{id}/"),
    "POST /pam/{id}/entry/remove": (MODIFY_PAM + "{id}/", READ_PAM + "{id}/"),
    "GET /audit/verify": READ_AUDIT,
    "POST /audit/verify": READ_AUDIT,
    "GET /audit": READ_AUDIT,
    "GET /audit/download": READ_AUDIT,
    "GET /audit/{id}": READ_AUDIT,
    "POST /audit/{id}/verify": READ_AUDIT,
    "GET /audit/{id}/related": READ_AUDIT,
    "GET /access": READ_SECURITY,
    "GET /access/users": READ_SECURITY,
    "GET /access/users/add": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/users/add": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/user": READ_SECURITY,
    "POST /access/user/grant": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/user/revoke": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/user/password": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/user/remove": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/roles": READ_SECURITY,
    "GET /access/roles/add": MODIFY_SECURITY,
    "POST /access/roles/add": MODIFY_SECURITY,
    "GET /access/roles/{id}": READ_SECURITY,
    "POST /access/roles/{id}": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/roles/{id}/remove": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/claims": READ_SECURITY,
    "GET /access/claims/add": MODIFY_SECURITY,
    "POST /access/claims/add": MODIFY_SECURITY,
    "GET /access/claims/{id}": READ_SECURITY,
    "POST /access/claims/{id}": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/claims/{id}/give": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/claims/{id}/take": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/claims/{id}/remove": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/providers": READ_SECURITY,
    "GET /access/providers/add": MODIFY_SECURITY,
    "POST /access/providers/add": MODIFY_SECURITY,
    "GET /access/providers/{id}": READ_SECURITY,
    "POST /access/providers/{id}/enable": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/providers/{id}/disable": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/providers/{id}/open": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/providers/{id}/close": (MODIFY_SECURITY, READ_SECURITY),
    "POST /access/providers/{id}/remove": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/tokens": READ_SECURITY,
    "GET /access/tokens/add": MODIFY_SECURITY,
    "POST /access/tokens/add": MODIFY_SECURITY,
    "POST /access/tokens/revoke": (MODIFY_SECURITY, READ_SECURITY),
    "GET /access/password": ANYBODY,
    "POST /access/password": ANYBODY,
    "GET /health": READ_SETTINGS,
}


def needs(action: str) -> tuple[str, ...]:
    needed = NEEDS[action]
    if needed == ANYBODY:
        return ()
    each = (needed,) if isinstance(needed, str) else needed
    return tuple(text.replace("{id}", IN_PLACE) for text in each)


def holdings() -> dict[tuple[str, ...], str]:
    """What users hold here, with the name of the user: one string each, or exactly what an action needs."""
    needed = {text.removeprefix(SOME) for action in NEEDS for text in needs(action)}
    held = {"/nothing/of/this/", "/"}
    for exact in needed | set(permissions.ASKED):
        above, last = exact.rstrip("/").rsplit("/", 1)
        held |= {exact, f"{above}/", f"{above}/{last}x/", exact + "below/"}
    several = {tuple(sorted(needs(action))) for action in NEEDS if len(needs(action)) > 1}
    return {strings: f"user-{number}" for number, strings in enumerate(sorted({(one,) for one in held} | several))}


NAMES = holdings()


def enough(held: tuple[str, ...], action: str) -> bool:
    return all(any(covers(one, needed) for one in held) for needed in needs(action))


def covers(held: str, needed: str) -> bool:
    """Segment by segment, as a person would say it."""
    mine, wanted = segments(held), segments(needed.removeprefix(SOME))
    return wanted[: len(mine)] == mine or (needed.startswith(SOME) and mine[: len(wanted)] == wanted)


def segments(string: str) -> list[str]:
    return [segment for segment in string.split("/") if segment]


@pytest.fixture(scope="module")
def server(module_server) -> LiveServer:
    hashed = hash_password(PASSWORD)  # one for all: making each its own would take longer than the test

    async def add(node) -> None:
        async with node.store.change("access") as change:
            for strings, name in NAMES.items():
                await change.run("INSERT INTO role (name) VALUES ($1)", name)
                for string in strings:
                    await change.run("INSERT INTO role_permission (role, permission) VALUES ($1, $2)", name, string)
                await change.run(
                    "INSERT INTO account (name, password_hash, changed_at) VALUES ($1, $2, $3)",
                    *(name, hashed, "2026-01-01T00:00:00+00:00"),
                )
                await change.run("INSERT INTO role_holder (role, account) VALUES ($1, $2)", name, name)

    module_server.run(add)
    return module_server


@pytest.fixture(scope="module")
def cookies(server) -> dict[str, str]:
    """A session of each user."""

    async def begin(node) -> dict[str, str]:
        sessions = Sessions.of(node.settings, node.store, node.identity_providers)
        hashes = dict(await node.store.rows("SELECT name, password_hash FROM account"))
        proofs = [Proof(name, hashes[name]) for name in NAMES.values()]
        return {proof.name: (await sessions.begin(proof)).reveal() for proof in proofs}

    return {name: f"__Host-keyrelay={token}" for name, token in server.run(begin).items()}


def test_every_page_and_action_is_in_the_table():
    there = {f"{method} {path}" for room in ROOMS for path, rights in room.items() for method in rights}
    assert there == set(NEEDS)


def test_the_cookie_of_the_table_is_that_of_signing_in(server):
    assert cookie_of(server, NAMES[("/",)], PASSWORD).startswith("__Host-keyrelay=")


@pytest.mark.parametrize("action", NEEDS)
def test_a_page_is_open_to_what_covers_its_strings_and_to_nothing_else(server, cookies, action):
    method, _, path = action.replace("{id}", IN_PLACE).partition(" ")
    before = server.get_v2()
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for held, name in NAMES.items():
            form = {"headers": {"content-type": "application/x-www-form-urlencoded"}} if method == "POST" else {}
            headers = {"cookie": cookies[name], **form.get("headers", {})}
            answer = client.request(method, f"/portal{path}", headers=headers)
            told = f"{' and '.join(held)}: {answer.status_code}"
            if enough(held, action):
                # A form that was let in is missed its token, and a page may have nothing to show.
                assert answer.status_code == 400 if method == "POST" else answer.status_code in {200, 303, 400, 404}, (
                    told
                )
            else:
                assert answer.status_code == 403, told
                assert "permission" in answer.text
    assert server.get_v2() == before
