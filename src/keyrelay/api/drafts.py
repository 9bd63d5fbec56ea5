"""From what a caller gives to a profile that this caller may make keyrelay use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from keyrelay.access.identity import Identity
from keyrelay.access.permissions import READ_PAM
from keyrelay.api.operations import Call, lacking
from keyrelay.errors import Violation
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.model import SECRET_FIELDS, SmtpProfile
from keyrelay.secrets.model import FromPam, GivenSecret

Check = Callable[[ProfileDraft, tuple[Violation, ...]], SmtpProfile]


async def checker(call: Call) -> Check:
    """What turns this caller's drafts into profiles. It raises PermissionMissing, or BadInput."""
    catalogue = await call.services.providers.catalogue()

    def check(draft: ProfileDraft, violations: tuple[Violation, ...]) -> SmtpProfile:
        # Before anything is said of the providers: whoever may not read one does not learn whether there is one.
        require_use(call.identity, (getattr(draft, field) for field in SECRET_FIELDS))
        return call.services.rules.check(draft, violations, catalogue.violations)

    return check


def require_use(identity: Identity, sources: Iterable[GivenSecret | None]) -> None:
    """Raise PermissionMissing for a reference into a provider that the identity may not read.

    The right to change mail settings is not the right to have any entry of a vault sent to a relay of one's choice.
    """
    needed = {f"{READ_PAM}{source.provider}/" for source in sources if isinstance(source, FromPam)}
    if missing := sorted(permission for permission in needed if not identity.may(permission)):
        raise lacking(identity, *missing)
