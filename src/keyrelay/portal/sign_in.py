"""Signing in with a name and a password, and signing out."""

from __future__ import annotations

import base64
import re

from starlette.requests import Request

from keyrelay.access.accounts import Proof
from keyrelay.api.answers import Answer, Header
from keyrelay.api.operations import Services, address_of, counted, refusal_of
from keyrelay.api.problems import shown
from keyrelay.api.session_cookie import handed, session_token, taken_back
from keyrelay.api.visits import visit_of
from keyrelay.errors import KeyrelayError, MethodNotAllowed, SignInRequired, TooManyAttempts
from keyrelay.portal import guard
from keyrelay.portal.forms import Form, read_form
from keyrelay.portal.page import SIGN_OUT, Asked, Place, Right, session_of
from keyrelay.portal.rendering import Rendering, problem_of, rendered
from keyrelay.secrets.model import SecretText

PATH = "/portal/sign-in"
_LONGEST = 512
_OVER = "Your session has ended; what you sent was not saved."
# By whether the browser came over https.
_NOT_KEPT = {
    False: "Your browser does not keep the session on plain http: use https, or start keyrelay with --self-signed.",
    True: "Your browser does not keep the session: allow cookies for this site.",
}
# A page of ours, below /portal/: no scheme, no host, and no way up, which a browser also finds in escaped dots.
_OWN = re.compile(r"(?!/)(?!.*//)(?!.*\.\.)(?!.*%(?:2[EeFf]|5[Cc]))[A-Za-z0-9/_.~%?=&+@,-]{1,512}", re.ASCII)


async def sign_in(request: Request, services: Services) -> Answer:
    """The page with the form, and what it sends."""
    match request.method:
        case "GET" | "HEAD":
            return await _looked_at(request, services)
        case "POST":
            guard.require_own_page(request)
            return await _with_password(request, services, await read_form(request))
    raise MethodNotAllowed("This page does not offer that.", allowed=("GET", "POST"))


async def _looked_at(request: Request, services: Services) -> Answer:
    """The page; for a browser that comes from signing in and has kept the session, the page that it wanted."""
    query = request.query_params
    after = next_page(query.get("next", ""))
    if "kept" in query:
        if await session_of(request, services) is not None:
            return _go_to(request, after)
        return await sign_in_page(request, services, after, _NOT_KEPT[request.scope["scheme"] == "https"])
    return await sign_in_page(request, services, after, _OVER if "over" in query else None)


async def sign_in_page(
    request: Request,
    services: Services,
    after: str,
    told: KeyrelayError | str | None = None,
    name: str = "",
) -> Answer:
    """The page to sign in with, and what is told there: what went wrong before. ``after``: the page to go to then."""
    error = told if isinstance(told, KeyrelayError) else None
    rendering = Rendering(Place.of(request.scope).root, services.settings, None, "")
    waits: tuple[Header, ...] = ()
    if isinstance(error, TooManyAttempts):
        waits = ((b"retry-after", str(error.retry_after).encode()),)
    answer = await rendered(
        rendering,
        "sign_in.html",
        status=200 if error is None else shown(error).status,
        problem=None if error is None else problem_of(error),
        told=told if isinstance(told, str) else None,
        next=after,
        name=name,
        providers=await services.code_flow.offered(),
    )
    return answer.with_headers(*waits)


async def _with_password(request: Request, services: Services, form: Form) -> Answer:
    after, name = next_page(form.raw("next")), form.text("name")[:_LONGEST]
    try:
        token = await begin_session(request, services, name, form.raw("password"))
    except (SignInRequired, TooManyAttempts) as error:
        services.refusals.note(refusal_of(request, PATH, error, name, None))
        return await sign_in_page(request, services, after, error, name)
    return await let_in(request, services, token, after)


async def begin_session(request: Request, services: Services, name: str, password: str) -> SecretText:
    """The token of a new session of whoever knows the password. Raises SignInRequired or TooManyAttempts."""
    proof = await proven(request, services, name, password)
    visit_of(request.scope).user = proof.name
    return await services.sessions.begin(proof)


async def proven(request: Request, services: Services, name: str, password: str) -> Proof:
    """Whose name and password these are. Raises SignInRequired or TooManyAttempts."""
    if not name or ":" in name:
        raise SignInRequired("User name or password is not right.")
    header = b"Basic " + base64.b64encode(f"{name}:{password}".encode("utf-8", "replace"))
    return await counted(services.figures, services.sign_in.prove(header, address_of(request)))


async def let_in(request: Request, services: Services, token: SecretText, after: str) -> Answer:
    """Hand a new session over, in place of the one that the browser may have, and go to the page wanted.

    The way there leads over a look whether the browser has kept it: many keep none on plain http.
    """
    await end_session(request, services)
    return _go_to(request, "sign-in", kept="1", **({"next": after} if after else {})).with_headers(handed(token))


def _go_to(request: Request, page: str, **query: str) -> Answer:
    to = Rendering(Place.of(request.scope).root, None, None, "").to(page, **query)
    return Answer(303, headers=((b"location", to.encode()),))


def next_page(text: str) -> str:
    """A page of ours to go to after signing in; the overview for anything else."""
    return text if _OWN.fullmatch(text) else ""


async def end_session(request: Request, services: Services) -> None:
    """End the session that the browser comes with, if there is one: a new one has a new token."""
    if (token := session_token(request)) is not None:
        await services.sessions.end(token)


async def _sign_out(asked: Asked) -> Answer:
    if asked.form.has("everywhere"):
        await asked.services.sessions.end_all(asked.identity.name)
    await end_session(asked.request, asked.services)
    return asked.see("sign-in").with_headers(taken_back())


PAGES = {SIGN_OUT.removeprefix("/portal"): {"POST": Right(_sign_out, None, roleless=True)}}
