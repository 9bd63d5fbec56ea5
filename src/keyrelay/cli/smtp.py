"""``keyrelay smtp``: the profile on the command line, in the words of our own API."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from keyrelay.api.conventions import parse_object
from keyrelay.api.profile import read_given, readable, shown
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson, InputFile
from keyrelay.profile import patch
from keyrelay.profile.document import FieldChange
from keyrelay.profile.keeper import HistoryEntry, Snapshot
from keyrelay.profile.model import SmtpProfile
from keyrelay.profile.rules import Rules
from keyrelay.server import Node

app = App(name="smtp")
app.command("keyrelay.cli.explained_test:explained_test", name="test", help="Test the profile stage by stage.")


@app.command
def get(*, json: AsJson = False) -> None:
    """Show the profile. Hidden secrets show only that they are there.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def work(node: Node) -> Snapshot:
        return await node.keeper.snapshot()

    snapshot = terminal.with_node(work)
    document = shown(snapshot.profile, snapshot.visible)
    if json:
        terminal.show_json(document)
        return
    if snapshot.profile is None:
        print("No profile is configured yet. Set one with: keyrelay smtp set FILE")
        return
    rows = [{"field": field, "value": readable(value)} for field, value in document.items() if value not in (None, [])]
    terminal.show(rows, {"Field": lambda row: row["field"], "Value": lambda row: row["value"]}, as_json=False)


@app.command(name="set")
def set_(file: InputFile) -> None:
    """Change the profile by a JSON merge patch: what is absent stays, what is given replaces, null clears.

    Parameters
    ----------
    file
        File with the changes, such as {"host": "smtp.example.org", "port": 587}; - reads standard input. Secrets go
        into it as {"relay_password": {"secret_value": "..."}}.
    """
    given, violations = read_given(parse_object(terminal.read_text(file).encode()))

    async def work(node: Node) -> Snapshot:
        rules = Rules(allow_insecure_sign_in=node.settings.allow_insecure_sign_in)
        catalogue = await node.providers.catalogue()

        def make(current: Snapshot) -> SmtpProfile:
            draft, found = patch.merge(current, given)
            return rules.check(draft, (*violations, *found), catalogue.violations)

        return await node.keeper.rework(make, by=terminal.caller())

    print(f"The profile is now revision {terminal.with_node(work).revision}.")


@app.command
def history(*, limit: int = 50, json: AsJson = False) -> None:
    """Show who changed what, newest first.

    Parameters
    ----------
    limit
        Revisions to show at the most.
    json
        Print JSON.
    """

    async def work(node: Node) -> list[HistoryEntry]:
        return await node.keeper.history(limit=max(1, min(limit, 10_000)))

    documents = [_entry(entry) for entry in terminal.with_node(work)]
    columns = {
        "Revision": lambda row: str(row["revision"]),
        "When": lambda row: row["changed_at"][:19] + "Z",
        "Who": lambda row: row["changed_by"],
        "What": lambda row: "\n".join(map(_change_text, row["changes"])) or "nothing",
        "": _remark,
    }
    terminal.show(documents, columns, as_json=json)


@app.command
def restore(revision: int) -> None:
    """Make the profile what it was at a revision, with the secrets it had then.

    Parameters
    ----------
    revision
        Number from keyrelay smtp history.
    """

    async def work(node: Node) -> Snapshot:
        return await node.keeper.restore(revision, by=terminal.caller())

    print(f"The profile is as it was at revision {revision}; this is revision {terminal.with_node(work).revision}.")


def _entry(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "revision": entry.revision,
        "changed_at": entry.changed_at.isoformat(),
        "changed_by": entry.changed_by,
        "restored_from": entry.restored_from,
        "restorable": entry.restorable,
        "changes": [_change(change) for change in entry.changes],
    }


def _change(change: FieldChange) -> dict[str, Any]:
    if change.secret:
        return {"field": change.field, "secret": "changed"}
    return {"field": change.field, "before": change.before, "after": change.after}


def _change_text(change: dict[str, Any]) -> str:
    if "secret" in change:
        return f"{change['field']} changed"
    return f"{change['field']} {readable(change['before'])} → {readable(change['after'])}"


def _remark(row: dict[str, Any]) -> str:
    if row["restored_from"] is not None:
        return f"restored from {row['restored_from']}"
    return "" if row["restorable"] else "cannot be restored"
