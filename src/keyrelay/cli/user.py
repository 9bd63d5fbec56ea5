"""``keyrelay user``: the local users."""

from __future__ import annotations

from cyclopts import App

from keyrelay.access.accounts import Account
from keyrelay.access.passwords import make_password
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson, InputFile
from keyrelay.secrets.model import SecretText
from keyrelay.server import Node

app = App(name="user")


@app.command
def add(name: str, *, role: list[str] | None = None, password_file: InputFile | None = None) -> None:
    r"""Add a user. The password is asked for, read from a file, or made and shown once.

    Parameters
    ----------
    name
        Name to sign in with: jsmith, or EXAMPLE\jsmith. Case does not matter.
    role
        A role to hold; may be given several times.
    password_file
        File that holds the password; - reads standard input.
    """
    given = terminal.new_password(password_file)
    password = given or SecretText(make_password())

    async def work(node: Node) -> None:
        await node.access.add_user(name, password, tuple(role or ()), terminal.operator())

    terminal.with_node(work)
    print(f"User {name.casefold()} added.")
    _show_made(password, made=given is None)


@app.command(name="list")
def list_users(*, json: AsJson = False) -> None:
    """List the users and their roles.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> list[Account]:
        return await node.access.accounts()

    documents = [
        {"name": account.name, "roles": list(account.roles), "changed_at": account.changed_at.isoformat()}
        for account in terminal.with_node(work)
    ]
    columns = {
        "User": lambda row: row["name"],
        "Roles": lambda row: ", ".join(row["roles"]),
        "Changed": lambda row: row["changed_at"][:19] + "Z",
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def passwd(name: str, *, password_file: InputFile | None = None) -> None:
    """Change a user's password; the old one stops working at once.

    Parameters
    ----------
    name
        The user.
    password_file
        File that holds the new password; - reads standard input.
    """
    given = terminal.new_password(password_file)
    password = given or SecretText(make_password())

    async def work(node: Node) -> None:
        await node.access.set_password(name, password, terminal.operator())

    terminal.with_node(work)
    print(f"Password of {name.casefold()} changed.")
    _show_made(password, made=given is None)


@app.command
def remove(name: str) -> None:
    """Remove a user.

    Parameters
    ----------
    name
        The user.
    """

    async def work(node: Node) -> None:
        await node.access.remove_user(name)

    terminal.with_node(work)
    print(f"User {name.casefold()} removed.")


def _show_made(password: SecretText, *, made: bool) -> None:
    if made:
        print(f"Password, shown only now:  {password.reveal()}")
