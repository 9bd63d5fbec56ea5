"""The vaults: whether those that the profile uses give its secrets, and whether what they need is installed."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, skipped, warning
from keyrelay.pam import catalogue
from keyrelay.pam.blocking import Library
from keyrelay.pam.catalogue import Catalogue
from keyrelay.pam.model import Provider
from keyrelay.pam.trying import attempt
from keyrelay.profile.model import SmtpProfile
from keyrelay.secrets.model import FromPam
from keyrelay.server import Node, backends


async def secrets(case: Case) -> Finding:
    """Each is fetched as it is for mail, and thrown away at once."""
    profile, node = case.configured, case.wired
    references = _references(profile)
    if not references:
        return ok("No secret of the profile is in a vault.")
    found = await _catalogue(node)
    for field, reference in references:
        wrong = [violation.message.format(field=field) for violation in found.violations(field, reference)]
        if wrong:
            return failure(wrong[0], "Name a provider that is there, and the parameters of its type, in the profile.")
    if case.offline:
        return skipped("No vault is asked (--offline).")
    trials = await asyncio.gather(*(attempt(node.vaults, reference) for _, reference in references))
    for (field, reference), trial in zip(references, trials, strict=True):
        if trial.verdict != "found":
            detail = f" In detail: {trial.detail}." if trial.detail else ""
            told = f"The {_words(field)} cannot be had from PAM provider {reference.provider}. {trial.sentence}{detail}"
            return failure(told, trial.remedy or "See keyrelay pam try.")
    odd = [field for (field, _), trial in zip(references, trials, strict=True) if trial.detail]
    if odd:
        return warning(
            f"The vault gives the {_words(odd[0])}, and it holds line breaks or other control characters.",
            "Take them out of the value in the vault.",
        )
    return ok(
        f"The vault gives {'the secret' if len(references) == 1 else f'all {len(references)} secrets'} of the profile."
    )


async def libraries(case: Case) -> Finding:
    """Of the types that any provider here has."""
    lacking = {}
    for provider in (await _catalogue(case.wired)).providers.values():
        if (library := _library(provider)) is not None and not _installed(library):
            lacking[provider.id] = library
    used = {reference.provider for _, reference in _references(case.profile)} if case.profile else set()
    needed = sorted({library.extra for number, library in lacking.items() if number in used})
    if needed:
        return failure(
            f"The profile needs the extra {', '.join(needed)} of keyrelay, which is not installed here.",
            f"pip install 'keyrelay[{','.join(needed)}]'",
        )
    if lacking:
        extras = ",".join(sorted({library.extra for library in lacking.values()}))
        return warning(
            f"A provider that the profile does not use needs the extra {extras}, which is not installed here.",
            f"pip install 'keyrelay[{extras}]', or delete the provider.",
        )
    return ok("What the provider types in use need is installed.")


def _library(provider: Provider) -> Library | None:
    library = getattr(provider.type.backend, "library", None)
    return library if isinstance(library, Library) else None


def _installed(library: Library) -> bool:
    try:
        return find_spec(library.name) is not None
    except ImportError:  # not even the package that it is in
        return False


async def _catalogue(node: Node) -> Catalogue:
    return await catalogue.read(node.store, backends(node.store, node.keyring)())


def _references(profile: SmtpProfile) -> list[tuple[str, FromPam]]:
    return [(field, source) for field, source in profile.secrets() if isinstance(source, FromPam)]


def _words(field: str) -> str:
    return field.replace("_", " ")
