"""What no page of ours sends: hostile addresses, forms and headers get an answer of ours, and lead nowhere."""

from __future__ import annotations

import shlex
from typing import Any

import httpx2
import pytest
from browsing import cookie_of

from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.roles import Role
from keyrelay.portal.access import claims
from keyrelay.portal.outbox import typed_time
from keyrelay.portal.portal import Portal
from keyrelay.portal.sign_in import next_page
from keyrelay.portal.smtp_lines import lines
from live import ADMIN_PASSWORD

UP = ["%2e%2e", "%2E%2e/x", ".%2e/x", "a/%2e./b", "%2f%2fevil.example", "%2F", "x%5c%5cevil.example", "%5C"]


@pytest.mark.parametrize("escaped", UP)
def test_no_way_up_or_out_stands_escaped_in_the_page_to_go_to(escaped):
    assert next_page(escaped) == ""


@pytest.mark.parametrize("own", ["outbox?state=waiting", "audit?text=a%20b%3D", "access/user?name=a%25b"])
def test_what_else_is_escaped_stays(own):
    assert next_page(own) == own


def test_the_door_takes_nobody_to_an_escaped_way_up(module_server):
    form = {"name": "admin", "password": ADMIN_PASSWORD, "next": "%2e%2e/%2e%2e/elsewhere"}
    assert httpx2.post(f"{module_server.url}/portal/sign-in", data=form).headers["location"] == "./sign-in?kept=1"


@pytest.mark.parametrize("origin", ["http://[", "https://[::1", "http://[x]/"])
def test_an_origin_that_is_none_is_not_ours(module_server, origin):
    form = {"name": "admin", "password": ADMIN_PASSWORD}
    answer = httpx2.post(f"{module_server.url}/portal/sign-in", data=form, headers={"origin": origin})
    assert answer.status_code == 400
    assert "form_not_ours" in answer.text


@pytest.mark.parametrize("character", ["\0", "\x01", "\x08", "\x0b", "\x1b", "\x7f", "\r"])
@pytest.mark.parametrize("place", ["name", "password", "a field\0"])
def test_a_form_with_characters_that_nobody_sees_is_refused(module_server, place, character):
    form = {"name": "admin", "password": ADMIN_PASSWORD} | {place: f"x{character}y"}
    answer = httpx2.post(f"{module_server.url}/portal/sign-in", data=form)
    assert answer.status_code == 400
    assert "malformed_body" in answer.text


def test_line_ends_and_tabs_are_taken(module_server):
    form = {"name": "admin", "password": ADMIN_PASSWORD, "more": "one\r\ntwo\n\tthree"}
    assert httpx2.post(f"{module_server.url}/portal/sign-in", data=form).status_code == 303


# --- Moments that are none in UTC ----------------------------------------------------------------------------

BEFORE_ALL, AFTER_ALL = "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"


@pytest.mark.parametrize("moment", [BEFORE_ALL, AFTER_ALL])
def test_a_moment_outside_of_all_years_cannot_be_typed(moment):
    assert typed_time(moment) == ""


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00-01:00"])
def test_the_first_and_the_last_are_times(moment):
    assert typed_time(moment) != ""


@pytest.mark.parametrize("moment", [BEFORE_ALL, AFTER_ALL])
@pytest.mark.parametrize("name", ["since", "until"])
def test_the_list_and_its_page_take_it(module_server, name, moment):
    query: dict[str, Any] = {name: moment}
    assert module_server.get("/api/v1/messages", params=query).status_code == 200
    headers = {"cookie": cookie_of(module_server)}
    assert httpx2.get(f"{module_server.url}/portal/outbox", params=query, headers=headers).status_code == 200


# --- The rest ------------------------------------------------------------------------------------------------


def test_the_lines_for_a_terminal_are_quoted_whatever_the_tag_is():
    values = {"authentication": "none", "host": "smtp.example.org"}
    shown = lines(values, user="jo", url="https://keyrelay.example.org", tag="it's $(id)")
    words = shlex.split(shown.curl.partition("<<")[0])
    assert 'if-match: "it\'s $(id)"' in words


@pytest.mark.parametrize("raw", [{}, {"raw_path": None}, {"raw_path": b""}])
def test_a_server_that_does_not_tell_the_path_as_it_was_sent_gets_the_pages_all_the_same(module_server, raw):
    sent: list[dict[str, Any]] = []

    async def ask(node) -> None:
        scope = {"type": "http", "method": "GET", "path": "/portal", "query_string": b"", "headers": []} | raw

        async def send(message) -> None:
            sent.append(message)

        await Portal.__call__(Portal.__new__(Portal), scope, _nothing, send)

    module_server.run(ask)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"location"]) == (307, b"portal/")


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


def test_which_roles_the_claims_give_is_found_in_one_go():
    """Each role is looked at once, and not once for each claim."""
    looks = 0

    class Watched(tuple[RoleClaim, ...]):
        __slots__ = ()

        def __iter__(self):
            nonlocal looks
            looks += 1
            return super().__iter__()

    kept = [RoleClaim(number, Claim(ClaimType.USER, str(number), "x"), "") for number in range(300)]
    roles = [Role(number, f"r{number}", "", claims=Watched(kept[number : number + 10])) for number in range(100)]
    given = claims._given(kept, roles)
    assert looks == 100
    assert given[0] == ["r0"]
    assert given[9] == [f"r{number}" for number in range(10)]
    assert given[299] == []
