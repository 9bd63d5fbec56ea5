"""From an error to a status and a body, for both APIs. The only place that decides either."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from keyrelay import errors, request_id
from keyrelay.api.answers import JSON, Answer, Header

PROBLEM_JSON = (b"content-type", b"application/problem+json")
_BASIC: Header = (b"www-authenticate", b'Basic realm="keyrelay", charset="UTF-8"')


@dataclass(frozen=True, slots=True)
class Shown:
    """How one kind of error is shown: the HTTP status, and the ErrorCode of the compatible API (contract 1.6)."""

    status: int
    error_code: str


SHOWN: dict[type[errors.KeyrelayError], Shown] = {
    errors.BadInput: Shown(400, "0xA0110010"),
    errors.UnknownReference: Shown(400, "0xA0110002"),
    errors.BadSortField: Shown(400, "0xA011004A"),
    errors.SecretRequired: Shown(400, "0xA0110011"),
    errors.MalformedBody: Shown(400, "0xA0110012"),
    errors.UnknownVersion: Shown(400, "0xA0110013"),
    errors.HeaderRequired: Shown(400, "0xA0110007"),
    errors.FormNotOurs: Shown(400, "0xA011002F"),
    errors.SignInRequired: Shown(401, "0xA0140001"),
    errors.SessionOver: Shown(401, "0xA014000A"),
    errors.NoRole: Shown(403, "0xA0140002"),
    errors.PermissionMissing: Shown(403, "0xA0140003"),
    errors.SignInNotBegun: Shown(400, "0xA0110030"),
    errors.SignInDenied: Shown(403, "0xA0140008"),
    errors.SignInRefused: Shown(403, "0xA0140009"),
    errors.IdentityProviderFailed: Shown(502, "0xA0110031"),
    errors.NotFound: Shown(404, "0xA0110014"),
    errors.UnknownName: Shown(404, "0xA0110015"),
    errors.MethodNotAllowed: Shown(405, "0xA0110016"),
    errors.ProfileChanged: Shown(412, "0xA0110017"),
    errors.SecretGone: Shown(409, "0xA0110018"),
    errors.BodyTooSlow: Shown(408, "0xA0110023"),
    errors.BodyTooLarge: Shown(413, "0xA0110019"),
    errors.UnsupportedMediaType: Shown(415, "0xA011001A"),
    errors.NotHttp: Shown(400, "0xA0110021"),
    errors.HeadTooLarge: Shown(431, "0xA0110022"),
    errors.TooManyConnections: Shown(503, "0xA011002D"),
    errors.TooManyAttempts: Shown(429, "0xA0140004"),
    errors.TestFailed: Shown(400, "0xA0110024"),
    errors.NameTaken: Shown(400, "0xA0110027"),
    errors.InUse: Shown(400, "0xA0110028"),
    errors.Immutable: Shown(400, "0xA0110004"),
    errors.LastAdministrator: Shown(400, "0xA011002E"),
    errors.Unsuitable: Shown(400, "0xA0110034"),
    errors.IdentityProviderUnusable: Shown(400, "0xA0110035"),
    errors.NoProfile: Shown(409, "0xA0110025"),
    errors.KeyReused: Shown(409, "0xA0110029"),
    errors.NotNow: Shown(409, "0xA011002A"),
    errors.OutboxFull: Shown(507, "0xA011002B"),
    errors.TooManyTests: Shown(429, "0xA0140005"),
    errors.TooManyListeners: Shown(429, "0xA0140006"),
    errors.TooManyMessages: Shown(429, "0xA0140007"),
    errors.TrustUnusable: Shown(500, "0xA0110026"),
    errors.StoreUnavailable: Shown(503, "0xA011001C"),
    errors.KeyUnknown: Shown(500, "0xA011001E"),
    errors.TrailBroken: Shown(500, "0xA011002C"),
    errors.MasterKeyMissing: Shown(500, "0xA011001F"),
    errors.MasterKeyWrong: Shown(500, "0xA0110020"),
    errors.Unexpected: Shown(500, "0xA011001D"),
}

Naming = Callable[[str], str]


def shown(error: errors.KeyrelayError) -> Shown:
    return SHOWN.get(type(error), SHOWN[errors.Unexpected])


def is_our_fault(error: errors.KeyrelayError) -> bool:
    return shown(error).status == 500  # noqa: PLR2004 - RFC 9110 section 15.6.1


def keyfactor_answer(error: errors.KeyrelayError, name: Naming) -> Answer:
    """The error body of the compatible API: exactly ErrorCode and Message, which the request id ends."""
    how = shown(error)
    said = [*(error.sentences(name) if isinstance(error, errors.BadInput) else [error.message]), error.advice]
    if (current := request_id.current()) is not None:
        # The missing permission strings stay at the end (contract 1.6).
        place = -1 if isinstance(error, errors.PermissionMissing) else len(said)
        said.insert(place, f"Request id {current}.")
    body = {"ErrorCode": how.error_code, "Message": " ".join(said)}
    return Answer(how.status, _json(body), (JSON, *_headers(error)))


def own_answer(error: errors.KeyrelayError, name: Naming) -> Answer:
    """The error body of our own API: a problem document (RFC 9457) with our code, and the fields it is about."""
    how = shown(error)
    body: dict[str, object] = {
        "type": f"/docs/errors#{error.code}",
        "title": (type(error).__doc__ or "").partition("\n")[0],
        "status": how.status,
        "detail": error.message,
        "code": error.code,
        "remedy": error.advice,
    }
    if isinstance(error, errors.BadInput):
        sentences = error.sentences(name)
        body["detail"] = " ".join(sentences)
        body["errors"] = [
            {"field": violation.field, "code": violation.code, "message": sentence}
            for violation, sentence in zip(error.violations, sentences, strict=True)
        ]
    if (current := request_id.current()) is not None:
        body["request_id"] = current
    return Answer(how.status, _json(body), (PROBLEM_JSON, *_headers(error)))


def _headers(error: errors.KeyrelayError) -> tuple[Header, ...]:
    current = request_id.current()
    named = () if current is None else ((b"x-request-id", current.encode()),)
    return *named, *_meant_for_clients(error)


def _meant_for_clients(error: errors.KeyrelayError) -> tuple[Header, ...]:
    match error:
        case errors.SignInRequired():
            return _challenges(error)
        case errors.MethodNotAllowed():
            return ((b"allow", ", ".join(error.allowed).encode()),)
        case errors.TooManyAttempts() | errors.TooManyTests() | errors.TooManyListeners() | errors.TooManyMessages():
            return ((b"retry-after", str(error.retry_after).encode()),)
        case errors.StoreUnavailable() | errors.TooManyConnections():
            return ((b"retry-after", b"2"),)
        case errors.OutboxFull():
            return ((b"retry-after", b"60"),)
    return ()


def _challenges(error: errors.SignInRequired) -> tuple[Header, ...]:
    # RFC 6750 section 3: what kind of error, but only to those who have sent a token.
    bearer = b"www-authenticate", b'Bearer realm="keyrelay"' + b', error="invalid_token"' * error.token_sent
    if isinstance(error, errors.SessionOver):
        return (bearer,)  # see for_a_script
    return _BASIC, bearer


def for_a_script(answer: Answer) -> Answer:
    """The same without the challenge for which a browser asks for a password in a window of its own."""
    return structs.replace(answer, headers=tuple(header for header in answer.headers if header != _BASIC))


def _json(body: dict[str, object] | dict[str, str]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
