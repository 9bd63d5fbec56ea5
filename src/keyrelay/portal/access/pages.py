"""All pages about access, and the one that leads to them."""

from __future__ import annotations

from keyrelay.access.permissions import READ_SECURITY
from keyrelay.api.answers import Answer
from keyrelay.portal.access import claims, identity_providers, password, roles, tokens, user, users
from keyrelay.portal.page import Asked, Right


async def _get(asked: Asked) -> Answer:
    return await asked.show("access.html")


PAGES = {
    "/access": {"GET": Right(_get, READ_SECURITY)},
    **users.PAGES,
    **user.PAGES,
    **roles.PAGES,
    **claims.PAGES,
    **identity_providers.PAGES,
    **tokens.PAGES,
    **password.PAGES,
}
