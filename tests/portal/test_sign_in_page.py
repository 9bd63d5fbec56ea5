"""Signing in to the portal and out of it, in a real browser."""

from __future__ import annotations

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, sign_in, window

from keyrelay.access.identity import Identity
from keyrelay.api.session_cookie import NAME
from keyrelay.portal.assets import edition
from live import ADMIN_PASSWORD


def form(**fields: str) -> dict[str, str]:
    return fields


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_page_and_the_overview_are_well_made(chromium, module_server, colours, width):
    with window(chromium, module_server, colours=colours, width=width, user=None) as page:
        page.goto("/")
        require_well_made(page)
        sign_in(page)
        require_well_made(page)


def test_a_wrong_password_is_told_and_lets_nobody_in(chromium, sqlite_server):
    with window(chromium, sqlite_server, user=None) as page:
        page.goto("/portal/")
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill("not the password")
        page.get_by_role("button", name="Sign in").click()
        assert "not right" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("User name").input_value() == "admin"
        assert page.get_by_label("Password").input_value() == ""
        require_well_made(page)
        page.goto("/portal/")
        assert page.url.endswith("/portal/sign-in")


def test_whoever_asked_for_a_page_gets_there_after_signing_in(chromium, sqlite_server):
    with window(chromium, sqlite_server, user=None) as page:
        page.goto("/portal/nowhere/at-all?x=1")
        assert "no page" in page.get_by_role("alert").inner_text()


def test_a_form_that_comes_after_the_session_is_told_to_be_lost_and_its_page_is_come_back_to(chromium, sqlite_server):
    with window(chromium, sqlite_server) as page:
        page.goto("/portal/access/password?x=1")
        page.context.clear_cookies()
        for label in ("Current password", "New password", "New password, again"):
            page.get_by_label(label, exact=True).fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Change the password").click()
        assert page.get_by_role("alert").inner_text() == "Your session has ended; what you sent was not saved."
        require_well_made(page)
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/portal/access/password")


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("POST", "pam/5/entry?name=a%20b", "../../sign-in?next=pam%2F5%2Fentry%3Fname%3Da%2520b&over=1"),
        ("POST", "access/user/grant", "../../sign-in?over=1"),
        ("POST", "sign-out", "./sign-in"),
        ("GET", "smtp", "./sign-in?next=smtp"),
    ],
)
def test_whoever_has_no_session_signs_in_first(sqlite_server, method, path, location):
    answer = httpx2.request(method, f"{sqlite_server.url}/portal/{path}", headers={"cookie": f"{NAME}=over"})
    assert (answer.status_code, answer.headers["location"]) == (303, location)


def test_a_browser_that_keeps_no_session_on_plain_http_is_told_so(chromium, sqlite_server):
    # No loopback address to a browser, and the same server.
    elsewhere = sqlite_server.url.replace("127.0.0.1", "0.0.0.0")
    # Its console tells of headers that it minds over https alone, so this is no window that must be without complaint.
    with chromium.new_page(base_url=elsewhere) as page:
        page.goto("/portal/sign-in?next=smtp")
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        alert = page.get_by_role("alert").inner_text()
        assert "does not keep the session on plain http: use https" in alert
        assert page.locator("input[name=next]").get_attribute("value") == "smtp"
        require_well_made(page)


def test_signing_in_leads_to_the_page_wanted_over_a_look_at_the_cookie(sqlite_server):
    sent = form(name="admin", password=ADMIN_PASSWORD, next="audit?user=a%20b")
    answer = httpx2.post(f"{sqlite_server.url}/portal/sign-in", data=sent)
    look = answer.headers["location"]
    assert look == "./sign-in?kept=1&next=audit%3Fuser%3Da%2520b"
    cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    kept = httpx2.get(f"{sqlite_server.url}/portal/{look}", headers=cookie)
    assert (kept.status_code, kept.headers["location"]) == (303, "./audit?user=a%20b")
    assert "does not keep" in httpx2.get(f"{sqlite_server.url}/portal/{look}").text


def test_the_cookie_is_for_no_script_and_for_no_other_site(sqlite_server):
    answer = httpx2.post(f"{sqlite_server.url}/portal/sign-in", data=form(name="admin", password=ADMIN_PASSWORD))
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"path=/", "secure", "httponly", "samesite=lax"}
    assert answer.headers["cache-control"] == "no-store"


def test_signing_in_gives_a_new_session_and_ends_the_old_one(sqlite_server):
    old = cookie_of(sqlite_server)
    answer = httpx2.post(
        f"{sqlite_server.url}/portal/sign-in",
        data=form(name="admin", password=ADMIN_PASSWORD),
        headers={"cookie": old},
    )
    new = answer.headers["set-cookie"].partition(";")[0]
    assert new != old
    assert httpx2.get(f"{sqlite_server.url}/portal/", headers={"cookie": old}).status_code == 303
    assert httpx2.get(f"{sqlite_server.url}/portal/", headers={"cookie": new}).status_code == 200


