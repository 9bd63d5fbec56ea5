"""The first page after signing in: how things stand, and where to go next."""

from __future__ import annotations

from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.permissions import READ_MESSAGES, READ_SETTINGS
from keyrelay.api.answers import Answer
from keyrelay.api.outbox import standing
from keyrelay.health.warnings import ending
from keyrelay.portal.page import Asked, Right


async def _show(asked: Asked) -> Answer:
    profile, found, reasons, warnings = None, None, None, []
    if asked.identity.may(READ_SETTINGS):
        profile = (await asked.services.keeper.snapshot()).profile
        warnings = await ending(asked.services.settings, ApiTokens(asked.services.store, asked.services.journal))
    if asked.identity.may(READ_MESSAGES):
        from keyrelay.outbox.pressure import REASONS

        reasons = REASONS
        await asked.desk.clock()
        _, found = await standing(asked.services, asked.desk)
    return await asked.show("home.html", profile=profile, outbox=found, reasons=reasons, warnings=warnings)


PAGES = {"/": {"GET": Right(_show, None, roleless=True)}}
