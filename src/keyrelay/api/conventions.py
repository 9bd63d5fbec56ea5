"""How requests are read: bodies, keys in any case, digits in strings, versions (contract 1 and D21)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from keyrelay.errors import BodyTooLarge, BodyTooSlow, MalformedBody, UnknownVersion, UnsupportedMediaType, Violation
from keyrelay.profile.model import RequestHeader
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText

# Where the server may put what gives the whole body, or None when that has not come yet (``api/short_way.py``).
BODY_THAT_CAME = "keyrelay.body"
BODY_LIMIT = 256 * 1024
_BODY_SECONDS = 30.0
_FORM = "application/x-www-form-urlencoded"
_JSON = re.compile(r"(text/json|application/([\w.!#$&^-]+\+)?json)", re.ASCII)
_UTF8 = re.compile(r'charset\s*=\s*"?(utf-?8|us-ascii)"?\s*(;|$)')
_INT32 = 2**31
_VERSIONS = {"1": 1, "1.0": 1, "2": 2, "2.0": 2}


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object as it was written: keys in order, repeated ones included."""

    __slots__ = ()


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, which is in lower case; None when there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_fields(request: Request, *, form: bool = False, optional: bool = False) -> Pairs:
    """The members of the request's body.

    ``form``: whether a URL-encoded form will do as well as JSON (contract D20). ``optional``: an empty body, whatever
    its type, stands for an object without members. A body without a type is read as JSON (P6). Raises
    UnsupportedMediaType, BodyTooLarge, BodyTooSlow or MalformedBody.
    """
    body = await read_body(request)
    if optional and not body:
        return Pairs()
    given = request.headers.get("content-type", "application/json")
    if form and media_type(given) == _FORM:
        require_utf8(given)
        return _form(body)
    require_json(given)
    return parse_object(body)


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def require_json(content_type: str, remedy: str | None = None) -> None:
    """Raise UnsupportedMediaType (with that ``remedy``) unless that is JSON in UTF-8."""
    require_utf8(content_type)
    if not _JSON.fullmatch(media_type(content_type)):
        raise UnsupportedMediaType("The body's media type is not one that this operation reads.", remedy=remedy)


def require_utf8(content_type: str) -> None:
    parameters = content_type.partition(";")[2].lower()
    if "charset" in parameters and not _UTF8.search(parameters):
        raise UnsupportedMediaType("The body's charset is not UTF-8.")


