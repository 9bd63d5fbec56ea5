"""Pages, and the one road to each: session, permission, form token, handler; an error becomes a page as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from keyrelay.access.identity import Identity
from keyrelay.access.sessions import Session
from keyrelay.api.answers import Answer, Header
from keyrelay.api.operations import Call, Operation, Services, admit, blamed, refusal_of
from keyrelay.api.outbox_desk import OutboxDesk
from keyrelay.api.problems import is_our_fault, shown
from keyrelay.api.session_cookie import by_somebody, session_token
from keyrelay.api.visits import visit_of
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.errors import KeyrelayError, MethodNotAllowed, NoRole, PermissionMissing, SignInRequired
from keyrelay.portal import guard
from keyrelay.portal.forms import Form, read_form
from keyrelay.portal.rendering import Rendering, problem_of, rendered

SIGN_OUT = "/portal/sign-out"
_REFUSED = (NoRole, PermissionMissing)


class Asked(Call, frozen=True):
    """A request for a page, by somebody who may see it. ``form`` is empty unless it is a POST."""

    session: Session
    form: Form
    desk: OutboxDesk
    place: Place

    async def show(self, template: str, *, status: int = 200, **values: Any) -> Answer:
        """The page that a template gives with these values."""
        return await rendered(self.rendering, template, status=status, **values)

    @property
    def rendering(self) -> Rendering:
        return Rendering(self.place.root, self.services.settings, self.identity, self.session.form_token)

    def see(self, target: str, **query: str) -> Answer:
        """Go to another page, by its path below ``/portal/``, with GET (RFC 9110 section 15.4.4)."""
        return Answer(303, headers=((b"location", self.rendering.to(target, **query).encode()),))


Handler = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is. ``root`` leads from it to ``/portal/``, whatever stands before that."""

    root: str

    @classmethod
    def of(cls, scope: Scope) -> Place:
        # By the path as it was sent, because a browser counts every slash of it.
        below = sent_path(scope).partition(b"?")[0].lower().partition(b"/portal/")[2]
        return cls("../" * below.count(b"/") or "./")


def sent_path(scope: Scope) -> bytes:
    """The path as it was sent, which not every ASGI server tells."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path


@dataclass(frozen=True, slots=True)
class Right:
    """What somebody needs who asks a page for something, and what does it. See ``Operation``.

    ``shows``: the permission for what the answer shows, where ``permission`` is not enough for that.
    """

    handler: Handler
    permission: str | None
    in_part: bool = False
    roleless: bool = False
    shows: str | None = None

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Each of them has to be open to whoever asks."""
        own = Operation({}, self.permission, in_part=self.in_part, roleless=self.roleless)
        return (own,) if self.shows is None else (own, Operation({}, self.shows))


@dataclass(frozen=True, slots=True)
class Page:
    """A page below ``/portal/`` and what can be done there: an ASGI application.

    ``path`` is that of a route of Starlette's.
    """

    path: str
    rights: Mapping[str, Right]
    services: Services
    desk: OutboxDesk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        visit_of(scope).route = self.path
        session = None
        try:
            session = await session_of(request, self.services)
            answer = await self._answer(request, session)
        except KeyrelayError as error:
            answer = await self._problem(request, error, session)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
            answer = await self._problem(request, blamed(error), session)
        await answer.with_headers(*private(answer)).send(send)

    async def _answer(self, request: Request, session: Session | None) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        right = self.rights.get(method)
        if right is None:
            raise MethodNotAllowed("This page does not offer that.", allowed=tuple(sorted(self.rights)))
        if session is None:
            return self._to_sign_in(request, method)
        visit = visit_of(request.scope)
        visit.user = session.identity.name
        for operation in self.needed(method):
            admit(session.identity, operation, request.path_params)
        form = Form()
        if method != "GET":
            form = await read_form(request)
            guard.require_own_form(request, form, session.form_token)
        act_as(Actor(session.identity.name, visit.address))
        return await right.handler(
            Asked(request, session.identity, self.services, session, form, self.desk, Place.of(request.scope))
        )

    def _to_sign_in(self, request: Request, method: str) -> Answer:
        """Sign in first, and come back here if this can be shown. Who has sent a form is told that it is lost."""
        place = Place.of(request.scope)
        query = {}
        if "GET" in self.rights and (wanted := request.scope["path"].removeprefix("/portal").strip("/")):
            asked = request.scope["query_string"].decode("latin-1")
            query["next"] = wanted + ("?" + asked if asked else "")
        if method != "GET" and self.path != SIGN_OUT:
            query["over"] = "1"
        to = Rendering(place.root, None, None, "").to("sign-in", **query)
        return Answer(303, headers=((b"location", to.encode()),))

    def needed(self, method: str) -> tuple[Operation, ...]:
        """What has to be open to whoever asks; for an action the page too, which a refused one shows again."""
        right = self.rights[method]
        page = () if method == "GET" or "GET" not in self.rights else self.rights["GET"].operations
        return *right.operations, *page

    async def _problem(self, request: Request, error: KeyrelayError, session: Session | None) -> Answer:
        identity = None if session is None else session.identity
        if isinstance(error, _REFUSED) and identity is not None:
            self.services.refusals.note(refusal_of(request, self.path, error, identity.name, identity))
        return await problem_page(request, self.services, error, session)


async def session_of(request: Request, services: Services) -> Session | None:
    """The session that the browser comes with, as long as it has not ended."""
    token = session_token(request)
    if token is None:
        return None
    try:
        return await services.sessions.find(token, used=by_somebody(request))
    except SignInRequired:
        return None


async def problem_page(
    request: Request, services: Services, error: KeyrelayError, session: Session | None = None
) -> Answer:
    """The page that says what went wrong, and what to do."""
    told = blamed(error) if is_our_fault(error) else error
    identity: Identity | None = None if session is None else session.identity
    token = "" if session is None else session.form_token
    rendering = Rendering(Place.of(request.scope).root, services.settings, identity, token)
    return await rendered(rendering, "problem.html", status=shown(told).status, problem=problem_of(told))


def private(answer: Answer) -> tuple[Header, ...]:
    """The headers of every page: nobody keeps it, nobody frames it, and nothing runs in it but our own modules."""
    given = {name for name, _ in answer.headers}
    return tuple(header for header in _PRIVATE if header[0] not in given)


_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)
_PRIVATE: tuple[Header, ...] = (
    (b"content-security-policy", _POLICY),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
