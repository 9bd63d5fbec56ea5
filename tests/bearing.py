"""Servers that accept tokens: registering a provider, giving roles to its claims, and asking with a token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2

from keyrelay.access.claims import ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.identity_provider import ClaimNames, IdentityProvider
from keyrelay.access.identity_providers import made
from keyrelay.access.role_rules import ClaimDraft, RoleDraft, checked_role
from keyrelay.access.roles import GLOBAL_SET
from keyrelay.audit.chain import SELECT
from keyrelay.settings import Settings
from live import SMTP, V1, V2, LiveServer
from oidc_server import AUDIENCE, OidcServer

PROBE = "/KeyfactorAPI/Status/Endpoints"
READ = "/system_settings/read/"
# Who may give everything.
CHIEF = Identity("chief", (), frozenset({"/"}))


def furnished(server: LiveServer, provider: OidcServer) -> LiveServer:
    """A server that knows the provider, where who has the role Readers, as everybody has there, reads the profile."""
    register(server, provider)
    grant(server, "Readers", READ)
    provider.claims["roles"] = ["Readers"]
    return server


def trusting(settings: Settings, *providers: OidcServer) -> Settings:
    bundle = settings.data_dir.with_name("trusted.pem")
    bundle.write_bytes(b"".join(provider.authority.read_bytes() for provider in providers))
    return replace(settings, ca_bundle=bundle)


def register(
    server: LiveServer,
    provider: OidcServer | str,
    scheme: str = "entra",
    audience: str = AUDIENCE,
    names: ClaimNames | None = None,
) -> IdentityProvider:
    authority = provider if isinstance(provider, str) else provider.issuer
    names = names or ClaimNames()
    new = made(scheme, authority=authority, audience=audience, display_name=None, names=names)
    return server.run(lambda node: node.identity_providers.add(new, CHIEF))


def grant(
    server: LiveServer,
    value: str,
    *permissions: str,
    kind: ClaimType = ClaimType.OAUTH_ROLE,
    scheme: str = "entra",
) -> str:
    """A role with these permissions for whoever has this claim; its name."""
    role = f"{scheme} {kind.name} {value}"

    claim = ClaimDraft(int(kind), value, scheme, "of a test")
    wanted = checked_role(RoleDraft(role, "of a test", None, GLOBAL_SET, permissions, (claim,)))
    everything = Identity("a test", (), frozenset({"/"}))
    server.run(lambda node: node.access.add_role(wanted, everything))
    return role


def ask(
    server: LiveServer, token: str, path: str = SMTP, method: str = "GET", address: str = "127.0.0.1", **more: Any
) -> httpx2.Response:
    """``address``: which of those of this machine to ask from."""
    headers = (V1 if path != SMTP else V2) | {"authorization": f"Bearer {token}".strip().encode("latin-1")}
    transport = httpx2.HTTPTransport(local_address=address, verify=False)  # plain http, and quicker so
    with httpx2.Client(base_url=server.url, headers=headers, transport=transport, timeout=30) as client:
        return client.request(method, path, **more)


def status(server: LiveServer, token: str, path: str = SMTP, **more: Any) -> int:
    return ask(server, token, path, **more).status_code


def held(server: LiveServer, token: str) -> list[str]:
    """The permissions of whoever holds this token."""
    answer = ask(server, token, "/KeyfactorAPI/Security/My/Permissions")
    return answer.raise_for_status().json()["Permissions"]


def who(server: LiveServer, token: str) -> str:
    """What keyrelay calls whoever holds this token: the error for a missing permission says it."""
    answer = ask(server, token, method="PUT", json={})
    assert answer.status_code == 403, answer.text
    return answer.json()["Message"].split()[1]


def counted(monkeypatch, owner: Any, name: str) -> list[Any]:
    """What a method or function is called with from now on, each time that it is."""
    calls: list[Any] = []
    real: Callable[..., Any] = getattr(owner, name)

    def counting(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, counting)
    return calls


def entries(server, kind: str) -> list[tuple[str, int, str, dict[str, object]]]:
    """Who did what to what of a kind, and what changed, as the audit trail has it."""

    async def read(node):
        return [row for row in await node.store.rows(f"{SELECT} ORDER BY id") if row[7] == kind]

    return [(row[5], row[3], row[8], json.loads(row[10])["changes"]) for row in server.run(read)]
