"""What tests of the audit trail share: entries to look at, and hands that tamper with them."""

from __future__ import annotations

import json

from keyrelay.audit.acting import act_as
from keyrelay.audit.chain import SELECT
from keyrelay.audit.model import Actor, Category, Deed, Kind, Operation
from keyrelay.audit.verifying import Verified, verify

DEED = Deed(Category.SMTP, Operation.UPDATED, Kind.PROFILE, "SMTP profile", "1", changes={"host": "changed"})


async def written(node, *deeds, by="jo", address="127.0.0.1"):
    act_as(Actor(by, address))
    async with node.store.change("profile") as change:
        await node.journal.write(change, *deeds)


async def grown(node, number):
    """Entries until there are so many, together with those that every database begins with."""
    there = len(await rows(node))
    await written(node, *[DEED] * (number - there))


async def verified(node, since=None) -> Verified:
    return await verify(node.store, await node.journal.signer(node.store), since)


async def tampered(node, *statements):
    """Somebody with the database's password, and without any key."""
    async with node.store.change() as change:
        for sql, *values in statements:
            await change.run(sql, *values)


async def rows(node):
    return await node.store.rows(f"{SELECT} ORDER BY id")


def told(server, *kinds) -> list[dict]:
    """What the trail tells of some kinds of things, oldest first."""
    found = []
    for row in server.run(rows):
        number, _, category, operation, level, actor, address, kind, name, object_, details, *_ = row
        if not kinds or kind in kinds:
            facts = json.loads(details)
            found.append(
                {
                    "id": number,
                    "category": category,
                    "operation": Operation(operation),
                    "level": level,
                    "actor": actor,
                    "address": address,
                    "kind": kind,
                    "name": name,
                    "object": object_,
                    **facts,
                }
            )
    return found
