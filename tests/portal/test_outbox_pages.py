"""The page of the outbox in a real browser: how it stands, the list, what people do to it, and all of it live."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window
from playwright.sync_api import Page, expect

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.outbox import events
from keyrelay.portal.outbox import typed_time, utc
from live import ADMIN_PASSWORD, ANONYMOUS, LiveServer
from relaying import beside
from submissions import JSON, MESSAGES, hand_in, taken_in

PASSWORD = "correct horse battery 2"
HOSTILE = "<img src=x onerror=console.error('ran')>"
GONE, BUSY, ODD = "gone@example.org", "busy@example.org", "odd'onmouseover='x@example.org"
REPLIES = {
    GONE: f"550 5.1.1 no such user {HOSTILE}",
    BUSY: "450 4.2.1 mailbox busy <script>console.error('ran')</script>",
}


@dataclass
class Place:
    """A server whose mail goes to a relay that refuses some recipients and defers others."""

    server: LiveServer
    relay: ChaosRelay

    def send(self, *to: str, **more: Any) -> str:
        return taken_in(hand_in(self.server, JSON | {"to": list(to)} | more))

    def state(self, name: str) -> str:
        return self.server.get(f"{MESSAGES}/{name}").raise_for_status().json()["state"]

    def steer(self, action: str) -> None:
        self.server.post(f"/api/v1/outbox/{action}").raise_for_status()


def filled(server: LiveServer, relay: ChaosRelay) -> Place:
    """With a message in each of the states that a relay brings about."""
    made = Place(server, relay)
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": relay.port}).raise_for_status()
    names = [made.send(to, subject=HOSTILE) for to in ("ops@example.org", GONE, BUSY, ODD)]
    deadline = time.monotonic() + 10
    while [made.state(name) for name in names] != ["accepted", "refused", "deferred", "accepted"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return made


@pytest.fixture
def place(sqlite_server, relay) -> Place:
    return filled(sqlite_server, relay(Script(rcpt_replies=REPLIES)))


@pytest.fixture(scope="module")
def paused(module_server, certificates) -> Iterator[Place]:
    """One that tests share which change nothing."""
    with beside(ChaosRelay(Script(rcpt_replies=REPLIES), certificates=certificates)) as relay:
        made = filled(module_server, relay)
        made.steer("pause")
        yield made


def rows(page: Page) -> list[str]:
    return page.locator("#found tbody tr").all_inner_texts()


def count(page: Page, state: str) -> Any:
    return page.locator(f"#count-{state}")


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_page_is_well_made_and_tells_how_it_stands(chromium, paused, colours, width):
    with window(chromium, paused.server, colours=colours, width=width) as page:
        page.goto("/portal/outbox")
        assert "The outbox is paused since" in page.locator("#standing").inner_text()
        assert count(page, "accepted").inner_text() == "2"
        assert (count(page, "refused").inner_text(), count(page, "deferred").inner_text()) == ("1", "1")
        assert "A minute" in page.locator("#standing").inner_text()
        assert paused.server.node.outbox.office.name in page.locator("#limits").inner_text()
        assert "deferred or outcome unknown" in page.locator("#hour").inner_text()
        for chart in ("throughput", "backlog"):
            page.locator(f"#{chart}-open").click()
            assert page.locator(f"#{chart}-table tbody tr").count() == 60
            assert (
                page.locator(f"figure:has(#{chart}-title) polyline").count() == {"throughput": 4, "backlog": 1}[chart]
            )
        for each in ("resume", "again"):
            page.locator(f"#ask-{each}" if each == "resume" else "#again + details summary").click()
        require_well_made(page)


def test_nothing_that_strangers_wrote_runs_and_all_of_it_is_shown(chromium, paused):
    with window(chromium, paused.server) as page:  # an error on its console, and it fails
        page.goto("/portal/outbox")
        text = page.locator("#found").inner_text()
        assert REPLIES[GONE] in text
        assert REPLIES[BUSY] in text
        assert ODD in text
        assert "pki@example.org" in text
        assert page.locator("#found img, #found script").count() == 0


def test_the_list_is_searched_and_paged_without_script(chromium, place):
    place.steer("pause")
    for number in range(60):
        place.send(f"r{number}@example.org")
    with window(chromium, place.server, script=False) as page:
        page.goto("/portal/outbox")
        assert not page.locator("#live").is_visible()
        assert len(rows(page)) == 50
        page.get_by_role("link", name="Older").click()
        assert len(rows(page)) == 14
        page.get_by_role("link", name="Newest").click()
        assert len(rows(page)) == 50
        page.locator("#count-refused").click()
        assert [GONE in row for row in rows(page)] == [True]
        page.get_by_label("deferred", exact=True).check()
        page.get_by_role("button", name="Search").click()
        assert [BUSY in rows(page)[0], GONE in rows(page)[1], len(rows(page))] == [True, True, 2]
        page.get_by_label("Recipient").fill("GONE@example.org")
        page.get_by_label("Handed in since (UTC)").fill(f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M}")
        page.get_by_role("button", name="Search").click()
        assert [GONE in row for row in rows(page)] == [True]
        page.get_by_label("Before (UTC)").fill("2026-01-01T00:00")
        page.get_by_role("button", name="Search").click()
        assert rows(page) == ["Nothing is found."]
        assert page.get_by_label("Before (UTC)").input_value() == "2026-01-01T00:00"
        page.get_by_label("Recipient").fill("gone")
        page.get_by_role("button", name="Search").click()
        field = page.get_by_label("Recipient")
        assert field.get_attribute("aria-invalid") == "true"
        wrong = page.locator("#" + field.get_attribute("aria-describedby"))
        assert wrong.inner_text() == "Recipient must be one whole address such as ops@example.org."
        assert field.input_value() == "gone"
        page.get_by_role("link", name="Show all").click()
        assert len(rows(page)) == 50


def test_it_is_paused_and_resumed_and_failed_ones_go_again_without_script(chromium, place, eventually):
    with window(chromium, place.server, script=False) as page:
        page.goto("/portal/outbox")
        page.get_by_text("Pause…").click()
        page.get_by_role("button", name="Pause now").click()
        assert "The outbox is paused." in page.get_by_role("status").first.inner_text()
        assert place.server.get("/api/v1/outbox").json()["pressure"]["mode"] == "paused"
        assert page.get_by_text("Pause…").count() == 0
        again = page.get_by_text("Send failed ones again…")
        again.click()
        page.get_by_role("button", name="Send again now").click()
        field = page.get_by_label("Ended since (UTC)")
        assert field.get_attribute("aria-invalid") == "true"
        field.fill(f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M}")
        page.get_by_label("expired").last.uncheck()
        page.get_by_role("button", name="Send again now").click()
        assert "Sent again: 1." in page.get_by_role("status").first.inner_text()
        assert count(page, "queued").inner_text() == "1"
        page.get_by_text("Resume…").click()
        page.get_by_role("button", name="Resume now").click()
        assert "The outbox is open." in page.locator("#standing").inner_text()
        eventually(lambda: place.server.get("/api/v1/outbox").json()["counts"]["refused"] == 1)


def test_pausing_needs_nothing_but_a_keyboard(chromium, place):
    with window(chromium, place.server) as page:
        page.goto("/portal/outbox")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "ask-pause":
                break
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "do-pause"
        page.keyboard.press("Enter")
        page.get_by_text("Resume…").wait_for()
    assert place.server.get("/api/v1/outbox").json()["pressure"]["why"] == "operator"


def test_what_holds_it_up_is_told_with_what_to_do(chromium, sqlite_server, relay):
    busy = relay(Script(replies={"greeting": "421 4.7.0 too many connections <b>now</b>"}))
    place = Place(sqlite_server, busy)
    sqlite_server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": busy.port}).raise_for_status()
    place.send("ops@example.org")
    with window(chromium, sqlite_server) as page:
        page.goto("/portal/outbox")
        standing = page.locator("#standing")
        expect(standing).to_contain_text("The outbox is slowed down since")
        expect(standing).to_contain_text("The relay said: 421 4.7.0 too many connections <b>now</b>")
        for told in ("Why:", "What to do:", "It is tried again at", "Oldest that waits"):
            assert told in standing.inner_text()
        page.get_by_text("Resume…").wait_for()
        page.get_by_text("Pause…").wait_for()


def test_a_relay_out_of_reach_leads_to_its_settings_from_the_overview_the_outbox_and_the_message(sqlite_server):
    place = Place(sqlite_server, ChaosRelay())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = listener.getsockname()[1]
    sqlite_server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": gone}).raise_for_status()
    name = place.send("ops@example.org")
    deadline = time.monotonic() + 10
    while sqlite_server.get("/api/v1/outbox").json()["pressure"]["why"] != "unreachable":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sqlite_server.add_user("reader", PASSWORD, "/messages/read/")
    pages = {
        "": r'class="note (bad|warn)">(.*?)</div>',
        "outbox": r'id="standing"(.*?)<h2>',
        f"outbox/{name}": "<article(.*?)</article>",
    }
    for user, password, links in (("admin", ADMIN_PASSWORD, True), ("reader", PASSWORD, False)):
        cookie = cookie_of(sqlite_server, user, password)
        for path, part in pages.items():
            text = httpx2.get(f"{sqlite_server.url}/portal/{path}", headers={"cookie": cookie}).text
            told = re.search(part, text, re.DOTALL)[0]
            assert "What to do:" in told, path
            assert (">SMTP configuration</a>" in told) is links, path
            assert (">Test</a>" in told) is links, path
            if not path.startswith("outbox/"):
                assert "cannot be reached" in told


def test_the_overview_tells_that_somebody_has_paused_it(paused, readers):
    text = readers["reader"].get("/portal/").text
    assert "The outbox is <strong>paused</strong> since" in text
    assert "somebody has paused it" in text
    assert "Nobody sends." not in text
    assert "The outbox is" not in readers["stranger"].get("/portal/").text


def test_an_auditors_overview_leads_to_the_audit(readers):
    led = '<a class="button" href="./audit">Audit</a>'
    assert led in readers["auditor"].get("/portal/").text
    assert led not in readers["stranger"].get("/portal/").text


def test_the_share_of_each_limit_that_is_used_is_drawn_and_told(sqlite_settings, start, relay, eventually):
    server = start(replace(sqlite_settings, relay_limits="office365"))
    place = Place(server, relay())
    server.put_v2(ANONYMOUS | {"Host": "localhost", "Port": place.relay.port}).raise_for_status()
    names = [place.send("a@example.org", "b@example.org") for _ in range(3)]
    eventually(lambda: {place.state(name) for name in names} == {"accepted"})
    text = httpx2.get(f"{server.url}/portal/outbox", headers={"cookie": cookie_of(server)}).text
    for name, told, width in (("Messages in 1 min", "3 of 30", "10.0"), ("Recipients in 1 d", "6 of 10,000", "0.1")):
        row = re.search(rf"<tr><th scope=\"row\">{name}</th>.*?</tr>", text, re.DOTALL)[0]
        assert f'<td class="number">{told}</td>' in row
        assert f'<rect class="part" width="{width}"' in row


def test_that_nobody_sends_is_told(sqlite_settings, start):
    server = start(replace(sqlite_settings, worker=False))
    assert "Nobody sends." in httpx2.get(f"{server.url}/portal/", headers={"cookie": cookie_of(server)}).text
    text = httpx2.get(f"{server.url}/portal/outbox", headers={"cookie": cookie_of(server)}).text
    assert "Nobody sends." in text
    assert "There is none yet." in text


# --- Live ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listeners(place) -> Callable[[], int]:
    return lambda: len(place.server.node.outbox.feed._listeners)


def see(page: Page, visible: bool) -> None:
    """The tab is looked at, or another one is."""
    state = "visible" if visible else "hidden"
    page.evaluate(
        "state => { Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        state,
    )


def test_states_counts_and_charts_follow_while_focus_and_what_is_open_stay(chromium, place, listeners, eventually):
    with window(chromium, place.server) as page:
        page.goto("/portal/outbox")
        expect(page.locator("#live")).to_have_text(re.compile("^Live"))
        page.evaluate("window.same = true")
        page.locator("#backlog-open").click()
        page.locator("#count-accepted").focus()
        told = page.locator("#throughput-told").text_content()
        place.steer("pause")
        name = place.send("new@example.org")
        row = page.locator(f"tr[data-message='{name}']")
        expect(row.locator(".badge")).to_have_text("queued")
        expect(page.locator("#standing")).to_contain_text("somebody has paused it")
        place.steer("resume")
        expect(row.locator(".badge")).to_have_text("accepted")
        expect(count(page, "accepted")).to_have_text("3")
        assert page.locator("#throughput-told").text_content() != told
        assert page.evaluate("window.same")
        assert page.evaluate("document.activeElement.id") == "count-accepted"
        assert page.locator("#backlog-table").get_attribute("open") is not None

        page.evaluate("getSelection().selectAllChildren(document.querySelector('#found tbody tr td'))")
        place.send("later@example.org")
        expect(count(page, "accepted")).to_have_text("4")
        assert len(rows(page)) == 5  # where somebody marks text, nothing is taken away
        page.evaluate("getSelection().removeAllRanges()")

        see(page, visible=False)
        expect(page.locator("#live")).to_have_text("Not live while nobody looks.")
        eventually(lambda: listeners() == 0)
        place.send("hidden@example.org")
        see(page, visible=True)
        expect(count(page, "accepted")).to_have_text("5")
        expect(page.locator("#live")).to_have_text(re.compile("^Live"))
        assert listeners() == 1


def test_it_says_so_when_too_many_listen_and_comes_back_when_told_to(chromium, place, monkeypatch, listeners):
    monkeypatch.setattr(events, "_MOST_LISTENERS", 0)
    with window(chromium, place.server) as page:
        page.clock.install()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/events") else None)
        page.goto("/portal/outbox")
        expect(page.locator("#live")).to_have_text(re.compile("^Not live"))
        page.clock.run_for(25_000)
        page.keyboard.press("Shift")
        assert len(asked) == 1
        monkeypatch.setattr(events, "_MOST_LISTENERS", 100)
        page.clock.run_for(6_000)
        expect(page.locator("#live")).to_have_text(re.compile("^Live"))
        assert (len(asked), listeners()) == (2, 1)
        page.clock.run_for(31 * 60_000)
        expect(page.locator("#live")).to_have_text(re.compile("^Not live: nothing was done here"))
        page.keyboard.press("Shift")
        expect(page.locator("#live")).to_have_text(re.compile("^Live"))


def test_who_is_signed_out_meanwhile_is_told(chromium, place):
    with window(chromium, place.server) as page:
        page.goto("/portal/outbox")
        expect(page.locator("#live")).to_have_text(re.compile("^Live"))
        headers = {"cookie": cookie_of(place.server)}
        token = token_in(httpx2.get(f"{place.server.url}/portal/", headers=headers).text)
        form = {"form_token": token, "everywhere": "yes"}
        httpx2.post(f"{place.server.url}/portal/sign-out", data=form, headers=headers)
        place.send("new@example.org")
        expect(page.locator("#live")).to_have_text(re.compile("^Not live: you are signed out"))


# --- Who may, and what else may be asked ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def readers(paused) -> Iterator[dict[str, httpx2.Client]]:
    """People by what they may do, who have signed in."""
    found = {}
    for name, permissions in {
        "reader": ["/messages/read/"],
        "stranger": ["/certificates/read/"],
        "auditor": ["/auditing/read/"],
    }.items():
        paused.server.add_user(name, PASSWORD, *permissions)
        cookie = cookie_of(paused.server, name, PASSWORD)
        found[name] = httpx2.Client(base_url=paused.server.url, headers={"cookie": cookie})
    yield found
    for client in found.values():
        client.close()


def token_in(text: str) -> str:
    return re.search(r'name="form_token" value="(\w+)"', text)[1]


def test_who_may_only_read_has_no_buttons_and_no_way_round_them(paused, readers):
    page = readers["reader"].get("/portal/outbox")
    assert page.status_code == 200
    assert not re.search(r'name="action"|now</button>', page.text)
    for action in ("pause", "resume", "resend"):
        form = {"form_token": token_in(page.text), "action": action}
        answer = readers["reader"].post("/portal/outbox", data=form)
        assert answer.status_code == 403, action
    assert paused.server.get("/api/v1/outbox").json()["pressure"]["mode"] == "paused"
    assert readers["stranger"].get("/portal/outbox").status_code == 403


def test_a_form_that_asks_for_nothing_known_does_nothing(paused):
    client = httpx2.Client(base_url=paused.server.url, headers={"cookie": cookie_of(paused.server)})
    with client:
        token = token_in(client.get("/portal/outbox").text)
        for action in ("", "drop", "PAUSE "):
            assert client.post("/portal/outbox", data={"form_token": token, "action": action}).status_code == 404
        answer = client.post("/portal/outbox", data={"action": "pause"})
        assert (answer.status_code, "form_not_ours" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("state=nowhere", "State must be one of"),
        ("since=yesterday", "Since is not a point in time"),
        ("recipient=%00%40x", "Recipient must be one whole address"),
        ("after=x", "an earlier page"),
        ("recipient=a%40b&recipient=c%40d", "more than once"),
    ],
)
def test_a_search_that_makes_no_sense_is_told_and_finds_nothing(paused, query, told):
    headers = {"cookie": cookie_of(paused.server)}
    answer = httpx2.get(f"{paused.server.url}/portal/outbox?{query}", headers=headers)
    assert answer.status_code == 400
    assert told in answer.text
    assert "data-message=" not in answer.text


@pytest.mark.parametrize("query", ["done=%3Cscript%3E", "done=resent&messages=-1&gone=%3Cb%3E", "messages=9&x=y"])
def test_no_text_of_the_query_gets_into_the_page(paused, query):
    answer = httpx2.get(f"{paused.server.url}/portal/outbox?{query}", headers={"cookie": cookie_of(paused.server)})
    assert answer.status_code == 200
    assert "<script>" not in answer.text.replace("&lt;script&gt;", "")
    assert "<b>" not in answer.text


def test_the_first_load_is_small(paused):
    for number in range(50):
        paused.send(f"r{number}@example.org")
    headers = {"cookie": cookie_of(paused.server)}
    page = httpx2.get(f"{paused.server.url}/portal/outbox", headers=headers)
    paths = re.findall(r'(?:href|src)="(\./static/[^"]+)"', page.text)
    assert len(paths) == 4
    files = [httpx2.get(f"{paused.server.url}/portal/{path}") for path in paths]
    assert sum(len(each.content) for each in (page, *files)) < 100_000


# --- Times as they are typed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-03-01T12:00", "2026-03-01T12:00:00Z"),
        ("2026-03-01T12:00:05", "2026-03-01T12:00:05Z"),
        ("2026-03-01T12:00:00+01:00", "2026-03-01T12:00:00+01:00"),
        ("2h ago", "2h ago"),
        ("", ""),
    ],
)
def test_a_typed_time_is_meant_in_utc(typed, meant):
    assert utc(typed) == meant


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00"),
        ("2026-03-01T13:00:05+01:00", "2026-03-01T12:00:05"),
        ("2026-03-01T12:00", "2026-03-01T12:00"),
        ("<b>", ""),
        ("2026-13-01T12:00", ""),
    ],
)
def test_a_time_is_shown_as_a_form_takes_it(given, shown):
    assert typed_time(given) == shown
