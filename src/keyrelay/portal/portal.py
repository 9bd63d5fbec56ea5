"""The portal: which path is what page."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from keyrelay.api.answers import Answer
from keyrelay.api.operations import Services
from keyrelay.api.outbox_desk import OutboxDesk
from keyrelay.api.visits import visit_of
from keyrelay.errors import KeyrelayError, MethodNotAllowed, NotFound
from keyrelay.portal import (
    audit,
    audit_verify,
    diagnosis,
    health,
    history,
    home,
    message,
    outbox,
    pam,
    pam_entries,
    provider_sign_in,
    sign_in,
    smtp,
)
from keyrelay.portal.access import pages as access
from keyrelay.portal.assets import asset
from keyrelay.portal.open_page import OpenPage
from keyrelay.portal.page import Page, Right, private, problem_page, sent_path

PATH = "/portal"

# Each room tells its pages: a path below ``/portal``, and what is needed for what. The longer one of two comes first.
ROOMS: tuple[Mapping[str, Mapping[str, Right]], ...] = (
    home.PAGES,
    sign_in.PAGES,
    diagnosis.PAGES,
    smtp.PAGES,
    history.PAGES,
    outbox.PAGES,
    message.PAGES,
    pam.PAGES,
    pam_entries.PAGES,
    audit_verify.PAGES,
    audit.PAGES,
    access.PAGES,
    health.PAGES,
)
# Pages of people who have not signed in yet.
_OPEN = {
    sign_in.PATH: sign_in.sign_in,
    provider_sign_in.THERE: provider_sign_in.there,
    provider_sign_in.BACK: provider_sign_in.back,
}


class Portal:
    """The pages of one process, as an ASGI application. ``pages`` are those of people who have signed in."""

    def __init__(self, services: Services, desk: OutboxDesk) -> None:
        self._services = services
        self.pages = [Page(PATH + path, rights, services, desk) for room in ROOMS for path, rights in room.items()]
        self._router = Router(
            [
                Route(PATH + "/static/{edition}/{name}", _Asset(services)),
                *(Route(path, OpenPage(path, services, answer)) for path, answer in _OPEN.items()),
                *(Route(page.path.rstrip("/"), page) for page in self.pages),
            ],
            redirect_slashes=False,
            default=self._not_found,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if sent_path(scope).lower().endswith(PATH.encode()):
            # The same page with a slash, below which its links lead; relative, because of a proxy's prefix.
            await Answer(307, headers=((b"location", b"portal/"),)).send(send)
            return
        await self._router(scope, receive, send)

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotFound("There is no page at this address.", remedy="Go to the overview.")
        answer = await problem_page(Request(scope, receive), self._services, error)
        await answer.with_headers(*private(answer)).send(send)


class _Asset:
    """Style, module or icon; for everybody, as the page to sign in with needs them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit_of(scope).route = PATH + "/static/{edition}/{name}"
        try:
            if scope["method"] not in {"GET", "HEAD"}:
                raise MethodNotAllowed("Only GET is offered here.", allowed=("GET", "HEAD"))
            answer = asset(scope["path_params"]["name"], scope["path_params"]["edition"])
        except KeyrelayError as error:
            answer = await problem_page(Request(scope, receive), self._services, error)
            answer = answer.with_headers(*private(answer))
        await answer.send(send)
