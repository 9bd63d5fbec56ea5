"""Messages and the outbox in words for people, from the documents of our API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keyrelay.amounts import octets_text, span_text
from keyrelay.api.learned import shown
from keyrelay.outbox.pressure import REASONS

Document = Mapping[str, Any]

WAITING = ("queued", "deferred", "outcome_unknown")
_MOST_RECIPIENTS = 3  # in a line of a list


def when(instant: str | None) -> str:
    return "" if instant is None else instant[:19].replace("T", " ") + "Z"


def state_text(state: str) -> str:
    return state.replace("_", " ")


# --- One message ---------------------------------------------------------------------------------------------


def reply_text(reply: Document | None) -> str:
    """What the relay said, or what happened instead, on one line."""
    if reply is None:
        return ""
    if reply["kind"] == "reply":
        return shown(f"{reply['code']} {reply['text']}".rstrip())
    what = f"{str(reply['kind']).replace('_', ' ')} at the stage {reply['stage']}"
    return shown(f"{what}: {reply['text']}" if reply["text"] else what)


def recipient_line(recipient: Document) -> str:
    """What has become of a recipient."""
    said = reply_text(recipient["reply"])
    line = f"{shown(recipient['address'])} {state_text(recipient['state'])}"
    return f"{line}: {said}" if said else line


def addresses_text(message: Document) -> str:
    """A few of the recipients."""
    addresses = [recipient["address"] for recipient in message["recipients"]]
    more = len(addresses) - _MOST_RECIPIENTS
    return shown(", ".join(addresses[:_MOST_RECIPIENTS])) + (f" and {more} more" if more > 0 else "")


def message_lines(message: Document) -> Iterator[str]:
    """All that is known of a message."""
    facts = {
        "State": state_text(message["state"]),
        "From": message["sender"],
        "Message-ID": message["message_id"],
        "Handed in": f"{when(message['submitted_at'])} by {message['submitted_by']}",
        "Not before": when(message["send_after"]),
        "Size": octets_text(message["size"]),
        "Priority": message["priority"],
    }
    yield f"Message {message['id']}"
    yield from (f"  {name:<11} {shown(value)}" for name, value in facts.items() if value)
    for recipient in message["recipients"]:
        yield ""
        yield from _recipient_lines(recipient)
    for attempt in message["attempts"]:
        yield ""
        yield f"Attempt {attempt['number']}, {when(attempt['started_at'])}, by {shown(attempt['node'])}"
        yield from (f"  {shown(one['recipient'])}: {reply_text(one)}" for one in attempt["replies"])


def _recipient_lines(recipient: Document) -> Iterator[str]:
    tries = recipient["tries"]
    tried = "" if not tries else ", tried once" if tries == 1 else f", tried {tries} times"
    yield f"{shown(recipient['address'])}: {state_text(recipient['state'])}{tried}"
    if recipient["next_attempt_at"] is not None:
        yield f"  Next attempt from {when(recipient['next_attempt_at'])}; expires {when(recipient['expires_at'])}"
    if recipient["unknown"]:
        yield f"  The relay may have taken it {recipient['unknown']} times without saying so"
    if recipient["reply"] is not None:
        yield f"  The relay said: {reply_text(recipient['reply'])}"
    yield from cause_lines(recipient["cause"], "  ")


def cause_lines(cause: Document | None, indent: str = "") -> Iterator[str]:
    if cause is not None:
        yield f"{indent}Why: {shown(cause['sentence'])} [{cause['id']}]"
        yield f"{indent}What to do: {shown(cause['remedy'])}"


# --- The outbox ----------------------------------------------------------------------------------------------


def standing_lines(overview: Document) -> Iterator[str]:
    """How the outbox stands."""
    yield from _pressure_lines(overview["pressure"])
    if not any(node["works"] for node in overview["nodes"]):
        yield "Nobody sends: start keyrelay serve, or keyrelay worker."
    yield ""
    counts = {state: number for state, number in overview["counts"].items() if number}
    yield from (f"{state_text(state):<16}{number:>10}" for state, number in counts.items())
    if not counts:
        yield "There are no messages."
    yield ""
    if (oldest := overview["oldest"]) is not None:
        yield f"Oldest that waits  {oldest['id']}, for {span_text(oldest['seconds'])}"
    rates = overview["rates"]
    yield f"A minute           {rates['submitted']:.1f} handed in, {rates['accepted']:.1f} accepted"
    yield f"Content            {octets_text(overview['octets'])} of {octets_text(overview['most_octets'])}"
    connections = overview["connections"]
    most = "" if connections["most"] is None else f" of {connections['most']}"
    yield f"Connections        {connections['used']}{most}"
    for limit in overview["limits"]:
        window = span_text(limit["seconds"])
        yield f"Limit              {limit['used']} of {limit['most']} {limit['counted']} in {window}"
    yield from map(_node_line, overview["nodes"])


def _pressure_lines(pressure: Document) -> Iterator[str]:
    if pressure["mode"] == "open":
        yield "The outbox is open."
        return
    yield f"The outbox is {pressure['mode']} since {when(pressure['since'])}: {REASONS.get(pressure['why'], '')}."
    if pressure["why"] == "operator":
        yield "What to do: keyrelay outbox resume"
    elif pressure["reply"] is not None:
        yield f"The relay said: {reply_text(pressure['reply'])}"
    yield from cause_lines(pressure["cause"])
    if pressure["next_trial_at"] is not None:
        yield f"Tried again at {when(pressure['next_trial_at'])}, and at once when the profile is changed."


def _node_line(node: Document) -> str:
    does = "sends" if node["works"] else "takes in"
    hand = f", {node['messages']} messages in hand" if node["messages"] else ""
    return f"Node               {shown(node['name'])} {does}, keyrelay {shown(node['version'])}{hand}"


def waiting(overview: Document) -> int:
    """How many messages are not over yet, and do not wait for a person."""
    counts = overview["counts"]
    return sum(int(counts[state]) for state in (*WAITING, "sending"))


def watch_line(overview: Document) -> str:
    """How the outbox stands, on one line."""
    counts = overview["counts"]
    facts = [f"{waiting(overview)} to send"]
    facts += [f"{counts[state]} {state_text(state)}" for state in ("held", "refused", "expired") if counts[state]]
    facts += [f"{counts['accepted']} accepted", f"{overview['rates']['accepted']:.1f} a minute"]
    mode, why = overview["pressure"]["mode"], overview["pressure"]["why"]
    facts += [mode if why is None or mode == "open" else f"{mode}: {REASONS.get(why, '')}"]
    return f"{when(overview['at'])}  " + ", ".join(facts)
