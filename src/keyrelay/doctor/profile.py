"""The profile: whether there is one, whether it may still be one, and whether its secrets open."""

from __future__ import annotations

from keyrelay.doctor.case import Case
from keyrelay.errors import BadInput, KeyrelayError
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.pam import catalogue
from keyrelay.profile import exchange_online
from keyrelay.profile.draft import draft_of
from keyrelay.profile.rules import Rules
from keyrelay.secrets import stored
from keyrelay.secrets.model import Stored
from keyrelay.server import backends

_MOST_NAMED = 5


async def configured(case: Case) -> Finding:
    if not case.readable:
        return failure(
            "The newest profile in the database cannot be read.",
            "Restore the table profile_revision from a backup, or set the profile anew.",
        )
    if case.profile is None:
        return warning("There is no profile yet, so nothing can be sent.", "Set one: keyrelay smtp set FILE")
    profile, node = case.configured, case.wired
    found = await catalogue.read(node.store, backends(node.store, node.keyring)())
    rules = Rules(allow_insecure_sign_in=case.settings.allow_insecure_sign_in)
    try:
        rules.check(draft_of(profile), (), found.violations)
    except BadInput as bad:
        told = [violation.message.format(field=violation.field) for violation in bad.violations]
        return failure(
            f"The profile breaks a rule by now: {' '.join(told[:_MOST_NAMED])}",
            "Correct it with keyrelay smtp set, or with PUT /SMTP.",
        )
    return ok(f"The profile keeps all rules; the relay is {profile.host}, port {profile.port}.")


async def secrets(case: Case) -> Finding:
    """Opened for the destination they were given for, and thrown away at once."""
    profile, node = case.configured, case.wired
    kept = [(field, source) for field, source in profile.secrets() if isinstance(source, Stored)]
    destination = profile.destination.text()
    for field, source in kept:
        try:
            await stored.reveal(node.store, node.keyring, source, field=field, destination=destination)
        except KeyrelayError as problem:
            return failure(
                f"The {field.replace('_', ' ')} of the profile cannot be used. {problem.message}", problem.advice
            )
    return ok(
        "The profile keeps no secret here." if not kept else "The secrets that the profile keeps here can be opened."
    )


async def microsoft(case: Case) -> Finding:
    profile = case.configured
    if not exchange_online.is_host(profile.host):
        return ok("The relay is none of Exchange Online.")
    if not exchange_online.password_ends(profile.host, draft_of(profile).authentication):
        return ok("The profile does not sign in to Exchange Online with a password.")
    return warning(exchange_online.PASSWORDS_END, exchange_online.REMEDY)
