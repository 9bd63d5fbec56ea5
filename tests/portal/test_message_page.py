"""The page of one message in a real browser: what became of it at each recipient, and what people do to it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window
from playwright.sync_api import expect

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from live import ANONYMOUS, LiveServer
from outboxes import UNKNOWN, ByHand
from relaying import beside
from submissions import JSON, MESSAGES, hand_in, octets, taken_in

PASSWORD = "correct horse battery 2"
NOWHERE = "00000000-0000-7000-8000-000000000000"
GONE, BUSY = "gone@example.org", "busy@example.org"
REPLIES = {
    GONE: "550 5.1.1 no such user <img src=x onerror=console.error('ran')>",
    BUSY: "450 4.2.1 mailbox busy <script>console.error('ran')</script>",
}
MESSAGE_ID = "<\"onclick='ran()'&lt;script&gt;@example.org>"
HOSTILE = f"""From: "<script>ran()</script>" <pki@example.org>
To: ops@example.org
Subject: <script>ran()</script>
Message-ID: {MESSAGE_ID}

<script>ran()</script>
"""


@dataclass
class Place:
    server: LiveServer

    def send(self, *to: str) -> str:
        return taken_in(hand_in(self.server, JSON | {"to": list(to)}))

    def shown(self, name: str) -> dict[str, Any]:
        return self.server.get(f"{MESSAGES}/{name}").raise_for_status().json()

    def wait(self, name: str, state: str) -> None:
        deadline = time.monotonic() + 10
        while self.shown(name)["state"] != state:
            assert time.monotonic() < deadline, self.shown(name)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def relay_of_all(certificates) -> Iterator[ChaosRelay]:
    with beside(ChaosRelay(Script(rcpt_replies=REPLIES), certificates=certificates)) as relay:
        yield relay


@pytest.fixture(scope="module")
def place(module_server, relay_of_all) -> Place:
    """A server that sends to that relay."""
    module_server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": relay_of_all.port}).raise_for_status()
    return Place(module_server)


@pytest.fixture(scope="module")
def mixed(place) -> str:
    """A message that one recipient has, one refuses and one defers."""
    written = HOSTILE.replace("\n", "\r\n").encode()
    name = taken_in(hand_in(place.server, written, params={"recipient": ["ops@example.org", GONE, BUSY]}))
    place.wait(name, "deferred")
    return name


@pytest.fixture
def idle(sqlite_settings, start) -> Place:
    """A server that takes in and sends nothing."""
    server = start(replace(sqlite_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    return Place(server)


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_page_is_well_made_and_tells_every_reply(chromium, place, mixed, colours, width):
    with window(chromium, place.server, colours=colours, width=width) as page:
        page.goto("/portal/outbox")
        page.locator(f"tr[data-message='{mixed}'] a").click()
        assert page.locator("h1").inner_text().startswith("Message to ops@example.org and ")
        facts = page.locator("#facts").inner_text()
        for fact in ("deferred", "pki@example.org", "by admin", "normal", MESSAGE_ID, mixed):
            assert fact in facts
        cards = page.locator(".recipient").all_inner_texts()
        for card, (address, state, reply) in zip(
            cards,
            [
                ("ops@example.org", "accepted", "250 2.0.0"),
                (GONE, "refused", REPLIES[GONE]),
                (BUSY, "deferred", REPLIES[BUSY]),
            ],
            strict=True,
        ):
            assert card.splitlines()[0] == f"{address} {state}"
            assert f"attempt 1 by {place.server.node.outbox.office.name}: {reply}" in card
        assert "Why: There is no mailbox gone@example.org" in cards[1]
        assert "What to do:" in cards[2]
        assert "next attempt, at the earliest" in cards[2]
        assert "Why:" not in cards[0]
        page.locator("#ask-cancel").click()
        require_well_made(page)


def test_each_action_does_what_its_button_says_without_script(chromium, idle):
    name = idle.send("ops@example.org")
    with window(chromium, idle.server, script=False) as page:
        page.goto(f"/portal/outbox/{name}")

        def offered() -> list[str]:
            return [text.strip() for text in page.locator("#facts summary").all_inner_texts()]

        assert offered() == ["Hold…", "Cancel…"]
        for button, state, then in [
            ("Hold", "held", ["Release…", "Cancel…"]),
            ("Release", "queued", ["Hold…", "Cancel…"]),
            ("Cancel", "cancelled", ["Send again…"]),
            ("Send again", "queued", ["Hold…", "Cancel…"]),
        ]:
            page.get_by_text(f"{button}…").click()
            page.get_by_role("button", name=f"{button} now").click()
            assert page.locator("main .note.good").count() == 1
            assert page.locator("#facts .badge").inner_text() == state == idle.shown(name)["state"]
            assert offered() == then


def test_a_message_is_held_with_nothing_but_a_keyboard(chromium, idle):
    name = idle.send("ops@example.org")
    with window(chromium, idle.server) as page:
        page.goto(f"/portal/outbox/{name}")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "ask-hold":
                break
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("main .note.good").wait_for()
    assert idle.shown(name)["state"] == "held"


def test_an_action_that_comes_too_late_is_told(chromium, idle):
    name = idle.send("ops@example.org")
    with window(chromium, idle.server, script=False) as page:
        page.goto(f"/portal/outbox/{name}")
        idle.server.post(f"{MESSAGES}/{name}/cancel").raise_for_status()
        page.get_by_text("Hold…").click()
        page.get_by_role("button", name="Hold now").click()
        assert "The message is cancelled, and cannot be held." in page.get_by_role("alert").inner_text()
        assert page.locator("#facts .badge").inner_text() == "cancelled"


def test_what_is_being_sent_cannot_be_steered_and_an_unknown_outcome_is_told(idle):
    name = idle.send("ops@example.org")
    headers = {"cookie": cookie_of(idle.server)}
    url = f"{idle.server.url}/portal/outbox/{name}"

    async def claim(node: Any) -> None:
        idle.hand = ByHand(node.outbox.office)
        (idle.claim,) = (await idle.hand.round()).claims

    async def lose(node: Any) -> None:
        idle.hand.settle(idle.claim, UNKNOWN, "attempted")
        await idle.hand.round(0)

    idle.server.run(claim)
    page = httpx2.get(url, headers=headers).text
    assert "It is being sent at this moment" in page
    assert 'name="action"' not in page
    idle.server.run(lose)
    page = httpx2.get(url, headers=headers).text
    assert "The relay may have taken it once without saying so." in page
    assert 'value="hold"' in page


def test_the_page_follows_its_message_and_no_other(chromium, place):
    place.server.post("/api/v1/outbox/pause").raise_for_status()
    name = place.send("ops@example.org")
    try:
        with window(chromium, place.server) as page:
            fetched: list[str] = []
            page.on("request", lambda asked: fetched.append(asked.url) if asked.resource_type == "fetch" else None)
            with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
                page.goto(f"/portal/outbox/{name}")  # once it listens, it looks whether it has missed anything
            expect(page.locator("#live")).to_have_text(re.compile("^Live"))
            page.evaluate("window.same = true")
            other = place.send("other@example.org")
            place.server.post(f"{MESSAGES}/{other}/cancel").raise_for_status()
            page.wait_for_timeout(1500)
            assert len(fetched) == 1
            page.locator("#ask-hold").focus()
            place.server.post("/api/v1/outbox/resume").raise_for_status()
            expect(page.locator("#facts .badge")).to_have_text("accepted")
            expect(page.locator(".recipient")).to_contain_text("attempt 1 by")
            assert page.locator("#ask-hold").count() == 0
            assert page.evaluate("window.same")
    finally:
        place.server.post("/api/v1/outbox/resume").raise_for_status()


# --- Content, and who may --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(place) -> Iterator[dict[str, httpx2.Client]]:
    found = {}
    for name, permissions in {
        "reader": ["/messages/read/"],
        "opener": ["/messages/read/", "/messages/raw/"],
        "stranger": ["/certificates/read/"],
    }.items():
        place.server.add_user(name, PASSWORD, *permissions)
        cookie = cookie_of(place.server, name, PASSWORD)
        found[name] = httpx2.Client(base_url=place.server.url, headers={"cookie": cookie})
    yield found
    for client in found.values():
        client.close()


def test_the_content_is_a_file_for_those_who_may_have_it(place, mixed, people):
    path = f"/portal/outbox/{mixed}"
    assert "Download" in people["opener"].get(path).text
    answer = people["opener"].get(path + "/raw")
    assert (answer.status_code, answer.content) == (200, octets(place.server, mixed))
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["content-disposition"] == f'attachment; filename="{mixed}.eml"'
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "no-store"
    assert "Download" not in people["reader"].get(path).text
    for name in ("reader", "stranger"):
        assert people[name].get(path + "/raw").status_code == 403


def test_the_content_is_downloaded_by_its_button(chromium, place, mixed):
    with window(chromium, place.server, script=False) as page:
        page.goto(f"/portal/outbox/{mixed}")
        with page.expect_download() as told:
            page.get_by_role("link", name="Download the message").click()
        assert told.value.suggested_filename == f"{mixed}.eml"


def test_who_may_only_read_has_no_buttons_and_no_way_round_them(place, mixed, people):
    page = people["reader"].get(f"/portal/outbox/{mixed}")
    assert 'name="action"' not in page.text
    token = re.search(r'name="form_token" value="(\w+)"', page.text)[1]
    for action in ("cancel", "hold", "release", "resend"):
        answer = people["reader"].post(f"/portal/outbox/{mixed}", data={"form_token": token, "action": action})
        assert answer.status_code == 403, action
    assert place.shown(mixed)["state"] == "deferred"
    assert people["stranger"].get(f"/portal/outbox/{mixed}").status_code == 403


@pytest.mark.parametrize("name", [NOWHERE, "x", "..%2f", "%00", "%3Cscript%3E", NOWHERE + "/raw"])
def test_a_message_that_there_is_not_is_a_page_that_says_so(place, name):
    answer = httpx2.get(f"{place.server.url}/portal/outbox/{name}", headers={"cookie": cookie_of(place.server)})
    assert answer.status_code == 404
    assert "<script>" not in answer.text


def test_an_action_that_is_none_does_nothing(place, mixed):
    headers = {"cookie": cookie_of(place.server)}
    url = f"{place.server.url}/portal/outbox/{mixed}"
    token = re.search(r'name="form_token" value="(\w+)"', httpx2.get(url, headers=headers).text)[1]
    for action in ("", "delete", "Hold"):
        assert httpx2.post(url, data={"form_token": token, "action": action}, headers=headers).status_code == 404
    assert httpx2.post(url, data={"action": "cancel"}, headers=headers).status_code == 400
    assert place.shown(mixed)["state"] == "deferred"


def test_many_recipients_come_in_pages(idle):
    addresses = [f"r{number:03}@example.org" for number in range(120)]
    name = idle.send(*addresses)
    headers = {"cookie": cookie_of(idle.server)}
    seen = []
    for page in (1, 2, 3):
        text = httpx2.get(f"{idle.server.url}/portal/outbox/{name}?page={page}", headers=headers).text
        assert f"Page {page} of 3" in text
        seen.append(re.findall(r"r\d{3}@example\.org", text.partition("</h1>")[2]))
    assert seen == [addresses[:50], addresses[50:100], addresses[100:]]
    for odd in ("0", "-1", "99999999999", "%3Cb%3E", "4"):
        text = httpx2.get(f"{idle.server.url}/portal/outbox/{name}?page={odd}", headers=headers)
        assert text.status_code == 200
