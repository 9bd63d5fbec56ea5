"""A stored secret is only ever sent to the destination it was given for (design 6.2)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from complaints import OWN, complaint, nothing_changes
from keyrelay.errors import KeyUnknown, SecretGone
from keyrelay.profile.model import Destination, TransportSecurity
from keyrelay.secrets import stored
from keyrelay.secrets.model import Stored
from live import ANONYMOUS, BASIC, OAUTH, SMTP, V1, V2, LiveServer, run_keyrelay

PASSWORD, CLIENT_SECRET = "basic-password-1", "client-secret-1"
ELSEWHERE = {
    "host": "evil.example.net",
    "port": 465,
    "use_ssl": False,
    "relay_username": {"secret_value": "somebody-else"},
}
OAUTH_ELSEWHERE = {
    "host": "evil.example.net",
    "port": 2525,
    "use_ssl": False,
    "token_endpoint": "https://evil.example.net/token",
    "scope": "https://evil.example.net/.default",
    "audience": "somebody-else",
    "client_id": {"secret_value": "somebody-else"},
}
CHANGES = [
    *((BASIC, "relay_password", field, value) for field, value in ELSEWHERE.items()),
    *((OAUTH, "client_secret", field, value) for field, value in OAUTH_ELSEWHERE.items()),
    (OAUTH, "client_secret", "scope", None),
]
# Asterisks, then bullets, then circles and blocks, in all the variants that pages and fonts use.
_STARS = "*\u2217\u204e\u2731\u2732\u2733\uff0a\ufe61\u066d"
_BULLETS = "\u2022\u2023\u2043\u204c\u204d\u2219\u22c5\u00b7\u30fb\uff65\u25e6\u25d8\u29be\u29bf\u2218\U0001f784"
_BLOCKS = "\u25cf\u25cb\u2b24\u26ab\u26aa\u23fa\u25a0\u25aa\u2588\U0001f534"
MASKS = [
    "*",
    *(character * 4 for character in _STARS + _BULLETS + _BLOCKS),
    *("* * * *", "  ****  ", "****\u00a0", "**\u2022\u2022\u25cf\u25cf"),
    *("\u2022\u200b\u2022\u200b\u2022", "\u25cf\ufe0f\u25cf\ufe0f"),
]


def open_stored(server: LiveServer, field: str, source: Stored, destination: Destination) -> str:
    """Open a stored secret as its use in ``field`` at ``destination`` does."""

    async def reveal(node: Any) -> str:
        text = await stored.reveal(node.store, node.keyring, source, field=field, destination=destination.text())
        return text.reveal()

    return server.run(reveal)


def stored_secrets(server: LiveServer) -> tuple[Destination, dict[str, Stored]]:
    async def look(node: Any) -> tuple[Destination, dict[str, Stored]]:
        snapshot = await node.keeper.snapshot()
        return snapshot.profile.destination, dict(snapshot.profile.secrets())

    return server.run(look)


def hidden_secret(server: LiveServer) -> str:
    """The stored password or client secret, opened for the profile's own destination."""
    destination, secrets = stored_secrets(server)
    field = "relay_password" if "relay_password" in secrets else "client_secret"
    return open_stored(server, field, secrets[field], destination)


@pytest.mark.parametrize(("body", "secret", "field", "value"), CHANGES)
def test_a_secret_does_not_follow_a_change_of(body, secret, field, value, module_server):
    module_server.put_v2(body).raise_for_status()
    for rehearsal in ({"dry_run": "true"}, {}):
        with nothing_changes(module_server):
            refused = module_server.patch(OWN, json={field: value}, params=rehearsal)
            assert secret in complaint(refused, 400)
            assert refused.json()["code"] == "secret_required"
            assert [error["field"] for error in refused.json()["errors"]] == [secret]
    accepted = module_server.patch(OWN, json={field: value, secret: {"secret_value": "given-again"}})
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()[field] == value
    assert hidden_secret(module_server) == "given-again"


@pytest.mark.parametrize(("body", "secret"), [(BASIC, PASSWORD), (OAUTH, CLIENT_SECRET)])
@pytest.mark.parametrize(
    "harmless", [{"sender_name": "Mail"}, {"sender_account": "other@example.org"}, {"host": "SMTP.Example.ORG"}, {}]
)
def test_a_secret_stays_when_its_destination_does(body, secret, harmless, module_server):
    module_server.put_v2(body).raise_for_status()
    assert module_server.patch(OWN, json=harmless).status_code == 200
    assert hidden_secret(module_server) == secret


