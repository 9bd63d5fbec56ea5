"""What ``keyrelay audit`` shows of entries."""

from __future__ import annotations

import json
from typing import Any

from keyrelay.audit.model import Entry


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as it is shown."""
    return {
        "id": entry.id,
        "timestamp": entry.timestamp,
        "user": entry.actor.name,
        "address": entry.actor.address,
        "category": entry.category_title,
        "operation": entry.operation_title,
        "level": entry.level_title,
        "entity_type": entry.kind,
        "name": entry.name,
        "object": entry.object,
        "details": dict(entry.details),
        "changes": dict(entry.changes),
        "hash": entry.hash,
        "signature": entry.signature,
    }


def brief(row: dict[str, Any]) -> str:
    """The changes and facts of an entry on one line."""
    parts = [f"{field} {change(value)}" for field, value in row["changes"].items()]
    parts += [f"{field} {readable(value)}" for field, value in row["details"].items() if value is not None]
    return "; ".join(parts)


def change(value: Any) -> str:
    """What a field was and is; of a secret that it changed."""
    if isinstance(value, dict) and value.keys() == {"before", "after"}:
        return f"{readable(value['before'])} → {readable(value['after'])}"
    return readable(value)


def readable(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
