"""The audit trail in the portal, in a real browser: searched, looked at, verified, and taken along."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window

from keyrelay.audit import chain
from keyrelay.audit.acting import act_as
from keyrelay.audit.chain import Head, Signer
from keyrelay.audit.model import Actor, Category, Deed, Kind, Level, Operation
from live import ANONYMOUS, BASIC, LiveServer, settings_for

PASSWORD = "long enough 1"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
FORMULA = '=HYPERLINK("http://evil.example","click")'


@pytest.fixture(scope="module")
def server(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    """One server for the module. Its trail tells of 130 changes by many, and of hostile names."""
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("audit"), sqlite_template)
    server = LiveServer.start(settings)
    server.put_v2(ANONYMOUS).raise_for_status()
    server.put_v2(BASIC).raise_for_status()
    deeds = [Deed(Category.OUTBOX, Operation.REVOKED, Kind.MESSAGE, f"message {each}", "m1") for each in range(120)]
    server.run(lambda node: written(node, "jo", *deeds))
    hostile = Deed(
        *(Category.AUTHORIZATION_FAILURE, Operation.DENIED, Kind.ROUTE, HOSTILE, HOSTILE, Level.WARNING),
        details={HOSTILE: HOSTILE, "roles": ["one", HOSTILE], "count": 3, "first": True, "why": None},
        changes={HOSTILE: {"before": HOSTILE, "after": None}, "relay_password": "changed"},
    )
    server.run(lambda node: written(node, HOSTILE, hostile))
    formula = Deed(Category.SECURITY_ROLE, Operation.CREATED, Kind.ROLE, FORMULA, "9", Level.FAILURE)
    server.run(lambda node: written(node, FORMULA, formula))
    yield server
    server.stop()


async def written(node, by, *deeds):
    act_as(Actor(by, "192.0.2.7"))
    async with node.store.change("profile") as change:
        await node.journal.write(change, *deeds)


def numbers(page) -> list[int]:
    return [int(text) for text in page.locator("a.entry").all_inner_texts()]


def entry_of(server: LiveServer, name: str) -> int:
    rows = server.run(lambda node: node.store.rows("SELECT MAX(id) FROM audit_entry WHERE name = $1", name))
    return int(rows[0][0])


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_every_page_is_well_made(chromium, server, colours, width):
    hostile, changed = entry_of(server, HOSTILE), entry_of(server, "SMTP profile")
    with window(chromium, server, colours=colours, width=width) as page:
        page.goto("/portal/audit?level=1")
        require_well_made(page)
        page.goto("/portal/audit?category=9999&since=yesterday&who=jo")
        require_well_made(page)
        page.goto(f"/portal/audit/{hostile}")
        page.get_by_role("button", name="Verify this entry").click()
        page.get_by_text("Hash and signature").click()
        require_well_made(page)
        page.goto(f"/portal/audit/{changed}")
        page.get_by_role("link", name="What else was done to it").click()
        require_well_made(page)
        page.goto("/portal/audit/verify")
        page.get_by_label("An end noted earlier").fill("nonsense")
        page.get_by_role("button", name="Verify the whole trail").click()
        require_well_made(page)
        page.get_by_label("An end noted earlier").fill("")
        page.get_by_role("button", name="Verify the whole trail").click()
        page.get_by_text("The audit trail holds.").wait_for()
        require_well_made(page)


def test_entries_are_searched_by_every_field_with_script_switched_off(chromium, server):
    with window(chromium, server, script=False) as page:
        page.goto("/portal/")
        page.get_by_role("link", name="Audit", exact=True).click()
        newest = numbers(page)
        assert newest == sorted(newest, reverse=True)
        assert len(newest) == 50

        def found(**fields: str) -> list[str]:
            page.goto("/portal/audit")
            for label, value in fields.items():
                field = page.locator(f"#{label}")
                if field.evaluate("field => field.tagName") == "SELECT":
                    field.select_option(label=value)
                else:
                    field.fill(value)
            page.get_by_role("button", name="Search").click()
            return page.locator("tbody td:nth-child(5)").all_inner_texts()

        assert found(who="ADMIN") == ["SMTP profile", "SMTP profile"]
        assert found(category="Roles") == [FORMULA]
        assert found(operation="refused") == [HOSTILE]
        assert found(level="warnings and failures") == [FORMULA, HOSTILE]
        assert found(level="failures only") == [FORMULA]
        assert found(about="message 7", who="jo") == [f"message {each}" for each in (*range(79, 69, -1), 7)]
        assert (
            found(about="9") == [FORMULA, *(f"message {each}" for each in range(119, 0, -1) if "9" in str(each))][:50]
        )
        assert found(text="smtpprofile") == ["SMTP profile", "SMTP profile"]
        assert found(text='x" OR Id -ge 0 OR User -eq "') == []
        assert found(text="%") == []
        assert found(since="2020-01-01T00:00", until="2020-01-02T00:00") == []
        assert found(until="2099-01-01T00:00", category="SMTP profile and tests") == ["SMTP profile"] * 2
        assert page.locator("#category").input_value() == str(int(Category.SMTP))
        assert page.locator("#until").input_value() == "2099-01-01T00:00"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=yesterday", "From"),
        ("until=2026-13-01T00:00", "Until"),
        ("category=x", "Area"),
        ("category=1", "Area"),
        ("operation=-1", "What was done"),
        ("level=9", "How serious"),
        ("who=%00", "Who"),
        ("text=a%0Ab", "Text"),
        ("about=" + "x" * 201, "About"),
    ],
)
def test_a_search_that_is_none_is_told_beside_its_field(server, query, field):
    headers = {"cookie": cookie_of(server)}
    for path in ("audit", "audit/download"):
        answer = httpx2.get(f"{server.url}/portal/{path}?{query}", headers=headers)
        assert answer.status_code == 400
        assert answer.text.count('aria-invalid="true"') == 1
        assert re.search(rf'class="wrong" id="\w+-wrong">{field}', answer.text)


@pytest.mark.parametrize("query", ["before=x", "before=-1", "after=99999999999", "before=0", "page=%00", "nonsense=1"])
def test_a_link_that_is_none_of_ours_does_no_harm(server, query):
    answer = httpx2.get(f"{server.url}/portal/audit?{query}", headers={"cookie": cookie_of(server)})
    assert answer.status_code == 200


@pytest.mark.parametrize("more", ["", "&since=2020-01-01T00:00"])  # in the order of numbers, or of time
def test_every_entry_is_met_once_on_the_way_down_and_up_again(chromium, server, more):
    with window(chromium, server) as page:
        page.goto(f"/portal/audit?who=jo{more}")
        down = [numbers(page)]
        while page.get_by_role("link", name="Older").count():
            page.get_by_role("link", name="Older").click()
            down.append(numbers(page))
        assert [len(each) for each in down] == [50, 50, 20]
        met = [each for some in down for each in some]
        assert met == sorted(set(met), reverse=True)
        up = [numbers(page)]
        while page.get_by_role("link", name="Newer").count():
            page.get_by_role("link", name="Newer").click()
            up.insert(0, numbers(page))
        assert [each for some in up for each in some] == met
        page.get_by_role("link", name="Older").click()
        page.get_by_role("link", name="Newest").click()
        assert numbers(page) == down[0]


def test_in_the_order_of_time_none_is_lost_where_the_clock_was_set_back(long_trail):
    """The entries of the long trail go through the months again and again."""
    months = "since=2026-03-01T00:00&until=2026-05-01T00:00"
    met: list[int] = []
    with httpx2.Client(base_url=f"{long_trail.url}/portal/", headers={"cookie": cookie_of(long_trail)}) as client:
        link = f"audit?{months}"
        while link and len(met) < 6000:
            text = client.get(link).text
            met += [int(each) for each in re.findall(r'class="entry" [^>]*aria-label="Entry (\d+)"', text)]
            older = re.search(r'href="\./(audit\?[^"]*)">Older', text)
            link = html.unescape(older[1]) if older else ""
    assert len(met) == len(set(met)) == 6000
    expected = sorted((each for each in range(2, LONG + 1) if each % 12 in {2, 3}), key=lambda each: (each % 12, each))
    assert met == expected[:-6001:-1]


def test_an_entry_is_told_field_by_field_in_words(chromium, server):
    with window(chromium, server) as page:
        page.goto(f"/portal/audit/{entry_of(server, 'SMTP profile')}")
        facts = page.locator("dl.facts").first.inner_text()
        for told in ("admin", "127.0.0.1", "SMTP profile changed", "SMTP profile and tests", "information"):
            assert told in facts
        rows = {row.split("\t")[0]: row.split("\t")[1:] for row in page.locator("tbody tr").all_inner_texts()}
        assert rows["Host"] == [ANONYMOUS["Host"], BASIC["Host"]]
        assert rows["Relay password"] == ["changed"]
        assert BASIC["RelayPassword"]["SecretValue"] not in page.content()
        page.get_by_role("link", name="What else was done to it").click()
        assert numbers(page) == sorted(numbers(page), reverse=True)
        assert page.locator("tbody td:nth-child(4)").all_inner_texts() == [
            "SMTP profile changed",
            "SMTP profile created",
        ]
        page.goto(f"/portal/audit/{entry_of(server, 'message 3')}/related")
        assert len(numbers(page)) == 50
        page.get_by_role("link", name="Older").click()
        page.get_by_role("link", name="Older").click()
        assert len(numbers(page)) == 20


def test_hostile_text_is_text(chromium, server):
    number = entry_of(server, HOSTILE)
    with window(chromium, server) as page:
        page.goto("/portal/audit")
        assert page.locator("tbody").inner_text().count("<script>") >= 3
        page.goto(f"/portal/audit/{number}")
        told = page.locator("main").inner_text()
        assert told.count("<script>alert(1)</script>") == 8
        assert f"one, {HOSTILE}" in told
        page.goto(f"/portal/audit/{number}/related")
        assert len(numbers(page)) == 1
        page.goto("/portal/audit?" + str(httpx2.QueryParams({"who": HOSTILE, "text": HOSTILE, "since": HOSTILE})))
        assert page.locator("#who").input_value() == HOSTILE


@pytest.mark.parametrize("number", ["0", "99999", "x", "-1", "99999999999", "4294967297"])
def test_an_entry_that_there_is_not_is_a_page_that_says_so(server, number):
    headers = {"cookie": cookie_of(server)}
    for path in (number, f"{number}/related"):
        answer = httpx2.get(f"{server.url}/portal/audit/{path}", headers=headers)
        assert answer.status_code == 404
        assert "no such audit entry" in answer.text


def test_what_was_searched_for_is_downloaded_as_a_sheet_without_formulas(chromium, server):
    with window(chromium, server) as page:
        page.goto("/portal/audit?level=1")
        with page.expect_download() as coming:
            page.get_by_role("link", name="Download as CSV").click()
        assert coming.value.suggested_filename == "keyrelay-audit.csv"
        sheet = Path(coming.value.path()).read_bytes().decode()
        page.goto("/portal/audit")
        assert page.locator("tbody td:nth-child(4)").first.inner_text() == "Audit trail downloaded"
        assert page.locator("tbody td:nth-child(6)").first.inner_text() == "Entries 2"
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert [row["AuditIdentifier"] for row in rows] == [HOSTILE, "'" + FORMULA]
    assert rows[1]["User"] == "'" + FORMULA
    answer = httpx2.get(f"{server.url}/portal/audit/download?level=1", headers={"cookie": cookie_of(server)})
    assert answer.text == sheet
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="keyrelay-audit.csv"'
    assert answer.headers["cache-control"] == "no-store"
    # It is the sheet of the API.
    assert server.get("/KeyfactorAPI/Audit/Download", params={"QueryString": "Level -ge 1"}).json() == sheet


def test_a_download_that_would_be_too_long_is_refused_and_not_recorded(server, monkeypatch):
    monkeypatch.setattr("keyrelay.api.audit.MOST_DOWNLOADED", 5)
    before = server.run(lambda node: node.store.rows("SELECT MAX(id) FROM audit_entry"))
    answer = httpx2.get(f"{server.url}/portal/audit/download", headers={"cookie": cookie_of(server)})
    assert answer.status_code == 400
    assert "This search finds more than 5 entries" in answer.text
    assert server.run(lambda node: node.store.rows("SELECT MAX(id) FROM audit_entry")) == before


def test_the_keyboard_alone_searches_and_verifies(chromium, server):
    with window(chromium, server) as page:
        page.goto("/portal/audit")

        def reach(words: str) -> None:
            for _ in range(100):
                page.keyboard.press("Tab")
                held = page.evaluate(
                    "document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText"
                )
                if words == held:
                    return
            raise AssertionError(f"{words} cannot be reached")

        reach("Who")
        page.keyboard.type("admin")
        page.keyboard.press("Enter")
        page.wait_for_url("**/audit?who=admin*")
        reach(str(entry_of(server, "SMTP profile")))
        page.keyboard.press("Enter")
        page.wait_for_url("**/audit/*")
        reach("Verify this entry")
        page.keyboard.press("Enter")
        page.get_by_text("The entry holds").wait_for()
        page.goto("/portal/audit/verify")
        reach("Verify the whole trail")
        page.keyboard.press("Space")
        page.get_by_text("The audit trail holds.").wait_for()


# --- Who may -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permission", "may"),
    [("/", True), ("/auditing/", True), ("/auditing/read/", True), ("/security/", False), ("/system_settings/", False)],
)
def test_only_who_may_read_the_trail_sees_it(server, permission, may):
    user = "user" + permission.replace("/", ".")
    server.add_user(user, PASSWORD, permission)
    with httpx2.Client(
        base_url=f"{server.url}/portal/", headers={"cookie": cookie_of(server, user, PASSWORD)}
    ) as client:
        home = client.get("").text
        token = re.search(r'name="form_token" value="([^"]+)"', home)[1]
        assert (">Audit<" in home) == may
        for path in ("audit", "audit/1", "audit/1/related", "audit/download", "audit/verify"):
            assert client.get(path).status_code == (200 if may else 403), path
        for path in ("audit/1/verify", "audit/verify"):
            assert client.post(path, data={"form_token": token}).status_code == (200 if may else 403), path
            assert client.post(path, data={"x": "y"}).status_code == (400 if may else 403), path


# --- Tampering -----------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(sqlite_server) -> LiveServer:
    """A server whose trail may be spoiled."""
    deeds = [Deed(Category.OUTBOX, Operation.UPDATED, Kind.OUTBOX, "outbox", "1")] * 20
    sqlite_server.run(lambda node: written(node, "jo", *deeds))
    return sqlite_server


def tampered(server: LiveServer, sql: str) -> None:
    assert server.settings.sqlite_file is not None
    with sqlite3.connect(server.settings.sqlite_file, timeout=20) as connection:
        connection.execute(sql)
    connection.close()


def test_tampering_is_shown_with_the_first_place_that_is_broken(chromium, own_server):
    with window(chromium, own_server) as page:

        def verified(since: str = "") -> str:
            page.goto("/portal/audit/verify")
            page.get_by_label("An end noted earlier").fill(since)
            page.get_by_role("button", name="Verify the whole trail").click()
            page.locator(".note").wait_for()
            page.wait_for_load_state()
            return page.locator(".note").inner_text()

        assert "The audit trail holds. 21 entries, from 1 on." in verified()
        end = page.locator("code.end").inner_text()
        assert re.fullmatch(r"21:[0-9a-f]{64}", end)
        assert "holds" in verified(end)
        assert "was set back" in verified("20:" + "0" * 64)
        tampered(own_server, "UPDATE audit_entry SET actor = 'somebody else' WHERE id = 7")
        told = verified()
        assert "Entry 7 was changed, or does not belong behind the one before it." in told
        assert "6 entries before that hold" in told
        require_well_made(page)
        page.get_by_role("link", name="Look at entry 7").click()
        assert "somebody else" in page.locator("main").inner_text()
        page.get_by_role("button", name="Verify this entry").click()
        assert "does not hold" in page.get_by_role("alert").inner_text()
        require_well_made(page)
        page.goto("/portal/audit/6")
        page.get_by_role("button", name="Verify this entry").click()
        assert "The entry holds" in page.get_by_role("status").inner_text()
        tampered(own_server, "DELETE FROM audit_entry WHERE id = 7")
        assert "Entry 7 is missing." in verified()
        assert page.get_by_role("link", name="Look at entry").count() == 0


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entry SET at = 'never' WHERE id = 5",
        "UPDATE audit_entry SET details = 'no json' WHERE id = 5",
        "UPDATE audit_entry SET category = 77, operation = 78, level = 79, kind = 'Other' WHERE id = 5",
        "UPDATE audit_entry SET name = x'ff00fe', actor = 7 WHERE id = 5",
        "UPDATE audit_entry SET category = 'x', operation = 'y', level = 'z', at = 5, hash = x'ff' WHERE id = 5",
    ],
)
def test_an_entry_that_somebody_has_spoiled_can_still_be_looked_at(own_server, sql):
    tampered(own_server, sql)
    with httpx2.Client(base_url=f"{own_server.url}/portal/", headers={"cookie": cookie_of(own_server)}) as client:
        for path in ("audit", "audit/5", "audit/5/related"):
            assert client.get(path).status_code == 200, path
        token = re.search(r'name="form_token" value="([^"]+)"', client.get("").text)[1]
        assert "does not hold" in client.post("audit/5/verify", data={"form_token": token}).text
        assert "Entry 5 was changed" in client.post("audit/verify", data={"form_token": token}).text


# --- A long trail --------------------------------------------------------------------------------------------

LONG = 60_000


@pytest.fixture(scope="module")
def long_trail(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    """A server with a trail of many entries, all of them signed."""
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("long"), sqlite_template)
    server = LiveServer.start(settings)
    signer = server.run(lambda node: node.journal.signer(node.store))
    grow(server, signer, LONG)
    yield server
    server.stop()


def grow(server: LiveServer, signer: Signer, number: int) -> None:
    """Write entries up to this number past keyrelay, as it would have."""
    with sqlite3.connect(server.settings.sqlite_file, timeout=30) as connection:
        ((last, before, floor, floor_hash),) = connection.execute(
            "SELECT last, hash, floor, floor_hash FROM audit_head"
        )

        def rows() -> Iterator[tuple[object, ...]]:
            nonlocal before
            for each in range(last + 1, number + 1):
                at = f"2026-{each % 12 + 1:02}-01T00:00:00.{each % 1_000_000:06}+00:00"
                row = (each, at, 2104, 6, 0, f"user {each % 50}", None, "Message", f"m{each}", str(each), "{}")
                before = chain.hash_of(before, row)
                yield (*row, before, signer.signature(before))

        marks = ", ".join("?" * 13)
        connection.executemany(
            f"INSERT INTO audit_entry ({', '.join(chain.COLUMNS)}, hash, signature) VALUES ({marks})", rows()
        )
        seal = signer.seal(Head(number, before, floor, floor_hash, ""))
        connection.execute("UPDATE audit_head SET last = ?, hash = ?, seal = ?", (number, before, seal))
    connection.close()


def form(server: LiveServer) -> dict[str, object]:
    """What a POST of a page needs."""
    headers = {"cookie": cookie_of(server)}
    home = httpx2.get(f"{server.url}/portal/", headers=headers).text
    return {"headers": headers, "data": {"form_token": re.search(r'name="form_token" value="([^"]+)"', home)[1]}}


def test_a_long_trail_is_shown_a_page_at_a_time_and_at_once(long_trail):
    with httpx2.Client(base_url=f"{long_trail.url}/portal/", headers={"cookie": cookie_of(long_trail)}) as client:
        client.get("audit")
        took = {}
        for path in ("audit", f"audit?before={LONG // 2}", "audit?after=1000", "audit?category=2104", f"audit/{LONG}"):
            began = time.perf_counter()
            answer = client.get(path)
            took[path] = time.perf_counter() - began
            assert answer.text.count('class="entry"') in {0, 50}
            assert len(answer.content) < 60_000
        assert sorted(took.values())[2] < 0.1, took


def test_a_long_verification_tells_how_far_it_has_come_and_holds_up_nobody(long_trail, monkeypatch):
    monkeypatch.setattr("keyrelay.portal.audit_verify._SECONDS", 0.05)
    asked = form(long_trail)
    pieces, slowest = [], 0.0
    with httpx2.stream("POST", f"{long_trail.url}/portal/audit/verify", timeout=60, **asked) as answer:
        for piece in answer.iter_text():
            pieces.append(piece)
            began = time.perf_counter()
            httpx2.get(f"{long_trail.url}/livez")
            slowest = max(slowest, time.perf_counter() - began)
    assert len(pieces) > 4
    told = "".join(pieces)
    looked = [int(each.replace(",", "")) for each in re.findall(r"([\d,]+) of 60,000 entries looked at", told)]
    assert looked == sorted(looked)
    assert 0 < looked[0] < looked[-1] <= LONG
    assert "The audit trail holds." in told
    assert told.rstrip().endswith("</html>")
    assert slowest < 1


def test_verifications_come_one_after_the_other_and_end_with_their_caller(server, monkeypatch, eventually):
    happened: list[str] = []

    async def endless(*_: object) -> None:
        happened.append("begun")
        try:
            await asyncio.sleep(60)
        finally:
            happened.append("ended")

    monkeypatch.setattr("keyrelay.portal.audit_verify._SECONDS", 0.05)
    monkeypatch.setattr("keyrelay.portal.audit_verify.verify", endless)
    asked, url = form(server), f"{server.url}/portal/audit/verify"
    with httpx2.stream("POST", url, timeout=60, **asked):
        eventually(lambda: happened == ["begun"])
        with httpx2.stream("POST", url, timeout=60, **asked) as second:
            for piece in second.iter_text():
                if "as soon as no other verification is under way" in piece:
                    break
        assert happened == ["begun"]
        with httpx2.stream("POST", url, timeout=60, **asked):
            pass  # gone before its turn
    eventually(lambda: happened == ["begun", "ended"])
    with httpx2.stream("POST", url, timeout=60, **asked):
        eventually(lambda: happened == ["begun", "ended", "begun"])


def test_one_that_takes_too_long_for_a_page_says_what_to_do(long_trail, monkeypatch):
    monkeypatch.setattr("keyrelay.portal.audit_verify._LONGEST_SECONDS", 0.2)
    answer = httpx2.post(f"{long_trail.url}/portal/audit/verify", timeout=60, **form(long_trail))
    assert "keyrelay audit verify" in answer.text
    assert "holds" not in answer.text


def test_what_fails_while_the_page_is_sent_is_told_on_it(server, monkeypatch):
    async def broken(*_: object) -> None:
        raise RuntimeError("innards")

    monkeypatch.setattr("keyrelay.portal.audit_verify.verify", broken)
    answer = httpx2.post(f"{server.url}/portal/audit/verify", timeout=60, **form(server))
    assert "keyrelay failed" in answer.text
    assert "innards" not in answer.text
    assert answer.text.rstrip().endswith("</html>")
