"""The page that tests settings: in a real browser, with a real relay, with script and without."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window
from playwright.sync_api import Page, expect

from canary import leaks, new_canary
from keyrelay.chaos.relay import ChaosRelay
from live import LiveServer
from token_server import issues, signed

PROFILE = "/api/v1/profile"
PASSWORD = "Xk4-vQz7-Jw2"
RECIPIENT = "ops@example.org"
HOSTILE = '<script>document.title="run"</script>"><img src=x onerror="document.title=1"> \u202e{{ 7*7 }}'


def plain(relay: ChaosRelay, **more: object) -> dict[str, Any]:
    settings = {"host": "localhost", "port": relay.port, "sender_account": "pki@example.org", "sender_name": "PKI"}
    return settings | {"use_ssl": False, "authentication": "anonymous"} | more


def basic(relay: ChaosRelay, password: str = PASSWORD) -> dict[str, Any]:
    names = {"relay_username": {"secret_value": "mailer"}, "relay_password": {"secret_value": password}}
    return plain(relay, use_ssl=True, authentication="basic") | names


def fields(relay: ChaosRelay, password: str) -> dict[str, str]:
    """The same as the form of the profile sends it."""
    return {
        "host": "localhost",
        "port": str(relay.port),
        "use_ssl": "yes",
        "authentication": "basic",
        "sender_account": "pki@example.org",
        "sender_name": "PKI",
        "relay_username.source": "here",
        "relay_username.secret_value": "mailer",
        "relay_password.source": "here",
        "relay_password.secret_value": password,
    }


def keep(server: LiveServer, profile: dict[str, Any]) -> None:
    server.put(PROFILE, json=profile).raise_for_status()


def local_provider(server: LiveServer) -> int:
    """Make a provider of secrets that are kept here, and give its id."""
    path, headers = "/KeyfactorAPI/PamProviders", {"x-keyfactor-api-version": "1"}
    (kind,) = [one for one in server.get(path + "/Types", headers=headers).json() if one["Name"] == "LocalDB"]
    body = {"Name": "Local", "ProviderType": {"Id": kind["Id"]}, "ProviderTypeParamValues": []}
    return int(server.post(path, json=body, headers=headers).raise_for_status().json()["Id"])


@pytest.fixture
def mailing(relay) -> ChaosRelay:
    """A relay that takes the mail of who signs in."""
    return relay(starttls=True, auth=("PLAIN",), users={"mailer": PASSWORD})


@contextmanager
def at_the_page(chromium, server: LiveServer, **look: Any) -> Iterator[Page]:
    with window(chromium, server, **look) as page:
        page.goto("/portal/test")
        yield page


def choose(page: Page, mode: str) -> None:
    page.get_by_role("radio", name=re.compile(f"^{mode}")).check()


def run(page: Page, mode: str = "Connect only", recipient: str | None = None) -> None:
    choose(page, mode)
    if recipient is not None:
        page.get_by_label("Recipient", exact=True).fill(recipient)
    page.get_by_role("button", name="Run the test").click()


def reported(page: Page) -> str:
    """What the report says, once it is there."""
    expect(page.locator("[data-test-report] h2")).to_be_visible()
    return page.locator("[data-test-report]").inner_text()


class Posting:
    """The page without a browser."""

    def __init__(self, server: LiveServer) -> None:
        self.url = f"{server.url}/portal/test"
        self.cookie = {"cookie": cookie_of(server)}
        self.page = httpx2.get(self.url, headers=self.cookie)
        found = re.search(r'name="form_token" value="([^"]+)"', self.page.text)
        assert found is not None
        self.token = found[1]

    def __call__(self, mode: str = "connect", accept: str = "text/html", **form: str) -> httpx2.Response:
        data = {"form_token": self.token, "test_mode": mode, **form}
        return httpx2.post(self.url, data=data, headers={**self.cookie, "accept": accept}, timeout=30)


# --- What it looks like --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_page_and_its_reports_are_well_made(chromium, trusting_server, relay, colours, width):
    mailing = relay(starttls=True, auth=("PLAIN",), users={"mailer": PASSWORD})
    refusing = relay(starttls=True, certificate="expired", replies={"rcpt": "550 5.1.1 " + "x" * 300})
    keep(trusting_server, basic(mailing))
    with at_the_page(chromium, trusting_server, colours=colours, width=width) as page:
        require_well_made(page)
        run(page, "Message", RECIPIENT)
        assert "It works" in reported(page)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        require_well_made(page)
        keep(trusting_server, plain(refusing, use_ssl=True))
        run(page, "Envelope")
        expect(page.locator("[data-test-report] h2")).to_contain_text("It failed")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        require_well_made(page)
        run(page, "Message", "nobody")
        expect(page.get_by_role("alert")).to_be_visible()
        require_well_made(page)
        page.evaluate("document.querySelector('[data-test]').removeAttribute('data-test')")  # as without script
        run(page, "Message", "nobody")
        expect(page.locator("p.wrong")).to_be_visible()
        require_well_made(page)
        run(page, "Message", RECIPIENT)
        assert "It failed" in reported(page)
        require_well_made(page)


def test_the_page_says_who_will_get_mail_before_it_goes(chromium, trusting_server, mailing):
    keep(trusting_server, basic(mailing))
    with at_the_page(chromium, trusting_server) as page:
        told = page.locator("[data-test-who]")
        expect(told).to_have_text("Nobody gets mail.")
        expect(page.get_by_label("Recipient", exact=True)).to_be_hidden()
        choose(page, "Message")
        expect(told).to_have_text("pki@example.org gets one mail from pki@example.org.")
        page.get_by_label("Recipient", exact=True).fill(RECIPIENT)
        expect(told).to_have_text(f"{RECIPIENT} gets one mail from pki@example.org.")
        choose(page, "Envelope")
        expect(told).to_have_text("Nobody gets mail.")
    assert mailing.connections == 0


# --- The report, with script and without ---------------------------------------------------------------------


def scrubbed(text: str) -> str:
    """A report without what differs from one test to the next."""
    text = re.sub(r"\d+\.\d ms", "… ms", text)
    text = re.sub(r"[\w.-]+@example\.org(?=>|;)", "…", text)
    return re.sub(r"\s+", " ", re.sub(r"\[?(127\.0\.0\.1|::1)\]?|IPv[46]", "…", text)).strip()


@pytest.mark.parametrize("broken", [False, True], ids=["works", "fails"])
def test_both_ways_give_the_same_report(chromium, trusting_server, relay, broken):
    replies = {"rcpt": ("550-5.1.1 no such person", "550 5.1.1 here")} if broken else {}
    here = relay(starttls=True, auth=("PLAIN",), users={"mailer": PASSWORD}, replies=replies)
    keep(trusting_server, basic(here))
    told = []
    for script in (True, False):
        with at_the_page(chromium, trusting_server, script=script) as page:
            run(page, "Message", RECIPIENT)
            report = reported(page)
            assert page.get_by_role("radio", name=re.compile("^Message")).is_checked()
            assert page.get_by_label("Recipient", exact=True).input_value() == RECIPIENT
            # The button that copies needs script, and the text can be selected without.
            assert page.locator("[data-test-copy]").is_hidden()  # its <details> is closed
            page.get_by_text("Copy as text for a ticket").click()
            assert page.get_by_role("button", name="Copy the text").is_visible() == script
            text = page.get_by_label("The report as text").input_value()
            assert f"Testing localhost, port {here.port}, and mail {RECIPIENT}." in text
            assert re.search(r"^ +> \(AUTH PLAIN with credentials\)$", text, re.MULTILINE)
            page.get_by_text("The same from a terminal").click()
            line = f"keyrelay smtp test --mode message --to {RECIPIENT} --dialogue"
            expect(page.get_by_text(line, exact=True)).to_be_visible()
            told.append(scrubbed(report))
    assert told[0] == told[1]
    assert ("no such person" in told[0]) == broken
    assert "CN=" in told[0]
    assert len(here.messages) == (0 if broken else 2)


def test_each_failure_shows_its_cause_and_its_remedy(chromium, trusting_server, relay):
    unknown = relay(replies={"rcpt": "550 5.1.1 User unknown"})
    wrong = relay(starttls=True, auth=("PLAIN",), users={"mailer": "another"})
    expired = relay(starttls=True, certificate="expired")
    for profile, cause, words in (
        (plain(unknown), "recipient-unknown", "550 5.1.1 User unknown"),
        (basic(wrong), "credentials-wrong", "535"),
        (plain(expired, use_ssl=True), "certificate-expired", "ended"),
    ):
        keep(trusting_server, profile)
        body = {"mode": "message", "recipient": RECIPIENT}
        expected = trusting_server.post("/api/v1/diagnoses", json=body).json()["cause"]
        assert expected["id"] == cause
        for script in (True, False):
            with at_the_page(chromium, trusting_server, script=script) as page:
                run(page, "Message", RECIPIENT)
                report = reported(page)
                for told in (expected["sentence"], expected["remedy"], cause, words):
                    assert told in report, (cause, script)
                assert page.locator("li.stage.failed").count() == 1
                link = page.locator("[data-test-report]").get_by_role("link", name="SMTP configuration")
                assert link.count() == (0 if cause == "recipient-unknown" else 1)


def test_what_the_token_says_is_shown_and_the_token_is_not(trusting_server, token_server, relay):
    token = signed(aud="https://mail.test", roles=["Mail.Send"], iss=HOSTILE)
    token_server.answer = issues(token)
    oauth = relay(starttls=True, auth=("XOAUTH2",), users={"pki@example.org": token})
    token_server.clients["client-1"] = PASSWORD
    keep(
        trusting_server,
        plain(
            oauth,
            use_ssl=True,
            authentication="oauth_client_credentials",
            client_id={"secret_value": "client-1"},
            client_secret={"secret_value": PASSWORD},
            token_endpoint=token_server.url,
        ),
    )
    page = Posting(trusting_server)()
    assert "It works" in page.text
    for fact in ("<dd>https://mail.test</dd>", "<dd>Mail.Send</dd>", "&lt;script&gt;document.title"):
        assert fact in page.text
    assert "<script>d" not in page.text
    assert leaks({"token": token.rpartition(".")[2], "client secret": PASSWORD}, page.content) == []


def test_what_a_relay_says_is_text_and_nothing_else(chromium, hurried_server, relay):
    hostile = relay(
        extensions=("PIPELINING", f"XHOSTILE {HOSTILE}"),
        replies={"greeting": f"220 {HOSTILE}", "rcpt": (f"550-5.1.1 {HOSTILE}", "550 5.1.1 </textarea></pre>")},
    )
    keep(hurried_server, plain(hostile, sender_name='"><b>'))
    for script in (True, False):
        with at_the_page(chromium, hurried_server, script=script) as page:
            title = page.title()
            run(page, "Message", RECIPIENT)
            shown = HOSTILE.replace("\u202e", " ")
            expect(page.locator("[data-test-report] .note pre")).to_contain_text("</textarea></pre>")
            assert shown in page.locator("[data-test-report] .note pre").inner_text().replace("\xa0", " ")
            assert shown in page.get_by_label("The report as text").input_value()
            assert page.locator("main img, main script, main b").count() == 0
            assert page.title() == title


# --- Live ----------------------------------------------------------------------------------------------------

WATCH = """() => {
  window.seen = [];
  const list = document.querySelector("[data-test-stages]");
  new MutationObserver(() => window.seen.push([list.children.length, performance.now()])).observe(
    list, { childList: true });
}"""


def test_stages_appear_one_by_one(chromium, module_server, relay):
    slow = relay(delay=0.1)
    keep(module_server, plain(slow))
    with at_the_page(chromium, module_server) as page:
        page.evaluate(WATCH)
        run(page, "Message", RECIPIENT)
        assert "It works" in reported(page)
        seen = page.evaluate("window.seen")
        whole = page.locator("li.stage").count()
    assert [number for number, _ in seen if number][-1] >= 10
    assert whole == 11
    times = [moment for _, moment in seen]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len([pause for pause in pauses if pause > 100]) >= 3, "they came together"


def test_a_test_is_run_and_cancelled_with_the_keyboard_alone(chromium, module_server, relay, eventually):
    stalled = relay(stall="mail")
    keep(module_server, plain(stalled))
    with at_the_page(chromium, module_server) as page:
        page.get_by_role("radio", name="Connect only").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(RECIPIENT)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Run the test"
        page.keyboard.press("Enter")
        stages = page.locator("[data-test-stages] li")
        expect(stages).to_have_count(8)
        expect(stages.last).to_contain_text("Signing in")
        assert page.locator("[data-test-report]").inner_text() == ""
        eventually(lambda: stalled.open == 1)
        require_well_made(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Cancel the test"
        page.keyboard.press("Enter")
        eventually(lambda: stalled.open == 0)
        expect(page.locator("[data-test-said]")).to_have_text("You have cancelled the test.")
        assert page.evaluate("document.activeElement.textContent") == "Run the test"
        assert page.get_by_role("button", name="Cancel the test").is_hidden()
        expect(stages).to_have_count(8)
        require_well_made(page)
    assert stalled.messages == []


def test_whoever_leaves_the_page_ends_the_test_at_the_relay(chromium, module_server, relay, eventually):
    stalled = relay(stall="greeting")
    keep(module_server, plain(stalled))
    with at_the_page(chromium, module_server) as page:
        run(page)
        eventually(lambda: stalled.open == 1)
        page.goto("/portal/")
        eventually(lambda: stalled.open == 0)


def test_the_report_can_be_copied(chromium, trusting_server, mailing):
    keep(trusting_server, basic(mailing))
    with at_the_page(chromium, trusting_server) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        run(page)
        reported(page)
        page.get_by_text("Copy as text for a ticket").click()
        page.get_by_role("button", name="Copy the text").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        text = page.get_by_label("The report as text").input_value()
        assert page.evaluate("navigator.clipboard.readText()").replace("\r\n", "\n") == text
        assert text.startswith("keyrelay ")
        assert text.endswith("It works. The relay lets us in.\n")


# --- Settings that are not saved -----------------------------------------------------------------------------


def test_settings_in_a_form_are_tested_and_neither_saved_nor_shown(trusting_server, relay):
    password = new_canary()
    here = relay(starttls=True, auth=("PLAIN",), users={"mailer": password})
    keep(trusting_server, plain(here))
    before = trusting_server.get(PROFILE).content
    post = Posting(trusting_server)
    form = {"settings": "given", "test_recipient": RECIPIENT} | fields(here, password)
    page, events = post("message", **form), post("message", accept="text/event-stream", **form)
    assert page.status_code == events.status_code == 200
    assert (events.headers["content-type"], events.headers["x-accel-buffering"]) == (
        "text/event-stream; charset=utf-8",
        "no",
    )
    assert [one.user for one in here.messages] == ["mailer"] * 2
    assert "It works" in page.text
    assert "Back button" in page.text
    assert "RELAY_PASSWORD" in page.text  # of the line for curl
    coded = base64.b64encode(f"\0mailer\0{password}".encode()).decode()
    for answer in (page, events):
        assert leaks({"password": password, "coded": coded}, answer.content) == []
    assert trusting_server.get(PROFILE).content == before


def test_settings_in_a_form_that_are_wrong_are_named_and_nobody_is_connected_to(trusting_server, relay):
    password = new_canary()
    here = relay()
    keep(trusting_server, plain(here))
    post = Posting(trusting_server)
    answer = post("message", settings="given", test_recipient="x", **fields(here, password) | {"port": "70000"})
    assert answer.status_code == 400
    assert "Port must be from 1 to 65535" in answer.text
    assert "Recipient is not an e-mail address" in answer.text
    assert "Nothing was tested" in answer.text
    assert leaks({"password": password}, answer.content) == []
    # A password that is kept goes nowhere else.
    keep(trusting_server, basic(here, password))
    elsewhere = fields(here, "") | {"port": "2525", "relay_password.source": "keep"}
    answer = post("connect", settings="given", **elsewhere)
    assert (answer.status_code, "secret_required" in answer.text) == (400, True)
    assert here.connections == 0


def test_with_script_a_form_keeps_what_was_typed_and_the_page_never_holds_a_password_elsewhere(
    chromium, trusting_server, relay
):
    password = new_canary()
    refusing = relay(starttls=True, auth=("PLAIN",), users={"mailer": "another"}, echo_credentials=True)
    keep(trusting_server, plain(refusing))
    with at_the_page(chromium, trusting_server) as page:
        # As on the page of the profile: its fields and this button stand in one form.
        page.evaluate(
            """(fields) => {
              const button = document.querySelector("button[data-test]");
              for (const [name, value] of Object.entries(fields)) {
                const input = document.createElement("input");
                Object.assign(input, { name, value, type: name.includes("password") ? "password" : "text" });
                input.setAttribute("aria-label", name);
                button.form.append(input);
              }
              button.value = "given";
              button.setAttribute("formaction", "test");
            }""",
            fields(refusing, password),
        )
        run(page, "Message", RECIPIENT)
        assert "credentials-wrong" in reported(page)
        assert page.get_by_label("relay_password.secret_value").input_value() == password
        held = page.content() + page.get_by_label("The report as text").input_value()
        assert leaks({"password": password}, held.encode()) == []
    assert refusing.connections == 1


# --- What prevents a test ------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False])
def test_what_is_wrong_is_told_beside_its_field(chromium, module_server, relay, script):
    here = relay()
    keep(module_server, plain(here))
    with at_the_page(chromium, module_server, script=script) as page:
        run(page, "Message", "no address")
        expect(page.get_by_role("alert")).to_contain_text("Recipient")
        expect(page.get_by_role("alert")).to_contain_text("bad_input")
        field = page.get_by_label("Recipient", exact=True)
        assert field.input_value() == "no address"
        assert field.get_attribute("aria-invalid") == "true"
        described = field.get_attribute("aria-describedby").split()[-1]
        expect(page.locator(f"#{described}")).to_contain_text("Recipient")
        run(page, "Connect")
        reported(page)
        assert field.get_attribute("aria-invalid") is None
        assert page.locator("p.wrong").count() == 0
    assert here.connections == 1


@pytest.mark.parametrize("mode", ["", "everything"])
def test_a_mode_that_is_none_is_told(module_server, relay, mode):
    keep(module_server, plain(relay()))
    answer = Posting(module_server)(mode)
    assert answer.status_code == 400
    assert "How far the test goes must be connect, envelope or message." in answer.text


def test_too_many_tests_are_told_with_the_time_to_wait(chromium, sqlite_settings, start, relay):
    server = start(replace(sqlite_settings, tests_per_minute=2))
    here = relay()
    keep(server, plain(here))
    for script in (True, False):
        with at_the_page(chromium, server, script=script) as page:
            run(page)
            reported(page)
    with at_the_page(chromium, server) as page:
        run(page)
        expect(page.get_by_role("alert")).to_contain_text("Try again in")
        expect(page.get_by_role("alert")).to_contain_text("too_many_tests")
        assert page.get_by_role("button", name="Cancel the test").is_hidden()
    answer = Posting(server)()
    assert answer.status_code == 429
    assert f"Try again in {answer.headers['retry-after']} seconds." in answer.text
    assert here.connections == 2


def test_without_a_profile_there_is_nothing_to_test(chromium, sqlite_server):
    with at_the_page(chromium, sqlite_server) as page:
        expect(page.get_by_text("No relay is configured yet")).to_be_visible()
        expect(page.get_by_role("link", name="Configure SMTP")).to_be_visible()
        assert page.get_by_role("button", name="Run the test").count() == 0
        require_well_made(page)


def test_what_fails_after_it_has_begun_is_told(chromium, trusting_server, relay, monkeypatch):
    """A bundle of authorities that has become unreadable."""
    from keyrelay.errors import TrustUnusable

    keep(trusting_server, plain(relay(starttls=True), use_ssl=True))

    def unusable() -> None:
        raise TrustUnusable("The bundle cannot be read.")

    trust = trusting_server.node.diagnoses._diagnoses._terms.trust
    monkeypatch.setattr(trust, "verified", unusable)
    with at_the_page(chromium, trusting_server) as page:
        run(page)
        expect(page.get_by_role("alert")).to_contain_text("trust_unusable")
        expect(page.locator("[data-test-stages] li").first).to_be_visible()


@pytest.mark.parametrize("script", [True, False])
def test_a_session_that_has_ended_is_told(chromium, module_server, relay, script):
    keep(module_server, plain(relay()))
    with at_the_page(chromium, module_server, script=script) as page:
        page.context.clear_cookies()
        run(page)
        if script:
            expect(page.locator("[data-test-said]")).to_contain_text("Your session has ended.")
        else:
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_who_may_not_change_the_settings_tests_none(chromium, sqlite_server, relay):
    keep(sqlite_server, plain(relay()))
    sqlite_server.add_user("reader", "a password 1", "/system_settings/read/")
    with window(chromium, sqlite_server, user="reader", password="a password 1") as page:
        assert page.get_by_role("link", name="Test", exact=True).count() == 0
        page.goto("/portal/test")
        expect(page.get_by_role("alert")).to_contain_text("/system_settings/modify/")


@pytest.mark.parametrize("script", [True, False])
def test_a_reference_that_somebody_may_not_read_is_not_used_for_them(chromium, sqlite_server, relay, script):
    here = relay(starttls=True, auth=("PLAIN",))
    reference = {"provider": local_provider(sqlite_server), "parameters": {"SecretName": "relay"}}
    keep(sqlite_server, basic(here) | {"relay_password": reference})
    permissions = ("/system_settings/read/", "/system_settings/modify/")
    sqlite_server.add_user("changer", "a password 1", *permissions)
    with window(chromium, sqlite_server, user="changer", password="a password 1", script=script) as page:
        page.goto("/portal/test")
        run(page)
        expect(page.get_by_role("alert")).to_contain_text("permission_missing")
        expect(page.get_by_role("alert")).to_contain_text("/pam/read/")
    assert here.connections == 0
