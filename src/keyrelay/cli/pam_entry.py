"""``keyrelay pam entry``: the entries of local providers."""

from __future__ import annotations

from cyclopts import App

from keyrelay.api.learned import shown
from keyrelay.cli import pam_values, terminal
from keyrelay.cli.terminal import AsJson, InputFile
from keyrelay.pam.local import EntryDraft
from keyrelay.pam.model import Entry
from keyrelay.server import Node

app = App(name="entry")


@app.command(name="list")
def list_entries(provider: str, *, json: AsJson = False) -> None:
    """List the entries of a provider, without their secrets.

    Parameters
    ----------
    provider
        Name or number of a provider of the type LocalDB.
    json
        Print JSON.
    """

    async def work(node: Node) -> list[Entry]:
        return await node.providers.entries(await _number(node, provider))

    documents = [{"name": entry.name, "description": entry.description} for entry in terminal.with_node(work)]
    columns = {"Entry": lambda row: row["name"], "Description": lambda row: row["description"] or ""}
    terminal.show(documents, columns, as_json=json)


@app.command
def add(provider: str, name: str, *, description: str | None = None, secret_file: InputFile | None = None) -> None:
    """Add an entry. Its secret is asked for, or read from a file.

    Parameters
    ----------
    provider
        Name or number of a provider of the type LocalDB.
    name
        Name of the entry: what a profile gives as SecretName.
    description
        What it is for.
    secret_file
        File that holds the secret; - reads standard input.
    """

    async def work(node: Node) -> Entry:
        number = await _number(node, provider)
        secret = pam_values.secret_from(secret_file, "Secret")
        return await node.providers.add_entry(number, EntryDraft(name=name, description=description, secret=secret))

    print(f"Entry {shown(terminal.with_node(work).name)} added.")


@app.command(name="set")
def set_(provider: str, name: str, *, description: str | None = None, secret_file: InputFile | None = None) -> None:
    """Change the secret of an entry, its description, or both. What uses the entry gets the new secret at once.

    Parameters
    ----------
    provider
        Name or number of a provider of the type LocalDB.
    name
        Name of the entry.
    description
        What it is for. Given alone, the secret stays as it is.
    secret_file
        File that holds the new secret; - reads standard input. Without it and without a description, the secret is
        asked for.
    """

    async def work(node: Node) -> Entry:
        number = await _number(node, provider)
        known = {entry.name: entry.description for entry in await node.providers.entries(number)}
        keeps_secret = description is not None and secret_file is None
        secret = None if keeps_secret else pam_values.secret_from(secret_file, "New secret")
        told = known.get(name) if description is None else description
        return await node.providers.replace_entry(number, EntryDraft(name=name, description=told, secret=secret))

    print(f"Entry {shown(terminal.with_node(work).name)} changed.")


@app.command
def remove(provider: str, name: str) -> None:
    """Remove an entry and erase its secret. One that the profile uses cannot be removed.

    Parameters
    ----------
    provider
        Name or number of a provider of the type LocalDB.
    name
        Name of the entry.
    """

    async def work(node: Node) -> None:
        await node.providers.remove_entry(await _number(node, provider), name)

    terminal.with_node(work)
    print(f"Entry {shown(name)} removed.")


async def _number(node: Node, provider: str) -> int:
    return pam_values.provider_of(await node.providers.catalogue(), provider).id
