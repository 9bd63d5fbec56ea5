"""What a page says of what it was asked to do: that it is done, or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from keyrelay.api.operations import refusal_of
from keyrelay.api.problems import is_our_fault, shown
from keyrelay.api.visits import visit_of
from keyrelay.errors import (
    BadInput,
    KeyrelayError,
    PermissionMissing,
    SignInRequired,
    StoreUnavailable,
    TooManyAttempts,
)
from keyrelay.portal.page import Asked
from keyrelay.portal.rendering import Problem, problem_of

# What the audit trail is told of.
_NOTED = (PermissionMissing, SignInRequired, TooManyAttempts)
# The field of the form that an error is about which names none itself.
Blamed = Mapping[type[KeyrelayError], str]


def refused(
    asked: Asked, error: KeyrelayError, blamed: Blamed | None = None, names: dict[str, str] | None = None
) -> tuple[int, Problem]:
    """The status and the problem for the form that is shown again.

    Raises ``error`` on when the form is not to blame. ``names``: the fields as the page calls them.
    """
    if is_our_fault(error) or isinstance(error, StoreUnavailable):
        raise error
    if isinstance(error, _NOTED):
        identity = asked.identity
        route = visit_of(asked.request.scope).route
        asked.services.refusals.note(refusal_of(asked.request, route, error, identity.name, identity))
    problem = problem_of(error, names)
    field = (blamed or {}).get(type(error))
    if field is not None and not isinstance(error, BadInput):
        problem = replace(problem, fields=((field, error.message),))
    return shown(error).status, problem


def done(asked: Asked, sentences: Mapping[str, str]) -> str | None:
    """The sentence for what was just done, by the code in the query."""
    return sentences.get(asked.request.query_params.get("done", ""))
