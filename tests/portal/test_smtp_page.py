"""The page of the profile, in a real browser: seeing it, changing it, and deciding when two people do."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window
from playwright.sync_api import Route

from api.pam_kit import SETTINGS, entry, local, provider, vault
from keyrelay.profile import exchange_online
from live import BASIC, OAUTH

PROFILE = "/api/v1/profile"
PASSWORD = "basic-password-1"
HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'`{{7*7}}"


def start_with(server, body=BASIC) -> None:
    server.put_v2(body).raise_for_status()


def open_page(page, query="") -> None:
    page.goto("/portal/smtp" + query)
    assert page.title().startswith("SMTP configuration")


def save(page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def fill_in(page, preset) -> None:
    page.get_by_label("Known relays").select_option(preset)
    page.get_by_role("button", name="Fill in").click()


def credential(page, name):
    return page.get_by_role("group", name=name, exact=True)


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_the_page_is_well_made_in_all_its_states(chromium, module_server, colours, width):
    provider(module_server, f"Local {colours} {width}")
    start_with(module_server)
    with window(chromium, module_server, colours=colours, width=width) as page:
        open_page(page, "?preset=microsoft-365")
        page.get_by_label("OAuth client credentials").check()
        credential(page, "Client secret").get_by_label("From a PAM provider").check()
        page.get_by_text("The same as curl and command line").click()
        require_well_made(page)
        save(page)
        assert "required" in page.get_by_role("alert").inner_text()
        require_well_made(page)
        open_page(page)
        module_server.patch(PROFILE, json={"sender_name": "Theirs"}).raise_for_status()
        page.get_by_label("Sender name").fill("Mine")
        save(page)
        page.get_by_role("heading", name="Somebody else").wait_for()
        require_well_made(page)


def test_a_password_that_is_stored_is_kept_and_never_shown(chromium, module_server):
    start_with(module_server)
    before = module_server.get(PROFILE).json()
    with window(chromium, module_server) as page:
        open_page(page)
        keep = credential(page, "Password").get_by_label("Keep the one that is stored here since")
        assert keep.is_checked()
        assert PASSWORD not in page.content()
        page.get_by_label("Sender name").fill("New name")
        save(page)
        assert "Saved" in page.get_by_role("status").first.inner_text()
        assert page.get_by_label("Sender name").input_value() == "New name"
        assert PASSWORD not in page.content()
    after = module_server.get(PROFILE).json()
    assert after == {**before, "sender_name": "New name"}
    assert [change.field for change in history(module_server)[0].changes] == ["sender_name"]


def history(server):
    return server.run(lambda node: node.keeper.history(limit=5))


def test_another_host_asks_for_the_password_again_at_the_field_and_keeps_what_was_typed(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Host").fill("elsewhere.example.org")
        page.get_by_label("Sender name").fill("Typed")
        save(page)
        assert "secret_required" in page.get_by_role("alert").inner_text()
        group = credential(page, "Password")
        assert "has to be given again" in group.inner_text()
        new = group.get_by_label("New password")
        assert new.get_attribute("aria-invalid") == "true"
        assert new.input_value() == ""
        assert page.get_by_label("Host").input_value() == "elsewhere.example.org"
        assert page.get_by_label("Sender name").input_value() == "Typed"
        assert module_server.get(PROFILE).json()["host"] == BASIC["Host"]
        new.fill("another-password-2")
        save(page)
        page.get_by_text("Saved.").wait_for()
        assert "another-password-2" not in page.content()
    assert module_server.get(PROFILE).json()["host"] == "elsewhere.example.org"


def test_every_mistake_is_told_beside_its_field_and_no_secret_comes_back(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        for label, text in {"Host": "https://x.example/", "Port": "many", "Sender account": "no address"}.items():
            page.get_by_label(label, exact=True).fill(text)
        credential(page, "Password").get_by_label("A new value, stored here").check()
        page.get_by_label("New password").fill("typed-in-vain")
        save(page)
        for field in ("host", "port", "sender_account"):
            control = page.locator(f"#{field}")
            assert control.get_attribute("aria-invalid") == "true"
            assert f"{field}-wrong" in control.get_attribute("aria-describedby")
            assert page.locator(f"#{field}-wrong").inner_text()
        assert page.locator("#sender_name").get_attribute("aria-invalid") is None
        assert page.get_by_label("Port").input_value() == "many"
        assert "typed-in-vain" not in page.content()
        assert page.get_by_label("New password").input_value() == ""


def test_oauth_with_headers_and_a_secret_from_a_provider(chromium, module_server):
    start_with(module_server)
    number = provider(module_server, "Our safe")
    entry(module_server, number, "oauth", "entry-secret-1")
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("OAuth client credentials").check()
        assert not page.get_by_label("User name", exact=True).is_visible()
        page.get_by_label("Client id").fill("client-1")
        group = credential(page, "Client secret")
        group.get_by_label("From a PAM provider").check()
        assert not group.get_by_label("Client secret", exact=True).is_visible()
        group.get_by_label("Our safe").check()
        group.get_by_label("Name of the entry").or_(group.locator(f'[name$=".{number}.SecretName"]')).first.fill(
            "oauth"
        )
        page.get_by_label("Token endpoint").fill("https://login.example.org/token")
        page.get_by_label("Scope").fill("scope-1")
        page.get_by_label("Request headers").fill("X-Tenant: abc\nX-Two: a: b")
        save(page)
        page.get_by_text("Saved.").wait_for()
        assert group.get_by_label("Our safe").is_checked()
    document = module_server.get(PROFILE).json()
    assert document["authentication"] == "oauth_client_credentials"
    assert document["client_secret"] == {"provider": number, "parameters": {"SecretName": "oauth"}}
    assert document["request_headers"] == [{"name": "X-Tenant", "value": "abc"}, {"name": "X-Two", "value": "a: b"}]
    assert document["relay_password"] is None


def test_a_reference_without_its_parameter_is_told_at_the_credential(chromium, module_server):
    start_with(module_server)
    provider(module_server, "Unfinished")
    with window(chromium, module_server) as page:
        open_page(page)
        group = credential(page, "Password")
        group.get_by_label("From a PAM provider").check()
        save(page)
        assert "choose the PAM provider" in group.inner_text()
        group.get_by_label("Unfinished").check()
        save(page)
        assert "needs the parameter SecretName" in group.inner_text()
        assert group.get_by_label("Unfinished").is_checked()


def test_the_words_about_the_wire_follow_port_switch_and_sign_in(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        wire = page.locator("#wire")
        assert "STARTTLS before anything else" in wire.inner_text()
        page.get_by_label("Port").fill("465")
        assert "TLS from the first byte" in wire.inner_text()
        page.get_by_label("Use TLS").uncheck()
        assert "switch TLS on" in wire.inner_text()
        page.get_by_label("Port").fill("25")
        assert "does not sign in" in wire.inner_text()
        page.get_by_label("Anonymous").check()
        assert "mail crosses the network in clear" in wire.inner_text()


def test_a_password_at_microsoft_is_warned_of_at_once_with_the_dates(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        warning = page.get_by_text("end of December 2026")
        assert not warning.is_visible()
        page.get_by_label("Host").fill("smtp.office365.com")
        assert warning.is_visible()
        assert exchange_online.PASSWORDS_END in page.locator("#password-ends").inner_text()
        page.get_by_label("OAuth client credentials").check()
        assert not warning.is_visible()


def test_a_preset_fills_the_form_at_once_keeps_the_sender_and_saves_nothing(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Sender name").fill("Typed before")
        fill_in(page, "microsoft-365-dod")
        page.get_by_role("heading", name="Microsoft 365, US Government DoD").wait_for()
        assert page.get_by_label("Host").input_value() == "outlook-dod.office365.us"
        assert page.get_by_label("Scope").input_value() == "https://outlook-dod.office365.us/.default"
        assert page.get_by_label("OAuth client credentials").is_checked()
        assert page.get_by_label("Sender name").input_value() == "Typed before"
        notes = page.locator("#preset-notes").inner_text()
        assert "KEYRELAY_RELAY_LIMITS=office365, which is not set so on this node: there it is none." in notes
        page.get_by_label("Known relays").select_option("fastmail")  # choosing alone changes nothing
        assert page.get_by_label("Host").input_value() == "outlook-dod.office365.us"
        fill_in(page, "sendgrid")
        page.get_by_role("heading", name="SendGrid").wait_for()
        assert page.get_by_label("User name", exact=True).input_value() == "apikey"
        assert page.get_by_label("Port").input_value() == "587"
        fill_in(page, "fastmail")
        page.get_by_role("heading", name="Fastmail").wait_for()
        assert "TLS from the first byte" in page.locator("#wire").inner_text()
        assert page.get_by_label("Sender name").input_value() == "Typed before"
    assert module_server.get(PROFILE).json()["host"] == BASIC["Host"]


def test_only_the_preset_that_was_asked_for_last_fills_the_form(chromium, module_server):
    start_with(module_server)
    held = []

    def hold(route: Route) -> None:
        held.append(route)

    with window(chromium, module_server) as page:
        open_page(page)
        page.route("**/smtp?preset=sendgrid", hold)
        fill_in(page, "sendgrid")
        fill_in(page, "fastmail")
        page.get_by_role("heading", name="Fastmail").wait_for()
        assert len(held) == 1
        page.get_by_label("Known relays").select_option("sendgrid")
        page.unroute("**/smtp?preset=sendgrid")
        page.route("**/smtp?preset=amazon-ses", lambda route: route.abort())
        fill_in(page, "amazon-ses")
        page.get_by_text("keyrelay does not answer").wait_for()
        assert page.get_by_label("Host").input_value() == "smtp.fastmail.com"


def test_the_limits_that_this_node_keeps_and_the_address_that_it_is_told_are_in_the_page(sqlite_settings, start):
    server = start(replace(sqlite_settings, relay_limits="office365", public_url="https://mail.example.org/keyrelay"))
    start_with(server)
    headers = {"cookie": cookie_of(server)}
    text = httpx2.get(f"{server.url}/portal/smtp?preset=microsoft-365", headers=headers).text
    assert "<code>KEYRELAY_RELAY_LIMITS=office365</code>, which is set so on this node." in text
    assert "-X PATCH https://mail.example.org/keyrelay/api/v1/profile" in text
    assert "KEYRELAY_URL" not in text


def test_without_an_address_of_its_own_the_page_guesses_none(module_server):
    start_with(module_server)
    text = httpx2.get(f"{module_server.url}/portal/smtp", headers={"cookie": cookie_of(module_server)}).text
    assert "-X PATCH &#34;$KEYRELAY_URL/api/v1/profile&#34;" in text
    assert "KEYRELAY_URL is the address of this server" in text


def test_without_script_the_whole_form_works(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server, script=False) as page:
        open_page(page)
        page.get_by_label("Known relays").select_option("amazon-ses")
        page.get_by_role("button", name="Fill in").click()
        assert page.get_by_label("Host").input_value() == "email-smtp.REGION.amazonaws.com"
        assert "eu-west-1" in page.locator("#preset-notes").inner_text()
        page.get_by_label("Host").fill("email-smtp.eu-west-1.amazonaws.com")
        credential(page, "Password").get_by_label("A new value, stored here").check()
        page.get_by_label("New password").fill("ses-password-1")
        page.get_by_text("The same as curl and command line").click()
        page.get_by_role("button", name="Bring up to date with the form").click()
        assert "email-smtp.eu-west-1.amazonaws.com" in page.get_by_label("keyrelay smtp set").inner_text()
        assert "ses-password-1" not in page.content()
        credential(page, "Password").get_by_label("A new value, stored here").check()
        page.get_by_label("New password").fill("ses-password-1")
        save(page)
        assert "Saved" in page.get_by_role("status").first.inner_text()
        assert page.get_by_role("main").get_by_role("link", name="Test", exact=True).is_visible()
    assert module_server.get(PROFILE).json()["host"] == "email-smtp.eu-west-1.amazonaws.com"


def test_with_the_keyboard_alone(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        reach(page, "#host")
        page.keyboard.press("Control+A")
        page.keyboard.type("keyboard.example.org")
        reach(page, "[name='relay_password.source']")
        page.keyboard.press("ArrowDown")
        reach(page, "[name='relay_password.secret_value']")
        page.keyboard.type("typed-by-keyboard")
        reach(page, "#save")
        page.keyboard.press("Enter")
        page.get_by_text("Saved.").wait_for()
    assert module_server.get(PROFILE).json()["host"] == "keyboard.example.org"


def reach(page, selector) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(selector)


def test_of_two_people_the_second_sees_what_differs_and_may_save_anyway(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Sender name").fill("Mine")
        credential(page, "Password").get_by_label("A new value, stored here").check()
        page.get_by_label("New password").fill("my-new-password")
        module_server.patch(PROFILE, json={"sender_name": "Theirs", "sender_account": "theirs@example.org"})
        save(page)
        told = page.get_by_role("region", name="What differs").inner_text()
        assert re.search(r"Sender name\s+Theirs\s+Mine", told)
        assert re.search(r"Sender account\s+theirs@example.org\s+mailer@example.org", told)
        assert re.search(r"Password\s+as stored\s+changed", told)
        assert "my-new-password" not in page.content()
        assert module_server.get(PROFILE).json()["sender_name"] == "Theirs"
        page.get_by_label("New password").fill("my-new-password")
        page.get_by_role("button", name="Save mine anyway").click()
        page.get_by_text("Saved.").wait_for()
    assert module_server.get(PROFILE).json()["sender_name"] == "Mine"


def test_of_two_people_the_second_may_take_theirs(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Sender name").fill("Mine")
        module_server.patch(PROFILE, json={"sender_name": "Theirs"})
        save(page)
        page.get_by_role("link", name="Take theirs").first.click()
        page.get_by_role("link", name="Take theirs").first.wait_for(state="detached")
        assert page.get_by_label("Sender name").input_value() == "Theirs"
    assert module_server.get(PROFILE).json()["sender_name"] == "Theirs"


def test_saving_mine_anyway_conflicts_again_when_it_has_changed_once_more(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Sender name").fill("Mine")
        for theirs in ("First", "Second"):
            module_server.patch(PROFILE, json={"sender_name": theirs})
            page.get_by_role("button", name=re.compile("^Save")).click()
            assert theirs in page.get_by_role("region", name="What differs").inner_text()


def test_the_lines_for_a_terminal_say_what_is_typed_and_no_secret(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        sent = []
        page.on("request", lambda asked: sent.append(asked.post_data or ""))
        page.get_by_label("Host").fill("typed.example.org")
        credential(page, "Password").get_by_label("A new value, stored here").check()
        page.get_by_label("New password").fill("typed-secret-1")
        page.get_by_text("The same as curl and command line").click()
        command = page.get_by_label("keyrelay smtp set")
        page.wait_for_function("() => document.querySelector('#lines pre').textContent.includes('typed.example.org')")
        body = json.loads(command.inner_text().partition("\n")[2].rpartition("\n")[0])
        assert body["host"] == "typed.example.org"
        assert body["relay_password"] == {"secret_value": "<password>"}
        curl = page.get_by_label("curl", exact=True).inner_text()
        assert '-X PATCH "$KEYRELAY_URL/api/v1/profile"' in curl
        assert "if-match" in curl
        assert not any("typed-secret-1" in body for body in sent)


def test_the_lines_do_the_same_as_the_form(module_server):
    start_with(module_server)
    answer = httpx2.get(f"{module_server.url}/portal/smtp", headers={"cookie": cookie_of(module_server)})
    shown = re.search(r'aria-label="keyrelay smtp set">(.*?)</pre>', answer.text, re.DOTALL)[1]
    body = json.loads(shown.replace("&#34;", '"').replace("&lt;", "<").partition("\n")[2].rpartition("\n")[0])
    before = module_server.get(PROFILE)
    assert module_server.patch(PROFILE, json=body, headers={"if-match": before.headers["etag"]}).json() == before.json()


def test_test_these_settings_sends_the_unsaved_form_to_the_test(chromium, module_server):
    start_with(module_server)
    with window(chromium, module_server) as page:
        open_page(page)
        page.get_by_label("Host").fill("unsaved.example.org")
        with page.expect_request("**/portal/test") as asked:
            page.get_by_role("button", name="Test these settings").click()
        assert asked.value.method == "POST"
        assert "host=unsaved.example.org" in asked.value.post_data
        assert "form_token=" in asked.value.post_data


def test_who_may_only_read_sees_the_values_and_no_button(chromium, module_server):
    start_with(module_server)
    module_server.add_user("reader", "reader password 1", SETTINGS[0])
    with window(chromium, module_server, user="reader", password="reader password 1") as page:
        open_page(page)
        assert BASIC["Host"] in page.get_by_role("main").inner_text()
        assert "stored since" in page.get_by_role("main").inner_text()
        assert page.get_by_role("main").get_by_role("button").count() == 0
        assert page.get_by_role("main").get_by_role("textbox").count() == 0
        require_well_made(page)
    cookie = cookie_of(module_server, "reader", "reader password 1")
    token = re.search(
        r'name="form_token" value="([0-9a-f]+)"',
        httpx2.get(f"{module_server.url}/portal/smtp", headers={"cookie": cookie}).text,
    )[1]
    answer = httpx2.post(
        f"{module_server.url}/portal/smtp", data={"form_token": token, "host": "x"}, headers={"cookie": cookie}
    )
    assert answer.status_code == 403
    assert module_server.get(PROFILE).json()["host"] == BASIC["Host"]


def test_who_may_not_read_a_provider_is_not_told_of_it_and_may_not_use_it(chromium, module_server):
    number = provider(module_server, "Secret name of a provider")
    entry(module_server, number, "smtp-pass")
    start_with(module_server, {**BASIC, "RelayPassword": local(number)})
    module_server.add_user("half", "half password 1", *SETTINGS)
    with window(chromium, module_server, user="half", password="half password 1") as page:
        open_page(page)
        assert "Secret name of a provider" not in page.content()
        group = credential(page, "Password")
        assert group.get_by_label(f"PAM provider {number}").is_checked()
        page.get_by_label("Sender name").fill("Not saved")
        save(page)
        assert "permission_missing" in page.get_by_role("alert").inner_text()
        open_page(page)
        page.get_by_label("Anonymous").check()
        save(page)
        page.get_by_text("Saved.").wait_for()
    assert module_server.get(PROFILE).json()["sender_name"] == BASIC["SenderName"]


def test_hostile_strings_are_text(chromium, module_server):
    number = vault(module_server, HOSTILE[:40])
    start_with(
        module_server,
        {
            **OAUTH,
            "SenderName": HOSTILE,
            "ClientId": {"SecretValue": HOSTILE},
            "ClientSecret": {"Provider": number, "Parameters": {"Secret": HOSTILE, "Key": HOSTILE}},
            "Scope": HOSTILE,
            "Audience": HOSTILE,
            "RequestHeaders": [{"Name": "X-Odd", "Value": HOSTILE}],
        },
    )
    with window(chromium, module_server) as page:
        page.on("dialog", lambda dialog: pytest.fail("a script ran"))
        open_page(page)
        assert page.get_by_label("Sender name").input_value() == HOSTILE
        assert page.get_by_label("Client id").input_value() == HOSTILE
        assert HOSTILE in page.get_by_label("Request headers").input_value()
        page.get_by_text("The same as curl and command line").click()
        page.get_by_label("Scope").fill(HOSTILE + "2")
        module_server.patch(PROFILE, json={"sender_name": HOSTILE + "3"})
        save(page)
        assert HOSTILE + "3" in page.get_by_role("region", name="What differs").inner_text()
        assert page.locator("main img").count() == 0
    start_with(module_server)


def test_the_first_profile_is_made_here(chromium, sqlite_server):
    with window(chromium, sqlite_server) as page:
        open_page(page)
        assert "No relay is configured yet" in page.get_by_role("main").inner_text()
        page.get_by_label("Host").fill("mail.example.org")
        page.get_by_label("Sender account").fill("pki@example.org")
        page.get_by_label("Sender name").fill("PKI")
        save(page)
        page.get_by_text("Saved.").wait_for()
    assert sqlite_server.get_v2()["Host"] == "mail.example.org"


def test_the_page_is_small(module_server):
    cookie = {"cookie": cookie_of(module_server)}
    page = httpx2.get(f"{module_server.url}/portal/smtp", headers=cookie)
    links = re.findall(r'(?:href|src)="(\./static/[^"]+)"', page.text)
    assert any(link.endswith("smtp.js") for link in links)
    size = len(page.content) + sum(len(httpx2.get(f"{module_server.url}/portal/{link}").content) for link in links)
    assert size < 100_000
