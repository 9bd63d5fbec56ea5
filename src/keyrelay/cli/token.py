"""``keyrelay token``: tokens for machines, to sign in with in place of a password."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from cyclopts import App

from keyrelay.access.api_tokens import ApiToken, ApiTokens
from keyrelay.cli import moments, terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.secrets.model import SecretText
from keyrelay.server import Node

app = App(name="token")

_NEVER = "never"


@app.command
def create(name: str, *, permission: list[str], expires: str = "90d") -> None:
    """Make a token and print it, alone on standard output. It is shown only now.

    Parameters
    ----------
    name
        What to call it.
    permission
        An access-control string such as /system_settings/read/; it grants all that begins with it. May be given
        several times.
    expires
        When it ends: so long from now, such as 12h or 90d, a time such as 2027-03-01T12:30, or never.
    """
    end = None if expires == _NEVER else moments.from_now(expires, "--expires")

    async def work(node: Node) -> tuple[ApiToken, SecretText]:
        return await ApiTokens(node.store, node.journal).create(name, permission, end, terminal.operator())

    token, text = terminal.with_node(work)
    until = "it never ends" if token.expires_at is None else f"it ends at {_shown(token.expires_at)}"
    print(f"Token {token.name} made; {until}. It is shown only now:", file=sys.stderr, flush=True)
    print(text.reveal())


@app.command(name="list")
def list_tokens(*, json: AsJson = False) -> None:
    """List the tokens, never what they are. Each begins with keyrelay_ and its id.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[ApiToken]:
        return await ApiTokens(node.store, node.journal).all()

    now = datetime.now(UTC)
    documents = [
        {
            "id": token.id,
            "name": token.name,
            "permissions": list(token.permissions),
            "made_at": token.made_at.isoformat(),
            "made_by": token.made_by,
            "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
            "expired": token.has_expired(now),
        }
        for token in terminal.with_node(work)
    ]
    columns = {
        "Token": lambda row: row["name"],
        "Id": lambda row: row["id"],
        "Permissions": lambda row: " ".join(row["permissions"]),
        "Made by": lambda row: row["made_by"],
        "Ends": lambda row: _end(row["expires_at"], expired=row["expired"]),
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def revoke(name: str) -> None:
    """Revoke a token; it stops working at once.

    Parameters
    ----------
    name
        The token.
    """

    async def work(node: Node) -> ApiToken:
        return await ApiTokens(node.store, node.journal).revoke(name)

    print(f"Token {terminal.with_node(work).name} revoked.")


def _end(expires_at: str | None, *, expired: bool) -> str:
    if expires_at is None:
        return _NEVER
    return _shown(datetime.fromisoformat(expires_at)) + (" (expired)" if expired else "")


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
