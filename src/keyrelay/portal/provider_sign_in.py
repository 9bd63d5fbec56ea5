"""Signing in through an identity provider: the way there, and the page that people come back to."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from starlette.requests import Request

from keyrelay.access.round_trip import RoundTrip
from keyrelay.api.answers import Answer
from keyrelay.api.operations import Services, address_of, refusal_of
from keyrelay.api.session_cookie import SIGN_IN, cookie_of, handed_sign_in, taken_back_sign_in
from keyrelay.api.visits import visit_of
from keyrelay.errors import (
    IdentityProviderFailed,
    KeyrelayError,
    MethodNotAllowed,
    NotFound,
    SignInDenied,
    SignInNotBegun,
    SignInRefused,
    TooManyAttempts,
)
from keyrelay.portal.sign_in import let_in, next_page, sign_in_page

THERE = "/portal/sign-in/with"
BACK = "/portal/signed-in"
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)
_LONGEST = 16 * 1024  # of an answer: it holds a code and a few words


async def there(request: Request, services: Services) -> Answer:
    """Go to the provider that the link names."""
    _require_get(request)
    after = next_page(request.query_params.get("next", ""))
    try:
        url, trip = await services.code_flow.begin(
            request.query_params.get("provider", ""), after, redirect_uri(request, services)
        )
    except (NotFound, IdentityProviderFailed) as error:
        return await sign_in_page(request, services, after, error)
    return Answer(303, headers=((b"location", url.encode()), handed_sign_in(trip.text())))


async def back(request: Request, services: Services) -> Answer:
    """Take in whoever comes back with the provider's answer."""
    _require_get(request)
    text = cookie_of(request, SIGN_IN)
    trip = None if text is None else RoundTrip.read(text, time.time())
    after = "" if trip is None else next_page(trip.after)
    try:
        welcome = await services.code_flow.complete(
            trip, _answer(request), redirect_uri(request, services), address_of(request)
        )
    except (SignInNotBegun, SignInDenied, SignInRefused, IdentityProviderFailed, TooManyAttempts) as error:
        _note(request, services, error)
        answer = await sign_in_page(request, services, after, error)
        # A trip that somebody else's answer came to may still be ended by its own.
        return answer if isinstance(error, SignInNotBegun) else answer.with_headers(taken_back_sign_in())
    services.figures.sign_ins["accepted"] += 1
    visit_of(request.scope).user = welcome.name
    return (await let_in(request, services, welcome.token, after)).with_headers(taken_back_sign_in())


def _answer(request: Request) -> Mapping[str, str]:
    """What the provider has answered. Raises SignInNotBegun for one that can be read in two ways."""
    given = request.query_params.multi_items()
    answer = dict(given)
    if len(answer) < len(given) or len(request.scope["query_string"]) > _LONGEST:
        raise SignInNotBegun("The answer is not one that an identity provider gives.")
    return answer


def redirect_uri(request: Request, services: Services) -> str:
    """Where people come back to, as it is registered at the provider. Raises IdentityProviderFailed."""
    public = services.settings.public_url
    if public is None:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise IdentityProviderFailed(
                "It cannot be told under which address people come back.", remedy="Set KEYRELAY_PUBLIC_URL."
            )
        public = f"{request.scope['scheme']}://{host}"
    return public.rstrip("/") + BACK


def _note(request: Request, services: Services, error: KeyrelayError) -> None:
    """Have it recorded, unless nothing shows that anybody has tried to be anybody."""
    if isinstance(error, SignInDenied | SignInRefused | TooManyAttempts):
        limited = isinstance(error, TooManyAttempts)
        services.figures.sign_ins["limited" if limited else "refused"] += 1
        services.refusals.note(refusal_of(request, BACK, error, "", None))
    elif isinstance(error, IdentityProviderFailed):
        services.figures.sign_ins["undecided"] += 1


def _require_get(request: Request) -> None:
    if request.method != "GET":
        raise MethodNotAllowed("This page does not offer that.", allowed=("GET",))
