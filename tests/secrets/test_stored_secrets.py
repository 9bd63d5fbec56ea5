"""Stored secrets: they open for the destination they were given for, come back with a restore, and end some day."""

from __future__ import annotations

import dataclasses

import pytest

from keyrelay.errors import KeyUnknown, SecretGone
from keyrelay.secrets.stored import reveal as resolve
from keyrelay.server import Node
from live import ANONYMOUS, BASIC, OAUTH, LiveServer


def secrets_of(server: LiveServer, *, destination: str | None = None) -> dict[str, str]:
    """Every secret of the profile as it would be sent to its destination, or to another one."""

    async def read(node: Node) -> dict[str, str]:
        profile = (await node.keeper.snapshot()).profile
        to = destination or profile.destination.text()
        return {
            field: (await resolve(node.store, node.keyring, source, field=field, destination=to)).reveal()
            for field, source in profile.secrets()
        }

    return server.run(read)


def restore(server: LiveServer, revision: int) -> None:
    server.run(lambda node: node.keeper.restore(revision, by="tester"))


def count(server: LiveServer) -> int:
    async def read(node: Node) -> int:
        ((number,),) = await node.store.rows("SELECT COUNT(*) FROM stored_secret")
        return number

    return server.run(read)


def password(number: int) -> dict:
    return BASIC | {"RelayPassword": {"SecretValue": f"password {number}"}}


def test_what_was_put_is_what_is_resolved(server):
    server.put_v2(BASIC)
    assert secrets_of(server) == {"relay_username": "mailer@example.org", "relay_password": "basic-password-1"}
    server.put_v2(OAUTH)
    assert secrets_of(server) == {
        "client_id": "11111111-2222-3333-4444-555555555555",
        "client_secret": "client-secret-1",
    }
    server.put_v2(ANONYMOUS)
    assert secrets_of(server) == {}


@pytest.mark.parametrize("text", ["ünïcödé 秘密 🔑", " leading and trailing ", "x" * 4096, '"{}"\\'])
def test_a_secret_comes_back_exactly(server, text):
    assert server.put_v2(BASIC | {"RelayPassword": {"SecretValue": text}}).status_code == 200
    assert secrets_of(server)["relay_password"] == text


def test_a_secret_does_not_open_for_another_destination(server):
    server.put_v2(BASIC)
    with pytest.raises(KeyUnknown):
        secrets_of(server, destination='["evil.example.org", 587, "starttls-required", null]')


def test_a_secret_does_not_open_as_another_field(server):
    server.put_v2(BASIC)

    async def mixed_up(node: Node) -> None:
        profile = (await node.keeper.snapshot()).profile
        source, to = profile.authentication.relay_password, profile.destination.text()
        await resolve(node.store, node.keyring, source, field="relay_username", destination=to)

    with pytest.raises(KeyUnknown):
        server.run(mixed_up)


def test_a_row_pointed_at_another_rows_secret_does_not_open(server):
    server.put_v2(BASIC)

    async def swap(node: Node) -> None:
        async with node.store.change("profile") as change:
            rows = await change.rows("SELECT id, sealed FROM stored_secret ORDER BY id")
            for (row, _), (_, sealed) in zip(rows, reversed(rows), strict=True):
                await change.run("UPDATE stored_secret SET sealed = $1 WHERE id = $2", sealed, row)

    server.run(swap)
    with pytest.raises(KeyUnknown):
        secrets_of(server)


def test_a_restore_brings_the_secrets_back_that_the_profile_had(server):
    server.put_v2(BASIC)
    server.put_v2(OAUTH)
    server.put_v2(password(3))
    restore(server, 1)
    assert secrets_of(server)["relay_password"] == "basic-password-1"
    restore(server, 2)
    assert secrets_of(server)["client_secret"] == "client-secret-1"
    restore(server, 3)
    assert secrets_of(server)["relay_password"] == "password 3"
    assert server.get_v2()["RelayUsername"]["SecretValue"] == "mailer@example.org"


def test_secrets_older_than_the_history_keeps_are_erased_and_a_restore_says_so(fresh_settings, start):
    server = start(dataclasses.replace(fresh_settings, history_secrets=3))
    for number in range(1, 7):
        server.put_v2(password(number))
    assert count(server) == 3 * 2
    history = server.run(lambda node: node.keeper.history())
    assert {entry.revision: entry.restorable for entry in history} == {
        6: True, 5: True, 4: True, 3: False, 2: False, 1: False,
    }  # fmt: skip
    with pytest.raises(SecretGone):
        restore(server, 3)
    assert secrets_of(server)["relay_password"] == "password 6"
    assert len(server.run(lambda node: node.keeper.history())) == 6
    restore(server, 4)
    assert secrets_of(server)["relay_password"] == "password 4"


def test_a_secret_that_is_kept_on_outlives_the_revision_it_was_given_in(fresh_settings, start):
    server = start(dataclasses.replace(fresh_settings, history_secrets=2))
    server.put_v2(BASIC)
    for number in range(6):
        answer = server.patch("/api/v1/profile", json={"sender_name": f"PKI {number}"})
        assert answer.status_code == 200
    assert count(server) == 2
    assert secrets_of(server)["relay_password"] == "basic-password-1"


def test_profiles_without_secrets_can_be_restored_however_old(fresh_settings, start):
    server = start(dataclasses.replace(fresh_settings, history_secrets=2))
    server.put_v2(ANONYMOUS)
    for number in range(4):
        server.put_v2(password(number))
    restore(server, 1)
    assert server.get_v2()["RelayAuthenticationType"] == 0
