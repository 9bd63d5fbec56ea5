"""What the commands share: a node to work with, tables, and secrets that are never arguments."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from keyrelay import log, settings
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.errors import Unsuitable
from keyrelay.secrets.model import SecretText
from keyrelay.server import Node

Result = TypeVar("Result")

# Columns that say nothing any more when they are cut.
_WHOLE = {"Revision", "When", "Changed", "User", "Role", "Type", "Id", "Provider", "Entry", "Scheme", "Token"}

AsJson = Annotated[bool, Parameter(name="--json")]
InputFile = Annotated[Path, Parameter(allow_leading_hyphen=True)]  # - is standard input


def with_node(work: Callable[[Node], Awaitable[Result]]) -> Result:
    """Do some work on the database that the settings name. A server that runs on it notices by itself."""

    async def run() -> Result:
        chosen = settings.read(os.environ)
        log.start(chosen.log_level, chosen.log_format)
        node = await Node.open(chosen)
        try:
            if node.first_password is not None:
                print(f"First start: user 'admin' has the password {node.first_password.reveal()}", file=sys.stderr)
            act_as(Actor(caller()))
            return await work(node)
        finally:
            await node.close()

    return asyncio.run(run())


def caller() -> str:
    """Who uses the command line, as the history records it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{name} (command line)"


def show(
    documents: Sequence[dict[str, Any]], columns: Mapping[str, Callable[[dict[str, Any]], str]], *, as_json: bool
) -> None:
    """Print documents as JSON for machines, or as a table for people."""
    if as_json:
        show_json(documents)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in columns:
        table.add_column(title, no_wrap=title in _WHOLE)
    for document in documents:
        # Text, because what was typed in somewhere must not be read as markup.
        table.add_row(*(Text(cell(document)) for cell in columns.values()))
    Console(soft_wrap=True).print(table)


def show_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def new_password(file: Path | None) -> SecretText | None:
    """A new password from a file (- for standard input), asked for on a terminal, or None to have one made."""
    if file is not None:
        return SecretText(read_text(file).rstrip("\r\n"))
    if not sys.stdin.isatty():
        return None
    first = getpass.getpass("New password (empty: make one): ")
    if not first:
        return None
    if getpass.getpass("Once more: ") != first:
        raise Unsuitable("The two passwords differ.", remedy="Try again.")
    return SecretText(first)


def read_text(file: Path) -> str:
    """The text of a file, or of standard input for ``-``. Raises Unsuitable."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8")
    except OSError as problem:
        raise Unsuitable(
            f"{file} cannot be read: {problem.strerror}.", remedy="Name a file that can be read."
        ) from None
    except UnicodeDecodeError:
        raise Unsuitable(f"{file} is not UTF-8 text.", remedy="Save it as UTF-8.") from None
