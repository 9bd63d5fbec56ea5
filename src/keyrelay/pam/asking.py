"""Asking a vault over HTTP: bounded, verified, and every way to fail told in the same words."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from keyrelay.network.exchange import HttpAnswer, HttpRequest, NoAnswer, exchange
from keyrelay.pam.backend import Means, Problem, VaultFailed
from keyrelay.secrets.model import SecretText, has_control

BODY_LIMIT = 1024 * 1024
_URL_CHARACTERS = 2048
_PROBLEMS: dict[int, Problem] = {
    400: "bad_parameter",
    401: "denied",
    403: "denied",
    404: "not_found",
    407: "denied",
    408: "timeout",
    429: "sealed",
    502: "sealed",
    503: "sealed",
    504: "timeout",
}
_WORDS: dict[str, str] = {
    "name_unknown": "its name does not exist",
    "no_address": "its name has no address",
    "dns_unavailable": "no name server answered",
    "refused": "nobody listens there",
    "unreachable": "there is no route to it",
    "forbidden": "this machine's own rules forbid it",
    "closed": "it ended the connection; perhaps it wants a client certificate (KEYRELAY_VAULT_CLIENT_CERT)",
    "not_tls": "it does not speak TLS",
    "expired": "its certificate has expired",
    "not_yet_valid": "its certificate is not valid yet",
    "name_mismatch": "its certificate is for another name",
    "unknown_issuer": "its certificate is from an authority that is not trusted; see KEYRELAY_CA_BUNDLE",
    "self_signed": "its certificate is self-signed; see KEYRELAY_CA_BUNDLE",
    "weak": "its TLS is too weak",
    "client_certificate": "it wants a client certificate, or does not like ours; see KEYRELAY_VAULT_CLIENT_CERT",
    "certificate": "its certificate was refused",
    "handshake": "TLS failed",
}


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request, and its type."""

    content: bytes = field(default=b"", repr=False)
    kind: str | None = None

    @classmethod
    def of_json(cls, value: object) -> Body:
        return cls(json.dumps(value).encode(), "application/json")

    @classmethod
    def of_form(cls, members: Mapping[str, str]) -> Body:
        return cls(urlencode(members, errors="surrogatepass").encode("ascii"), "application/x-www-form-urlencoded")


async def ask(  # noqa: PLR0913 - what a request has
    method: str,
    url: str,
    means: Means,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: Body = Body(),
    context: Callable[[], ssl.SSLContext] | None = None,
) -> HttpAnswer:
    """One request and the answer, whatever its status.

    ``context``: the TLS context in place of ``means.trust``. Raises VaultFailed when there is none, when it is too
    long, or when it is a redirect: no secret is sent on to where an answer points.
    """
    habits = [("User-Agent", "keyrelay"), ("Accept", "application/json"), ("Accept-Encoding", "identity")]
    if body.kind is not None:
        habits.append(("Content-Type", body.kind))
    named = {name.lower() for name, _ in headers}
    request = HttpRequest(
        method, url, (*(habit for habit in habits if habit[0].lower() not in named), *headers), body.content
    )
    try:
        answer = await exchange(request, (context or means.trust)(), within=means.seconds, limit=BODY_LIMIT)
    except NoAnswer as problem:
        if problem.kind == "timeout":
            raise VaultFailed("timeout", f"no answer within {means.seconds:g} seconds") from None
        if problem.kind == "not_http":
            raise VaultFailed("bad_answer", "what it said is no HTTP") from None
        raise VaultFailed("unreachable", _WORDS[problem.kind]) from None
    if answer.body is None:
        raise VaultFailed("bad_answer", f"the answer has more than {BODY_LIMIT} bytes")
    if 300 <= answer.status < 400:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise VaultFailed("bad_answer", f"status {answer.status}, a redirect, which is not followed")
    return answer


def require_success(answer: HttpAnswer, what: str, meanings: Mapping[int, Problem] | None = None) -> None:
    """Raises VaultFailed for any status but success. ``what`` was asked for, such as "reading the secret".

    ``meanings``: statuses that mean something else in this place than they mostly do.
    """
    if 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110 section 15.3
        return
    problem = (meanings or {}).get(answer.status) or _PROBLEMS.get(answer.status, "bad_answer")
    raise VaultFailed(problem, f"{what}: status {answer.status}")


def members(answer: HttpAnswer, what: str) -> dict[str, Any]:
    """The JSON object that was answered. Raises VaultFailed."""
    value = anything(answer, what)
    if not isinstance(value, dict):
        raise VaultFailed("bad_answer", f"{what}: the answer is JSON, and not an object")
    return value


def anything(answer: HttpAnswer, what: str) -> Any:
    """The JSON value that was answered. Raises VaultFailed."""
    body = answer.body or b""
    try:
        return json.loads(body, parse_float=str)  # a number is shown as it was written
    except (ValueError, RecursionError):  # UnicodeDecodeError among them
        looks = "HTML" if body.lstrip()[:1] == b"<" else "empty" if not body.strip() else "no JSON"
    raise VaultFailed("bad_answer", f"{what}: the answer is {looks}")


def secret(value: object, what: str) -> SecretText:
    """A value of the answer as a secret: a text, or a number or truth value as JSON writes it.

    Raises VaultFailed: not_found for null, bad_answer for anything else.
    """
    if value is None:
        raise VaultFailed("not_found", f"{what} has no value")
    if isinstance(value, str):
        return SecretText(value)
    if isinstance(value, bool | int | float):
        return SecretText(json.dumps(value))
    raise VaultFailed("bad_answer", f"{what} is no text")


def base_url(text: str, parameter: str, means: Means) -> str:
    """An absolute http(s) URL that was given as a provider's parameter, without a slash at its end.

    Raises VaultFailed for one with a user name, query or fragment, with spaces or control characters, or for http://
    where the operator has not allowed credentials without TLS.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in {"http", "https"} or _has_odd(text) or len(text) > _URL_CHARACTERS:
        raise VaultFailed("bad_parameter", f"{parameter} is not a URL such as https://vault.example.org")
    if parts.username is not None or parts.query or parts.fragment or "?" in text or "#" in text:
        raise VaultFailed("bad_parameter", f"{parameter} must not hold a user name, a query or a fragment")
    if parts.scheme == "http" and not means.allow_plain_http:
        raise VaultFailed("bad_parameter", f"{parameter} must begin with https://, because credentials are sent there")
    return text.rstrip("/")


def path_of(text: str, parameter: str, *, slashes: bool = False) -> str:
    """A parameter as a part of a URL's path, percent-encoded; with ``slashes``, as several parts.

    Raises VaultFailed for what would lead elsewhere: dot segments, empty parts, control characters.
    """
    parts = text.strip("/").split("/") if slashes else [text]
    if has_control(text) or any(part in {"", ".", ".."} for part in parts):
        raise VaultFailed("bad_parameter", f"{parameter} cannot be part of a path")
    return "/".join(quote(part, safe="") for part in parts)


def header_value(text: SecretText | str, parameter: str) -> str:
    """A parameter as the value of a header. Raises VaultFailed for what no header may hold."""
    revealed = text.reveal() if isinstance(text, SecretText) else text
    if not revealed.isascii() or has_control(revealed) or revealed != revealed.strip():
        raise VaultFailed("bad_parameter", f"{parameter} holds characters that no header may have")
    return revealed


def clear(given: SecretText | str) -> str:
    """The text of a provider-level value, for use in a request."""
    return given.reveal() if isinstance(given, SecretText) else given


def _has_odd(text: str) -> bool:
    return not text.isascii() or re.search(r"[\x00-\x20\x7f\\]", text) is not None
