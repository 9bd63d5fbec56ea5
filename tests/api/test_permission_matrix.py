"""Every operation against every permission string there is, its parents, siblings and children: generated.

What an operation needs stands in the table of ``test_access``, where a new one without an entry fails. Whether a string
is enough is worked out here once more, by other means than the product's.
"""

from __future__ import annotations

import httpx2
import pytest
from test_access import ANY_ROLE, IN_PLACE, NEEDS, SIGNED_IN, SOME

from keyrelay.access.passwords import hash_password
from keyrelay.api import outbox
from live import LiveServer

PASSWORD = "long enough 1"
OTHER_PLACE = "6"
ADMITTED = {200, 202, 204, 400, 404, 409}  # and then the body that was not sent is missed, or there is nothing yet
# Two strings for one permission (contract D19).
TWIN, TWO = "/system_setting/", "/system_settings/"


def strings() -> dict[str, str]:
    """What users hold, and what each is to one that an operation needs."""
    found = {"/nothing/of/this/": "none", "/": "parent"}
    for needed in set(NEEDS.values()) - {ANY_ROLE, SIGNED_IN}:
        exact = needed.removeprefix(SOME).replace("{id}", IN_PLACE)
        above, last = exact.rstrip("/").rsplit("/", 1)
        beside = OTHER_PLACE if last == IN_PLACE else last + "x"
        found |= {f"{above}/": "parent", f"{above}/{beside}/": "sibling", f"{above}/{last[:-1] or 'x'}/": "sibling"}
        found |= {exact + "below/": "child", exact: "exact", exact.replace(TWO, TWIN): "exact"}
        if "{id}" in needed:
            found[needed.removeprefix(SOME).replace("{id}", IN_PLACE + "0")] = "sibling"
    return found


STRINGS = strings()
NAMES = {string: f"user-{number}" for number, string in enumerate(STRINGS)}


def enough(held: str, operation: str) -> bool:
    """Segment by segment, as a person would say it."""
    needed = NEEDS[operation]
    if needed in {ANY_ROLE, SIGNED_IN}:
        return True
    mine = segments(held.replace(TWIN, TWO))
    wanted = segments(needed.removeprefix(SOME).replace("{id}", IN_PLACE))
    if wanted[: len(mine)] == mine:
        return True
    return needed.startswith(SOME) and mine[: len(wanted)] == wanted


def segments(string: str) -> list[str]:
    return [segment for segment in string.split("/") if segment]


@pytest.fixture(autouse=True)
def _events_come_to_an_end(monkeypatch):
    monkeypatch.setattr(outbox, "_LONGEST_SECONDS", 0.0)


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


def test_each_needed_string_is_held_exactly_above_beside_and_below():
    kinds = {"none", "parent", "exact", "sibling", "child"}
    assert set(STRINGS.values()) == kinds
    for operation, needed in NEEDS.items():
        if needed not in {ANY_ROLE, SIGNED_IN}:
            assert {True, False} == {enough(held, operation) for held in STRINGS}, operation


@pytest.mark.parametrize("operation", NEEDS)
def test_an_operation_is_open_to_what_covers_its_string_and_to_nothing_else(server, operation):
    method, _, path = operation.replace("{id}", IN_PLACE).partition(" ")
    before = server.get_v2()
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for held, name in NAMES.items():
            answer = client.request(method, path, auth=(name, PASSWORD))
            told = f"{held} ({STRINGS[held]}): {answer.status_code} {answer.text[:200]}"
            if enough(held, operation):
                assert answer.status_code in ADMITTED, told
            else:
                assert answer.status_code == 403, told
                assert name in answer.text
    assert server.get_v2() == before