def parse_object(body: bytes) -> Pairs:
    """Read one JSON object. Raises MalformedBody."""
    try:
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=Pairs, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise MalformedBody("The body is not UTF-8.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise MalformedBody(f"The body is not JSON: it breaks off at {place}.") from None
    except ValueError:
        raise MalformedBody("The body holds a number that is none or that is far too long.") from None
    if not isinstance(value, Pairs):
        raise MalformedBody("The body is JSON, and not an object.")
    return value


async def read_body(
    request: Request,
    *,
    limit: int = BODY_LIMIT,
    remedy: str | None = None,
    slowest: int | None = None,
    taken: Callable[[int], None] | None = None,
) -> bytes:
    """The request's body, of at most ``limit`` bytes.

    ``slowest``: bytes a second that a body may take beyond the usual time. ``taken`` is told the bytes of each piece,
    if there is more than one, and may raise. Raises BodyTooLarge (with that ``remedy``) and BodyTooSlow.
    """
    if (look := request.scope.get(BODY_THAT_CAME)) is not None and (whole := look()) is not None:
        if len(whole) > limit:
            raise _too_large(limit, remedy)
        return bytes(whole)
    return await _body_that_comes(request, limit, remedy, slowest, taken)


async def _body_that_comes(
    request: Request, limit: int, remedy: str | None, slowest: int | None, taken: Callable[[int], None] | None
) -> bytes:
    declared = request.headers.get("content-length", "")
    length = int(declared[:12]) if declared.isdigit() else None
    if length is not None and length > limit:
        raise _too_large(limit, remedy)
    seconds = _BODY_SECONDS
    if slowest is not None:
        seconds += (limit if length is None else length) // slowest
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                piece, more = await _piece(request)
                if len(body) + len(piece) > limit:
                    raise _too_large(limit, remedy)
                if not more and not body:
                    return piece
                if taken is not None:
                    taken(len(piece))
                body += piece
                if not more:
                    return bytes(body)
    except TimeoutError:
        raise BodyTooSlow(f"The body has not arrived within {seconds:.0f} seconds.") from None


async def _piece(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit: int, remedy: str | None) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {limit} bytes.", remedy=remedy)


def _form(body: bytes) -> Pairs:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:  # UnicodeError among them
        raise MalformedBody("The body is not a URL-encoded form in UTF-8.") from None
    return Pairs(pairs)


def _refuse_constant(_: str) -> None:
    raise ValueError("not JSON")


class Fields:
    """Reads the members of one object, and collects what is wrong with them instead of stopping at the first.

    ``names`` gives for each field of ours the key that callers use. With ``exact``, keys match to the letter and an
    unknown one is a violation; otherwise they match in any case and unknown ones are ignored (contract D21).
    """

    def __init__(self, pairs: Pairs, names: Mapping[str, str], *, exact: bool = False) -> None:
        self._names = names
        self._exact = exact
        fold: Callable[[str], str] = (lambda key: key) if exact else str.lower
        self._values: dict[str, Any] = {}
        self.violations: list[Violation] = []
        self._inside: list[tuple[str, Fields]] = []
        fields = {fold(key): field for field, key in names.items()}
        seen: set[str] = set()
        for key, value in pairs:
            folded = fold(key)
            field = fields.get(folded)
            if folded in seen:
                # An unknown key is not repeated: in a form that was not escaped it may be a piece of a password.
                what = "{field}" if field else "A key that is not known"
                self.violations.append(Violation(field or "body", "duplicate", what + " is given more than once."))
            elif field is not None:
                self._values[field] = value
            elif exact:
                self.violations.append(Violation(printable(key), "unknown", "{field} is not a field of this."))
            seen.add(folded)

    def has(self, field: str) -> bool:
        return field in self._values

    def text(self, field: str) -> str | None:
        value = self._values.get(field)
        if value is None or isinstance(value, str):
            return value
        self._wrong(field, "must be text")
        return None

    def members(self, field: str) -> Pairs | None:
        """The members of an object in this one."""
        value = self._values.get(field)
        if value is None or isinstance(value, Pairs):
            return value
        self._wrong(field, "must be an object")
        return None

    def object(self, field: str, names: Mapping[str, str]) -> Fields | None:
        """The members of an object in this one; what is wrong with them is told by ``all_violations``."""
        pairs = self.members(field)
        if pairs is None:
            return None
        inner = Fields(pairs, names, exact=self._exact)
        self._inside.append((field, inner))
        return inner

    def objects(self, field: str, names: Mapping[str, str], *, most: int) -> list[Fields]:
        """The same for a list of objects, at most so many."""
        value = self._values.get(field)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, Pairs) for item in value):
            self._wrong(field, "must be a list of objects")
            return []
        if len(value) > most:
            self._wrong(field, f"has more than {most} items", code="too_many")
            return []
        found = [Fields(item, names, exact=self._exact) for item in value]
        self._inside.extend((field, inner) for inner in found)
        return found

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._values.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(field, "must be a list of texts")
            return ()
        return tuple(value)

    def all_violations(self) -> tuple[Violation, ...]:
        """What is wrong with the members, and with those of the objects among them."""
        for field, inner in self._inside:
            inner.violations = list(inner.all_violations())
            self._take_over(field, inner)
        self._inside.clear()
        return tuple(self.violations)

    def refuse(self, field: str, told: str) -> None:
        """Note that a field's value cannot be used."""
        self._wrong(field, told, code="bad_value")

    def integer(self, field: str) -> int | None:
        """A whole number; unless exact, a text of digits too."""
        value = self._values.get(field)
        if isinstance(value, str) and not self._exact:
            if value == "":
                return None
            if re.fullmatch(r"-?\d{1,10}", value, re.ASCII):
                value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(field, "must be a whole number")
            return None
        if not -_INT32 <= value < _INT32:
            self._wrong(field, "is a number beyond 32 bits", code="out_of_range")
            return None
        return value

    def flag(self, field: str) -> bool:
        """A boolean; unless exact, the text of one too. Missing is false."""
        value = self._values.get(field)
        if isinstance(value, str) and not self._exact:
            value = {"": False, "true": True, "false": False}.get(value.lower(), value)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._wrong(field, "must be true or false")
        return False

    def secret_text(self, field: str) -> SecretText | None:
        """A secret given as plain text (version 1)."""
        text = self.text(field)
        return SecretText(text) if text else None

    def secret(self, field: str, names: Mapping[str, str], *, or_text: bool = False) -> GivenSecret | None:
        """A secret object with ``secret_value``, or ``provider`` and ``parameters`` (contract 3), named as ``names``.

        ``or_text``: plain text is accepted as well (contract D7).
        """
        value = self._values.get(field)
        if or_text and isinstance(value, str):
            return self.secret_text(field)
        if isinstance(value, Pairs):
            return self._secret_object(field, value, names)
        if value is not None:
            reference = f"{names['provider']} and {names['parameters']}"
            self._wrong(field, f"must be an object with {names['secret_value']}, or {reference}")
        return None

    def _secret_object(self, field: str, value: Pairs, names: Mapping[str, str]) -> GivenSecret | None:
        inner = Fields(value, names, exact=self._exact)
        text, provider, parameters = inner.text("secret_value"), inner.integer("provider"), inner.parameters()
        self._take_over(field, inner)
        if inner.violations:
            return None
        if text and (provider is not None or parameters):
            told = f"has both a {names['secret_value']} and a reference to a provider; give one of them"
            self._wrong(field, told, code="ambiguous")
        elif provider is not None:
            return FromPam(provider, parameters)
        return SecretText(text) if text else None

    def given_secret(self, field: str, names: Mapping[str, str]) -> GivenSecret | None:
        """Like ``secret``, for callers that say what they mean: an object that holds no secret is a violation."""
        known = len(self.violations)
        source = self.secret(field, names)
        if source is None and self._values.get(field) is not None and len(self.violations) == known:
            self._wrong(
                field,
                f"must hold {names['secret_value']} or {names['provider']}; leave it out to keep it, null clears it",
                code="no_secret",
            )
        return source

    def parameters(self) -> dict[str, str | None]:
        """The instance-level parameters of a reference; their names are data, and keep their case."""
        value = self._values.get("parameters")
        if value is None:
            return {}
        pairs = value if isinstance(value, Pairs) else Pairs((("", 0),))
        if not all(text is None or isinstance(text, str) for _, text in pairs):
            self._wrong("parameters", "must be an object of texts")
            return {}
        if len(dict(pairs)) != len(pairs):
            self._wrong("parameters", "names a parameter more than once", code="duplicate")
        return dict(pairs)

    def request_headers(self, field: str, names: Mapping[str, str]) -> tuple[RequestHeader, ...]:
        value = self._values.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, Pairs) for item in value):
            self._wrong(field, f"must be a list of objects with {names['name']} and {names['value']}")
            return ()
        headers = []
        for item in value:
            inner = Fields(item, names, exact=self._exact)
            headers.append(RequestHeader(inner.text("name") or "", inner.text("value") or ""))
            self._take_over(field, inner)
        return tuple(headers)

    def _take_over(self, field: str, inner: Fields) -> None:
        """Report what is wrong inside a field as wrong with that field."""
        for violation in inner.violations:
            # An unknown key in here is not repeated: it may be the secret itself.
            told = violation.message.replace("{field}", inner._names.get(violation.field, "a key that it has"))
            place = f"{field}.{violation.field}" if violation.field in inner._names else field
            self.violations.append(Violation(place, violation.code, "{field}: " + told))

    def _wrong(self, field: str, told: str, *, code: str = "wrong_type") -> None:
        self.violations.append(Violation(field, code, f"{{field}} {told}."))


def printable(key: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in key[:64]).replace("{", "(")


def asked_version(given: Iterable[str], offered: Iterable[int]) -> int:
    """The version asked for by the values of x-keyfactor-api-version (contract D11, P4). Raises UnknownVersion."""
    versions = {_VERSIONS.get(value.strip()) for value in given} or {1}
    version = versions.pop() if len(versions) == 1 else None
    if version is None or version not in offered:
        names = " and ".join(f"{number}.0" for number in offered)
        raise UnknownVersion(f"This operation has version {names}; x-keyfactor-api-version asks for another.")
    return version
