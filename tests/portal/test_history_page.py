"""The history of the profile, in a real browser: reading it, and going back."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window

from api.pam_kit import SETTINGS, entry, local, provider
from live import ANONYMOUS, BASIC, OAUTH

PROFILE = "/api/v1/profile"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def revision(server) -> int:
    return server.run(lambda node: node.keeper.snapshot()).revision


def token_of(server, cookie, path="/portal/history/1") -> str:
    answer = httpx2.get(f"{server.url}{path}", headers={"cookie": cookie})
    return re.search(r'name="form_token" value="([0-9a-f]+)"', answer.text)[1]


@pytest.fixture
def told(sqlite_server):
    """A server whose profile has a history of three revisions."""
    sqlite_server.put_v2(BASIC)
    sqlite_server.patch(PROFILE, json={"sender_name": "Second"})
    sqlite_server.put_v2({**OAUTH, "SenderName": "Third"})
    return sqlite_server


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_pages_are_well_made(chromium, module_server, colours, width):
    module_server.put_v2(BASIC)
    module_server.put_v2(OAUTH)
    newest = revision(module_server)
    with window(chromium, module_server, colours=colours, width=width) as page:
        page.goto("/portal/history")
        require_well_made(page)
        page.goto(f"/portal/history/{newest - 1}")
        page.get_by_text("Restore this revision").click()
        require_well_made(page)


def test_who_changed_what_is_told_newest_first_and_no_secret_with_it(chromium, told):
    with window(chromium, told) as page:
        page.goto("/portal/history")
        rows = page.locator("tbody tr").all_inner_texts()
        assert [re.search(r"Revision (\d)", row)[1] for row in rows] == ["3", "2", "1"]
        assert all("admin" in row for row in rows)
        assert "Sender name: PKI → Second" in rows[1]
        assert "Sign-in: Basic: user name and password → OAuth client credentials" in rows[0]
        assert "Password: changed" in rows[2]
        for secret in ("basic-password-1", "client-secret-1"):
            assert secret not in page.content()


def test_a_revision_is_restored_with_its_secrets_after_a_look_at_what_that_changes(chromium, told):
    with window(chromium, told) as page:
        page.goto("/portal/history")
        page.get_by_role("link", name="Revision 2").click()
        change = page.get_by_role("region", name="What restoring it would change").inner_text()
        assert re.search(r"Sender name\s+Third\s+Second", change)
        assert re.search(r"Password\s+changed", change)
        button = page.get_by_role("button", name="Restore revision 2")
        assert not button.is_visible()
        page.get_by_text("Restore this revision").click()
        button.click()
        assert "Restored" in page.get_by_role("status").inner_text()
        assert "Restored from revision 2" in page.locator("tbody tr").first.inner_text()
        page.get_by_role("link", name="Revision 4").click()
        assert "the profile as it is now" in page.get_by_role("main").inner_text()
        assert page.get_by_text("Restore this revision").count() == 0
    document = told.get(PROFILE).json()
    assert (document["sender_name"], document["authentication"]) == ("Second", "basic")
    assert document["relay_password"]["stored"] is True


def test_without_script_and_with_the_keyboard_alone(chromium, told):
    with window(chromium, told, script=False) as page:
        page.goto("/portal/history/1")
        page.get_by_text("Restore this revision").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_text("Restored. This").wait_for()
    assert revision(told) == 4


def test_what_has_changed_meanwhile_is_shown_before_it_is_restored(chromium, told):
    with window(chromium, told) as page:
        page.goto("/portal/history/1")
        page.get_by_text("Restore this revision").click()
        told.patch(PROFILE, json={"sender_name": "Meanwhile"})
        page.get_by_role("button", name="Restore revision 1").click()
        assert "profile_changed" in page.get_by_role("alert").inner_text()
        assert "Meanwhile" in page.get_by_role("region", name="What restoring it would change").inner_text()
        assert told.get(PROFILE).json()["sender_name"] == "Meanwhile"
        page.get_by_text("Restore this revision").click()
        page.get_by_role("button", name="Restore revision 1").click()
        page.get_by_text("Restored. This").wait_for()
    assert told.get(PROFILE).json()["sender_name"] == BASIC["SenderName"]


def test_what_lost_its_secret_is_not_offered_and_cannot_be_restored(chromium, sqlite_settings, start):
    server = start(replace(sqlite_settings, history_secrets=1))
    for name in ("first", "second"):
        server.put_v2({**BASIC, "SenderName": name})
    cookie = cookie_of(server)
    with window(chromium, server) as page:
        page.goto("/portal/history/1")
        assert "cannot be restored" in page.get_by_role("main").inner_text()
        assert page.get_by_role("main").get_by_role("button").count() == 0
        page.goto("/portal/history")
        assert "cannot be restored" in page.locator("tbody tr").last.inner_text()
    tag = server.run(lambda node: node.keeper.snapshot()).tag
    answer = httpx2.post(
        f"{server.url}/portal/history/1",
        data={"form_token": token_of(server, cookie), "tag": tag},
        headers={"cookie": cookie},
    )
    assert answer.status_code == 409
    assert "secret_gone" in answer.text
    assert revision(server) == 2


def test_whoever_may_not_read_a_provider_cannot_bring_back_a_profile_that_uses_it(sqlite_server):
    number = provider(sqlite_server)
    entry(sqlite_server, number, "smtp-pass")
    sqlite_server.put_v2({**BASIC, "RelayPassword": local(number)})
    sqlite_server.put_v2(ANONYMOUS)
    sqlite_server.add_user("half", "half password 1", *SETTINGS)
    tag = sqlite_server.run(lambda node: node.keeper.snapshot()).tag
    for user, password, status in (("half", "half password 1", 403), ("admin", None, 303)):
        cookie = cookie_of(sqlite_server, user, password) if password else cookie_of(sqlite_server)
        answer = httpx2.post(
            f"{sqlite_server.url}/portal/history/1",
            data={"form_token": token_of(sqlite_server, cookie), "tag": tag},
            headers={"cookie": cookie},
        )
        assert answer.status_code == status, answer.text
    assert revision(sqlite_server) == 3


def test_whoever_may_only_read_sees_it_and_can_restore_nothing(chromium, told):
    told.add_user("reader", "reader password 1", SETTINGS[0])
    with window(chromium, told, user="reader", password="reader password 1") as page:
        page.goto("/portal/history/1")
        assert page.get_by_role("region", name="What restoring it would change").is_visible()
        assert page.get_by_role("main").get_by_role("button").count() == 0
    cookie = cookie_of(told, "reader", "reader password 1")
    answer = httpx2.post(
        f"{told.url}/portal/history/1",
        data={"form_token": token_of(told, cookie), "tag": "x"},
        headers={"cookie": cookie},
    )
    assert answer.status_code == 403
    told.add_user("nobody", "nobody password 1", "/auditing/read/")
    with window(chromium, told, user="nobody", password="nobody password 1") as page:
        page.goto("/portal/history")
        assert "permission_missing" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("number", ["0", "4", "99999999999", "x", "-1", "²"])
def test_a_revision_that_there_is_not_is_not_found(told, number):
    answer = httpx2.get(f"{told.url}/portal/history/{number}", headers={"cookie": cookie_of(told)})
    assert answer.status_code == 404
    assert "unknown_name" in answer.text


def test_hostile_strings_are_text(chromium, sqlite_server):
    sqlite_server.put_v2(
        {**OAUTH, "SenderName": HOSTILE, "Scope": HOSTILE, "RequestHeaders": [{"Name": "X", "Value": HOSTILE}]}
    )
    sqlite_server.run(lambda node: node.keeper.restore(1, by=HOSTILE))
    sqlite_server.put_v2(ANONYMOUS)
    with window(chromium, sqlite_server) as page:
        page.on("dialog", lambda dialog: pytest.fail("a script ran"))
        for path in ("history", "history/1", "history/2"):
            page.goto(f"/portal/{path}")
            assert HOSTILE in page.get_by_role("main").inner_text()
            assert page.locator("main img").count() == 0


def test_a_long_history_is_told_page_by_page(chromium, sqlite_server):
    sqlite_server.put_v2(ANONYMOUS)
    current = sqlite_server.run(lambda node: node.keeper.snapshot()).profile

    async def fill(node):
        for place in range(60):
            await node.keeper.replace(replace(current, sender_name=f"Name {place}"), by="somebody")

    sqlite_server.run(fill)
    with window(chromium, sqlite_server) as page:
        page.goto("/portal/history")
        assert page.locator("tbody tr").count() == 50
        page.get_by_role("link", name="Older").click()
        page.get_by_role("link", name="Newest").wait_for()
        rows = page.locator("tbody tr")
        assert rows.count() == 11
        assert "Name 9 → Name 10" not in rows.first.inner_text()
        assert "Revision 11" in rows.first.inner_text()
        assert page.get_by_role("link", name="Older").count() == 0
    page = httpx2.get(
        f"{sqlite_server.url}/portal/history?until=nonsense", headers={"cookie": cookie_of(sqlite_server)}
    )
    assert "Revision 61" in page.text


def test_without_a_profile_there_is_no_history(sqlite_server):
    page = httpx2.get(f"{sqlite_server.url}/portal/history", headers={"cookie": cookie_of(sqlite_server)})
    assert "there is no history" in page.text
