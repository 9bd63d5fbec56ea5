"""The pages of the catcher's inbox: the list, one message, and the message as it came. Nothing in them ever runs."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyrelay.demo import readable
from keyrelay.demo.catcher import ANSWERS, LOST, Caught, Inbox
from keyrelay.demo.local_http import here_alone
from keyrelay.demo.rendering import STRICT, STYLE, page


def application(inbox: Inbox) -> Starlette:
    pages = _Pages(inbox)
    routes = [
        Route("/", pages.all),
        Route("/messages/{number:int}", pages.one),
        Route("/messages/{number:int}/raw", pages.raw),
        STYLE,
    ]
    return Starlette(routes=routes, middleware=here_alone(), exception_handlers={404: pages.missing})


class _Pages:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def all(self, _: Request) -> Response:
        rows = [_row(caught) for caught in self._inbox.newest_first()]
        gone = self._inbox.count - len(rows)
        return page("inbox.html", rows=rows, gone=gone, answers=ANSWERS, lost=LOST)

    async def one(self, request: Request) -> Response:
        caught = self._found(request)
        found = readable.readable(caught.received.content)
        return page("message.html", row=_row(caught), message=found, received=caught.received)

    async def raw(self, request: Request) -> Response:
        """The octets as they came, as plain text."""
        content = self._found(request).received.content
        headers = STRICT | {"content-security-policy": "default-src 'none'; sandbox"}
        return Response(content, 200, headers, "text/plain; charset=utf-8")

    async def missing(self, _: Request, __: Exception) -> Response:
        return page("missing.html", 404)

    def _found(self, request: Request) -> Caught:
        caught = self._inbox.message(request.path_params["number"])
        if caught is None:
            raise HTTPException(404)
        return caught


def _row(caught: Caught) -> dict[str, Any]:
    received = caught.received
    return {
        "number": caught.number,
        "at": caught.at.strftime("%Y-%m-%d %H:%M:%SZ"),
        "sender": readable.shown(received.sender) or "nobody (a bounce)",
        "recipients": readable.shown(", ".join(received.recipients)),
        "subject": readable.subject(received.content) or "(no subject)",
    }
