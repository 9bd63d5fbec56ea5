"""The page about health: versions, nodes, database, keys, and what will end soon."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from browsing import LOOKS, cookie_of, require_well_made, window

from bearing import CHIEF, register
from canary import leaks, new_canary
from ending import write_certificate
from keyrelay import __version__
from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.identity_provider import Client
from keyrelay.secrets.model import SecretText
from keyrelay.store.schema import HEAD
from live import BASIC, LiveServer, settings_for

PASSWORD = "long enough 1"
READ = "/system_settings/read/"
HOSTILE = "<b onclick=alert(1)>vault</b>"
SECRET = new_canary()


@pytest.fixture(scope="module")
def ending(request, tmp_path_factory, sqlite_template):
    """A server where something of each kind ends soon, with names that mean no good."""
    place = tmp_path_factory.mktemp("ending")
    settings = settings_for("sqlite", request, place, sqlite_template)
    (certificate, key), (shown, shown_key) = write_certificate(place, 30, "localhost"), write_certificate(place, 6)
    authorities = write_certificate(place, 45)[0]
    settings = replace(
        settings,
        tls_cert=certificate,
        tls_key=key,
        relay_client_cert=shown,
        relay_client_key=shown_key,
        ca_bundle=authorities,
    )
    server = LiveServer.start(settings)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    server.client.close()
    server.client = httpx2.Client(base_url=server.url, auth=server.auth, timeout=30, verify=trusting)
    server.put_v2(BASIC | {"RelayPassword": {"SecretValue": SECRET}}).raise_for_status()

    async def furnish(node) -> None:
        now = datetime.now(UTC)
        tokens = ApiTokens(node.store, node.journal)
        await tokens.create("deploy", (READ,), now + timedelta(days=20, hours=1), CHIEF)
        await tokens.create("lasting", (READ,), now + timedelta(days=200), CHIEF)

    server.run(furnish)
    register(server, "https://login.example.org/tenant", "corp")
    client = Client("portal", SecretText(SECRET))
    server.run(lambda node: node.identity_providers.set_client("corp", client, CHIEF))
    yield server
    server.stop()


def row(page, title: str) -> str:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=title, exact=True)).inner_text()


@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_what_ends_soon_is_warned_of_on_both_pages(chromium, ending, colours, width):
    with window(chromium, ending, colours=colours, width=width) as page:
        warned = page.locator(".note.warn").inner_text()
        for told in ("ends in 30 days", "ends in 6 days", "ends in 45 days", "An API token ends in 20 days"):
            assert told in warned
        require_well_made(page)
        page.get_by_role("link", name="Health tells what to do").click()
        require_well_made(page)
        assert "warning" in row(page, "Our TLS certificate")
        assert "for localhost" in row(page, "Our TLS certificate")
        assert "failure" in row(page, "Client certificates for relays and vaults")
        assert "warning" in row(page, "Authorities trusted besides")
        end = f"{datetime.now(UTC) + timedelta(days=30, hours=1):%Y-%m-%d}"
        assert end in row(page, "Our TLS certificate")
        assert "deploy" in row(page, "deploy")
        assert page.get_by_text("lasting").count() == 0
        assert "0 days" in row(page, "The relay password of the profile")
        assert "0 days" in row(page, "The client secret at the identity provider corp")
        assert "keyrelay does not keep what smtp.example.org shows" in row(page, "The relay's certificate")
        assert leaks({"secret": SECRET}, page.content().encode()) == []


def test_the_metrics_tell_when_our_certificate_ends(ending, module_server):
    name = "keyrelay_certificate_end_time_seconds"
    (line,) = [line for line in ending.get("/metrics").text.splitlines() if line.startswith(name)]
    left = float(line.removeprefix(name)) - datetime.now(UTC).timestamp()
    assert 29 < left / 86_400 < 31
    assert f"\n{name}" not in module_server.get("/metrics").text


def test_the_page_tells_versions_nodes_database_and_keys_without_script(chromium, module_server, eventually):
    def nodes() -> str:
        answer = httpx2.get(f"{module_server.url}/portal/health", headers={"cookie": cookie})
        return answer.text

    cookie = cookie_of(module_server)
    eventually(lambda: "1 node is alive" in nodes())
    with window(chromium, module_server, script=False) as page:
        assert page.locator(".note.warn").count() == 0
        page.goto("/portal/health")
        assert f"Version {__version__}" in row(page, "keyrelay")
        assert "Python 3." in row(page, "Python")
        assert "SQLite 3." in row(page, "Database")
        assert f"schema {HEAD}" in row(page, "Database")
        assert "takes changes" in row(page, "Database")
        assert "keyrelay speaks http" in row(page, "Our TLS certificate")
        assert "current" in row(page, "1")
        assert page.get_by_role("table", name="Processes that are alive").get_by_role("row").count() == 2


def test_older_keys_are_told_from_the_current_one(sqlite_server):
    async def rotate(node) -> None:
        async with node.store.change("keys") as change:
            await node.keyring.add_key(change)

    sqlite_server.run(rotate)
    shown = httpx2.get(f"{sqlite_server.url}/portal/health", headers={"cookie": cookie_of(sqlite_server)}).text
    new, old = (shown.partition(f'<th scope="row">{number}</th>')[2].partition("</tr>")[0] for number in (2, 1))
    assert "current" in new
    assert "only decrypts" in old


def test_who_may_not_see_access_or_vaults_is_told_no_names(sqlite_server):
    number = sqlite_server.post(
        "/KeyfactorAPI/PamProviders/Types",
        json={
            "Name": "X",
            "Parameters": [{"Name": "Token", "DisplayName": "Token", "InstanceLevel": False, "DataType": 2}],
        },
        headers={"x-keyfactor-requested-with": "APIClient", "x-keyfactor-api-version": "1"},
    ).json()
    sqlite_server.post(
        "/KeyfactorAPI/PamProviders",
        json={
            "Name": HOSTILE,
            "ProviderType": {"Id": number["Id"]},
            "ProviderTypeParamValues": [{"Value": SECRET, "ProviderTypeParam": {"Name": "Token"}}],
        },
        headers={"x-keyfactor-requested-with": "APIClient", "x-keyfactor-api-version": "1"},
    ).raise_for_status()

    async def furnish(node) -> None:
        soon = datetime.now(UTC) + timedelta(days=20, hours=1)
        await ApiTokens(node.store, node.journal).create("deploy", (READ,), soon, CHIEF)

    sqlite_server.run(furnish)
    sqlite_server.add_user("reader", PASSWORD, READ)
    sqlite_server.add_user("outsider", PASSWORD, "/pam/read/")
    chief, reader, outsider = (
        httpx2.get(f"{sqlite_server.url}/portal/health", headers={"cookie": cookie})
        for cookie in (
            cookie_of(sqlite_server),
            cookie_of(sqlite_server, "reader", PASSWORD),
            cookie_of(sqlite_server, "outsider", PASSWORD),
        )
    )
    assert "deploy" in chief.text
    assert "Token of the PAM provider &lt;b onclick=alert(1)&gt;vault" in chief.text
    assert "<b onclick" not in chief.text
    assert "An API token ends in 20 days." in reader.text
    assert "deploy" not in reader.text
    assert "vault" not in reader.text.partition("<main")[2].partition("stored here")[2]
    assert outsider.status_code == 403
    assert leaks({"secret": SECRET}, chief.content) == []
    home = httpx2.get(
        f"{sqlite_server.url}/portal/", headers={"cookie": cookie_of(sqlite_server, "outsider", PASSWORD)}
    )
    assert "An API token ends" not in home.text
