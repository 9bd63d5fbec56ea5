"""What the bundle tells of mail: the profile, providers, the outbox, and the newest attempts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from keyrelay.api.exposition import written
from keyrelay.api.message_documents import about, instant, overview_document
from keyrelay.api.metrics import of_the_store
from keyrelay.api.profile import shown
from keyrelay.doctor.bundle import reduction
from keyrelay.doctor.case import Case
from keyrelay.errors import KeyrelayError
from keyrelay.outbox.explaining import explained_words
from keyrelay.outbox.model import STATES, Attempt, Said
from keyrelay.outbox.overview import Overview, overview
from keyrelay.outbox.records import read_attempt
from keyrelay.outbox.schedule import verdict
from keyrelay.pam import catalogue
from keyrelay.pam.model import Provider
from keyrelay.profile.model import HIDDEN_FIELDS, SmtpProfile
from keyrelay.secrets import stored
from keyrelay.secrets.model import Stored
from keyrelay.server import backends

_MEGABYTE = 1024 * 1024
_MOST_ATTEMPTS = 100
_MOST_RECIPIENTS = 20  # of one attempt
_MOST_PROVIDERS = 200

Document = Any

# --- The profile ---------------------------------------------------------------------------------------------


async def profile(case: Case) -> Document:
    """As our API shows it, with shapes in place of whatever tells of somebody."""
    found = case.configured
    document = shown(found, {})
    visible = await _shapes(case, found)
    for field in ("relay_username", "client_id", "relay_password", "client_secret"):
        document[field] = _secret(document[field], visible.get(field))
    document["sender_account"] = reduction.address(found.sender_account)
    document["sender_name"] = reduction.shape(found.sender_name)
    document["host"] = reduction.plain(found.host)
    for field in ("token_endpoint", "scope", "audience"):
        if document[field]:
            document[field] = reduction.endpoints(document[field])
    document["request_headers"] = [{"name": one["name"], "value": "…"} for one in document["request_headers"]]
    return document


async def _shapes(case: Case, found: SmtpProfile) -> dict[str, str]:
    """The shapes of user name and client id, where they are stored here and open."""
    node, destination = case.wired, found.destination.text()
    shapes: dict[str, str] = {}
    for field, source in found.secrets():
        if field in HIDDEN_FIELDS or not isinstance(source, Stored):
            continue
        try:
            text = await stored.reveal(node.store, node.keyring, source, field=field, destination=destination)
        except KeyrelayError:
            continue
        shapes[field] = reduction.shape(text.reveal())
    return shapes


def _secret(document: dict[str, Any] | None, shape: str | None) -> dict[str, Any] | None:
    match document:
        case None:
            return None
        case {"provider": provider, "parameters": parameters}:
            return {"provider": provider, "parameters": sorted(parameters)}
        case {"stored": True}:
            return document
    return {"stored": True, "shape": shape}


async def providers(case: Case) -> Document:
    """Numbers, types, and which parameters have a value."""
    node = case.wired
    found = (await catalogue.read(node.store, backends(node.store, node.keyring)())).providers
    return [_provider(one) for one in list(found.values())[:_MOST_PROVIDERS]]


def _provider(one: Provider) -> Document:
    return {
        "id": one.id,
        "type": one.type.name,
        "can_be_asked": one.type.backend is not None and not one.remote,
        "parameters": sorted(one.values),
    }


# --- The outbox ----------------------------------------------------------------------------------------------


async def outbox(case: Case) -> Document:
    found = await _overview(case)
    document = overview_document(found, case.settings.outbox_megabytes * _MEGABYTE, None)
    del document["nodes"]  # they have a file of their own
    if document["oldest"] is not None:
        del document["oldest"]["id"]
    said = found.pressure.said
    document["pressure"]["reply"] = None if said is None or found.pressure.mode == "open" else _said(said, case.profile)
    return document


async def nodes(case: Case) -> Document:
    """Without the names of their machines."""
    found = (await _overview(case)).nodes
    return [
        {
            "version": node.version,
            "works": node.works,
            "started_at": instant(node.started_at),
            "seen_at": about(node.seen_at),
            "connections": node.connections,
            "messages": node.in_hand.messages,
            "recipients": node.in_hand.recipients,
        }
        for node in found
    ]


async def metrics(case: Case) -> Document:
    """What every node would tell; what a process counts of its own work is in that process alone."""
    node = case.wired
    families = await of_the_store(node.store, node.outbox, case.settings.outbox_megabytes * _MEGABYTE)
    return written(families, open_metrics=False).decode()


async def attempts(case: Case) -> Document:
    """The newest, of the newest messages in each state: to whose domain, how it went, and what the relay's code was."""
    node = case.wired
    found: dict[tuple[str, int], Attempt] = {}
    for state in STATES:
        for message, *row in await node.store.rows(_ATTEMPTS, state, _MOST_ATTEMPTS):
            attempt = read_attempt(row)
            found[message, attempt.number] = attempt
    newest = sorted(found.values(), key=lambda one: one.started_at, reverse=True)[:_MOST_ATTEMPTS]
    return [_attempt(one, case.profile) for one in newest]


_ATTEMPTS = (
    "SELECT a.message, a.number, a.node, a.started_at, a.ended_at, a.said FROM attempt a"
    " JOIN (SELECT id FROM message WHERE state = $1 ORDER BY id DESC LIMIT $2) AS newest ON newest.id = a.message"
)


def _attempt(one: Attempt, relay: SmtpProfile | None) -> Document:
    return {
        "started_at": instant(one.started_at),
        "seconds": round((one.ended_at - one.started_at) / timedelta(seconds=1), 3),
        "number": one.number,
        "recipients": len(one.said),
        "replies": [
            {"domain": reduction.domain(address), "outcome": verdict(said), **_said(said, relay)}
            for address, said in one.said[:_MOST_RECIPIENTS]
        ],
    }


def _said(said: Said, relay: SmtpProfile | None) -> Document:
    """Without the words, which may be anything: addresses, names, or what it was sent earlier."""
    positive = said.kind == "reply" and (said.code or 0) < 400  # noqa: PLR2004 - RFC 5321 section 4.2.1
    cause = None if relay is None or positive else explained_words(said, None, relay.sender_account, relay).cause.id
    return {"stage": said.stage, "kind": said.kind, "code": said.code, "enhanced": said.enhanced, "cause": cause}


async def _overview(case: Case) -> Overview:
    return case.overview or await overview(case.wired.outbox.office)
