"""What a token endpoint's answer means (RFC 6749 sections 5.1 and 5.2): a token, or why there is none."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from keyrelay.relay.model import Kind, StageFailed, failed
from keyrelay.relay.token_request import BODY_LIMIT, Answer
from keyrelay.relay.transcript import Redactor
from keyrelay.secrets.model import SecretText

_OK = 200
_LONGEST_LIFE = timedelta(days=365)  # what claims to live longer is not believed
_LONGEST_TEXT = 300
_LONGEST_CODE = 60
_MOST_WORDS = 30
_VISIBLE = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12, without the space
_JWT_PARTS = 3

# RFC 6749 section 5.2 and RFC 8707, and what gateways and providers say in the same place. Known words are no secret.
_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "invalid_target",
        "invalid_resource",
        "unauthorized_client",
        "unsupported_grant_type",
        "access_denied",
        "temporarily_unavailable",
        "server_error",
        "slow_down",
    }
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. ``expires_at`` is None when the provider does not say.

    ``facts`` may be shown: encrypted, address, tls, status, token_type, lifetime (seconds), format (jwt or opaque),
    clock_skew (seconds that our clock is ahead of the provider's), cached; of a JWT, decoded and not verified:
    audience, roles, scopes, tenant, app_id, issuer, issued_at and expires_at (ISO 8601).
    """

    access: SecretText
    expires_at: datetime | None
    facts: Mapping[str, Any]


def read(answer: Answer) -> Token:
    """The token of an answer. Raises StageFailed; its facts and detail hold nothing of what was sent."""
    return _Reading(answer).token()


