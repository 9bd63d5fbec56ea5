"""An outbox with very many messages, made at once."""

from __future__ import annotations

from datetime import UTC, datetime

from keyrelay.outbox.records import stamp
from keyrelay.store.model import Store


async def filled(store: Store, number: int) -> None:
    """Many messages, as fast as the database makes them."""
    at = stamp(datetime(2026, 3, 1, tzinfo=UTC))  # later than the ids say, so a search in time passes nothing over
    numbers = f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {number})"
    padded = "substr('000000000000' || CAST(n AS TEXT), -12)"
    if store.dialect.lock:
        numbers = f"WITH n AS (SELECT n FROM generate_series(1, {number}) AS n)"
        padded = "lpad(CAST(n AS TEXT), 12, '0')"
    name = f"'01960000-0000-7000-8000-' || {padded}"
    recipients = '[{"address":"ops@example.org","expires_at":"2026-03-06T00:00:00Z","next_at":null,"state":"accepted"}]'
    state = "CASE WHEN n % 1000 = 0 THEN 'refused' WHEN n % 1001 = 0 THEN 'queued' ELSE 'accepted' END"
    async with store.change() as change:
        await change.run(
            f"INSERT INTO message {numbers} SELECT {name}, '<1@example.org>', 'pki@example.org', 'me', {at} + n, 100,"
            f" 0, 0, 0, NULL, '{recipients}', {state}, NULL, NULL, NULL, NULL, 0, 1, {at} FROM n"
        )
        await change.run(f"INSERT INTO message_recipient {numbers} SELECT 'ops@example.org', {name} FROM n")
        await change.rows("ANALYZE")
