"""People: whether somebody can still do everything, and who can do nothing. Nobody is named."""

from __future__ import annotations

from keyrelay.access.claims import LOCAL_SCHEME, ClaimType
from keyrelay.access.permissions import EVERYTHING
from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, warning

_ADMINISTRATORS = (
    "SELECT COUNT(DISTINCT h.account) FROM role_holder h JOIN role_permission p ON p.role = h.role"
    " WHERE p.permission = $1"
)
_CLAIMS = (
    "SELECT COUNT(*) FROM role_claim r JOIN claim c ON c.id = r.claim JOIN role_permission p ON p.role = r.role"
    " WHERE p.permission = $1 AND c.scheme <> $2"
)
_ROLELESS = (
    "SELECT COUNT(*) FROM account a WHERE NOT EXISTS (SELECT 1 FROM role_holder h WHERE h.account = a.name)"
    " AND NOT EXISTS (SELECT 1 FROM claim c JOIN role_claim r ON r.claim = c.id"
    " WHERE c.scheme = $1 AND c.type = $2 AND LOWER(c.value) = a.name)"
)


async def administrator(case: Case) -> Finding:
    rows = case.opened.rows
    ((users,),) = await rows("SELECT COUNT(*) FROM account")
    if not users:
        return warning("There are no users yet.", "The first start makes the user admin, and shows its password once.")
    ((administrators,),) = await rows(_ADMINISTRATORS, EVERYTHING)
    if administrators:
        number = "1 user" if administrators == 1 else f"{administrators} users"
        return ok(f"{number} with a password here may do everything.")
    ((claims,),) = await rows(_CLAIMS, EVERYTHING, LOCAL_SCHEME)
    if claims:
        return warning(
            "Whoever may do everything signs in with an identity provider, and nobody can while that is away.",
            "Keep one for bad days: keyrelay user add NAME --role Administrator",
        )
    return failure("Nobody may do everything.", "keyrelay role grant Administrator NAME")


async def roleless(case: Case) -> Finding:
    ((number,),) = await case.opened.rows(_ROLELESS, LOCAL_SCHEME, int(ClaimType.USER))
    if not number:
        return ok("Every user has a role.")
    told = "1 user has no role, and can" if number == 1 else f"{number} users have no role, and can"
    return warning(f"{told} do nothing.", "keyrelay user list shows who; grant a role, or remove the user.")
