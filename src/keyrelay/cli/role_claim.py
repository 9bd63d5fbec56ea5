"""``keyrelay role claim``: what gives a role to those who sign in elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from cyclopts import App

from keyrelay.access.claims import LOCAL_SCHEME
from keyrelay.access.role_changes import giving, giving_no_more
from keyrelay.access.role_claims import TYPE_NAMES, RoleClaim, same
from keyrelay.access.role_rules import ClaimDraft, checked_claim
from keyrelay.access.roles import Role
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import InUse
from keyrelay.server import Node

app = App(name="claim")

TypeName = Literal["User", "Group", "Computer", "OAuthOid", "OAuthRole", "OAuthSubject", "OAuthClientId"]


@app.command
def add(role: str, kind: TypeName, value: str, *, scheme: str = LOCAL_SCHEME, description: str | None = None) -> None:
    """Give a role to everybody of whom an identity provider says this.

    Parameters
    ----------
    role
        The role.
    kind
        What the value names.
    value
        The user, group, role, subject or client.
    scheme
        The identity provider that says so, by its authentication scheme; keyrelay for its own users.
    description
        What it is for; the value, when nothing is given.
    """
    wanted = _claim(kind, value, scheme, description or value)

    terminal.with_node(
        lambda node: node.access.rework_role(role, lambda before: giving(before, wanted), terminal.operator())
    )
    print(f"{wanted.text} gives the role {role}.")


@app.command(name="list")
def list_claims(*, json: AsJson = False) -> None:
    """List the claims, and the roles that each of them gives.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> tuple[list[RoleClaim], list[Role]]:
        return await node.access.claims(), await node.access.roles()

    claims, roles = terminal.with_node(work)
    documents = [
        {
            "id": each.id,
            "type": TYPE_NAMES[each.claim.type],
            "value": each.claim.value,
            "scheme": each.claim.scheme,
            "description": each.description,
            "roles": [role.name for role in roles if each in role.claims],
        }
        for each in claims
    ]
    columns = {
        "Type": lambda row: row["type"],
        "Value": lambda row: row["value"],
        "Scheme": lambda row: row["scheme"],
        "Roles": lambda row: ", ".join(row["roles"]),
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def remove(role: str, kind: TypeName, value: str, *, scheme: str = LOCAL_SCHEME) -> None:
    """Have a claim give a role no more. A claim that gives no role is forgotten.

    Parameters
    ----------
    role
        The role.
    kind
        What the value names.
    value
        The user, group, role, subject or client.
    scheme
        The identity provider that says so, by its authentication scheme.
    """
    unwanted = _claim(kind, value, scheme, value)

    def make(before: Role) -> Role:
        return giving_no_more(before, unwanted, "keyrelay role claim list shows what does.")

    async def work(node: Node) -> None:
        await node.access.rework_role(role, make, terminal.operator())
        kept = same(unwanted.claim, await node.access.claims())
        if kept is not None:
            with suppress(InUse):  # it gives other roles
                await node.access.remove_claim(kept.id)

    terminal.with_node(work)
    print(f"{unwanted.text} gives the role {role} no more.")


def _claim(kind: TypeName, value: str, scheme: str, description: str) -> RoleClaim:
    (number,) = [number for number, name in TYPE_NAMES.items() if name == kind]
    return checked_claim(ClaimDraft(number, value, scheme, description))