def test_signing_out_everywhere_ends_every_session(chromium, sqlite_server):
    elsewhere = cookie_of(sqlite_server)
    with window(chromium, sqlite_server) as page:
        page.get_by_text("Sign out on all devices").click()
        page.get_by_role("button", name="Sign out everywhere").click()
        page.wait_for_url("**/portal/sign-in")
        assert page.context.cookies() == []
    assert httpx2.get(f"{sqlite_server.url}/portal/", headers={"cookie": elsewhere}).status_code == 303


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_sites_page_cannot_sign_anybody_in(sqlite_server, site):
    answer = httpx2.post(
        f"{sqlite_server.url}/portal/sign-in",
        data=form(name="admin", password=ADMIN_PASSWORD),
        headers={"sec-fetch-site": site},
    )
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers
    assert "form_not_ours" in answer.text


@pytest.mark.parametrize("token", [None, "", "0" * 48])
def test_a_form_without_its_token_changes_nothing(sqlite_server, token):
    cookie = cookie_of(sqlite_server)
    fields = {} if token is None else {"form_token": token}
    answer = httpx2.post(f"{sqlite_server.url}/portal/sign-out", data={"x": "y", **fields}, headers={"cookie": cookie})
    assert answer.status_code == 400
    assert httpx2.get(f"{sqlite_server.url}/portal/", headers={"cookie": cookie}).status_code == 200


def test_18_a_session_is_good_for_the_api_and_for_changes_with_the_header_only(sqlite_server):
    headers = {"cookie": cookie_of(sqlite_server)}
    url = f"{sqlite_server.url}/KeyfactorAPI/SMTP"
    assert httpx2.get(url, headers=headers).status_code == 200
    assert httpx2.put(url, headers=headers, json={}).json()["ErrorCode"] == "0xA0110007"
    asked = httpx2.put(url, headers={**headers, "x-keyfactor-requested-with": "APIClient"}, json={})
    assert asked.json()["ErrorCode"] == "0xA0110010"


def test_a_script_whose_session_is_over_is_told_so_without_a_window_that_asks_for_a_password(sqlite_server):
    answer = httpx2.get(f"{sqlite_server.url}/api/v1/outbox", headers={"cookie": f"{NAME}=over"})
    assert (answer.status_code, answer.json()["code"]) == (401, "session_over")
    assert answer.headers["www-authenticate"] == 'Bearer realm="keyrelay"'


@pytest.mark.parametrize(
    ("sent", "offered"),
    [
        ({"sec-fetch-dest": "empty"}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-dest": "document", "sec-fetch-site": "none"}, True),
        ({}, True),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/events", "/KeyfactorAPI/SMTP"])
def test_a_window_that_asks_for_a_password_is_for_no_script(sqlite_server, sent, offered, path):
    answer = httpx2.get(sqlite_server.url + path, headers=sent)
    challenges = answer.headers.get_list("www-authenticate")
    assert answer.status_code == 401
    assert [one.partition(" ")[0] for one in challenges] == ["Basic"] * offered + ["Bearer"]


def test_a_page_left_open_listens_after_signing_out_and_no_window_asks_for_a_password(chromium, sqlite_server):
    with window(chromium, sqlite_server) as page:
        page.get_by_role("button", name="Sign out", exact=True).click()
        page.wait_for_url("**/portal/sign-in")
        with page.expect_response("**/api/v1/events") as answered:
            page.evaluate("new EventSource('../api/v1/events') && null")
        assert answered.value.status == 401
        assert answered.value.header_values("www-authenticate") == ['Bearer realm="keyrelay"']


def test_style_of_another_edition_is_kept_by_nobody(sqlite_server):
    ours = f"{sqlite_server.url}/portal/static/{edition()}/style.css"
    other = ours.replace(edition(), "0123456789ab")
    assert "immutable" in httpx2.get(ours).headers["cache-control"]
    answer = httpx2.get(other)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_changed_password_ends_the_sessions(sqlite_server):
    from keyrelay.secrets.model import SecretText

    cookie, chief = cookie_of(sqlite_server), Identity("chief", (), frozenset({"/"}))
    sqlite_server.run(lambda node: node.access.set_password("admin", SecretText("another one 1"), chief))
    assert httpx2.get(f"{sqlite_server.url}/portal/", headers={"cookie": cookie}).status_code == 303


def test_the_token_is_kept_nowhere(sqlite_server, database_text):
    token = cookie_of(sqlite_server).removeprefix(NAME + "=")
    assert token.encode() not in database_text()
