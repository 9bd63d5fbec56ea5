"""PAM providers and local entries in the portal, in a real browser, against a vault over TLS."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window

from canary import leaks, new_canary
from keyrelay.pam.local import EntryDraft
from keyrelay.secrets.model import SecretText
from live import V1, V2, LiveServer, settings_for
from pam.double import Answered, says
from vaulting import TYPE, SimpleVault

PASSWORD = "long enough 1"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
API = "/KeyfactorAPI/PamProviders"


@pytest.fixture(scope="module")
def vault(tmp_path_factory) -> Iterator[SimpleVault]:
    with SimpleVault(tmp_path_factory.mktemp("vault")) as vault:
        vault.secrets["mail/smtp"] = new_canary()
        yield vault


@pytest.fixture(scope="module")
def server(request, tmp_path_factory, sqlite_template, vault) -> Iterator[LiveServer]:
    """One server for the module, which trusts the vault."""
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("pam"), sqlite_template)
    server = LiveServer.start(replace(settings, ca_bundle=vault.authority, pam_seconds=3, tests_per_minute=100))
    yield server
    server.stop()


def made(server: LiveServer, name: str, kind: str = "LocalDB", given: dict[str, str] | None = None) -> int:
    """A provider by the API, and its number."""
    (found,) = [each for each in server.get(f"{API}/Types").json() if each["Name"] == kind]
    values = [{"Value": value, "ProviderTypeParam": {"Name": name}} for name, value in (given or {}).items()]
    body = {"Name": name, "ProviderType": {"Id": found["Id"]}, "ProviderTypeParamValues": values}
    answer = server.post(API, json=body, headers=V1)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["Id"])


def entry(server: LiveServer, number: int, name: str, secret: str, description: str | None = None) -> None:
    body = {"SecretName": name, "SecretValue": secret, "Description": description}
    server.post(f"{API}/Local/{number}/Entries", json=body, headers=V1).raise_for_status()


def names(server: LiveServer) -> list[str]:
    return [each["Name"] for each in server.get(API, params={"ReturnLimit": 1000}).json()]


def entries(server: LiveServer, number: int) -> dict[str, str | None]:
    listed = server.get(f"{API}/Local/{number}/Entries", params={"ReturnLimit": 1000}).json()
    return {each["SecretName"]: each["Description"] for each in listed}


def value(server: LiveServer, number: int, name: str) -> str:
    """What the entry holds, which no page tells."""

    async def fetch(node):
        from keyrelay.secrets.model import FromPam

        fetched = await node.vaults.fetch(FromPam(number, {"SecretName": name}), not_before=node.vaults.clock())
        return fetched.text.reveal()

    return server.run(fetch)


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_every_page_is_well_made(chromium, server, vault, colours, width):
    look = f"{colours} {width}"
    number = made(server, f"Local {look}")
    entry(server, number, "smtp", "value-1", "For the relay\nof the house")
    far = made(server, f"Vault {look}", TYPE, vault.values)
    with window(chromium, server, colours=colours, width=width) as page:

        def well_made(path: str, *opened: str) -> None:
            if path:
                page.goto(f"/portal/pam{path}")
            for text in opened:
                page.get_by_text(text, exact=True).click()
            require_well_made(page)

        well_made("?find=local")
        well_made("/types", "Hashicorp-Vault-AppRole")
        page.goto("/portal/pam/add")
        page.get_by_label("Type", exact=True).select_option(TYPE)
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Add the provider").click()
        well_made("")
        page.goto(f"/portal/pam/{far}")
        page.get_by_role("button", name="Try", exact=True).click()
        well_made("", f"Remove Vault {look}")
        well_made(f"/{far}/change")
        well_made(f"/{number}/entries")
        well_made(f"/{number}/entry?name=smtp", "Remove smtp")


def test_a_vault_is_added_and_tried_with_script_switched_off(chromium, server, vault):
    shown = []
    with window(chromium, server, script=False) as page:
        page.on("response", lambda answer: shown.append(answer.url))
        page.goto("/portal/")
        page.get_by_role("link", name="PAM providers").click()
        page.get_by_role("link", name="Add a provider").click()
        page.get_by_label("Type", exact=True).select_option(TYPE)
        page.get_by_role("button", name="Go on").click()
        # What is missing is told beside its field, and nothing is lost but the secret.
        page.get_by_label("Name", exact=True).fill("House vault")
        page.get_by_label("Vault Token (Token)").fill(vault.token)
        page.get_by_label("KV Engine Path (Path)").fill("v1/secret/data")
        page.get_by_role("button", name="Add the provider").click()
        host = page.get_by_label("Vault Host (Host)")
        assert host.get_attribute("aria-invalid") == "true"
        beside = host.get_attribute("aria-describedby").split()[1]
        assert "Host needs a value" in page.locator(f"#{beside}").inner_text()
        assert page.get_by_label("KV Engine Path (Path)").input_value() == "v1/secret/data"
        assert page.get_by_label("Vault Token (Token)").input_value() == ""
        host.fill(vault.url)
        page.get_by_label("Vault Token (Token)").fill(vault.token)
        page.get_by_role("button", name="Add the provider").click()
        assert page.get_by_role("status").inner_text() == "The provider was added."
        facts = page.locator("dl.facts").inner_text()
        assert vault.url in facts
        assert "there since" in facts
        told = page.content()

        def tried(secret: str, key: str = "value") -> str:
            page.get_by_label("KV Secret Name (Secret)").fill(secret)
            page.get_by_label("KV Secret Key (Key)").fill(key)
            page.get_by_role("button", name="Try", exact=True).click()
            nonlocal told
            told += page.content()
            return page.get_by_role("status").inner_text()

        assert re.match(r"Found after [0-9.]+ ms\. The vault gives this secret\.", tried("mail/smtp"))
        assert page.get_by_label("KV Secret Name (Secret)").input_value() == "mail/smtp"
        assert "What to do:" in tried("mail/none")
        vault.trouble = says({"errors": [HOSTILE]}, 403)
        assert "Denied after" in tried("mail/smtp")
        vault.trouble = Answered(200, b"{}", wait=20)
        assert "Timeout after" in tried("mail/smtp")
        vault.trouble = None
    assert leaks({"value": vault.secrets["mail/smtp"], "token": vault.token}, told.encode()) == []
    assert leaks({"value": vault.secrets["mail/smtp"], "token": vault.token}, "\n".join(shown).encode()) == []
    assert trials(server, "House vault") == ["found", "not_found", "denied", "timeout"]


def test_a_provider_keeps_its_secret_as_long_as_it_may_and_is_removed(chromium, server, vault):
    number = made(server, "Before", TYPE, vault.values)
    with window(chromium, server, script=False) as page:
        page.goto(f"/portal/pam/{number}/change")
        told = page.content()
        page.get_by_label("Name", exact=True).fill("Vault of the house")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_role("status").inner_text() == "The provider was changed."
        page.get_by_label("KV Secret Name (Secret)").fill("mail/smtp")
        page.get_by_label("KV Secret Key (Key)").fill("value")
        page.get_by_role("button", name="Try", exact=True).click()
        assert "Found" in page.get_by_role("status").inner_text()
        page.get_by_role("link", name="Change", exact=True).click()
        page.get_by_label("KV Engine Path (Path)").fill("v1/other/data")
        page.get_by_role("button", name="Save").click()
        assert "must be given again" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Vault Token (Token)").get_attribute("aria-invalid") == "true"
        told += page.content()
        page.goto(f"/portal/pam/{number}")
        page.get_by_text("Remove Vault of the house").click()
        page.get_by_role("button", name="Remove the provider").click()
        assert page.get_by_role("status").inner_text() == "The provider was removed."
        assert "Vault of the house" not in names(server)
    assert leaks({"value": vault.secrets["mail/smtp"], "token": vault.token}, told.encode()) == []
    assert trials(server, "Vault of the house") == ["found"]


def trials(server: LiveServer, name: str) -> list[str]:
    """What the audit trail tells of every try of a provider."""
    sql = "SELECT details FROM audit_entry WHERE name = $1 ORDER BY id"
    details = [json.loads(row[0])["details"] for row in server.run(lambda node: node.store.rows(sql, name))]
    return [each["verdict"] for each in details if "verdict" in each]


def test_an_entry_is_added_changed_and_removed_and_its_value_shown_nowhere(chromium, server):
    number = made(server, "Of the house")
    first, second = new_canary(), new_canary()
    told = ""
    with window(chromium, server) as page:
        page.goto(f"/portal/pam/{number}")
        page.get_by_role("link", name="Entries", exact=True).click()
        page.get_by_role("button", name="Add the entry").click()
        assert page.get_by_label("Name", exact=True).get_attribute("aria-invalid") == "true"
        assert page.get_by_label("Value", exact=True).get_attribute("aria-invalid") == "true"
        page.get_by_label("Name", exact=True).fill("Smtp & <Pass>")
        page.get_by_label("Description", exact=True).fill("for the relay")
        page.get_by_label("Value", exact=True).fill(first)
        page.get_by_role("button", name="Add the entry").click()
        assert page.get_by_role("status").inner_text() == "The entry was added."
        assert value(server, number, "Smtp & <Pass>") == first
        # A second one of that name is refused, and what was typed is still there, but for the value.
        page.get_by_label("Name", exact=True).fill("Smtp & <Pass>")
        page.get_by_label("Value", exact=True).fill(second)
        page.get_by_role("button", name="Add the entry").click()
        assert "already" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Name", exact=True).input_value() == "Smtp & <Pass>"
        assert page.get_by_label("Value", exact=True).input_value() == ""
        told += page.content()
        page.get_by_role("link", name="Smtp & <Pass>").click()
        told += page.content()
        page.get_by_label("Description", exact=True).fill("for another")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_role("status").inner_text() == "The entry was changed."
        assert value(server, number, "Smtp & <Pass>") == first
        page.get_by_role("link", name="Smtp & <Pass>").click()
        page.get_by_label("New value").fill(second)
        page.get_by_role("button", name="Save").click()
        assert value(server, number, "Smtp & <Pass>") == second
        assert entries(server, number) == {"Smtp & <Pass>": "for another"}
        page.get_by_role("link", name="Smtp & <Pass>").click()
        page.get_by_text("Remove Smtp").click()
        told += page.content()
        page.get_by_role("button", name="Remove the entry").click()
        assert "value erased" in page.get_by_role("status").inner_text()
        assert entries(server, number) == {}
    assert leaks({"first": first, "second": second}, told.encode()) == []


def test_the_keyboard_alone_adds_a_provider_and_tries_an_entry(chromium, server):
    with window(chromium, server) as page:
        page.goto("/portal/pam/add")

        def reach(name: str, role: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                held = page.evaluate(
                    "[document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText,"
                    " document.activeElement.tagName]"
                )
                if name in (held[0] or "") and held[1] == role:
                    return
            raise AssertionError(f"{name} cannot be reached")

        reach("Type", "SELECT")
        page.keyboard.type("LocalDB")
        reach("Go on", "BUTTON")
        page.keyboard.press("Enter")
        page.wait_for_url("**/pam/add?type=*")
        reach("Name", "INPUT")
        page.keyboard.type("By keyboard")
        page.keyboard.press("Enter")
        page.wait_for_url("**/pam/*?done=added")
        number = int(page.url.rpartition("/")[2].partition("?")[0])
        entry(server, number, "smtp", "value-1")
        reach("Secret name", "INPUT")
        page.keyboard.type("smtp")
        reach("Try", "BUTTON")
        page.keyboard.press("Space")
        assert "Found" in page.locator(".note.good strong").inner_text()


def test_what_the_profile_uses_is_told_and_cannot_be_taken_away(chromium, server):
    number = made(server, "In use")
    entry(server, number, "smtp-pass", "value-1")
    profile = {
        "Host": "smtp.example.org",
        "Port": 587,
        "RelayAuthenticationType": 2,
        "UseSSL": True,
        "RelayUsername": {"SecretValue": "mailer@example.org"},
        "RelayPassword": {"Provider": number, "Parameters": {"SecretName": "smtp-pass"}},
        "SenderAccount": "mailer@example.org",
        "SenderName": "PKI",
    }
    server.put_v2(profile).raise_for_status()
    with window(chromium, server) as page:
        page.goto("/portal/pam?find=in use")
        assert page.get_by_text("used by the SMTP profile").count() == 1
        page.get_by_role("link", name="In use").click()
        assert "the relay password of the SMTP profile" in page.locator("dl.facts").inner_text()
        page.get_by_text("Remove In use").click()
        page.get_by_role("button", name="Remove the provider").click()
        assert "is used by the relay password of the SMTP profile" in page.get_by_role("alert").inner_text()
        require_well_made(page)
        page.get_by_role("link", name="Entries", exact=True).click()
        page.get_by_role("link", name="smtp-pass").click()
        page.get_by_text("Remove smtp-pass").click()
        page.get_by_role("button", name="Remove the entry").click()
        assert "is used by the relay password" in page.get_by_role("alert").inner_text()
        page.goto(f"/portal/pam/{number}/change")
        page.get_by_label("Remote").check()
        page.get_by_role("button", name="Save").click()
        assert "cannot become remote" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Remote").is_checked()
    assert list(entries(server, number)) == ["smtp-pass"]
    server.put_v2(
        {**profile, "RelayPassword": {"SecretValue": "stored-1"}},
    ).raise_for_status()


def test_hostile_names_and_words_of_a_vault_are_text(chromium, server, vault):
    number = made(server, HOSTILE)
    entry(server, number, HOSTILE, "value-1", HOSTILE)
    server.post(f"{API}/Types", json={"Name": HOSTILE, "Parameters": [{"Name": HOSTILE, "DataType": 1}]}, headers=V1)
    odd = made(server, "Odd", HOSTILE, {HOSTILE: HOSTILE})
    with window(chromium, server) as page:
        page.goto("/portal/pam")
        assert page.get_by_role("link", name=HOSTILE).count() == 1
        page.goto("/portal/pam/types")
        assert page.get_by_role("heading", name=HOSTILE).count() == 1
        page.goto(f"/portal/pam/{odd}")
        assert "No plug-in" in page.locator("main").inner_text()
        assert page.get_by_role("button", name="Try", exact=True).count() == 0
        assert HOSTILE in page.locator("dl.facts").inner_text()
        page.goto(f"/portal/pam/{odd}/change")
        page.get_by_role("button", name="Save").click()
        page.goto(f"/portal/pam/{number}")
        page.get_by_label("Secret Name").fill(HOSTILE)
        page.get_by_role("button", name="Try", exact=True).click()
        assert "Found" in page.locator(".note.good").inner_text()
        page.get_by_role("link", name="Entries", exact=True).click()
        page.get_by_role("link", name=HOSTILE).first.click()
        assert page.get_by_label("Description").input_value() == HOSTILE
        page.get_by_label("New value").fill("********")
        page.get_by_role("button", name="Save").click()
        assert "mask" in page.get_by_role("alert").inner_text()
        for query in (f"find={HOSTILE}", f"done={HOSTILE}", f"page={HOSTILE}"):
            page.goto(f"/portal/pam?{query}")
            assert page.get_by_role("status").count() == 0
        page.goto(f"/portal/pam/{number}/entries?find={HOSTILE}")
        assert page.get_by_role("link", name=HOSTILE).count() == 2


def test_a_secret_that_is_optional_can_be_taken_away(chromium, server):
    number = made(server, "Amazon", "AWS-SecretsManager", {"Region": "eu-central-1", "AccessKeyId": "AKIAQQQQQQ"})
    with window(chromium, server) as page:
        page.goto(f"/portal/pam/{number}")
        assert "there since" in page.locator("dl.facts").inner_text()
        page.get_by_role("link", name="Change", exact=True).click()
        page.get_by_label("Take away what is there for Access Key ID").check()
        page.get_by_role("button", name="Save").click()
        assert "there since" not in page.locator("dl.facts").inner_text()


@pytest.fixture(scope="module")
def two(server) -> tuple[int, int]:
    return made(server, "Readable"), made(server, "Hidden")


@pytest.mark.parametrize(
    ("permissions", "may"),
    [
        (("/",), {"read", "read other", "modify", "add"}),
        (("/pam/read/",), {"read", "read other"}),
        (("/pam/read/{id}/",), {"read"}),
        (("/pam/read/{id}/", "/pam/modify/{id}/"), {"read", "modify"}),
        (("/pam/modify/",), {"add"}),  # a page shows what it changes
        (("/pam/read/{other}/",), {"read other"}),
        (("/system_settings/",), set()),
    ],
    ids=lambda given: " ".join(sorted(given)) or "nothing",
)
def test_who_may_do_what(server, two, permissions, may):
    reads, reads_other, modifies, adds = (each in may for each in ("read", "read other", "modify", "add"))
    number, other = two
    user = "user" + "+".join(permissions).replace("/", ".").replace("{", "").replace("}", "")
    server.add_user(user, PASSWORD, *(each.format(id=number, other=other) for each in permissions))
    headers = {"cookie": cookie_of(server, user, PASSWORD)}
    with httpx2.Client(base_url=f"{server.url}/portal/", headers=headers) as client:
        home = client.get("")
        token = re.search(r'name="form_token" value="([^"]+)"', home.text)[1]

        def post(path: str, **fields: str) -> int:
            return client.post(path, data={"form_token": token, **fields}).status_code

        def expected(*, may: bool, well: int) -> int:
            return well if may else 403

        for path in (f"pam/{number}", f"pam/{number}/entries"):
            assert client.get(path).status_code == expected(may=reads, well=200), path
        assert client.get(f"pam/{other}").status_code == expected(may=reads_other, well=200)
        # Each button is there for whoever may do it, and the server refuses everybody else.
        one = client.get(f"pam/{number}").text
        for what in (f"pam/{number}/change", "Remove the provider"):
            assert (what in one) == modifies, what
        assert ("Add the entry" in client.get(f"pam/{number}/entries").text) == modifies
        assert client.get(f"pam/{number}/change").status_code == expected(may=modifies, well=200)
        assert post(f"pam/{number}/try") == expected(may=reads, well=200)
        assert post(f"pam/{number}/entries", secret_name=user, secret_value="x") == expected(may=modifies, well=303)
        assert post(f"pam/{number}/entry", name=user, description="y") == expected(may=modifies, well=303)
        assert post(f"pam/{number}/entry/remove", name=user) == expected(may=modifies, well=303)
        assert post(f"pam/{number}/change", name="Readable") == expected(may=modifies, well=303)
        if not modifies:
            assert post(f"pam/{number}/remove") == 403
        # The list has what may be read, and nothing else.
        listed = client.get("pam")
        assert listed.status_code == expected(may=reads or reads_other, well=200)
        assert (">Readable<" in listed.text) == reads
        assert (">Hidden<" in listed.text) == reads_other
        assert (">PAM providers<" in home.text) == (reads or reads_other)
        if listed.status_code == 200:
            assert ("Add a provider" in listed.text) == adds
        kind = server.run(lambda node: node.providers.catalogue()).type_named("LocalDB").id
        assert client.get("pam/add").status_code == expected(may=adds, well=200)
        assert post("pam/add", type=kind, name=f"By {user}") == expected(may=adds, well=303)
    assert (f"By {user}" in names(server)) == adds


def test_a_form_without_its_token_changes_nothing(server, two):
    headers = {"cookie": cookie_of(server)}
    for path in ("remove", "entries", "entry", "entry/remove", "change", "try"):
        answer = httpx2.post(f"{server.url}/portal/pam/{two[0]}/{path}", data={"name": "x"}, headers=headers)
        assert answer.status_code == 400, path
        assert "form_not_ours" in answer.text
    assert "Readable" in names(server)


@pytest.mark.parametrize("path", ["99999", "x", "-1", "99999999999999", "99999/entries", "99999/entry?name=x"])
def test_a_provider_that_there_is_not_is_a_page_that_says_so(server, path):
    answer = httpx2.get(f"{server.url}/portal/pam/{path}", headers={"cookie": cookie_of(server)})
    assert answer.status_code == 404
    assert "There is no" in answer.text


def test_nine_thousand_entries_are_shown_a_page_at_a_time(chromium, server):
    number = made(server, "Many")

    async def fill(node):
        async with node.store.change("pam") as change:
            from keyrelay.pam import local

            await local.insert(
                change,
                node.keyring,
                number,
                EntryDraft(name="entry 0", description=None, secret=SecretText("x")),
            )
            await change.run(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8999)"
                " INSERT INTO pam_entry (provider, name, description, secret, changed_at)"
                " SELECT provider, 'entry ' || i, 'number ' || i, secret, changed_at FROM pam_entry, n"
                " WHERE provider = $1 AND name = 'entry 0'",
                number,
            )

    server.run(fill)
    headers = {"cookie": cookie_of(server)}
    with httpx2.Client(base_url=server.url, headers=headers) as client:
        path = f"/portal/pam/{number}/entries"
        client.get(path)
        took = []
        for page in ("1", "90", "180", "9999999", "-1", "²"):
            began = time.perf_counter()
            answer = client.get(path, params={"page": page})
            took.append(time.perf_counter() - began)
            assert answer.text.count("<tr>") == 51
            assert "of 9,000 entries" in answer.text
        assert len(answer.content) < 60_000
        assert sorted(took)[1] < 0.2, took
    with window(chromium, server) as page:
        page.goto(f"/portal/pam/{number}/entries")
        page.get_by_role("link", name="More").click()
        assert "51 to 100 of 9,000" in page.locator("main").inner_text()
        page.get_by_label("Name or description").fill("NUMBER 4242")
        page.get_by_role("button", name="Search").click()
        assert page.get_by_role("link", name="entry 4242").count() == 1
        assert "1 to 1 of 1" in page.locator("main").inner_text()
    server.request("DELETE", f"{API}/{number}", headers=V2)
