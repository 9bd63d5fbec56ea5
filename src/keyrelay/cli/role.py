"""``keyrelay role``: what users may do."""

from __future__ import annotations

from cyclopts import App

from keyrelay.access import accounts
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.server import Node

app = App(name="role")


@app.command
def add(name: str, *, permission: list[str]) -> None:
    """Add a role.

    Parameters
    ----------
    name
        What to call it.
    permission
        An access-control string such as /system_settings/read/; it grants all that begins with it. May be given
        several times.
    """

    async def work(node: Node) -> None:
        async with node.store.change("access") as change:
            await accounts.add_role(change, name, tuple(permission))

    terminal.with_node(work)
    print(f"Role {name} added.")


@app.command(name="list")
def list_roles(*, json: AsJson = False) -> None:
    """List the roles, their permissions and how many users hold them.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[accounts.Role]:
        return await accounts.roles(node.store)

    documents = [
        {"name": role.name, "permissions": list(role.permissions), "holders": role.holders}
        for role in terminal.with_node(work)
    ]
    columns = {
        "Role": lambda row: row["name"],
        "Permissions": lambda row: " ".join(row["permissions"]),
        "Held by": lambda row: str(row["holders"]),
    }
    terminal.show(documents, columns, as_json=json)


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

    async def work(node: Node) -> None:
        async with node.store.change("access") as change:
            await accounts.grant_role(change, role, user)

    terminal.with_node(work)
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

    async def work(node: Node) -> None:
        async with node.store.change("access") as change:
            await accounts.revoke_role(change, role, user)

    terminal.with_node(work)
    print(f"User {user.casefold()} does not hold the role {role} any more.")
