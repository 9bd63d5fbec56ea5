"""Every page and action of the portal against every permission string there is: generated, none missing.

What each needs stands here once more; a new one without an entry fails.
"""

from __future__ import annotations

import httpx2
import pytest
from browsing import cookie_of

from keyrelay.access import permissions
from keyrelay.access.passwords import hash_password
from keyrelay.portal.portal import ROOMS
from live import LiveServer

PASSWORD = "long enough 1"
IN_PLACE = "5"  # of {id}
ANYBODY = "anybody who has signed in"
SOME = "some of "
NEEDS: dict[str, str] = {
    "GET /": ANYBODY,
    "POST /sign-out": ANYBODY,
}


def strings() -> dict[str, str]:
    """The strings that users hold here, with the name of the user."""
    needed = {text.removeprefix(SOME).replace("{id}", IN_PLACE) for text in NEEDS.values() if text != ANYBODY}
    held = {"/nothing/of/this/", "/"}
    for exact in needed | set(permissions.ASKED):
        above, last = exact.rstrip("/").rsplit("/", 1)
        held |= {exact, f"{above}/", f"{above}/{last}x/", exact + "below/"}
    return {string: f"user-{number}" for number, string in enumerate(sorted(held))}


NAMES = strings()


def enough(held: str, action: str) -> bool:
    """Segment by segment, as a person would say it."""
    needed = NEEDS[action]
    if needed == ANYBODY:
        return True
    mine = segments(held)
    wanted = segments(needed.removeprefix(SOME).replace("{id}", IN_PLACE))
    return wanted[: len(mine)] == mine or (needed.startswith(SOME) and mine[: len(wanted)] == wanted)


def segments(string: str) -> list[str]:
    return [segment for segment in string.split("/") if segment]


@pytest.fixture(scope="module")
def server(module_server) -> LiveServer:
    hashed = hash_password(PASSWORD)  # one for all: making each its own would take longer than the test

    async def add(node) -> None:
        async with node.store.change("access") as change:
            for string, name in NAMES.items():
                await change.run("INSERT INTO role (name) VALUES ($1)", name)
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
        return {name: (await node._sessions.begin(name)).reveal() for name in NAMES.values()}

    return {name: f"__Host-keyrelay={token}" for name, token in server.run(begin).items()}


def test_every_page_and_action_is_in_the_table():
    there = {f"{method} {path}" for room in ROOMS for path, rights in room.items() for method in rights}
    assert there == set(NEEDS)


def test_the_cookie_of_the_table_is_that_of_signing_in(server):
    assert cookie_of(server, NAMES["/"], PASSWORD).startswith("__Host-keyrelay=")


@pytest.mark.parametrize("action", NEEDS)
def test_a_page_is_open_to_what_covers_its_string_and_to_nothing_else(server, cookies, action):
    method, _, path = action.replace("{id}", IN_PLACE).partition(" ")
    before = server.get_v2()
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for held, name in NAMES.items():
            form = {"headers": {"content-type": "application/x-www-form-urlencoded"}} if method == "POST" else {}
            headers = {"cookie": cookies[name], **form.get("headers", {})}
            answer = client.request(method, f"/portal{path}", headers=headers)
            told = f"{held}: {answer.status_code}"
            if enough(held, action):
                # A form that was let in is missed its token, and a page may have nothing to show.
                assert answer.status_code == 400 if method == "POST" else answer.status_code in {200, 303, 404}, told
            else:
                assert answer.status_code == 403, told
                assert "permission" in answer.text
    assert server.get_v2() == before