class _Reading:
    """One answer being read: the facts it has shown so far, and what must be blackened in its words."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.redactor = Redactor(answer.sent)
        self.facts: dict[str, Any] = {**answer.facts, "status": answer.status}
        self._note_skew(_date(answer.headers.get("date", "")))

    def token(self) -> Token:
        if 300 <= self.answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
            where = self._clean(self.answer.headers.get("location", "").partition("?")[0])
            raise self._failed("redirected", where)
        members = _members(self.answer.body)
        if self.answer.status != _OK:
            raise self._refused(members)
        if members is None:
            raise self._failed("not_json", _looks_like(self.answer))
        return self._issued(members)

    def _refused(self, members: dict[str, Any] | None) -> StageFailed:
        if retry := self.answer.headers.get("retry-after"):
            self.facts["retry_after"] = self._clean(retry)
        return self._failed("status", self._error(members) if members else _looks_like(self.answer))

    def _error(self, members: Mapping[str, Any]) -> str:
        """The provider's error code, with Microsoft's own number for it if there is one."""
        code, description = members.get("error"), members.get("error_description")
        words = []
        if isinstance(code, str) and code:
            words.append(code if code in _CODES else self._clean(code, _LONGEST_CODE))
            self.facts["error"] = words[0]
        if isinstance(description, str) and description:
            said = self.facts["error_description"] = self._clean(description)
            if number := re.search(r"AADSTS\d{4,9}", said):
                words.append(number[0])
        return " ".join(words)

    def _issued(self, members: Mapping[str, Any]) -> Token:
        access, kind = members.get("access_token"), members.get("token_type")
        if not isinstance(access, str) or not access:
            raise self._failed("no_token", self._error(members) or "no access_token")
        if not _VISIBLE.fullmatch(access):
            raise self._failed("no_token", "the access_token holds characters that no token has")
        self.redactor.add(SecretText(access))
        self.facts["token_type"] = self._clean(kind) if isinstance(kind, str) else None
        if kind is not None and not (isinstance(kind, str) and kind.lower() == "bearer"):
            raise self._failed("no_token", f"token_type {self.facts['token_type'] or 'is no text'}")
        claims = _claims(access)
        self._note_claims(claims, members)
        return Token(SecretText(access), self._end(members.get("expires_in"), claims or {}), dict(self.facts))

    def _end(self, expires_in: Any, claims: Mapping[str, Any]) -> datetime | None:
        """When the token ends by our clock: expires_in counts from now, and so does not mind a wrong clock."""
        end = _moment(claims.get("exp"))
        lifetime = None
        if expires_in is not None:
            lifetime = self.facts["lifetime"] = _seconds(expires_in)
            if lifetime is None or lifetime <= 0:
                said = "that is no number" if lifetime is None else lifetime
                raise self._failed("token_expired", f"expires_in {said}")
        if end is not None and end <= self.answer.received_at:
            raise self._failed("token_expired", f"it ended at {end.isoformat()}")
        if lifetime is not None:
            return self.answer.asked_at + min(timedelta(seconds=lifetime), _LONGEST_LIFE)
        return end

    def _note_claims(self, claims: Mapping[str, Any] | None, members: Mapping[str, Any]) -> None:
        self.facts["format"] = "opaque" if claims is None else "jwt"
        claims = claims or {}
        self._note_skew(_moment(claims.get("iat")), cannot_lie_before=True)
        texts = {
            "issuer": claims.get("iss"),
            "tenant": claims.get("tid"),
            "app_id": claims.get("appid") or claims.get("azp") or claims.get("client_id"),
        }
        lists = {
            "audience": _words(claims.get("aud")),
            "roles": _words(claims.get("roles")),
            "scopes": _words(claims.get("scp") or claims.get("scope") or members.get("scope"), split=True),
        }
        moments = {"issued_at": _moment(claims.get("iat")), "expires_at": _moment(claims.get("exp"))}
        self.facts |= {name: self._clean(text) for name, text in texts.items() if isinstance(text, str)}
        self.facts |= {name: [self._clean(word) for word in words] for name, words in lists.items() if words}
        self.facts |= {name: moment.isoformat() for name, moment in moments.items() if moment is not None}

    def _note_skew(self, theirs: datetime | None, *, cannot_lie_before: bool = False) -> None:
        """Note how far our clock is ahead. Providers date a token back, so ``iat`` tells only of the future."""
        if theirs is None or "clock_skew" in self.facts:
            return
        skew = round((self.answer.received_at - theirs).total_seconds())
        if skew < 0 or not cannot_lie_before:
            self.facts["clock_skew"] = skew

    def _clean(self, text: str, longest: int = _LONGEST_TEXT) -> str:
        # Cut before as well: blackening takes time for each character.
        return self.redactor.clean(text[: 4 * _LONGEST_TEXT])[:longest].strip()

    def _failed(self, kind: Kind, detail: str) -> StageFailed:
        return failed("token", kind, detail=detail, **self.facts)


def _members(body: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _looks_like(answer: Answer) -> str:
    """What an answer is that is not the JSON object it should be."""
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.body is None:
        return f"an answer of more than {BODY_LIMIT // 1024} KiB"
    start = answer.body[:1000].strip().lower()
    if not start:
        return "an empty answer"
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        return "a compressed answer"
    if b"<html" in start or start.startswith(b"<!doctype html") or media == "text/html":
        return "an HTML page"
    if start.startswith(b"<"):
        return "an XML document"
    return "JSON that is no object" if _is_json(answer.body) else "text that is no JSON"


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _claims(access: str) -> dict[str, Any] | None:
    """The claims of a JWT (RFC 7519), unverified: the relay judges the token, and we only tell what it says."""
    parts = access.split(".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        return _members(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None


def _words(value: Any, *, split: bool = False) -> list[str]:
    listed = value.split() if split and isinstance(value, str) else value if isinstance(value, list) else [value]
    return [word for word in listed[:_MOST_WORDS] if isinstance(word, str)]


def _seconds(value: Any) -> int | None:
    """A number of seconds; some providers write it as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(min(number, _LONGEST_LIFE.total_seconds())) if math.isfinite(number) else None


def _moment(value: Any) -> datetime | None:
    """A NumericDate (RFC 7519 section 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _date(header: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
