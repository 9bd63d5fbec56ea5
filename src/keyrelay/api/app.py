"""The routes: which path is what, without regard to case and a trailing slash (contract D18)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from keyrelay.api import (
    audit,
    diagnoses,
    documents,
    messages,
    metrics,
    outbox,
    pam,
    pam_try,
    profile,
    security,
    security_claims,
    security_roles,
    smtp,
    status,
)
from keyrelay.api.answers import Answer
from keyrelay.api.callers import Callers
from keyrelay.api.operations import KeyfactorStyle, OwnStyle, Resource, Services, Style, blamed
from keyrelay.api.outbox_desk import OutboxDesk
from keyrelay.api.quick_reads import QuickReads
from keyrelay.api.quick_submissions import QuickSubmissions
from keyrelay.api.submitting import Submitting
from keyrelay.api.visits import Visits, visit_of
from keyrelay.errors import KeyrelayError, MethodNotAllowed, NotFound

_PORTAL = "/portal"


class Application:
    """The ASGI application of one process. ``portal`` makes what answers below ``/portal``."""

    def __init__(self, services: Services, portal: Callable[[OutboxDesk], ASGIApp]) -> None:
        base_path = services.settings.base_path
        keyfactor, self._own = KeyfactorStyle(services.settings), OwnStyle()
        self._keyfactor: Style = keyfactor
        self._base = base_path.lower()
        compatible = [
            *smtp.resources(base_path, keyfactor, services),
            *pam.resources(base_path, keyfactor, services),
            *security.resources(base_path, keyfactor, services),
            *security_roles.resources(base_path, keyfactor, services),
            *security_claims.resources(base_path, keyfactor, services),
            *audit.resources(base_path, keyfactor, services),
        ]
        compatible = [*compatible, *status.resources(base_path, keyfactor, services, compatible)]
        desk = OutboxDesk(services)
        self._portal = portal(desk)
        submitting = Submitting(services)
        submissions = messages.resources(self._own, services, desk, submitting)
        own = [
            *profile.resources(self._own, services),
            *diagnoses.resources(self._own, services),
            *pam_try.resources(self._own, services),
            *submissions,
            *outbox.resources(self._own, services, desk),
            metrics.route(self._own, services),
        ]
        self.resources: list[Resource] = [*compatible, *own]
        self._plain = {resource.path.lower(): resource for resource in self.resources if "{" not in resource.path}
        routes = [Route(resource.path.lower(), resource) for resource in self.resources]
        pages: Mapping[str, Callable[[], Awaitable[Answer]]] = {
            "/livez": status.live,
            "/readyz": lambda: status.ready(services),
            "/": documents.to_portal,
            **documents.pages(services.settings),
        }
        routes += [
            *(Route(path, _Page(path, page)) for path, page in pages.items()),
        ]
        self._router = Router(routes, redirect_slashes=False, default=self._not_found)
        self._visits = Visits(Callers(services.settings.trusted_proxies), services.figures, self._handle)
        self.doors = services.doors
        self.quick_reads = QuickReads(compatible[0])
        self.quick_submissions = QuickSubmissions(submissions[0], submitting, self._visits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._visits.receive(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].lower().rstrip("/") or "/"
        if not path.isprintable():  # a line break would end what the router's patterns look at
            await self._not_found({**scope, "path": path}, receive, send)
            return
        if path != scope["path"]:
            scope = {**scope, "path": path}
        if path == _PORTAL or path.startswith(_PORTAL + "/"):
            await self._portal(scope, receive, send)
            return
        # Most paths hold no number: what is submitted thousands of times a second need not look at every pattern.
        await self._plain.get(path, self._router)(scope, receive, send)

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the shape of ASGI
        path: str = scope["path"]
        style = self._keyfactor if path.startswith(self._base + "/") or path == self._base else self._own
        answer = style.explain(NotFound("There is nothing at this path."), str)
        await answer.with_headers(*style.headers(None, None, path)).send(send)


class _Page:
    """Something that anybody may GET."""

    def __init__(self, path: str, page: Callable[[], Awaitable[Answer]]) -> None:
        self._path = path
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the shape of ASGI
        visit_of(scope).route = self._path
        try:
            answer = await self._answer(scope["method"])
        except KeyrelayError as error:
            style = OwnStyle()
            answer = style.explain(error, str).with_headers(*style.headers(None, None, ""))
        await answer.send(send)

    async def _answer(self, method: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed("Only GET is offered here.", allowed=("GET", "HEAD"))
        try:
            return await self._page()
        except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
            raise blamed(error) from None
