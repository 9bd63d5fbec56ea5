"""The first page after signing in: how things stand, and where to go next."""

from __future__ import annotations

from keyrelay.access.permissions import READ_MESSAGES, READ_SETTINGS
from keyrelay.api.answers import Answer
from keyrelay.portal.page import Asked, Right


async def _show(asked: Asked) -> Answer:
    profile, found = None, None
    if asked.identity.may(READ_SETTINGS):
        profile = (await asked.services.keeper.snapshot()).profile
    if asked.identity.may(READ_MESSAGES):
        from keyrelay.outbox.overview import overview

        await asked.desk.clock()
        found = await overview(asked.desk.office)
    return await asked.show("home.html", profile=profile, outbox=found)


PAGES = {"/": {"GET": Right(_show, None, roleless=True)}}
