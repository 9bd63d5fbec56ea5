"""The client that keyrelay is at an identity provider: what is kept of it, where its secret opens, and what is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bearing import CHIEF, entries, register
from keyrelay import settings
from keyrelay.access import provider_clients
from keyrelay.access.identity_provider import Client, configured, document, told
from keyrelay.access.identity_provider import read as read_document
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.errors import KeyUnknown, SettingsInvalid, UnknownName, Unsuitable
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.secrets.rotation import rotate

AUTHORITY = "https://login.example.org/tenant/v2.0"
SECRET = "a canary of a client secret"


def client(secret: str | None = SECRET, name: str = "portal") -> Client:
    return Client(name, None if secret is None else SecretText(secret))


def kept(server, scheme: str = "entra"):
    (found,) = [one for one in server.run(lambda node: node.identity_providers.all()) if one.scheme == scheme]
    return found


def set_client(server, given: Client | None) -> None:
    server.run(lambda node: node.identity_providers.set_client("Entra", given, CHIEF))


def revealed(server, provider) -> str | None:
    found = server.run(lambda node: provider_clients.reveal(node.store, node.keyring, provider))
    return None if found is None else found.reveal()


def stored_rows(server) -> list[str]:
    return [row for (row,) in server.run(lambda node: node.store.rows("SELECT id FROM stored_secret"))]


def test_the_secret_is_sealed_and_opens_at_its_place(server):
    register(server, AUTHORITY)
    set_client(server, client())
    provider = kept(server)
    assert provider.signs_people_in
    assert isinstance(provider.client.secret, Stored)
    assert revealed(server, provider) == SECRET
    assert SECRET not in document(provider) + repr(provider) + repr(told(provider))
    ((sealed,),) = server.run(lambda node: node.store.rows("SELECT sealed FROM stored_secret"))
    assert SECRET.encode() not in bytes(sealed)


def test_it_opens_for_no_other_provider_and_no_other_authority(server):
    """Whoever can write to the database cannot have it sent to a token endpoint of their own."""
    register(server, AUTHORITY)
    set_client(server, client())
    provider = kept(server)
    for moved in (replace(provider, authority="https://evil.example"), replace(provider, id="another")):
        with pytest.raises(KeyUnknown):
            revealed(server, moved)


def test_a_stored_secret_is_kept_and_no_other_than_the_one_that_is_there(server):
    register(server, AUTHORITY)
    set_client(server, client())
    before = kept(server)
    set_client(server, replace(before.client, id="renamed"))
    assert kept(server).client == replace(before.client, id="renamed")
    assert revealed(server, kept(server)) == SECRET
    set_client(server, client("another"))
    with pytest.raises(Unsuitable, match="changed meanwhile"):
        set_client(server, before.client)
    assert revealed(server, kept(server)) == "another"


def test_a_change_takes_the_old_secret_away(server):
    register(server, AUTHORITY)
    set_client(server, client())
    (first,) = stored_rows(server)
    set_client(server, client("another"))
    (second,) = stored_rows(server)
    assert first != second
    assert revealed(server, kept(server)) == "another"
    set_client(server, client(None))
    assert stored_rows(server) == []
    assert kept(server).signs_people_in
    assert revealed(server, kept(server)) is None
    set_client(server, None)
    assert not kept(server).signs_people_in


def test_it_stays_while_its_provider_is_disabled_and_goes_with_it(server):
    register(server, AUTHORITY)
    set_client(server, client())
    server.run(lambda node: node.identity_providers.disable("entra"))
    assert not kept(server).signs_people_in
    server.run(lambda node: node.identity_providers.enable("entra", CHIEF))
    assert revealed(server, kept(server)) == SECRET
    server.run(lambda node: node.identity_providers.remove("entra"))
    assert stored_rows(server) == []


def test_a_rotation_takes_it_along_and_throws_the_old_key_away(server):
    register(server, AUTHORITY)
    set_client(server, client())
    rotated = server.run(lambda node: rotate(node.store, node.keyring))
    assert (rotated.resealed, rotated.dropped) == (1, 1)
    assert revealed(server, kept(server)) == SECRET


def test_a_secret_is_kept_although_another_process_has_rotated_the_keys(fresh_settings, start):
    one, other = start(fresh_settings), start(fresh_settings)
    register(one, AUTHORITY)
    other.run(lambda node: rotate(node.store, node.keyring))
    set_client(one, client())
    assert revealed(one, kept(one)) == SECRET


def test_the_trail_tells_that_it_changed_and_never_what_it_is(server):
    register(server, AUTHORITY)

    async def work(node) -> None:
        act_as(Actor("jo"))
        for given in (client(), client("another"), client(None), client(None), None):
            await node.identity_providers.set_client("entra", given, CHIEF)

    server.run(work)
    _, first, second, third, off = entries(server, "IdentityProvider")
    named = {"before": None, "after": "portal"}
    assert first == ("jo", 2, "entra", {"client_id": named, "client_secret": "changed"})
    assert second[3] == third[3] == {"client_secret": "changed"}
    assert off[3] == {"client_id": {"before": "portal", "after": None}}


def test_there_has_to_be_such_a_provider(sqlite_server):
    with pytest.raises(UnknownName):
        set_client(sqlite_server, client())


@pytest.mark.parametrize("name", ["", "a b", "x" * 513, "\u00e4", "a\n"])
def test_a_client_id_is_visible(name):
    with pytest.raises(Unsuitable, match="The client id must be"):
        provider_clients.checked(name, None)


@pytest.mark.parametrize("secret", ["", " ", "secret\nof two lines", "secret\0", "s" * 4097, "*****"])
def test_a_secret_that_is_none_is_not_repeated(secret):
    with pytest.raises(Unsuitable) as refused:
        provider_clients.checked("portal", SecretText(secret))
    assert not secret.strip() or secret not in str(refused.value)


def test_a_document_from_before_there_were_clients_is_read(sqlite_server):
    provider = register(sqlite_server, AUTHORITY)
    kept_before = {name: value for name, value in json.loads(document(provider)).items() if "client_" not in name}
    assert "enabled" in kept_before
    assert read_document(provider.id, provider.scheme, json.dumps(kept_before)) == provider


# --- The one of the settings ---------------------------------------------------------------------------------

GIVEN = {"KEYRELAY_OIDC_AUTHORITY": AUTHORITY, "KEYRELAY_OIDC_AUDIENCE": "api://keyrelay"}


def test_the_settings_name_a_client_too():
    assert configured(settings.read(GIVEN)).client is None
    public = configured(settings.read(GIVEN | {"KEYRELAY_OIDC_CLIENT_ID": "portal"}))
    assert public.client == Client("portal")
    given = {"KEYRELAY_OIDC_CLIENT_ID": "portal", "KEYRELAY_OIDC_CLIENT_SECRET": SECRET}
    read = settings.read(GIVEN | given)
    assert configured(read).client == client()
    assert SECRET not in repr(read) + repr(configured(read))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"KEYRELAY_OIDC_CLIENT_ID": "a"}, "KEYRELAY_OIDC_CLIENT_ID needs KEYRELAY_OIDC_AUTHORITY"),
        (GIVEN | {"KEYRELAY_OIDC_CLIENT_SECRET": SECRET}, "KEYRELAY_OIDC_CLIENT_SECRET needs KEYRELAY_OIDC_CLIENT_ID"),
        (GIVEN | {"KEYRELAY_OIDC_CLIENT_ID": "a b"}, "KEYRELAY_OIDC_CLIENT_ID must be"),
    ],
)
def test_a_client_needs_what_it_belongs_to(given, words):
    with pytest.raises(SettingsInvalid, match=words) as refused:
        settings.read(given)
    assert SECRET not in str(refused.value)
