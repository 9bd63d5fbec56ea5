"""Audit entries as the compatible API writes them (contract 7.3)."""

from __future__ import annotations

import msgspec

from keyrelay.audit import telling
from keyrelay.audit.model import Entry


class AuditEntry(msgspec.Struct, rename="pascal", frozen=True):
    """One entry. ``Message`` is XML."""

    id: int
    timestamp: str
    message: str
    signature: str
    category: int
    operation: int
    level: int
    user: str
    entity_type: str
    audit_identifier: str | None
    immutable_identifier: str | None


def entry_answer(entry: Entry) -> AuditEntry:
    return AuditEntry(
        *(entry.id, entry.timestamp, telling.message(entry), entry.signature, entry.category, entry.operation),
        *(entry.level, entry.actor.name, entry.kind, entry.name, entry.object),
    )
