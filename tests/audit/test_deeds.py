"""Everything that people change leaves an entry that tells it field by field, and no secret is in any."""

from __future__ import annotations

import asyncio
import json

import pytest
from trails import tampered, told, verified

from canary import leaks, new_canary
from keyrelay.audit import reading, telling
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor, Operation
from keyrelay.audit.rotation import RotationWitness
from keyrelay.outbox.steering import Steering
from keyrelay.relay.diagnosis import Order
from keyrelay.relay.recording import Recorded
from keyrelay.secrets.rotation import rotate
from live import ANONYMOUS, BASIC, OAUTH, V2
from outboxes import letter, submit

PROVIDERS, TYPES = "/KeyfactorAPI/PamProviders", "/KeyfactorAPI/PamProviders/Types"


def type_id(server, name):
    (found,) = [kind for kind in server.get(TYPES).json() if kind["Name"] == name]
    return found["Id"]


def vault(server, **values):
    """The body of a provider that asks a HashiCorp vault."""
    given = [{"Value": value, "ProviderTypeParam": {"Name": name}} for name, value in values.items()]
    return {
        "Name": "Vault",
        "ProviderType": {"Id": type_id(server, "Hashicorp-Vault")},
        "ProviderTypeParamValues": given,
    }


def added_local(server, name="Local"):
    body = {"Name": name, "ProviderType": {"Id": type_id(server, "LocalDB")}, "ProviderTypeParamValues": []}
    return server.post(PROVIDERS, json=body).raise_for_status().json()["Id"]


# --- Providers, types and entries ----------------------------------------------------------------------------


def test_a_provider_is_told_field_by_field_and_its_secrets_only_as_changed(server):
    address = {"Host": "https://vault.example.org", "Path": "secret"}
    body = vault(server, **address, Token=(first := new_canary()))
    made = server.post(PROVIDERS, json=body).raise_for_status().json()
    changed = vault(server, **address | {"Host": "https://other.example.org"}, Token=(second := new_canary()))
    server.put(PROVIDERS, json=changed | {"Id": made["Id"], "Name": "Vault 2"}).raise_for_status()
    same = vault(server, **address | {"Host": "https://other.example.org"})
    server.put(PROVIDERS, json=same | {"Id": made["Id"], "Name": "Vault 3"}).raise_for_status()
    server.request("DELETE", f"{PROVIDERS}/{made['Id']}").raise_for_status()
    entries = told(server, "PamProvider")
    assert [entry["operation"] for entry in entries] == [
        *(Operation.CREATED, Operation.UPDATED, Operation.UPDATED, Operation.DELETED)
    ]
    assert {(entry["actor"], entry["address"], entry["category"]) for entry in entries} == {
        ("admin", "127.0.0.1", 2101)
    }
    assert {entry["object"] for entry in entries} == {str(made["Id"])}
    created, replaced, renamed, deleted = (entry["changes"] for entry in entries)
    assert created["name"] == {"before": None, "after": "Vault"}
    assert created["type"]["after"] == "Hashicorp-Vault"
    assert created["values.Host"] == {"before": None, "after": "https://vault.example.org"}
    assert created["values.Token"] == replaced["values.Token"] == "changed"
    assert replaced["values.Host"] == {"before": "https://vault.example.org", "after": "https://other.example.org"}
    assert renamed == {"name": {"before": "Vault 2", "after": "Vault 3"}}
    assert deleted == {}
    assert leaks({"first": first, "second": second}, json.dumps(entries, default=str).encode()) == []
    assert server.run(verified).broken is None


def test_types_that_are_registered_and_deleted_are_told(server):
    kind = {"Name": "Ours", "Parameters": [{"Name": "Address", "DataType": 1}, {"Name": "Key", "DataType": 2}]}
    number = server.post(TYPES, json=kind).raise_for_status().json()["Id"]
    server.post(TYPES, json=kind).raise_for_status()  # there already: nothing has changed
    server.request("DELETE", f"{TYPES}/{number}", headers={"x-keyfactor-api-version": "1"}).raise_for_status()
    entries = told(server, "PamProviderType")
    assert [(entry["operation"], entry["name"], entry["object"]) for entry in entries] == [
        (Operation.CREATED, "Ours", number),
        (Operation.DELETED, "Ours", number),
    ]
    assert entries[0]["changes"]["parameters"]["after"] == ["Address", "Key"]


