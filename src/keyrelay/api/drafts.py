"""From what a caller gives to a profile that this caller may make keyrelay use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from keyrelay.access.identity import Identity
from keyrelay.access.permissions import READ_PAM
from keyrelay.api.operations import Call, lacking
from keyrelay.errors import ProfileChanged, Violation
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SECRET_FIELDS, SmtpProfile
from keyrelay.secrets.model import FromPam, GivenSecret

DraftFor = Callable[[Snapshot], tuple[ProfileDraft, tuple[Violation, ...]]]
"""The draft that a change makes of the profile as it is, and what is wrong with the change."""
Make = Callable[[Snapshot], SmtpProfile]
Check = Callable[[ProfileDraft, tuple[Violation, ...]], SmtpProfile]


async def checker(call: Call) -> Check:
    """What turns this caller's drafts into profiles. It raises PermissionMissing, or BadInput."""
    catalogue = await call.services.providers.catalogue()

    def check(draft: ProfileDraft, violations: tuple[Violation, ...]) -> SmtpProfile:
        # Before anything is said of the providers: whoever may not read one does not learn whether there is one.
        require_use(call.identity, (getattr(draft, field) for field in SECRET_FIELDS))
        return call.services.rules.check(draft, violations, catalogue.violations)

    return check


async def maker(call: Call, draft_for: DraftFor, expected: Callable[[Snapshot], bool]) -> Make:
    """What makes the new profile of the profile as it is, for ``rework``.

    ``expected``: the condition on what is being changed. It raises ProfileChanged, PermissionMissing or BadInput.
    """
    check = await checker(call)

    def make(current: Snapshot) -> SmtpProfile:
        if not expected(current):
            raise ProfileChanged("The profile has changed since you read it.")
        return check(*draft_for(current))

    return make


async def rework(call: Call, make: Make) -> Snapshot:
    """Change the profile, in the name of the caller, unless ``make`` raises."""
    make(await call.services.keeper.snapshot())  # here too, so that what is wrong keeps nobody else waiting
    return await call.services.keeper.rework(make, by=call.identity.name)


async def restore(call: Call, number: int, expected: Callable[[Snapshot], bool]) -> Snapshot:
    """Make the profile what it was, in the name of the caller.

    Raises UnknownName, ProfileChanged, SecretGone, or PermissionMissing as for any other change.
    """
    keeper = call.services.keeper
    require_use(call.identity, (source for _, source in (await keeper.at(number)).secrets()))
    return await keeper.restore(number, by=call.identity.name, expected=expected)


def require_use(identity: Identity, sources: Iterable[GivenSecret | None]) -> None:
    """Raise PermissionMissing for a reference into a provider that the identity may not read.

    The right to change mail settings is not the right to have any entry of a vault sent to a relay of one's choice.
    """
    needed = {f"{READ_PAM}{source.provider}/" for source in sources if isinstance(source, FromPam)}
    if missing := sorted(permission for permission in needed if not identity.may(permission)):
        raise lacking(identity, *missing)
