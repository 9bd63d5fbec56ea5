"""The report of a test as a page shows it: stages, certificates, the token, a text for a ticket and a command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keyrelay import __version__
from keyrelay.api import learned, report_text
from keyrelay.api import profile as api_profile
from keyrelay.api.diagnoses import finding_document, report_document
from keyrelay.profile.draft import draft_of
from keyrelay.profile.model import SECRET_FIELDS, SmtpProfile
from keyrelay.secrets.model import FromPam, Stored

if TYPE_CHECKING:
    from keyrelay.relay.diagnosis import Finding, Order, Report

LABELS = {
    "vault": "Fetching credentials from the vault",
    "resolve": "Looking up the relay's name",
    "connect": "Connecting to the relay",
    "greeting": "The relay's greeting",
    "hello": "Introducing ourselves",
    "tls": "Encrypting the connection",
    "token": "Getting a token",
    "auth": "Signing in",
    "sender": "Naming the sender",
    "recipient": "Naming the recipient",
    "data": "Handing the message over",
}
_TOKEN = {
    "token_type": "Type",
    "format": "Format",
    "lifetime": "Lifetime in seconds",
    "issuer": "Issuer",
    "tenant": "Tenant",
    "app_id": "Application",
    "audience": "Audience",
    "roles": "Roles",
    "scopes": "Scopes",
    "issued_at": "Issued at",
    "expires_at": "Expires at",
    "clock_skew": "Seconds our clock is ahead",
    "status": "HTTP status of the answer",
    "error": "Error",
    "error_description": "The token endpoint said",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage in words. ``said`` is the same in one sentence, for who listens to the page."""

    name: str
    label: str
    verdict: str
    milliseconds: float
    brief: str
    details: tuple[str, ...]
    dialogue: tuple[str, ...]
    said: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A whole report. ``document``: see ``diagnoses.report_document``."""

    document: Mapping[str, Any]
    opening: str
    title: str
    said: str
    stages: tuple[Stage, ...]
    reply: str | None
    certificates: tuple[Mapping[str, Any], ...]
    certificates_verified: bool
    token: tuple[tuple[str, str], ...]
    text: str
    curl: str
    command: str | None


def stage_of(finding: Finding) -> Stage:
    return _stage(finding_document(finding))


def report_of(report: Report, *, given: bool) -> Shown:
    """``given``: whether its settings were given, and are not those that are kept."""
    document, order = report_document(report), report.order
    opening = report_text.opening(order.profile.host, order.profile.port, order.mode, order.recipient)
    heading = f"keyrelay {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n{opening}"
    by_name = {stage["stage"]: stage for stage in document["stages"]}
    tls = by_name["tls"]["learned"]
    seen = tls.get("seen_without_verification") or {}
    failed, cause = document["failed_stage"], document["cause"]
    title = "It works" if failed is None else f"It failed: {LABELS[failed].lower()}"
    return Shown(
        document,
        opening,
        title,
        f"{title}. {report_text.success(document) if cause is None else learned.shown(cause['sentence'])}",
        tuple(map(_stage, document["stages"])),
        None if failed is None else _reply(by_name[failed]["reply"]),
        tuple(map(_certificate, tls.get("certificates") or seen.get("certificates") or ())),
        bool(tls.get("verified")),
        tuple(_token(by_name["token"]["learned"])) if by_name["token"]["verdict"] != "skipped" else (),
        report_text.text(document, heading),
        _curl(order, given=given),
        None if given else _command(order),
    )


def _stage(document: Mapping[str, Any]) -> Stage:
    name, verdict, facts = document["stage"], document["verdict"], document["learned"]
    skipped = verdict == "skipped"
    said = f"{LABELS[name]}: {verdict}" + ("." if skipped else f" after {document['milliseconds']:.0f} ms.")
    return Stage(
        name,
        LABELS[name],
        verdict,
        document["milliseconds"],
        learned.shown(facts["why"]) if skipped else learned.briefly(facts),
        tuple(learned.in_detail(facts)),
        tuple(map(learned.shown, document["dialogue"])),
        said,
    )


def _reply(reply: Mapping[str, Any] | None) -> str | None:
    if reply is None:
        return None
    return "\n".join(learned.shown(f"{reply['code']} {line}") for line in reply["lines"] or [""])


def _certificate(facts: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: learned.shown(facts[name]) for name in ("subject", "issuer", "key", "signature", "sha256")}
    moments = {name: datetime.fromisoformat(facts[name]) for name in ("not_before", "not_after")}
    return {**texts, **moments, "names": [*map(learned.shown, facts["names"])], "days_left": facts["days_left"]}


def _token(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(label, facts[name]) for name, label in _TOKEN.items() if facts.get(name) not in (None, [])]
    kept = [("Kept from an earlier sign-in", "yes")] if facts.get("cached") else []
    return [
        *(
            (label, learned.shown(", ".join(map(str, value)) if isinstance(value, list) else value))
            for label, value in found
        ),
        *kept,
    ]


def _curl(order: Order, *, given: bool) -> str:
    body: dict[str, Any] = {"mode": order.mode}
    if order.recipient is not None:
        body["recipient"] = order.recipient
    if given:
        body["profile"] = _placeholders(order.profile)
    return (
        'curl --user "$KEYRELAY_USER" --header "content-type: application/json" \\\n'
        f"  --data {shlex.quote(json.dumps(body, ensure_ascii=False))} \\\n"
        '  "$KEYRELAY_URL/api/v1/diagnoses"'
    )


def _placeholders(profile: SmtpProfile) -> dict[str, Any]:
    """The settings as our API takes them, with something else in the place of every credential; those kept are left."""
    draft = draft_of(profile)
    document = api_profile.shown(profile, {})
    for field in SECRET_FIELDS:
        source = getattr(draft, field)
        if isinstance(source, Stored):
            del document[field]
        elif source is not None and not isinstance(source, FromPam):
            document[field] = {"secret_value": field.upper()}
    return document


def _command(order: Order) -> str:
    to = "" if order.recipient is None else f" --to {shlex.quote(order.recipient)}"
    return f"keyrelay smtp test --mode {order.mode}{to} --dialogue"