def test_local_entries_are_told_and_their_values_are_not(server):
    number = added_local(server)
    place = f"{PROVIDERS}/Local/{number}/Entries"
    first, second = new_canary(), new_canary()
    server.post(place, json={"SecretName": "smtp", "Description": "a", "SecretValue": first}).raise_for_status()
    server.put(place, json={"SecretName": "smtp", "Description": "b"}).raise_for_status()
    server.put(place, json={"SecretName": "smtp", "Description": "b", "SecretValue": second}).raise_for_status()
    server.request("DELETE", place, params={"secretName": "smtp"}).raise_for_status()
    entries = told(server, "PamLocalEntry")
    assert [(entry["operation"], entry["name"], entry["object"]) for entry in entries] == [
        (operation, "smtp", f"{number}/smtp")
        for operation in (Operation.CREATED, Operation.UPDATED, Operation.UPDATED, Operation.DELETED)
    ]
    assert [entry["changes"] for entry in entries] == [
        {"description": {"before": None, "after": "a"}, "secret_value": "changed"},
        {"description": {"before": "a", "after": "b"}},
        {"secret_value": "changed"},
        {},
    ]
    assert leaks({"first": first, "second": second}, json.dumps(entries, default=str).encode()) == []


def test_what_goes_with_a_provider_is_counted(server):
    number = added_local(server)
    for name in ("a", "b"):
        body = {"SecretName": name, "SecretValue": "x"}
        server.post(f"{PROVIDERS}/Local/{number}/Entries", json=body).raise_for_status()
    server.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
    assert told(server, "PamProvider")[-1]["details"] == {"entries": 2}


def test_a_change_that_was_refused_leaves_no_entry(server):
    number = added_local(server)
    before = len(told(server))
    place = f"{PROVIDERS}/Local/{number}/Entries"
    assert server.put(place, json={"SecretName": "none", "SecretValue": "x"}).status_code == 404
    assert server.post(PROVIDERS, json={"Name": "Local"}).status_code == 400
    assert server.put_v2({"Host": "x"}).status_code == 400
    assert len(told(server)) == before


# --- Tests ---------------------------------------------------------------------------------------------------


def test_every_test_and_diagnosis_is_told_with_where_it_failed(sqlite_server, monkeypatch):
    password = new_canary()
    test = BASIC | {"Host": "127.0.0.1", "Port": 1, "RelayPassword": {"SecretValue": password}}
    body = test | {"TestRecipient": "ops@example.org"}
    assert sqlite_server.post("/KeyfactorAPI/SMTP/Test", json=body, headers=V2).status_code == 400
    sqlite_server.put_v2(ANONYMOUS | {"Host": "127.0.0.1", "Port": 1}).raise_for_status()
    sqlite_server.post("/api/v1/diagnoses", json={}).raise_for_status()
    first, second = told(sqlite_server, "SmtpTest")
    assert (first["operation"], first["level"], first["actor"]) == (Operation.FAILED, 2, "admin")
    assert (first["name"], first["object"]) == ("127.0.0.1:1", "127.0.0.1:1")
    facts = {key: first["details"][key] for key in ("mode", "host", "port", "recipient", "stage")}
    wanted = {"mode": "message", "host": "127.0.0.1", "port": 1, "recipient": "ops@example.org", "stage": "connect"}
    assert facts == wanted
    assert (second["details"]["mode"], second["details"]["recipient"]) == ("connect", None)
    assert leaks({"password": password}, json.dumps([first, second], default=str).encode()) == []


