"""Operations, and the resources that offer them: the one road every request takes.

Method, sign-in, guard against foreign web pages, role, permission, version, handler; an error anywhere becomes one
clear answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from keyrelay.access.code_flow import CodeFlow
from keyrelay.access.identity import Identity, tried_name
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.access.keeper import AccessKeeper
from keyrelay.access.purses import Purses
from keyrelay.access.sessions import Sessions
from keyrelay.access.sign_in import SignIn
from keyrelay.api.answers import PRIVATE, Answer, Header
from keyrelay.api.conventions import asked_version, header_of
from keyrelay.api.doors import Doors
from keyrelay.api.figures import Figures
from keyrelay.api.problems import Naming, for_a_script, is_our_fault, keyfactor_answer, own_answer, shown
from keyrelay.api.session_cookie import by_somebody, session_token
from keyrelay.api.visits import visit_of
from keyrelay.audit.acting import act_as
from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Actor
from keyrelay.audit.refusals import Refusal, Refusals
from keyrelay.errors import (
    HeaderRequired,
    KeyrelayError,
    MethodNotAllowed,
    NoRole,
    PermissionMissing,
    SignInRequired,
    TooManyAttempts,
    Unexpected,
)
from keyrelay.pam.fetching import Vaults
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.profile.keeper import ProfileKeeper
from keyrelay.profile.rules import Rules
from keyrelay.relay.turnstile import Turnstile
from keyrelay.settings import Settings
from keyrelay.store.model import Store

if TYPE_CHECKING:  # what a start does not need
    from keyrelay.outbox.outbox import Outbox
    from keyrelay.relay.recording import Recorded

_logger = logging.getLogger(__name__)
_INT32 = 2**31
_DIGITS = 10  # of the largest of them
_LONGEST_NAME = 128  # of somebody who was refused
_REFUSED = (SignInRequired, NoRole, PermissionMissing, TooManyAttempts)
_UNSIGNED = {401: "refused", 429: "limited"}


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers work with; wired in server.py. Diagnoses and outbox are made when somebody needs them."""

    settings: Settings
    store: Store
    access: AccessKeeper
    journal: Journal
    keeper: ProfileKeeper
    rules: Rules
    providers: ProviderKeeper
    identity_providers: IdentityProviderKeeper
    vaults: Vaults
    sign_in: SignIn
    sessions: Sessions
    code_flow: CodeFlow
    refusals: Refusals
    turnstile: Turnstile
    purses: Purses
    diagnoses: Callable[[], Recorded]
    outbox: Callable[[], Outbox]
    figures: Figures
    doors: Doors
    # Held by who verifies the audit trail: one after the other, because each of them keeps a processor busy.
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)


class Call(msgspec.Struct, frozen=True):
    """One request whose caller may make it."""

    request: Request
    identity: Identity
    services: Services


