"""The rooms of the portal, and who may enter which."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.access import permissions
from keyrelay.access.identity import Identity


@dataclass(frozen=True, slots=True)
class Room:
    """An entry of the menu. ``path`` is below ``/portal/``."""

    path: str
    title: str
    permission: str | None
    in_part: bool = False


ROOMS = (
    Room("", "Overview", None),
    Room("smtp", "SMTP configuration", permissions.READ_SETTINGS),
    Room("test", "Test", permissions.MODIFY_SETTINGS),
    Room("outbox", "Outbox", permissions.READ_MESSAGES),
    Room("pam", "PAM providers", permissions.READ_PAM, in_part=True),
    Room("history", "History", permissions.READ_SETTINGS),
    Room("audit", "Audit", permissions.READ_AUDIT),
    Room("access", "Access", permissions.READ_SECURITY),
    Room("health", "Health", permissions.READ_SETTINGS),
)


def rooms(identity: Identity | None) -> tuple[Room, ...]:
    """Those that somebody may enter."""
    if identity is None:
        return ()
    return tuple(room for room in ROOMS if _open(room, identity))


def _open(room: Room, identity: Identity) -> bool:
    needed = room.permission
    return needed is None or identity.may(needed) or (room.in_part and identity.may_in_part(needed))
