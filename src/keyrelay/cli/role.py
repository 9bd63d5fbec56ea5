"""``keyrelay role``: what users may do."""

from __future__ import annotations

from dataclasses import replace

from cyclopts import App

from keyrelay.access.permissions import permission as one_form
from keyrelay.access.role_rules import RoleDraft, checked_role
from keyrelay.access.roles import GLOBAL_SET, Role
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import Unsuitable
from keyrelay.server import Node

app = App(name="role")
app.command(
    "keyrelay.cli.role_claim:app", name="claim", help="Claims: what gives a role to those who sign in elsewhere."
)


@app.command
def add(name: str, *, permission: list[str], description: str | None = None, email: str | None = None) -> None:
    """Add a role.

    Parameters
    ----------
    name
        What to call it.
    permission
        An access-control string such as /system_settings/read/; it grants all that begins with it. May be given
        several times.
    description
        What it is for; the name, when nothing is given.
    email
        Address of those who have it.
    """
    strings = tuple(one_form(text) for text in permission)
    wanted = checked_role(RoleDraft(name, description or name, email, GLOBAL_SET, strings, ()))
    terminal.with_node(lambda node: node.access.add_role(wanted, terminal.operator()))
    print(f"Role {name} added.")


@app.command(name="list")
def list_roles(*, json: AsJson = False) -> None:
    """List the roles, their permissions, how many users hold them and how many claims give them.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[Role]:
        return await node.access.roles()

    documents = [
        {
            "id": role.id,
            "name": role.name,
            "description": role.description,
            "email": role.email,
            "permissions": list(role.permissions),
            "holders": len(role.holders),
            "claims": [claim.text for claim in role.claims],
        }
        for role in sorted(terminal.with_node(work), key=lambda role: role.name)
    ]
    columns = {
        "Role": lambda row: row["name"],
        "Permissions": lambda row: " ".join(row["permissions"]),
        "Held by": lambda row: str(row["holders"]),
        "Claims": lambda row: str(len(row["claims"])),
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def remove(name: str) -> None:
    """Remove a role that no user holds. The claims that gave it give it no more.

    Parameters
    ----------
    name
        The role.
    """
    removed = terminal.with_node(lambda node: node.access.remove_role(name))
    print(f"Role {removed.name} removed.")


@app.command
def permit(role: str, *permission: str) -> None:
    """Add permission strings to a role.

    Parameters
    ----------
    role
        The role.
    permission
        An access-control string such as /system_settings/read/.
    """
    strings = _some(permission)

    def make(before: Role) -> Role:
        return replace(before, permissions=tuple(sorted({*before.permissions, *strings})))

    terminal.with_node(lambda node: node.access.rework_role(role, make, terminal.operator()))
    print(f"The role {role} holds {' '.join(strings)}")


@app.command
def forbid(role: str, *permission: str) -> None:
    """Take permission strings from a role.

    Parameters
    ----------
    role
        The role.
    permission
        One of the strings that ``keyrelay role list`` shows.
    """
    strings = _some(permission)

    def make(before: Role) -> Role:
        if missing := [string for string in strings if string not in before.permissions]:
            raise Unsuitable(
                f"The role {before.name} does not hold {missing[0]}",
                remedy="Take away one of its own strings; keyrelay role list shows them.",
            )
        return replace(before, permissions=tuple(each for each in before.permissions if each not in strings))

    terminal.with_node(lambda node: node.access.rework_role(role, make, terminal.operator()))
    print(f"The role {role} does not hold {' '.join(strings)} any more.")


@app.command
def grant(role: str, user: str) -> None:
    """Give a role to a user.

    Parameters
    ----------
    role
        The role.
    user
        The user.
    """
    terminal.with_node(lambda node: node.access.grant(role, user, terminal.operator()))
    print(f"User {user.casefold()} holds the role {role}.")


@app.command
def revoke(role: str, user: str) -> None:
    """Take a role from a user.

    Parameters
    ----------
    role
        The role.
    user
        The user.
    """
    terminal.with_node(lambda node: node.access.revoke(role, user))
    print(f"User {user.casefold()} does not hold the role {role} any more.")


def _some(permissions: tuple[str, ...]) -> list[str]:
    if not permissions:
        raise Unsuitable("No permission string is named.", remedy="Name one, such as /system_settings/read/.")
    return sorted({one_form(text) for text in permissions})
