"""``keyrelay smtp test``: the explained test on a terminal."""

from __future__ import annotations

from typing import Any, Literal

from keyrelay.api import report_text
from keyrelay.api.diagnoses import finding_document, report_document
from keyrelay.cli import terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import BadInput, NoProfile
from keyrelay.profile.rules import address
from keyrelay.server import Node


def explained_test(
    *,
    to: str | None = None,
    mode: Literal["connect", "envelope", "message"] | None = None,
    dialogue: bool = False,
    json: AsJson = False,
) -> None:
    """Test the profile stage by stage, and say why when it does not work. Exit code 1 when it does not.

    Parameters
    ----------
    to
        Who gets the test message.
    mode
        connect: reach the relay and sign in. envelope: ask also whether it would take the message, and send none.
        message: send one. The default is message with --to, and connect without.
    dialogue
        Show what was said, too.
    json
        Print JSON.
    """
    chosen = mode or ("connect" if to is None else "message")
    if chosen != "connect" and (found := tuple(address("to", to))):
        raise BadInput(found)

    async def work(node: Node) -> dict[str, Any]:
        from keyrelay.relay.diagnosis import Finding, Order

        profile = (await node.keeper.snapshot()).profile
        if profile is None:
            raise NoProfile("No profile is configured yet.")
        if not json:
            print(report_text.opening(profile.host, profile.port, chosen, to), flush=True)

        def finished(finding: Finding) -> None:
            for line in () if json else report_text.stage(finding_document(finding), dialogue=dialogue):
                _print(line)

        return report_document(await node.diagnoses.run(Order(profile, chosen, to), finished=finished))

    document = terminal.with_node(work)
    if json:
        terminal.show_json(document)
    else:
        for line in report_text.end(document):
            _print(line)
    if document["verdict"] != "ok":
        raise SystemExit(1)


def _print(line: report_text.Line) -> None:
    from rich.console import Console
    from rich.text import Text

    # Text, because what the relay says must not be read as markup.
    Console(soft_wrap=True, highlight=False).print(Text.assemble(*line))
