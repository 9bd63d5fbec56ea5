"""Pages that anybody may see: those to sign in with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from keyrelay.api.answers import Answer
from keyrelay.api.operations import Services, blamed
from keyrelay.api.visits import visit_of
from keyrelay.errors import KeyrelayError
from keyrelay.portal.page import private, problem_page


@dataclass(frozen=True, slots=True)
class OpenPage:
    """One of them: an ASGI application."""

    path: str
    services: Services
    answer: Callable[[Request, Services], Awaitable[Answer]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        visit_of(scope).route = self.path
        try:
            answer = await self.answer(request, self.services)
        except KeyrelayError as error:
            answer = await problem_page(request, self.services, error)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
            answer = await problem_page(request, self.services, blamed(error))
        await answer.with_headers(*private(answer)).send(send)