@pytest.mark.parametrize(("body", "secret"), [(BASIC, "relay_password"), (OAUTH, "client_secret")])
def test_a_secret_is_not_smuggled_along_in_two_steps(body, secret, module_server):
    """Away from the sign-in and back again elsewhere: the old secret is gone by then."""
    module_server.put_v2(body).raise_for_status()
    sign_in = module_server.get(OWN).json()["authentication"]
    assert module_server.patch(OWN, json={"authentication": "anonymous"}).status_code == 200
    assert module_server.patch(OWN, json={"host": "evil.example.net"}).status_code == 200
    with nothing_changes(module_server):
        assert secret in complaint(module_server.patch(OWN, json={"authentication": sign_in}), 400)


def test_neither_null_nor_an_empty_secret_counts_as_given_again(module_server):
    module_server.put_v2(BASIC).raise_for_status()
    for given in (None, {}, {"secret_value": None}, {"secret_value": ""}, {"provider": None}):
        with nothing_changes(module_server):
            change = {"host": "evil.example.net", "relay_password": given}
            assert "relay_password" in complaint(module_server.patch(OWN, json=change), 400)


def test_a_put_without_the_secret_never_takes_the_stored_one(module_server):
    for body, secret, own_secret in (
        (BASIC, "RelayPassword", "relay_password"),
        (OAUTH, "ClientSecret", "client_secret"),
    ):
        module_server.put_v2(body).raise_for_status()
        shown = module_server.get(OWN).json()
        for name in ("relay_username", "relay_password", "client_id", "client_secret"):
            if name == own_secret or shown[name] is None:
                del shown[name]
        with nothing_changes(module_server):
            incomplete = {key: value for key, value in body.items() if key != secret}
            assert secret in complaint(module_server.put_v2(incomplete), 400)
            assert secret in complaint(module_server.put_v2(module_server.get_v2()), 400)
            assert own_secret in complaint(module_server.put(OWN, json=shown), 400)


