"""What the audit trail holds, as tests read it."""

from __future__ import annotations

import json
from typing import Any

from keyrelay.audit.chain import SELECT
from live import LiveServer


def entries(server: LiveServer) -> list[dict[str, Any]]:
    """All entries, that of the first user the first of them."""

    async def rows(node) -> Any:
        return await node.store.rows(f"{SELECT} ORDER BY id")

    return [
        {
            "category": row[2],
            "operation": row[3],
            "actor": row[5],
            "address": row[6],
            "kind": row[7],
            "name": row[8],
            "object": row[9],
            **json.loads(row[10]),
        }
        for row in server.run(rows)
    ]