Result = TypeVar("Result")
Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method of a resource does, in each version it has.

    ``permission``: the access-control string needed; None when being signed in is enough. What stands in braces is
    taken from the path. ``in_part``: whether a narrower one will do, of which the handler then makes the best.
    ``roleless``: whether an identity without any role may call it. ``deprecated``: version 1 has a successor at the
    same address (P5).
    """

    versions: Mapping[int, Handler]
    permission: str | None
    deprecated: bool = False
    roleless: bool = False
    in_part: bool = False

    def needs(self, place: Mapping[str, str]) -> str | None:
        """The access-control string needed at this place.

        A star stands for what is no number, or not known: no string holds one, so only what covers all of them will do.
        """
        if self.permission is None or "{" not in self.permission:
            return self.permission
        number = place.get("id", "")
        number = number if number.isascii() and number.isdigit() and len(number) <= _DIGITS else "*"
        return self.permission.format(id=number)

    def open_to(self, identity: Identity, place: Mapping[str, str]) -> bool:
        """Whether the identity may call it, at this place."""
        needed = self.needs(place)
        return needed is None or identity.may(needed) or (self.in_part and identity.may_in_part(needed))


def _our_name(field: str) -> str:
    return field


class Style(Protocol):
    """What distinguishes the two APIs."""

    versioned: bool

    def explain(self, error: KeyrelayError, name: Naming) -> Answer: ...
    def headers(self, operation: Operation | None, version: int | None, path: str) -> tuple[Header, ...]: ...


class KeyfactorStyle:
    """The compatible API: versions by header, ErrorCode and Message, the product's own headers (contract 1.7)."""

    versioned = True

    def __init__(self, settings: Settings) -> None:
        self._product = (b"x-keyfactor-product-version", settings.product_version.encode())

    def explain(self, error: KeyrelayError, name: Naming) -> Answer:
        return keyfactor_answer(error, name)

    def headers(self, operation: Operation | None, version: int | None, path: str) -> tuple[Header, ...]:
        offered = (1, 2) if operation is None else tuple(operation.versions)
        headers = [*PRIVATE, self._product]
        headers.append((b"api-supported-versions", ", ".join(f"{number}.0" for number in offered).encode()))
        if operation is not None and operation.deprecated and version == 1:
            headers.append((b"deprecation", _DEPRECATED_SINCE))
            headers.append((b"link", f'<{path}>; rel="successor-version"'.encode()))
        return tuple(headers)


class OwnStyle:
    """Our own API: one version in its path, snake_case, problem documents."""

    versioned = False

    def explain(self, error: KeyrelayError, name: Naming) -> Answer:
        return own_answer(error, name)

    def headers(self, operation: Operation | None, version: int | None, path: str) -> tuple[Header, ...]:  # noqa: ARG002
        return PRIVATE


# Version 2 came with release 25.1, and version 1 was deprecated with it: 2025-01-01 (RFC 9745 wants Unix seconds).
_DEPRECATED_SINCE = b"@1735689600"


