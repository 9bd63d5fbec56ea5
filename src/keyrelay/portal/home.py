"""The first page after signing in: how things stand, and where to go next."""

from __future__ import annotations

from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.permissions import READ_MESSAGES, READ_SETTINGS
from keyrelay.api.answers import Answer
from keyrelay.health.warnings import ending
from keyrelay.portal.page import Asked, Right


async def _show(asked: Asked) -> Answer:
    profile, found, warnings = None, None, []
    if asked.identity.may(READ_SETTINGS):
        profile = (await asked.services.keeper.snapshot()).profile
        warnings = await ending(asked.services.settings, ApiTokens(asked.services.store, asked.services.journal))
    if asked.identity.may(READ_MESSAGES):
        from keyrelay.outbox.overview import overview

        await asked.desk.clock()
        found = await overview(asked.desk.office)
    return await asked.show("home.html", profile=profile, outbox=found, warnings=warnings)


PAGES = {"/": {"GET": Right(_show, None, roleless=True)}}
