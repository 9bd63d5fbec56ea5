"""What will end soon, in sentences: for a page that leads to more."""

from __future__ import annotations

from datetime import UTC, datetime

from keyrelay.access.api_tokens import ApiTokens
from keyrelay.aside import aside
from keyrelay.health import certificates, secrets
from keyrelay.health.finding import Finding
from keyrelay.settings import Settings


async def ending(chosen: Settings, tokens: ApiTokens) -> list[Finding]:
    """Certificates and API tokens that end within 60 days, or cannot be used."""
    found = [kept.finding for kept in await aside(lambda: certificates.kept(chosen))]
    found.append(secrets.tokens_found(await tokens.all(), datetime.now(UTC)))
    return [finding for finding in found if finding.verdict != "ok"]
