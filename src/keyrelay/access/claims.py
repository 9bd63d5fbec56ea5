"""Claims: what an identity provider says of somebody, and which roles that gives (contract 6.3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from keyrelay.access.identity import Identity
from keyrelay.store.model import Reader

# The scheme of the users that keyrelay keeps itself, beside those of identity providers.
LOCAL_SCHEME = "keyrelay"


class ClaimType(IntEnum):
    """What a claim's value names (contract 6.3). Names of the directory's kinds are compared without regard to case."""

    USER = 0
    GROUP = 1
    COMPUTER = 2
    OAUTH_OID = 3
    OAUTH_ROLE = 4
    OAUTH_SUBJECT = 5
    OAUTH_CLIENT_ID = 6


_OF_A_DIRECTORY = frozenset({ClaimType.USER, ClaimType.GROUP, ClaimType.COMPUTER})


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about an identity; ``scheme`` names the identity provider that makes it."""

    type: ClaimType
    value: str
    scheme: str

    @property
    def key(self) -> tuple[int, str, str]:
        """What is the same for claims that mean the same."""
        value = self.value.casefold() if self.type in _OF_A_DIRECTORY else self.value
        return self.type, value, self.scheme


async def roles_of(reader: Reader, held: Collection[Claim]) -> tuple[str, ...]:
    """The roles that these claims give, by name."""
    keys = {claim.key for claim in held}
    roles: set[str] = set()
    for scheme in {claim.scheme for claim in held}:
        rows = await reader.rows(
            "SELECT c.type, c.value, r.role FROM claim c JOIN role_claim r ON r.claim = c.id WHERE c.scheme = $1",
            scheme,
        )
        roles.update(role for kind, value, role in rows if Claim(ClaimType(kind), value, scheme).key in keys)
    return tuple(sorted(roles))


async def identity(reader: Reader, name: str, held: Collection[Claim]) -> Identity:
    """Who these claims are about, and what their roles allow, as of now."""
    roles = await roles_of(reader, held)
    permissions: set[str] = set()
    for role in roles:
        rows = await reader.rows("SELECT permission FROM role_permission WHERE role = $1", role)
        permissions.update(permission for (permission,) in rows)
    return Identity(name, roles, frozenset(permissions))
