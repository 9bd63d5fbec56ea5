"""No change without its entry, and no entry without its change: on many nodes, in a crash, while keys are rotated."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time

import httpx2
import pytest
from trails import DEED, rows, tampered, told, verified, written

from keyrelay.audit.journal import Journal
from keyrelay.audit.rotation import RotationWitness
from keyrelay.errors import KeyUnknown
from keyrelay.secrets.rotation import rotate
from keyrelay.server import Node
from live import ADMIN_PASSWORD, ANONYMOUS, BASIC, SMTP, V2, Command
from outboxes import site

_ANSWERS = 4  # at least, before a server is killed
PROVIDERS = "/KeyfactorAPI/PamProviders"


def put_many(server, marker, number):
    for each in range(number):
        server.put_v2(ANONYMOUS | {"SenderName": f"{marker} {each}"}).raise_for_status()


@pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
def test_a_hundred_changes_at_once_on_two_nodes_give_one_unbroken_chain(fresh_settings, start):
    nodes = [start(fresh_settings) for _ in range(2)]
    before = len(nodes[0].run(rows))
    threads = [
        threading.Thread(target=put_many, args=(nodes[number % 2], f"client {number}", 10)) for number in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for server in nodes:
        result = server.run(verified)
        assert result.broken is None
        assert result.entries == before + 100
    profile = told(nodes[0], "SmtpProfile")
    assert [entry["details"]["revision"] for entry in profile] == list(range(1, 101))


def revisions_and_entries(settings):
    """The revisions of the profile, those that the trail tells of, and what is broken of it."""

    async def read():
        node = await Node.open(settings)
        try:
            made = [row[0] for row in await node.store.rows("SELECT revision FROM profile_revision ORDER BY revision")]
            entries = [json.loads(row[10])["details"] for row in await rows(node) if row[7] == "SmtpProfile"]
            result = await verified(node)
        finally:
            await node.close()
        return made, [details["revision"] for details in entries], result.broken

    return asyncio.run(read())


def test_a_server_that_is_killed_at_any_moment_has_an_entry_for_each_change_and_no_other(fresh_settings):
    environment = {
        "KEYRELAY_DATA_DIR": str(fresh_settings.data_dir),
        "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "KEYRELAY_LOG_LEVEL": "error",
    }
    if fresh_settings.database_url is not None:
        environment["KEYRELAY_DATABASE_URL"] = fresh_settings.database_url
    answered = 0
    for _ in range(5):
        command = Command.serve(environment)
        going = threading.Event()

        def storm(url=command.url, going=going) -> None:
            nonlocal answered
            with httpx2.Client(base_url=url, auth=("admin", ADMIN_PASSWORD), headers=V2) as client:
                for number in range(10_000):
                    if number == _ANSWERS:
                        going.set()
                    try:
                        answered += client.put(SMTP, json=BASIC | {"SenderName": str(number)}).status_code == 200
                    except httpx2.TransportError:
                        return

        clients = [threading.Thread(target=storm) for _ in range(3)]
        for client in clients:
            client.start()
        assert going.wait(30)
        time.sleep(random.uniform(0, 0.3))
        command.kill()
        for client in clients:
            client.join(30)
        made, told_of, broken = revisions_and_entries(fresh_settings)
        assert broken is None
        assert told_of == made
        assert len(made) >= answered
    assert answered >= 5 * _ANSWERS


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failure_between_a_change_and_its_entry_leaves_neither(server, monkeypatch, moment):
    server.put_v2(ANONYMOUS).raise_for_status()
    write = Journal.write

    async def fails(self, change, *deeds):
        if moment == "after":
            await write(self, change, *deeds)
        raise RuntimeError("somebody has pulled the plug")

    before = server.run(rows)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", fails)
        assert server.put_v2(ANONYMOUS | {"SenderName": "lost"}).status_code == 500
        kind = {"Name": "Lost", "Parameters": []}
        assert server.post(f"{PROVIDERS}/Types", json=kind).status_code == 500
    assert server.get_v2()["SenderName"] == "PKI"
    assert "Lost" not in server.get(f"{PROVIDERS}/Types").text
    assert [tuple(row) for row in server.run(rows)] == [tuple(row) for row in before]
    assert server.run(verified).broken is None
    server.put_v2(ANONYMOUS | {"SenderName": "kept"}).raise_for_status()
    assert server.run(verified).broken is None


def test_signatures_hold_while_keys_are_rotated_and_entries_written(server):
    stop = threading.Event()
    problems = []

    def write() -> None:
        while not stop.is_set():
            answer = server.put_v2(BASIC)
            if answer.status_code != 200:
                problems.append(answer.text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            server.run(lambda node: rotate(node.store, node.keyring, witness=RotationWitness(node.journal)))
    finally:
        stop.set()
        thread.join(30)
    assert problems == []
    assert server.run(verified).broken is None
    assert len(told(server, "DataKey")) == 6

    async def anew(node):  # who has never seen the old keys can check what was signed under them
        journal = Journal(node.keyring)
        await journal.signer(node.store)
        return journal

    journal = server.run(anew)
    assert journal._signer._key == server.node.journal._signer._key


@pytest.mark.parametrize(
    "lost", ["UPDATE audit_head SET key_id = NULL, sealed = NULL", "UPDATE audit_head SET sealed = $1"]
)
def test_nothing_is_changed_where_nothing_can_be_recorded(fresh_settings, start, lost):
    first = start(fresh_settings)
    first.put_v2(ANONYMOUS).raise_for_status()
    before = first.run(rows)
    values = [b"0" * 40] if "$1" in lost else []
    first.run(lambda node: tampered(node, (lost, *values)))
    first.stop()
    server = start(fresh_settings)
    answer = server.put_v2(ANONYMOUS | {"SenderName": "another"})
    assert answer.status_code == 500
    assert "audit trail" in answer.json()["Message"]
    assert "audit_head" in answer.json()["Message"]
    assert server.post("/api/v1/outbox/pause", json={}).status_code == 500
    assert server.get_v2()["SenderName"] == "PKI"
    assert [tuple(row) for row in server.run(rows)] == [tuple(row) for row in before]
    with pytest.raises(KeyUnknown):
        server.run(lambda node: written(node, DEED))


def test_a_new_key_is_made_for_an_empty_trail_only(fresh_settings):
    lost = "UPDATE audit_head SET key_id = NULL, sealed = NULL, seal = ''"

    async def prepared(node, *tampering):
        """The key there is when a node starts after these."""
        await tampered(node, (lost,), *tampering)
        await Journal(node.keyring).prepare(node.store)
        return (await node.store.rows("SELECT key_id FROM audit_head"))[0][0]

    async def main():
        async with site(fresh_settings) as here:
            assert await rows(here) == []
            node = await here.office()
            assert await prepared(node) is not None
            await written(node, DEED)
            assert (await verified(node)).broken is None
            assert await prepared(node) is None
            assert await prepared(node, ("UPDATE audit_head SET last = 0, hash = ''",)) is None
            await tampered(node, ("UPDATE audit_head SET last = 1",))
            assert await prepared(node, ("DELETE FROM audit_entry",)) is None

    asyncio.run(main())
