"""The pages about access: users, roles, claims, identity providers, API tokens and one's own password."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, sign_in, window

from bearing import CHIEF, register, trusting
from keyrelay.access import provider_clients
from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.roles import Role
from keyrelay.secrets.model import SecretText
from live import ADMIN_PASSWORD, SMTP, V2
from oidc_server import OidcServer

PASSWORD = "long enough 1"
READ = "/system_settings/read/"
SECURITY = ("/security/read/", "/security/modify/")
HOSTILE = "<img src=x onerror=console.error(1)>"
PAGES = (
    *("access", "access/users", "access/users/add", "access/roles", "access/roles/add", "access/claims"),
    *("access/claims/add", "access/providers", "access/providers/add", "access/tokens", "access/tokens/add"),
)


@pytest.fixture(scope="module")
def furnished(module_server):
    """A server with something in every list, all of it hostile where it may be."""

    async def furnish(node) -> None:
        claim = RoleClaim(0, Claim(ClaimType.OAUTH_ROLE, HOSTILE, "keyrelay"), HOSTILE)
        await node.access.add_role(Role(0, HOSTILE, HOSTILE, HOSTILE, permissions=(READ,), claims=(claim,)), CHIEF)
        await node.access.add_user(HOSTILE.replace(" ", "+"), SecretText(PASSWORD), (HOSTILE,), CHIEF)
        soon = datetime.now(UTC) + timedelta(days=30, hours=1)
        await ApiTokens(node.store, node.journal).create("deploy", (READ, "/pam/read/7/"), soon, CHIEF)

    module_server.run(furnish)
    register(module_server, "https://login.example.org/tenant", "corp")
    module_server.add_user("viewer", PASSWORD, "/security/read/")
    module_server.add_user("outsider", PASSWORD, READ)
    module_server.add_user("roleless", PASSWORD)
    return module_server


def of_each_kind(server) -> list[str]:
    """A page about one of each kind."""
    number = server.run(lambda node: node.access.roles())[-1].id
    named = [role.id for role in server.run(lambda node: node.access.roles()) if role.name == HOSTILE]
    claim = server.run(lambda node: node.access.claims())[0].id
    provider = server.run(lambda node: node.identity_providers.all())[0].id
    user = HOSTILE.replace(" ", "%2B")
    return [
        *(f"access/user?name={user}", "access/roles/1", f"access/roles/{named[0]}", f"access/roles/{number}"),
        *(f"access/claims/{claim}", f"access/providers/{provider}", "access/password"),
    ]


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def told(page) -> str:
    return page.get_by_role("status").inner_text()


def refusal(page) -> str:
    return page.get_by_role("alert").inner_text()


# --- Every page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_every_page_is_well_made_and_shows_names_as_text(chromium, furnished, colours, width):
    with window(chromium, furnished, colours=colours, width=width) as page:
        for path in (*PAGES, *of_each_kind(furnished)):
            page.goto(f"/portal/{path}")
            assert page.get_by_role("alert").count() == 0, path
            assert page.locator("img").count() == 0
            require_well_made(page)
        page.goto("/portal/access/roles")
        assert page.get_by_role("link", name=HOSTILE).is_visible()
        page.goto("/portal/access/claims")
        assert page.get_by_role("link", name=HOSTILE).is_visible()


def test_forms_that_were_refused_are_well_made(chromium, furnished):
    with window(chromium, furnished, width=360) as page:
        page.goto("/portal/access/users/add")
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        press(page, "Add the user")
        assert "admin already" in refusal(page)
        assert page.get_by_label("User name").get_attribute("aria-invalid") == "true"
        assert page.get_by_label("User name").input_value() == "admin"
        assert page.get_by_label("Password").input_value() == ""
        require_well_made(page)
        page.goto("/portal/access/tokens/add")
        page.get_by_label("Name", exact=True).fill("deploy")
        page.get_by_label("Others, one a line").fill("/pam/read/7\n" + HOSTILE)
        press(page, "Make the token")
        assert "is not a permission string" in refusal(page)
        assert HOSTILE in page.get_by_label("Others, one a line").input_value()
        require_well_made(page)


# --- Users ---------------------------------------------------------------------------------------------------


def test_a_user_from_its_first_day_to_its_last_without_script(chromium, furnished):
    with window(chromium, furnished, script=False) as page:
        page.goto("/portal/access/users")
        page.get_by_role("link", name="Add a user").click()
        page.get_by_label("User name").fill("Jo")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("role of viewer").check()
        press(page, "Add the user")
        assert "added" in told(page)
        assert may(furnished, "jo", PASSWORD, "/KeyfactorAPI/Security/Roles")
        page.get_by_label("Role", exact=True).select_option("role of outsider")
        press(page, "Give the role")
        assert "holds the role" in told(page)
        assert may(furnished, "jo", PASSWORD, SMTP)
        assert not page.get_by_role("button", name="Take away role of viewer").is_visible()
        take_away(page, "role of viewer")
        assert "not hold" in told(page)
        assert not may(furnished, "jo", PASSWORD, "/KeyfactorAPI/Security/Roles")
        page.get_by_label("New password").fill("short")
        press(page, "Change the password")
        assert "8 to 256 characters" in refusal(page)
        assert page.get_by_label("New password").get_attribute("aria-invalid") == "true"
        page.get_by_label("New password").fill("long enough 2")
        press(page, "Change the password")
        assert "changed" in told(page)
        assert not may(furnished, "jo", PASSWORD, SMTP)
        assert may(furnished, "jo", "long enough 2", SMTP)
        press(page, "Change the password")  # nothing is typed, and nothing asked for
        assert "8 to 256 characters" in refusal(page)
        page.get_by_label("New password").fill("long enough 3")
        page.get_by_label("Let keyrelay make one").check()
        press(page, "Change the password")
        assert "either, not both" in refusal(page)
        assert may(furnished, "jo", "long enough 2", SMTP)
        page.get_by_label("Let keyrelay make one").check()
        press(page, "Change the password")
        made = page.locator("#made").inner_text()
        assert may(furnished, "jo", made, SMTP)
        page.get_by_role("link", name="To the user").click()
        assert made not in page.content()
        page.get_by_text("Remove this user").click()
        press(page, "Remove jo")
        assert "removed" in told(page)
        assert not may(furnished, "jo", made, SMTP)
        assert page.get_by_role("link", name="jo", exact=True).count() == 0


def take_away(page, role) -> None:
    page.locator("summary", has_text=f"Take away {role}").click()
    press(page, f"Take away {role}")


def may(server, name, password, path) -> bool:
    return httpx2.get(server.url + path, headers=V2, auth=(name, password)).status_code == 200


def test_a_password_that_keyrelay_makes_is_shown_once(chromium, furnished):
    with window(chromium, furnished) as page:
        page.goto("/portal/access/users/add")
        page.get_by_label("User name").fill("made")
        page.get_by_label("role of outsider").check()
        press(page, "Add the user")
        made = page.locator("#made").inner_text()
        require_well_made(page)
        assert may(furnished, "made", made, SMTP)
        for path in ("access/users", "access/user?name=made"):
            page.goto(f"/portal/{path}")
            assert made not in page.content()


def test_the_last_administrator_stays_and_it_is_told_why(chromium, furnished):
    with window(chromium, furnished) as page:
        for button in ("Take away Administrator", "Remove admin"):
            page.goto("/portal/access/user?name=ADMIN")
            if button.startswith("Remove"):
                page.get_by_text("Remove this user").click()
                press(page, button)
            else:
                take_away(page, "Administrator")
            assert "Nobody would be left who may do everything." in refusal(page)
            assert "Give another user the Administrator role first." in refusal(page)
            assert page.get_by_role("heading", name="User admin").is_visible()
        assert may(furnished, "admin", ADMIN_PASSWORD, "/KeyfactorAPI/Security/Roles")


def test_lists_can_be_searched_and_have_pages(chromium, sqlite_server):
    async def many(node) -> None:
        for number in range(60):
            await node.access.add_role(Role(0, f"Role {number:02}", "one of many", permissions=(READ,)), CHIEF)

    sqlite_server.run(many)
    with window(chromium, sqlite_server) as page:
        page.goto("/portal/access/roles")
        assert page.get_by_role("row").count() == 51
        page.get_by_role("link", name="Next page").click()
        assert page.get_by_role("row").count() == 12
        page.get_by_label("Name or description").fill("role 4")
        press(page, "Search")
        assert page.get_by_role("row").count() == 11
        page.goto("/portal/access/roles?page=99999999999&search=nothing")
        assert page.get_by_text("Nothing is found.").is_visible()
        page.goto("/portal/access/user?name=nobody")
        assert "There is no user nobody" in refusal(page)


# --- Roles ---------------------------------------------------------------------------------------------------


def test_a_role_is_made_by_keyboard_alone(chromium, furnished):
    with window(chromium, furnished) as page:
        page.goto("/portal/access/roles/add")
        page.get_by_label("Name", exact=True).focus()
        page.keyboard.type("By keyboard")
        for _ in range(4):  # past description and address, to the second permission
            page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("Enter")  # as browsers have it, a form is sent from a checkbox as well
        page.wait_for_url("**/access/roles?done=added")
        assert "added" in told(page)
    (role,) = [each for each in furnished.run(lambda node: node.access.roles()) if each.name == "By keyboard"]
    assert role.permissions == ("/auditing/read/",)
    assert role.description == "By keyboard"


def test_a_role_is_added_changed_and_removed(chromium, furnished):
    with window(chromium, furnished) as page:
        page.goto("/portal/access/roles/add")
        page.get_by_label("Name", exact=True).fill("Mailers")
        page.get_by_role("checkbox", name="/messages/submit/ hand").check()
        page.get_by_label("Others, one a line").fill("messages/submit/as/ca@example.org\n/nothing like that")
        press(page, "Add the role")
        assert "'/nothing like that' is no permission string" in refusal(page)
        assert page.get_by_role("checkbox", name="/messages/submit/ hand").is_checked()
        require_well_made(page)
        page.get_by_label("Others, one a line").fill("messages/submit/as/ca@example.org")
        press(page, "Add the role")
        page.get_by_role("link", name="Mailers").click()
        assert page.get_by_role("checkbox", name="/messages/submit/ hand").is_checked()
        assert page.get_by_label("Others, one a line").input_value() == "/messages/submit/as/ca@example.org/"
        page.get_by_label("Name", exact=True).fill("Senders")
        page.get_by_label("E-mail address").fill("senders@example.org")
        page.get_by_role("checkbox", name="/messages/submit/ hand").uncheck()
        press(page, "Change the role")
        assert "changed" in told(page)
        (role,) = [each for each in furnished.run(lambda node: node.access.roles()) if each.name == "Senders"]
        assert (role.permissions, role.email) == (("/messages/submit/as/ca@example.org/",), "senders@example.org")
        page.get_by_label("Name", exact=True).fill("administrator")
        press(page, "Change the role")
        assert "There is a role Administrator already" in refusal(page)
        assert page.get_by_label("Name", exact=True).get_attribute("aria-invalid") == "true"
        page.get_by_text("Remove this role").click()
        press(page, "Remove Senders")
        assert "removed" in told(page)


def test_what_is_held_is_not_removed_and_what_is_built_in_stays(chromium, furnished):
    with window(chromium, furnished) as page:
        page.goto("/portal/access/roles")
        page.get_by_role("link", name="role of viewer").click()
        page.get_by_text("Remove this role").click()
        press(page, "Remove role of viewer")
        assert "is held by" in refusal(page)
        page.goto("/portal/access/roles/1")
        assert page.get_by_role("checkbox").count() == page.get_by_label("Name", exact=True).count() == 0
        assert page.get_by_text("Remove this role").count() == 0
        page.get_by_label("Description").fill("All of it")
        press(page, "Change the role")
        assert "changed" in told(page)
    admin = furnished.run(lambda node: node.access.roles())[0]
    assert (admin.name, admin.description, admin.permissions) == ("Administrator", "All of it", ("/",))


# --- Claims --------------------------------------------------------------------------------------------------


def test_a_claim_is_added_given_roles_described_and_removed(chromium, furnished):
    with window(chromium, furnished) as page:
        page.goto("/portal/access/claims/add")
        assert page.get_by_label("Type").locator("option").all_inner_texts() == [
            *("User", "Group", "Computer", "OAuthOid", "OAuthRole", "OAuthSubject", "OAuthClientId")
        ]
        page.get_by_label("Type").select_option("OAuthClientId")
        page.get_by_label("Value").fill("terraform")
        page.get_by_label("Said by").select_option("corp")
        press(page, "Add the claim")
        assert "added" in told(page)
        page.get_by_label("Role", exact=True).select_option("role of outsider")
        press(page, "Give the role")
        assert "gives the role" in told(page)
        page.get_by_text("Remove this claim").click()
        press(page, "Remove the claim")
        assert "gives the role role of outsider" in refusal(page)
        require_well_made(page)
        page.get_by_label("Description").fill("The pipeline")
        press(page, "Change the description")
        assert "description is changed" in told(page)
        page.goto("/portal/access/claims?search=pipeline")
        assert "role of outsider" in page.get_by_role("row").nth(1).inner_text()
        page.get_by_role("link", name="terraform").click()
        take_away(page, "role of outsider")
        assert "does not give" in told(page)
        page.get_by_text("Remove this claim").click()
        press(page, "Remove the claim")
        assert "removed" in told(page)
        page.goto("/portal/access/claims/add")
        page.get_by_label("Type").select_option("OAuthRole")
        page.get_by_label("Value").fill(HOSTILE)
        press(page, "Add the claim")
        assert "There is a claim" in refusal(page)
        assert page.get_by_label("Value").input_value() == HOSTILE


# --- Identity providers --------------------------------------------------------------------------------------


def test_a_provider_is_asked_added_switched_off_and_on_and_removed(chromium, sqlite_settings, start, tmp_path):
    with OidcServer(tmp_path) as oidc:
        server = start(trusting(sqlite_settings, oidc))
        with window(chromium, server) as page:
            page.goto("/portal/access/providers/add")
            page.get_by_label("Scheme").fill("keyrelay")
            page.get_by_label("Authority").fill(oidc.issuer + "/elsewhere")
            page.get_by_label("Audience").fill("api://keyrelay")
            page.get_by_label("Where things stand").fill("role=groups")
            press(page, "Add the identity provider")
            assert page.get_by_label("Where things stand").get_attribute("aria-invalid") == "true"
            page.get_by_label("Where things stand").fill("name=upn,sub roles=groups")
            press(page, "Add the identity provider")
            assert page.get_by_label("Scheme", exact=True).get_attribute("aria-invalid") == "true"
            page.get_by_label("Scheme", exact=True).fill("corp")
            press(page, "Add the identity provider")
            assert "The discovery document" in refusal(page)
            assert page.get_by_label("Authority").get_attribute("aria-invalid") == "true"
            page.get_by_label("Authority").fill(oidc.issuer)
            press(page, "Add the identity provider")
            assert "added" in told(page)
            page.get_by_role("link", name="corp").click()
            assert page.get_by_text("upn, sub").is_visible()
            page.get_by_text("Disable this identity provider").click()
            press(page, "Disable corp")
            assert "no more" in told(page)
            assert not server.run(lambda node: node.identity_providers.all())[0].enabled
            press(page, "Enable it")
            assert "again" in told(page)
            assert server.run(lambda node: node.identity_providers.all())[0].enabled
            page.get_by_text("Remove this identity provider").click()
            press(page, "Remove corp")
            assert "removed" in told(page)
            page.goto("/portal/access/providers/add")
            page.get_by_label("Scheme").fill("away")
            page.get_by_label("Authority").fill("https://login.example.org/away")
            page.get_by_label("Audience").fill("api://keyrelay")
            page.get_by_label("Add it without asking").check()
            press(page, "Add the identity provider")
            assert "added" in told(page)


def test_the_client_of_a_provider_keeps_what_is_not_typed_until_it_is_dropped(
    chromium, sqlite_settings, start, tmp_path
):
    with OidcServer(tmp_path) as oidc:
        server = start(trusting(sqlite_settings, oidc))
        register(server, oidc, "corp")
        number = server.run(lambda node: node.identity_providers.all())[0].id

        def client():
            return server.run(lambda node: node.identity_providers.all())[0].client

        def secret():
            (one,) = server.run(lambda node: node.identity_providers.all())
            found = server.run(lambda node: provider_clients.reveal(node.store, node.keyring, one))
            return None if found is None else found.reveal()

        with window(chromium, server, script=False) as page:
            page.goto(f"/portal/access/providers/{number}")
            page.get_by_label("Client id").fill(HOSTILE * 20)
            page.get_by_label("Client secret").fill("a secret of it 1")
            page.get_by_label("Do not ask the identity provider").check()
            press(page, "Let people sign in through it")
            assert "The client id" in refusal(page)
            assert page.get_by_label("Client id").get_attribute("aria-invalid") == "true"
            assert page.get_by_label("Client id").input_value() == HOSTILE * 20
            assert page.get_by_label("Do not ask the identity provider").is_checked()
            assert "a secret of it 1" not in page.content()
            page.get_by_label("Client id").fill("portal")
            page.get_by_label("Client secret").fill("a secret of it 1")
            press(page, "Let people sign in through it")
            assert "from now on" in told(page)
            assert (client().id, secret()) == ("portal", "a secret of it 1")
            page.get_by_label("Client id").fill("portal-2")
            press(page, "Change the client")
            assert (client().id, secret()) == ("portal-2", "a secret of it 1")
            page.get_by_label("Client secret").fill("a secret of it 2")
            page.get_by_label("A public client").check()
            press(page, "Change the client")
            assert "of a public client is none" in refusal(page)
            assert page.get_by_label("Client secret").get_attribute("aria-invalid") == "true"
            assert secret() == "a secret of it 1"
            press(page, "Change the client")  # the box is still ticked, and no secret is typed any more
            assert (client().id, secret()) == ("portal-2", None)
            page.get_by_text("Let nobody sign in through it").click()
            press(page, "Let nobody sign in through corp")
            assert "Nobody signs in" in told(page)
            assert client() is None


def test_one_of_the_settings_cannot_be_changed_here(sqlite_settings, start):
    configured = {"oidc_authority": "https://login.example.org/x", "oidc_audience": "api://x", "oidc_scheme": "fixed"}
    server = start(replace(sqlite_settings, **configured))
    number = server.run(lambda node: node.identity_providers.all())[0].id
    browser = Browser(server)
    shown = browser.get(f"access/providers/{number}").text
    assert "comes from the settings" in shown
    assert "Disable " not in shown
    for action in ("disable", "remove"):
        answer = browser.post(f"access/providers/{number}/{action}")
        assert (answer.status_code, "comes from the settings" in answer.text) == (400, True)


# --- API tokens ----------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_works_and_is_revoked(chromium, sqlite_server, database_text):
    with window(chromium, sqlite_server) as page:
        page.goto("/portal/access/tokens/add")
        page.get_by_label("Name", exact=True).fill("Deploy")
        page.get_by_label("It ends").select_option("on the day below")
        press(page, "Make the token")
        assert "Day is needed" in refusal(page)
        assert page.get_by_label("Day", exact=True).get_attribute("aria-invalid") == "true"
        page.get_by_label("Day", exact=True).fill("2020-01-01")
        page.get_by_role("checkbox", name=READ).check()
        press(page, "Make the token")
        assert "must end in the future" in refusal(page)
        page.get_by_label("It ends").select_option("in 30 days")
        press(page, "Make the token")
        made = page.locator("#made").inner_text()
        require_well_made(page)
        assert re.fullmatch(r"keyrelay_[0-9a-f]{16}_[0-9a-f]{64}", made)
        bearer = {"authorization": f"Bearer {made}", **V2}
        assert httpx2.get(sqlite_server.url + SMTP, headers=bearer).status_code == 200
        secret = made.rpartition("_")[2]
        for path in ("", "access", "access/tokens", "access/tokens/add", "health", "access/users"):
            page.goto(f"/portal/{path}")
            assert secret not in page.content(), path
        page.goto("/portal/access/tokens")
        assert page.get_by_text("soon").is_visible()
        assert secret.encode() not in database_text()
        page.get_by_text("Revoke", exact=True).click()
        press(page, "Revoke deploy")
        assert "revoked" in told(page)
        assert httpx2.get(sqlite_server.url + SMTP, headers=bearer).status_code == 401


def test_a_token_may_last_for_ever_and_its_name_is_its_own(sqlite_server):
    browser = Browser(sqlite_server)
    for status in (200, 400):
        answer = browser.post("access/tokens/add", name="deploy", ends="never", permission=READ)
        assert answer.status_code == status
    assert "There is a token deploy already" in answer.text
    (token,) = sqlite_server.run(lambda node: ApiTokens(node.store, node.journal).all())
    assert (token.expires_at, token.made_by) == (None, "admin")
    assert browser.post("access/tokens/revoke", name="nothing").status_code == 404


# --- One's own password --------------------------------------------------------------------------------------


def test_somebody_changes_their_own_password_and_stays_signed_in_here_alone(chromium, furnished):
    elsewhere = cookie_of(furnished, "roleless", PASSWORD)
    with window(chromium, furnished, user="roleless", password=PASSWORD) as page:
        page.get_by_role("link", name="change the password").click()
        for current, new, again, wrong in (
            ("not the password", "long enough 2", "long enough 2", "Current password"),
            (PASSWORD, "long enough 2", "long enough 3", "New password, again"),
            (PASSWORD, "short", "short", "New password"),
        ):
            page.get_by_label("Current password").fill(current)
            page.get_by_label("New password", exact=True).fill(new)
            page.get_by_label("New password, again").fill(again)
            press(page, "Change the password")
            assert refusal(page)
            invalid = page.get_by_label(wrong, exact=True)
            assert invalid.get_attribute("aria-invalid") == "true"
            assert invalid.input_value() == ""
        before = page.context.cookies()
        page.get_by_label("Current password").fill(PASSWORD)
        page.get_by_label("New password", exact=True).fill("long enough 2")
        page.get_by_label("New password, again").fill("long enough 2")
        press(page, "Change the password")
        assert "changed" in told(page)
        assert page.context.cookies()[0]["value"] != before[0]["value"]
        assert httpx2.get(f"{furnished.url}/portal/", headers={"cookie": elsewhere}).status_code == 303
        press(page, "Sign out")
        sign_in(page, "roleless", "long enough 2")


def test_guesses_at_the_current_password_are_slowed_down_as_those_at_the_door(sqlite_server):
    browser = Browser(sqlite_server)
    fields = {"current": "a guess", "password": "long enough 2", "again": "long enough 2"}
    found = [browser.post("access/password", **fields).status_code for _ in range(12)]
    assert found[:10] == [401] * 10
    assert found[-1] == 429


# --- Who may what --------------------------------------------------------------------------------------------


class Browser:
    """Somebody who is signed in, and sends forms without a window."""

    def __init__(self, server, user="admin", password=ADMIN_PASSWORD) -> None:
        self._url = server.url + "/portal/"
        self._headers = {"cookie": cookie_of(server, user, password)}
        shown = self.get("access/password").text
        self._token = re.search(r'name="form_token" value="(\w+)"', shown)[1]

    def get(self, path):
        return httpx2.get(self._url + path, headers=self._headers)

    def post(self, path, **fields):
        return httpx2.post(self._url + path, data={"form_token": self._token, **fields}, headers=self._headers)


def actions(server) -> list[tuple[str, dict[str, str]]]:
    roles, claims = (server.run(lambda node, what=what: getattr(node.access, what)()) for what in ("roles", "claims"))
    provider = server.run(lambda node: node.identity_providers.all())[0].id
    at = f"access/claims/{claims[0].id}"
    return [
        ("access/users/add", {"name": "new", "password": PASSWORD}),
        ("access/user/grant", {"name": "viewer", "role": roles[1].name}),
        ("access/user/revoke", {"name": "viewer", "role": "role of viewer"}),
        ("access/user/password", {"name": "viewer", "password": "long enough 9"}),
        ("access/user/remove", {"name": "viewer"}),
        ("access/roles/add", {"name": "new"}),
        (f"access/roles/{roles[1].id}", {"name": "other"}),
        (f"access/roles/{roles[1].id}/remove", {}),
        ("access/claims/add", {"claim_type": "0", "claim_value": "x", "scheme": "keyrelay"}),
        *(
            (at, {"description": "x"}),
            (f"{at}/give", {"role": "x"}),
            (f"{at}/take", {"role": "x"}),
            (f"{at}/remove", {}),
        ),
        (
            "access/providers/add",
            {"scheme": "x", "authority": "https://x.example", "audience": "x", "unchecked": "yes"},
        ),
        *((f"access/providers/{provider}/{action}", {}) for action in ("enable", "disable", "remove")),
        ("access/tokens/add", {"name": "x", "ends": "never", "permission": "/security/read/"}),
        ("access/tokens/revoke", {"name": "deploy"}),
    ]


def forms(answer) -> list[str]:
    return re.findall(r'method="post" action="(?:\./|(?:\.\./)+)([^"]+)"', answer.text)


def test_who_may_only_read_sees_no_form_and_changes_nothing(furnished):
    viewer = Browser(furnished, "viewer", PASSWORD)
    for path in ("access", "access/users", "access/roles", "access/claims", "access/providers", "access/tokens"):
        answer = viewer.get(path)
        assert answer.status_code == 200
        assert forms(answer) == ["sign-out"]
        assert "/add" not in answer.text
    for path in of_each_kind(furnished)[:-1]:
        answer = viewer.get(path)
        assert answer.status_code == 200
        assert forms(answer) == ["sign-out"]
    changes = furnished.run(lambda node: node.store.rows("SELECT COUNT(*) FROM audit_entry WHERE category <> 2012"))
    for path, fields in actions(furnished):
        answer = viewer.post(path, **fields)
        assert (path, answer.status_code) == (path, 403)
        assert "permission_missing" in answer.text
    for path in ("users", "roles", "claims", "providers", "tokens"):
        assert viewer.get(f"access/{path}/add").status_code == 403
    assert changes == furnished.run(
        lambda node: node.store.rows("SELECT COUNT(*) FROM audit_entry WHERE category <> 2012")
    )


def test_who_may_not_read_gets_in_nowhere_but_to_their_own_password(furnished):
    outsider = Browser(furnished, "outsider", PASSWORD)
    for path in (*PAGES, *of_each_kind(furnished)[:-1]):
        assert (path, outsider.get(path).status_code) == (path, 403)
    assert 'href="./access"' not in outsider.get("").text
    assert outsider.get("access/password").status_code == 200


def test_nobody_gives_more_than_they_hold_and_the_form_says_so(furnished):
    furnished.add_user("deputy", PASSWORD, *SECURITY, READ)
    deputy = Browser(furnished, "deputy", PASSWORD)
    for path, fields in (
        ("access/users/add", {"name": "more", "password": PASSWORD, "role": "Administrator"}),
        ("access/user/grant", {"name": "deputy", "role": "Administrator"}),
        ("access/user/password", {"name": "admin", "password": "long enough 9"}),
        ("access/roles/add", {"name": "More", "permission": "/"}),
        ("access/tokens/add", {"name": "more", "ends": "90", "more_permissions": "/pam/read/7/"}),
    ):
        answer = deputy.post(path, **fields)
        assert (path, answer.status_code) == (path, 403)
        assert "cannot give what it does not hold" in answer.text
        assert '<form class="stack' in answer.text
    assert may(furnished, "admin", ADMIN_PASSWORD, SMTP)
    assert deputy.post("access/tokens/add", name="less", ends="90", permission=READ).status_code == 200


def test_what_is_not_there_is_told(furnished):
    browser = Browser(furnished)
    for path in ("access/roles/999", "access/roles/x", "access/claims/0", "access/providers/nothing", "access/user"):
        assert (path, browser.get(path).status_code) == (path, 404)
    assert browser.post("access/user/grant", name="nobody", role="Administrator").status_code == 404
    assert browser.post("access/user/grant", name="viewer", role="Nothing").status_code == 404
    assert browser.post("access/claims/add", claim_type="9", claim_value="", scheme="elsewhere").status_code == 400