def test_a_test_that_nobody_waits_for_any_more_is_told_too(sqlite_server):
    class Endless:
        async def run(self, order, *, advise, finished):
            await asyncio.sleep(60)

        async def close(self):
            pass

    async def given_up(node):
        recorded = Recorded(Endless(), node.store, node.journal)
        profile = (await node.keeper.snapshot()).profile
        act_as(Actor("jo", "192.0.2.1"))
        task = asyncio.create_task(recorded.run(Order(profile, "message", "ops@example.org")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await recorded.close()

    sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    sqlite_server.run(given_up)
    (entry,) = told(sqlite_server, "SmtpTest")
    assert (entry["actor"], entry["operation"], entry["details"]["given_up"]) == ("jo", 23, "the caller went away")


def test_trying_a_provider_is_told_and_not_what_was_asked_for(server):
    number = added_local(server)
    name = new_canary()
    server.post(f"/api/v1/pam-providers/{number}/try", json={"parameters": {"SecretName": name}}).raise_for_status()
    entry = told(server, "PamProvider")[-1]
    assert (entry["operation"], entry["details"]) == (Operation.FAILED, {"verdict": "not_found"})
    assert leaks({"name": name}, json.dumps(entry, default=str).encode()) == []


# --- The outbox ----------------------------------------------------------------------------------------------


def test_what_people_do_to_the_outbox_is_told(server):
    server.put_v2(ANONYMOUS).raise_for_status()

    async def steered(node):
        steering = Steering(node.outbox.office)
        act_as(Actor("jo", "192.0.2.1"))
        await steering.pause()
        await steering.pause()  # it was already
        (name,) = await submit(node.outbox.queue, letter())
        await steering.steer(name, "cancel")
        await steering.steer(name, "resend")
        await steering.steer(name, "hold")
        await steering.steer(name, "release")
        await steering.steer(name, "cancel")
        await steering.resume()
        return name

    name = server.run(steered)
    entries = told(server, "Outbox", "Message")
    assert [(entry["kind"], entry["details"]["action"], entry["operation"]) for entry in entries] == [
        ("Outbox", "pause", Operation.UPDATED),
        ("Message", "cancel", Operation.REVOKED),
        ("Message", "resend", Operation.RESTARTED),
        ("Message", "hold", Operation.UPDATED),
        ("Message", "release", Operation.REMOVED_FROM_HOLD),
        ("Message", "cancel", Operation.REVOKED),
        ("Outbox", "resume", Operation.UPDATED),
    ]
    assert {(entry["actor"], entry["address"]) for entry in entries} == {("jo", "192.0.2.1")}
    assert entries[0]["changes"]["mode"] == {"before": "open", "after": "paused"}
    assert entries[1]["object"] == name
    assert entries[1]["changes"] == {"state": {"before": "queued", "after": "cancelled"}}
    assert server.run(verified).broken is None


def test_many_that_are_sent_again_at_once_are_told_by_their_ids(server):
    async def resent(node):
        steering = Steering(node.outbox.office)
        await steering.pause()
        names = await submit(node.outbox.queue, letter(), letter())
        for name in names:
            await steering.steer(name, "cancel")
        refused = "UPDATE message SET state = 'refused', recipients = replace(recipients, 'cancelled', 'refused')"
        await tampered(node, (refused,))
        act_as(Actor("jo"))
        await steering.resend_failed(node.outbox.office.watch.clock.wall.replace(year=2000))
        return names

    names = server.run(resent)
    (entry,) = [one for one in told(server, "Outbox") if one["details"]["action"] == "resend"]
    assert (entry["actor"], entry["operation"]) == ("jo", Operation.RESTARTED)
    assert sorted(entry["details"]["messages"]) == sorted(names)


# --- Keys ----------------------------------------------------------------------------------------------------


def test_a_rotation_of_the_keys_is_told_when_it_begins_and_when_it_ends(server):
    server.put_v2(BASIC).raise_for_status()
    rotated = server.run(lambda node: rotate(node.store, node.keyring, witness=RotationWitness(node.journal)))
    first, second = told(server, "DataKey")
    assert (first["operation"], first["details"]["step"]) == (Operation.CREATED, "rotation started")
    assert second["operation"] == Operation.COMPLETED
    assert second["details"] == {"step": "rotation ended", "secrets": 2, "contents": 0, "dropped": 1}
    assert {entry["object"] for entry in (first, second)} == {str(rotated.key_id)}
    assert server.run(verified).broken is None


# --- Canaries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh_settings", ["sqlite"], indirect=True)
def test_no_secret_of_any_change_is_in_an_entry_a_sheet_a_message_or_the_log(server, logged):
    planted = {}

    def plant(name):
        planted[name] = new_canary()
        return {"SecretValue": planted[name]}

    server.put_v2(BASIC | {"RelayPassword": plant("password"), "RelayUsername": plant("user name")}).raise_for_status()
    oauth = OAUTH | {"ClientSecret": plant("client secret"), "ClientId": plant("client id")}
    server.put_v2(oauth).raise_for_status()
    body = vault(server, Host="https://vault.example.org", Path="secret", Token=plant("token")["SecretValue"])
    server.post(PROVIDERS, json=body).raise_for_status()
    number = added_local(server)
    entry = {"SecretName": "smtp", "SecretValue": plant("entry")["SecretValue"]}
    server.post(f"{PROVIDERS}/Local/{number}/Entries", json=entry).raise_for_status()
    server.put_v2(BASIC | {"RelayPassword": plant("refused")}, auth=("admin", plant("sign-in")["SecretValue"]))
    test = BASIC | {"Host": "127.0.0.1", "Port": 1, "TestRecipient": "ops@example.org"}
    server.post("/KeyfactorAPI/SMTP/Test", json=test | {"RelayPassword": plant("test")}, headers=V2)

    async def everything(node):
        return [one async for one in reading.every(node.store, None)]

    entries = server.run(everything)
    assert len(entries) >= 6
    seen = telling.sheet(entries) + "".join(map(telling.message, entries)) + json.dumps(told(server), default=str)
    seen += server.get("/KeyfactorAPI/Audit").text + json.loads(server.get("/KeyfactorAPI/Audit/Download").text)
    assert leaks(planted, (seen + logged.getvalue()).encode()) == []