@dataclass(frozen=True, slots=True)
class Resource:
    """A path and the operations on it; an ASGI application.

    ``name`` gives the callers' name for one of our fields, for error messages.
    """

    path: str
    operations: Mapping[str, Operation]
    style: Style
    services: Services
    name: Naming = field(default=_our_name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        visit = visit_of(scope)
        visit.route = self.path
        operation, version, identity = None, None, None
        try:
            operation = self._operation(scope["method"])
            identity = await self._identify(request)
            visit.user = identity.name
            admit(identity, operation, request.path_params)
            version = self._version(request, operation)
            act_as(Actor(identity.name, visit.address))
            answer = await operation.versions[version](Call(request, identity, self.services))
        except KeyrelayError as error:
            if isinstance(error, _REFUSED):
                self._note(request, identity, error)
            answer = self.explain(error)
            if isinstance(error, SignInRequired) and _of_a_page(scope):
                answer = for_a_script(answer)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets one clear answer
            answer = self.explain(error)
        await answer.with_headers(*self.style.headers(operation, version, self.path)).send(send)

    def explain(self, error: Exception) -> Answer:
        """The one clear answer to what went wrong; what is our fault is logged."""
        told = error if isinstance(error, KeyrelayError) and not is_our_fault(error) else blamed(error)
        return self.style.explain(told, self.name)

    def _operation(self, method: str) -> Operation:
        operation = self.operations.get(method)
        if operation is None:
            raise MethodNotAllowed(f"{method[:16]} is not offered here.", allowed=tuple(sorted(self.operations)))
        return operation

    async def _identify(self, request: Request) -> Identity:
        scope = request.scope
        header = header_of(scope, b"authorization")
        token = session_token(request) if header is None else None
        identity = await signed_in(request, self.services, header, token)
        if header_of(scope, b"x-keyfactor-requested-with") is None:
            strict = self.services.settings.require_requested_with and self.style.versioned
            # Browsers add a cookie to a foreign page's request, and a password that they know; only they send Origin
            # (D10).
            foreign = scope["method"] != "GET" and (token is not None or header_of(scope, b"origin") is not None)
            if strict or foreign:
                raise HeaderRequired("The header x-keyfactor-requested-with is missing.")
        return identity

    def _note(self, request: Request, identity: Identity | None, error: KeyrelayError) -> None:
        """Have it recorded, unless nobody has tried to be anybody: a request without credentials."""
        header = header_of(request.scope, b"authorization")
        if header is None and identity is None:
            return
        name = tried_name(header or b"") if identity is None else identity.name
        self.services.refusals.note(refusal_of(request, self.path, error, name, identity))

    def _version(self, request: Request, operation: Operation) -> int:
        if not self.style.versioned:
            return 1
        return asked_version(request.headers.getlist("x-keyfactor-api-version"), operation.versions)


def _of_a_page(scope: Scope) -> bool:
    """Whether a browser sends it for a script, or for a page of ours (Fetch Metadata); only browsers say so."""
    return header_of(scope, b"sec-fetch-dest") == b"empty" or header_of(scope, b"sec-fetch-site") == b"same-origin"


async def signed_in(request: Request, services: Services, header: bytes | None, token: str | None) -> Identity:
    """Who sends the request: by an Authorization header, or by the token of a session.

    Raises SignInRequired or TooManyAttempts.
    """
    if token is not None:
        return (await counted(services.figures, services.sessions.find(token, used=by_somebody(request)))).identity
    checked = services.sign_in.identify(header, address_of(request))
    return await counted(services.figures, checked, missing=header is None)


async def counted(figures: Figures, check: Awaitable[Result], *, missing: bool = False) -> Result:
    """What a sign-in comes to, which is counted. ``missing``: nothing was sent to sign in with."""
    try:
        result = await check
    except KeyrelayError as problem:
        figures.sign_ins["missing" if missing else _UNSIGNED.get(shown(problem).status, "undecided")] += 1
        raise
    figures.sign_ins["accepted"] += 1
    return result


def admit(identity: Identity, operation: Operation, place: Mapping[str, str]) -> None:
    """Raise NoRole or PermissionMissing for an identity that may not call the operation at this place."""
    if not identity.roles and not operation.roleless:
        raise NoRole(f"User {identity.name} is known here and holds no role.")
    if not operation.open_to(identity, place):
        raise lacking(identity, str(operation.needs(place)))


def refusal_of(request: Request, route: str, error: KeyrelayError, name: str, identity: Identity | None) -> Refusal:
    """What the audit trail is told of somebody who was refused; ``name`` is who that is, or says to be."""
    roles = None if identity is None else identity.roles
    return Refusal(name[:_LONGEST_NAME], address_of(request), route, request.method, error.code, roles)


def number_in_path(call: Call) -> int | None:
    """The number that the path names as {id}; None for what is none of the numbers there can be (int32)."""
    text = str(call.request.path_params["id"])
    digits = text.lstrip("0") or text[:1]
    if not text.isascii() or not text.isdigit() or len(digits) > _DIGITS or int(digits) >= _INT32:
        return None
    return int(digits)


def address_of(request: Request) -> str:
    """The network address that a request comes from, as far as it can be trusted (``api/callers.py``)."""
    return visit_of(request.scope).address


def lacking(identity: Identity, *permissions: str) -> PermissionMissing:
    """The error for an identity that lacks these permissions (contract 1.6)."""
    return PermissionMissing(
        f"User {identity.name} lacks a permission that this needs.",
        remedy="Ask an administrator for a role with " + " and ".join(permissions),
    )


async def while_the_caller_waits(request: Request, work: Awaitable[Result]) -> Result:
    """The result of ``work``, which is given up when the caller goes away. Raises ClientDisconnect then.

    The request's body has been read.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(caller_gone(request), name="keyrelay-caller-gone")
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def caller_gone(request: Request) -> None:
    """Return when the caller has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def blamed(error: Exception) -> KeyrelayError:
    """Log what went wrong, and give what the caller may be told: the request id leads to it (contract D9)."""
    _logger.error("request failed", exc_info=error)
    return error if isinstance(error, KeyrelayError) else Unexpected("keyrelay failed; the request is not to blame.")
