"""``keyrelay idp``: the OpenID Connect providers whose tokens are accepted, and through which people sign in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from keyrelay import setting_values
from keyrelay.access import endpoints, identity_providers, provider_clients
from keyrelay.access.identity_provider import ClaimNames, Client, IdentityProvider, told
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson, InputFile
from keyrelay.errors import Unsuitable
from keyrelay.secrets.model import SecretText
from keyrelay.server import Node

app = App(name="idp")


@app.command
def add(
    scheme: str,
    *,
    authority: str,
    audience: str,
    display_name: str | None = None,
    claim: Annotated[list[str] | None, Parameter(name="--claim")] = None,
    client_id: str | None = None,
    client_secret_file: InputFile | None = None,
    unchecked: bool = False,
) -> None:
    """Accept the tokens of an OpenID Connect provider. It is asked for its keys first, to see whether that works.

    Parameters
    ----------
    scheme
        What to call it: in claims of roles, and before the names of its users.
    authority
        Its issuer, exactly as it names itself, such as https://login.example.org/tenant.
    audience
        Whom the tokens have to be for (aud): the id that keyrelay has there.
    display_name
        What people call it.
    claim
        In which claims something stands, such as roles=realm_access.roles or name=upn,sub. Says it of name, roles,
        groups, subject, client_id and oid. May be given several times.
    client_id
        The client that keyrelay is registered as there, so that people sign in to the portal through it.
    client_secret_file
        File that holds the secret of that client; - reads standard input. Without it, it is a public client.
    unchecked
        Add it without asking it.
    """
    names = _names(claim or [])
    if client_id is None and client_secret_file is not None:
        raise Unsuitable("A client secret belongs to a client.", remedy="Give --client-id as well.")
    client = None if client_id is None else _client(client_id, client_secret_file)

    async def work(node: Node) -> tuple[IdentityProvider, int | None]:
        provider = identity_providers.made(
            scheme, authority=authority, audience=audience, display_name=display_name, names=names
        )
        provider = replace(provider, client=client)
        found = None if unchecked else await endpoints.look(provider, node.settings.ca_bundle)
        return await node.identity_providers.add(provider, terminal.operator()), found

    provider, found = terminal.with_node(work)
    keys = "" if found is None else f" It signs with {found} {'key' if found == 1 else 'keys'}."
    print(f"Identity provider {provider.scheme} added.{keys}")
    if provider.client is not None:
        print(_opened(provider))


@app.command(name="sign-in")
def sign_in(
    scheme: str,
    *,
    client_id: str | None = None,
    client_secret_file: InputFile | None = None,
    off: Annotated[bool, Parameter(negative="")] = False,
    unchecked: bool = False,
) -> None:
    """Have people sign in to the portal through an identity provider, or no longer. Give the whole of it each time.

    Parameters
    ----------
    scheme
        The provider.
    client_id
        The client that keyrelay is registered as there.
    client_secret_file
        File that holds the secret of that client; - reads standard input. Without it, it is a public client.
    off
        Let nobody sign in through it any more, and end the sessions of those who have. Its tokens stay good.
    unchecked
        Do not ask the provider whether that can work.
    """
    if off == (client_id is not None) or (off and client_secret_file is not None):
        raise Unsuitable("It has to be said who keyrelay is there.", remedy="Give --client-id, or --off alone.")
    client = None if client_id is None else _client(client_id, client_secret_file)

    async def work(node: Node) -> IdentityProvider:
        known = [one for one in await node.identity_providers.all() if one.scheme.lower() == scheme.lower()]
        if client is not None and known and not known[0].from_settings and not unchecked:
            await endpoints.look(replace(known[0], client=client), node.settings.ca_bundle)
        return await node.identity_providers.set_client(scheme, client, terminal.operator())

    provider = terminal.with_node(work)
    if provider.client is None:
        print(f"Nobody signs in to the portal through {provider.scheme} any more.")
    else:
        print(_opened(provider))


@app.command(name="list")
def list_providers(*, json: AsJson = False) -> None:
    """List the identity providers.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> tuple[IdentityProvider, ...]:
        return await node.identity_providers.all()

    documents = [
        {"id": one.id, "scheme": one.scheme, **told(one), "from_settings": one.from_settings}
        for one in terminal.with_node(work)
    ]
    columns = {
        "Scheme": lambda row: row["scheme"],
        "Name": lambda row: row["display_name"],
        "Authority": lambda row: row["authority"],
        "Audience": lambda row: row["audience"],
        "": lambda row: ", ".join(
            word
            for word, holds in (
                ("people sign in", row["enabled"] and row["client_id"]),
                ("disabled", not row["enabled"]),
                ("from the settings", row["from_settings"]),
            )
            if holds
        ),
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def disable(scheme: str) -> None:
    """Accept no token of an identity provider any more, from now on.

    Parameters
    ----------
    scheme
        The provider.
    """

    async def work(node: Node) -> IdentityProvider:
        return await node.identity_providers.disable(scheme)

    print(f"Identity provider {terminal.with_node(work).scheme} is disabled.")


@app.command
def enable(scheme: str) -> None:
    """Accept the tokens of an identity provider again.

    Parameters
    ----------
    scheme
        The provider.
    """

    async def work(node: Node) -> IdentityProvider:
        return await node.identity_providers.enable(scheme, terminal.operator())

    print(f"Identity provider {terminal.with_node(work).scheme} is enabled.")


@app.command
def remove(scheme: str) -> None:
    """Remove an identity provider. One that roles have claims of cannot be removed.

    Parameters
    ----------
    scheme
        The provider.
    """

    async def work(node: Node) -> IdentityProvider:
        return await node.identity_providers.remove(scheme)

    print(f"Identity provider {terminal.with_node(work).scheme} removed.")


def _names(given: list[str]) -> ClaimNames:
    try:
        return ClaimNames(**dict(setting_values.claim_names(" ".join(given))))
    except ValueError as problem:
        raise Unsuitable(
            f"--claim {problem}.", remedy="Give it several times, or with commas: --claim name=upn,sub."
        ) from None


def _client(client_id: str, file: Path | None) -> Client:
    secret = None if file is None else SecretText(terminal.read_text(file).rstrip("\r\n"))
    return provider_clients.checked(client_id, secret)


def _opened(provider: IdentityProvider) -> str:
    assert provider.client is not None  # noqa: S101 - the callers have looked
    kind = "a public client" if provider.client.secret is None else "a client with a secret"
    return f"People sign in to the portal through {provider.scheme} as {provider.client.id}, {kind}."
