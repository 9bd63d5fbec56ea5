"""The claims that roles can be given for, as they are kept (contract 7.2: claim definitions)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.numbers import next_number
from keyrelay.errors import InUse
from keyrelay.store.model import Change, Reader

MOST_CLAIMS = 10_000

# As the compatible API, and so the command line, calls them.
TYPE_NAMES = {
    ClaimType.USER: "User",
    ClaimType.GROUP: "Group",
    ClaimType.COMPUTER: "Computer",
    ClaimType.OAUTH_OID: "OAuthOid",
    ClaimType.OAUTH_ROLE: "OAuthRole",
    ClaimType.OAUTH_SUBJECT: "OAuthSubject",
    ClaimType.OAUTH_CLIENT_ID: "OAuthClientId",
}


@dataclass(frozen=True, slots=True)
class RoleClaim:
    """A claim with the number and the description that it has here; 0 while it has none."""

    id: int
    claim: Claim
    description: str

    @property
    def text(self) -> str:
        """In words, for people and the audit trail."""
        return f"{TYPE_NAMES[self.claim.type]} {self.claim.value} ({self.claim.scheme})"


async def claims(reader: Reader) -> list[RoleClaim]:
    """All that are kept, by number."""
    rows = await reader.rows("SELECT id, type, value, scheme, description FROM claim ORDER BY id")
    return [
        RoleClaim(number, Claim(ClaimType(kind), value, scheme), text) for number, kind, value, scheme, text in rows
    ]


async def links(reader: Reader) -> list[tuple[str, int]]:
    """Which role each claim gives: names and numbers."""
    rows = await reader.rows("SELECT role, claim FROM role_claim ORDER BY claim, role")
    return [(role, number) for role, number in rows]


def same(claim: Claim, known: Iterable[RoleClaim]) -> RoleClaim | None:
    """The one that means the same, if it is among those."""
    return next((each for each in known if each.claim.key == claim.key), None)


async def insert(change: Change, claim: Claim, description: str) -> RoleClaim:
    """Keep a claim that is new. Raises InUse when there are as many as there may be."""
    ((count,),) = await change.rows("SELECT COUNT(*) FROM claim")
    if count >= MOST_CLAIMS:
        raise InUse(f"There are {MOST_CLAIMS} claims already.", remedy="Delete those not needed.")
    number = await next_number(change, "claim")
    await change.run(
        "INSERT INTO claim (id, type, value, scheme, description) VALUES ($1, $2, $3, $4, $5)",
        *(number, int(claim.type), claim.value, claim.scheme, description),
    )
    return RoleClaim(number, claim, description)


async def describe(change: Change, number: int, description: str) -> None:
    await change.run("UPDATE claim SET description = $1 WHERE id = $2", description, number)


async def delete(change: Change, number: int) -> None:
    """Delete a claim that gives no role."""
    await change.run("DELETE FROM claim WHERE id = $1", number)


async def link(change: Change, role: str, number: int) -> None:
    await change.run("INSERT INTO role_claim (role, claim) VALUES ($1, $2)", role, number)


async def unlink(change: Change, role: str, number: int) -> None:
    await change.run("DELETE FROM role_claim WHERE role = $1 AND claim = $2", role, number)
