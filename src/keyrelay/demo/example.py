"""The example data of a demo: a profile, providers, people and what they may, put in as a person would do it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from keyrelay.access import identity_providers
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.identity_provider import ClaimNames, Client
from keyrelay.access.permissions import (
    EVERYTHING,
    READ_AUDIT,
    READ_CONTENT,
    READ_MESSAGES,
    READ_PAM,
    READ_SECURITY,
    READ_SETTINGS,
)
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.role_rules import RoleDraft, checked_role
from keyrelay.access.roles import ADMINISTRATOR, GLOBAL_SET
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.demo import identity_provider, vault
from keyrelay.demo.credentials import CLIENT_ID, SCHEME, SCOPE, SENDER, Credentials
from keyrelay.pam.local import EntryDraft
from keyrelay.pam.model import LOCAL_TYPE, GivenValue, Provider, ProviderDraft
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.keeper import Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.profile.rules import Rules
from keyrelay.secrets.model import FromPam, SecretText
from keyrelay.server import Node

_BY = "keyrelay demo"
_EVERYTHING = Identity(_BY, (), frozenset({EVERYTHING}))
_VAULT, _LOCAL = "Demo vault", "Kept here"
_AUDITOR, _HELPDESK = "Auditor", "Helpdesk"


@dataclass(frozen=True, slots=True)
class Around:
    """Where the servers around the demo's keyrelay are."""

    relay_port: int
    token_endpoint: str
    vault: str
    issuer: str


async def fill(node: Node, around: Around, credentials: Credentials) -> None:
    """Put everything in. Raises KeyrelayError for what an empty store should take and does not."""
    act_as(Actor(_BY))
    await node.identity_providers.add(
        replace(
            identity_providers.made(
                SCHEME,
                authority=around.issuer,
                audience=identity_provider.CLIENT,
                display_name="Demo identity provider",
                names=ClaimNames(),
            ),
            client=Client(identity_provider.CLIENT, None),
        ),
        _EVERYTHING,
    )
    await _people(node, credentials)
    provider = await _providers(node, around, credentials)
    await _profile(node, around, provider)


async def _people(node: Node, credentials: Credentials) -> None:
    reading = (READ_SETTINGS, READ_PAM, READ_SECURITY, READ_AUDIT, READ_MESSAGES)
    for name, description, strings in (
        (_AUDITOR, "Sees everything but content, changes nothing", reading),
        (_HELPDESK, "Sees what became of mail, and what was in it", (READ_MESSAGES, READ_CONTENT)),
    ):
        role = checked_role(RoleDraft(name, description, None, GLOBAL_SET, strings, ()))
        await node.access.add_role(role, _EVERYTHING)
    for name, value in (
        (ADMINISTRATOR, identity_provider.ADMINISTRATORS),
        (_HELPDESK, identity_provider.HELPDESK),
    ):
        claim = RoleClaim(0, Claim(ClaimType.OAUTH_ROLE, value, SCHEME), "From the demo's identity provider")
        await node.access.rework_role(name, partial(replace, claims=(claim,)), _EVERYTHING)
    for name, role_name in (("auditor", _AUDITOR), ("helpdesk", _HELPDESK)):
        await node.access.add_user(name, credentials.users[name], (role_name,), _EVERYTHING)


async def _providers(node: Node, around: Around, credentials: Credentials) -> Provider:
    """A provider for secrets in the vault, which is given, and one for those that keyrelay keeps itself."""
    values = {"Host": around.vault, "Token": credentials.vault_token.reveal(), "Path": vault.ENGINE}
    catalogue = await node.providers.catalogue()
    hashicorp, local = catalogue.type_named("Hashicorp-Vault"), catalogue.type_named(LOCAL_TYPE)
    assert hashicorp is not None  # noqa: S101 - both are built in
    assert local is not None  # noqa: S101
    given = tuple(GivenValue(None, name, value) for name, value in values.items())
    remote = await node.providers.add(ProviderDraft(name=_VAULT, type_id=hashicorp.id, values=given))
    kept = await node.providers.add(ProviderDraft(name=_LOCAL, type_id=local.id))
    await node.providers.add_entry(
        kept.id,
        EntryDraft(
            name=vault.PASSWORD,
            description="For Basic sign-in at the catcher, as the user mailer",
            secret=credentials.mailer_password,
        ),
    )
    return remote


async def _profile(node: Node, around: Around, provider: Provider) -> None:
    """Two revisions, so that there is a history: one without sign-in, and the one that works."""
    rules = Rules()
    catalogue = await node.providers.catalogue()
    first = ProfileDraft(
        host="localhost",
        port=around.relay_port,
        use_ssl=True,
        sender_account=SENDER,
        sender_name="Demo PKI",
    )
    reference = FromPam(provider.id, {"Secret": vault.SECRET, "Key": vault.CLIENT_SECRET})
    second = replace(
        first,
        authentication="oauth_client_credentials",
        client_id=SecretText(CLIENT_ID),
        client_secret=reference,
        token_endpoint=around.token_endpoint,
        scope=SCOPE,
    )
    for draft in (first, second):
        profile = rules.check(draft, (), catalogue.violations)
        await node.keeper.rework(partial(_instead, profile), by=_BY)


def _instead(profile: SmtpProfile, _: Snapshot) -> SmtpProfile:
    return profile
