"""``keyrelay idp``: the OpenID Connect providers whose tokens are accepted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from keyrelay import setting_values
from keyrelay.access import identity_providers
from keyrelay.access.discovery import signing_keys
from keyrelay.access.identity_provider import ClaimNames, IdentityProvider, told
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import Unsuitable
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
    unchecked
        Add it without asking it.
    """
    names = _names(claim or [])

    async def work(node: Node) -> tuple[IdentityProvider, int | None]:
        provider = identity_providers.made(
            scheme, authority=authority, audience=audience, display_name=display_name, names=names
        )
        found = None if unchecked else await signing_keys(provider.authority, node.settings.ca_bundle)
        return await node.identity_providers.add(provider, terminal.operator()), found

    provider, found = terminal.with_node(work)
    keys = "" if found is None else f" It signs with {found} {'key' if found == 1 else 'keys'}."
    print(f"Identity provider {provider.scheme} added.{keys}")


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
            for word, holds in (("disabled", not row["enabled"]), ("from the settings", row["from_settings"]))
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
