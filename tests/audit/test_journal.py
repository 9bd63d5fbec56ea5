"""Entries are written in the transaction that they tell of, in one chain, by whoever acts."""

from __future__ import annotations

import json

import pytest

from keyrelay.audit.acting import act_as
from keyrelay.audit.chain import SELECT, Signer, hash_of, read_head
from keyrelay.audit.model import Actor, Category, Deed, Kind, Operation
from keyrelay.secrets.model import SecretText
from live import ANONYMOUS, BASIC

DEED = Deed(Category.SMTP, Operation.UPDATED, Kind.PROFILE, "SMTP profile", "1", changes={"host": "changed"})


async def rows(node):
    """The entries after that of the first user."""
    return (await node.store.rows(f"{SELECT} ORDER BY id"))[1:]


async def written(node, *deeds, by="jo"):
    act_as(Actor(by, "127.0.0.1"))
    async with node.store.change("profile") as change:
        await node.journal.write(change, *deeds)


async def assert_unbroken(node, entries):
    """That hashes and signatures hold, of the first user's entry and so many others, and the head knows the last."""
    head = await read_head(node.store)
    signer = await node.journal.signer(node.store)
    before = ""
    for number, (*values, hashed, signature) in enumerate(await node.store.rows(f"{SELECT} ORDER BY id"), 1):
        assert values[0] == number
        assert hashed == hash_of(before, values)
        assert signer.signs(hashed, signature)
        before = hashed
    assert (head.last, head.hash) == (1 + entries, before)
    assert signer.seals(head)


def test_entries_of_several_transactions_are_one_chain(server):
    server.run(lambda node: written(node, DEED, DEED))
    server.run(lambda node: written(node, DEED, by="al"))
    server.run(lambda node: assert_unbroken(node, 3))
    assert [row[5] for row in server.run(rows)] == ["jo", "jo", "al"]


def test_what_is_not_committed_leaves_no_entry(server):
    async def fails(node) -> None:
        async with node.store.change("profile") as change:
            await node.journal.write(change, DEED)
            raise KeyError(4)

    with pytest.raises(KeyError):
        server.run(fails)
    server.run(lambda node: assert_unbroken(node, 0))


def test_a_change_of_the_profile_is_told_field_by_field_and_its_secrets_only_as_changed(server):
    server.put_v2(ANONYMOUS).raise_for_status()
    server.put_v2(BASIC | {"Host": "other.example.org"}).raise_for_status()
    server.run(lambda node: assert_unbroken(node, 2))
    first, second = server.run(rows)
    assert (first[3], second[3]) == (Operation.CREATED, Operation.UPDATED)
    assert (second[5], second[6], second[7], second[9]) == ("admin", "127.0.0.1", "SmtpProfile", "1")
    told = json.loads(second[10])
    assert told["details"] == {"revision": 2}
    assert told["changes"]["host"] == {"before": "mail.example.org", "after": "other.example.org"}
    assert told["changes"]["relay_password"] == told["changes"]["relay_username"] == "changed"
    assert BASIC["RelayPassword"]["SecretValue"] not in second[10]


def test_text_that_no_database_keeps_is_kept_without_it(server):
    odd = Deed(Category.PAM, Operation.CREATED, Kind.ENTRY, "a\0b\ud800" + "x" * 5000, details={"said": "c\0\ud800"})
    server.run(lambda node: written(node, odd, by="j\0o"))
    server.run(lambda node: assert_unbroken(node, 1))
    ((*_, name, _, _, _, _),) = server.run(rows)
    assert name == "a\ufffdb\ufffd" + "x" * 996


def test_a_signature_of_another_key_is_none(server):
    server.run(lambda node: written(node, DEED))
    ((*_, hashed, signature),) = server.run(rows)
    assert not Signer(SecretText("another")).signs(hashed, signature)
