"""``keyrelay smtp test``: the explained test on a terminal."""

from __future__ import annotations

from typing import Any, Literal

from keyrelay.api.diagnoses import finding_document, report_document
from keyrelay.cli import learned, terminal
from keyrelay.cli.terminal import AsJson
from keyrelay.errors import BadInput, NoProfile
from keyrelay.profile.rules import address
from keyrelay.server import Node

_MARKS = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("·", "dim")}
_VERDICTS = {"good": ("✓", "green"), "attention": ("!", "yellow"), "unknown": ("·", "dim")}
_INDENT = " " * 25  # to where the facts of a stage begin


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
            whom = {"message": f", and mail {to}", "envelope": f", and ask about {to}"}.get(chosen, "")
            print(f"Testing {profile.host}, port {profile.port}{whom}.", flush=True)

        def finished(finding: Finding) -> None:
            if not json:
                _show_stage(finding_document(finding), dialogue=dialogue)

        return report_document(await node.diagnoses.run(Order(profile, chosen, to), finished=finished))

    document = terminal.with_node(work)
    if json:
        terminal.show_json(document)
    else:
        _show_end(document)
    if document["verdict"] != "ok":
        raise SystemExit(1)


def _show_stage(stage: dict[str, Any], *, dialogue: bool) -> None:
    mark, colour = _MARKS[stage["verdict"]]
    facts = stage["learned"]
    brief = facts["why"] if stage["verdict"] == "skipped" else learned.briefly(facts)
    time = f"{stage['milliseconds']:7.1f} ms" if stage["verdict"] != "skipped" else " " * 10
    _print((f" {mark} {stage['stage']:<9}", colour), (f" {time}  ", "dim"), (brief, ""))
    for line in learned.in_detail(facts):
        _print((_INDENT + line, "dim"))
    for line in stage["dialogue"] if dialogue else ():
        _print((f"      {line}", "dim"))


def _show_end(document: dict[str, Any]) -> None:
    for advice in document["advice"]:
        mark, colour = _VERDICTS[advice["verdict"]]
        _print((f" {mark} {advice['topic']:<9}", colour), (" " * 13 + advice["sentence"], ""))
        if advice["remedy"]:
            _print((_INDENT + advice["remedy"], "dim"))
    cause = document["cause"]
    if cause is None:
        done = {
            "message": f"The relay has taken the message {document['message_id']}.",
            "envelope": "The relay would take the message.",
        }
        _print(("It works. ", "bold green"), (done.get(document["mode"], "The relay lets us in."), ""))
        return
    failed = next(stage for stage in document["stages"] if stage["verdict"] == "failed")
    _print((f"It failed at the stage {failed['stage']}. ", "bold red"), (cause["sentence"], ""))
    if (reply := failed["reply"]) is not None:
        first, *more = reply["lines"] or [""]
        _print(("The relay said: ", "bold"), (learned.shown(f"{reply['code']} {first}".rstrip()), ""))
        for line in more:
            _print((" " * len("The relay said: 550 ") + learned.shown(line), ""))
    _print(("What to do: ", "bold"), (cause["remedy"], ""))
    _print((f"[{cause['id']}]", "dim"))


def _print(*pieces: tuple[str, str]) -> None:
    from rich.console import Console
    from rich.text import Text

    # Text, because what the relay says must not be read as markup.
    Console(soft_wrap=True, highlight=False).print(Text.assemble(*pieces))