def test_the_command_line_does_not_lure_a_secret_away_either(sqlite_settings, start):
    server = start(sqlite_settings)
    server.put_v2(BASIC).raise_for_status()
    environment = {"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir)}
    with nothing_changes(server):
        done = run_keyrelay(environment, "smtp", "set", "-", given='{"host": "evil.example.net"}')
        assert done.returncode == 1
        assert "[secret_required]" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("mask", MASKS)
def test_the_picture_of_a_secret_is_no_secret(mask, module_server):
    v1 = BASIC | {"RelayUsername": "mailer", "TestRecipient": "ops@example.org"}
    v2 = {"TestRecipient": "ops@example.org"}
    given, own = {"SecretValue": mask}, {"secret_value": mask}
    module_server.put_v2(BASIC).raise_for_status()
    with nothing_changes(module_server):
        for answer, field in (
            (module_server.put_v1(v1 | {"RelayPassword": mask}), "RelayPassword"),
            (module_server.put(SMTP, headers=V1, data=v1 | {"RelayPassword": mask}), "RelayPassword"),
            (module_server.put_v2(BASIC | {"RelayPassword": given}), "RelayPassword"),
            (module_server.put_v2(OAUTH | {"ClientSecret": given}), "ClientSecret"),
            (module_server.post(SMTP + "/Test", headers=V1, json=v1 | {"RelayPassword": mask}), "RelayPassword"),
            (module_server.post(SMTP + "/Test", headers=V2, json=OAUTH | v2 | {"ClientSecret": given}), "ClientSecret"),
            (module_server.patch(OWN, json={"relay_password": own}), "relay_password"),
            (module_server.patch(OWN, json={"relay_username": own}), "relay_username"),
        ):
            assert field in complaint(answer, 400)


@pytest.mark.parametrize("secret", ["*a*", "p•ssword", "x", " ", "....", "0", "pass word", "ünïcödé", "''", "{}"])
def test_a_secret_that_only_looks_odd_is_kept(secret, module_server):
    body = BASIC | {"RelayPassword": {"SecretValue": secret}}
    module_server.put_v2(body).raise_for_status()
    assert hidden_secret(module_server) == secret
    module_server.patch(OWN, json={"relay_password": {"secret_value": secret * 2}}).raise_for_status()
    assert hidden_secret(module_server) == secret * 2


# --- In the database -----------------------------------------------------------------------------------------


def edit(server: LiveServer, sql: str, *values: Any) -> None:
    """Change the database behind keyrelay's back."""

    async def run(node: Any) -> None:
        async with node.store.change("profile") as change:
            assert await change.run(sql, *values) > 0

    server.run(run)


def test_a_stored_secret_opens_for_its_own_destination_alone(server):
    server.put_v2(OAUTH).raise_for_status()
    destination, secrets = stored_secrets(server)
    source = secrets["client_secret"]
    assert open_stored(server, "client_secret", source, destination) == CLIENT_SECRET
    assert (
        open_stored(server, "client_secret", source, replace(destination, host=destination.host.upper()))
        == CLIENT_SECRET
    )
    for elsewhere in (
        replace(destination, host="evil.example.net"),
        replace(destination, port=25),
        replace(destination, security=TransportSecurity.STARTTLS_WHEN_OFFERED),
        replace(destination, token_endpoint="https://evil.example.net/token"),
        replace(destination, token_endpoint=None),
    ):
        with pytest.raises(KeyUnknown):
            open_stored(server, "client_secret", source, elsewhere)


def test_a_ciphertext_moved_to_another_row_or_field_does_not_open(server):
    server.put_v2(BASIC).raise_for_status()
    destination, secrets = stored_secrets(server)
    user, password = secrets["relay_username"], secrets["relay_password"]
    edit(
        server,
        "UPDATE stored_secret SET sealed = (SELECT sealed FROM stored_secret WHERE id = $1) WHERE id = $2",
        password.id,
        user.id,
    )
    with pytest.raises(KeyUnknown):
        open_stored(server, "relay_username", user, destination)
    # The user name is shown to readers: a password moved into its row must not be.
    for answer in (server.get(SMTP, headers=V1), server.get(SMTP, headers=V2), server.get(OWN)):
        complaint(answer, 500)
        assert PASSWORD not in answer.text
    edit(server, "UPDATE stored_secret SET field = 'relay_username' WHERE id = $1", password.id)
    with pytest.raises(KeyUnknown):
        open_stored(server, "relay_username", password, destination)


def test_a_profile_row_that_points_a_secret_elsewhere_does_not_get_it(server):
    server.put_v2(BASIC).raise_for_status()
    _, secrets = stored_secrets(server)
    password = secrets["relay_password"]
    edit(server, "UPDATE profile_revision SET document = REPLACE(document, 'smtp.example.org', 'evil.example.net')")
    edit(server, "UPDATE stored_secret SET destination = REPLACE(destination, 'smtp.example.org', 'evil.example.net')")
    evil = Destination("evil.example.net", 587, TransportSecurity.STARTTLS_REQUIRED, None)
    with pytest.raises(KeyUnknown):
        open_stored(server, "relay_password", password, evil)
    complaint(server.get(SMTP, headers=V2), 500)


def test_a_password_in_the_place_of_the_user_name_does_not_open(server):
    """The document may name any row: the field is sealed into the ciphertext."""
    server.put_v2(BASIC).raise_for_status()
    _, secrets = stored_secrets(server)
    user, password = secrets["relay_username"], secrets["relay_password"]
    edit(server, "UPDATE profile_revision SET document = REPLACE(document, $1, $2)", user.id, password.id)
    answer = server.get(SMTP, headers=V2)
    assert PASSWORD not in answer.text
    complaint(answer, 500)


def test_an_erased_secret_is_gone(sqlite_server):
    sqlite_server.put_v2(BASIC).raise_for_status()
    destination, secrets = stored_secrets(sqlite_server)
    edit(sqlite_server, "DELETE FROM stored_secret WHERE id = $1", secrets["relay_password"].id)
    with pytest.raises(SecretGone):
        open_stored(sqlite_server, "relay_password", secrets["relay_password"], destination)


def test_a_restored_profile_has_its_secret_at_its_old_destination_only(sqlite_server):
    sqlite_server.put_v2(BASIC).raise_for_status()
    sqlite_server.put_v2(ANONYMOUS | {"Host": "evil.example.net"}).raise_for_status()
    sqlite_server.run(lambda node: node.keeper.restore(1, by="test"))
    assert hidden_secret(sqlite_server) == PASSWORD
    with nothing_changes(sqlite_server):
        refused = sqlite_server.patch(OWN, content=json.dumps({"host": "evil.example.net"}))
        assert refused.json()["code"] == "secret_required"
