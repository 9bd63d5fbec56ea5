"""The part of the composition root that makes the first user, when there is none."""

from __future__ import annotations

from keyrelay.access.keeper import AccessKeeper
from keyrelay.access.passwords import make_password
from keyrelay.errors import SettingsInvalid, Unsuitable
from keyrelay.secrets.model import SecretText
from keyrelay.settings import Settings
from keyrelay.store.model import Store

FIRST_USER = "admin"


async def first_user(settings: Settings, store: Store, access: AccessKeeper) -> SecretText | None:
    """Make the first user when there is none; give its password if it was generated."""
    if await store.rows("SELECT 1 FROM account LIMIT 1"):
        return None
    given = settings.admin_password
    password = SecretText(given or make_password())
    try:
        made = await access.add_first_user(FIRST_USER, password)
    except Unsuitable as problem:
        raise SettingsInvalid(f"KEYRELAY_ADMIN_PASSWORD cannot be used. {problem.message}") from None
    return password if made and not given else None  # another node may have been faster
