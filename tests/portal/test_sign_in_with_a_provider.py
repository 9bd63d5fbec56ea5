"""Signing in through an identity provider in a real browser, which minds cookies and what a page may do."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest
from browsing import LOOKS, require_well_made, window

from bearing import grant, trusting
from keyrelay.access.identity_provider import document
from keyrelay.api.session_cookie import NAME
from live import LiveServer, settings_for
from oidc_server import OidcServer
from visiting import opened


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    with OidcServer(tmp_path_factory.mktemp("provider")) as provider:
        provider.sign_ins.asks = True
        yield provider


@pytest.fixture(scope="module")
def house(request, tmp_path_factory, sqlite_template, provider):
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("module"), sqlite_template)
    server = LiveServer.start(trusting(settings, provider))
    opened(server, provider)
    grant(server, "Readers", "/system_settings/read/")
    yield server
    server.stop()


@pytest.fixture
def visit(chromium, house, provider):
    """A window that may go to the provider as well."""
    host = urlsplit(provider.url).netloc
    return lambda **more: window(chromium, house, user=None, allowed=(host,), **more)


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_somebody_signs_in_looks_around_and_signs_out(visit, provider, colours, width):
    provider.claims["roles"] = ["Readers"]
    with visit(colours=colours, width=width) as page:
        page.goto("/portal/sign-in?next=%3Fx%3D1")
        require_well_made(page)
        page.get_by_role("link", name="Sign in with entra").click()
        page.get_by_role("link", name="Go on as Jo").click()
        page.wait_for_url(lambda url: url.endswith("/portal/?x=1"))
        assert [cookie["name"] for cookie in page.context.cookies()] == [NAME]
        page.goto("/portal/")
        assert "entra:jo@example.org" in page.get_by_role("banner").inner_text()
        assert "SMTP configuration" in page.get_by_role("navigation").inner_text()
        require_well_made(page)
        page.get_by_text("Sign out on all devices").click()
        page.get_by_role("button", name="Sign out everywhere").click()
        page.wait_for_url("**/portal/sign-in")
        assert page.context.cookies() == []


def test_somebody_without_a_role_gets_in_and_sees_that(visit, provider):
    provider.claims["roles"] = []
    with visit() as page:
        page.goto("/portal/")
        page.get_by_role("link", name="Sign in with entra").click()
        page.get_by_role("link", name="Go on as Jo").click()
        page.wait_for_url("**/portal/")
        assert "no role" in page.get_by_role("main").inner_text()
        require_well_made(page)


def test_it_works_by_keyboard_and_with_script_switched_off(visit):
    with visit(script=False) as page:
        page.goto("/portal/sign-in")
        link = page.get_by_role("link", name="Sign in with entra")
        for _ in range(10):
            page.keyboard.press("Tab")
            if link.evaluate("link => link === document.activeElement"):
                break
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Go on as Jo").press("Enter")
        page.wait_for_url("**/portal/")
        assert "entra:jo@example.org" in page.get_by_role("banner").inner_text()


@pytest.mark.parametrize("width", [1440, 360])
def test_somebody_who_changes_their_mind_is_told_and_can_begin_again(visit, width):
    with visit(width=width) as page:
        page.goto("/portal/sign-in?next=%3Fx%3D1")
        page.get_by_role("link", name="Sign in with entra").click()
        page.get_by_role("link", name="Cancel").click()
        alert = page.get_by_role("alert").inner_text()
        assert "sign_in_denied" in alert
        assert "They said no" not in alert
        require_well_made(page)
        page.get_by_role("link", name="Sign in with entra").click()
        page.get_by_role("link", name="Go on as Jo").click()
        page.wait_for_url(lambda url: url.endswith("/portal/?x=1"))


def test_going_back_and_reloading_the_answer_gives_no_second_session(visit, house, provider):
    with visit() as page:
        page.goto("/portal/sign-in")
        page.get_by_role("link", name="Sign in with entra").click()
        with page.expect_request("**/portal/signed-in?*") as came_back:
            page.get_by_role("link", name="Go on as Jo").click()
        page.wait_for_url("**/portal/")
        page.goto(came_back.value.url)
        assert "sign_in_not_begun" in page.get_by_role("alert").inner_text()
        require_well_made(page)
        page.goto("/portal/")
        assert "entra:jo@example.org" in page.get_by_role("banner").inner_text()


def test_a_session_from_before_is_ended_by_the_new_one(chromium, house, provider):
    host = urlsplit(provider.url).netloc
    with window(chromium, house, allowed=(host,)) as page:
        (old,) = page.context.cookies()
        page.goto("/portal/sign-in")
        page.get_by_role("link", name="Sign in with entra").click()
        page.get_by_role("link", name="Go on as Jo").click()
        page.wait_for_url("**/portal/")
        (new,) = page.context.cookies()
        assert new["value"] != old["value"]
    headers = {"cookie": f"{NAME}={old['value']}"}
    assert httpx2.get(f"{house.url}/portal/", headers=headers).status_code == 303


def test_what_a_provider_is_called_is_text(visit, house, provider):
    hostile = "<img src=x onerror=alert(1)>"

    async def rename(node) -> None:
        (one,) = await node.identity_providers.all()
        async with node.store.change("access") as change:
            named = document(replace(one, display_name=hostile))
            await change.run("UPDATE identity_provider SET document = $1 WHERE id = $2", named, one.id)

    house.run(rename)
    with visit() as page:
        page.goto("/portal/sign-in")
        assert page.get_by_role("link", name=f"Sign in with {hostile}").is_visible()
        page.get_by_role("link", name="Sign in with").click()
        page.get_by_role("link", name="Cancel").click()
        assert hostile in page.get_by_role("alert").inner_text()
