"""``/docs``: the OpenAPI documents, kept by hand, and pages that show them without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from keyrelay.api.answers import Answer
from keyrelay.settings import Settings


async def to_documents() -> Answer:
    return Answer(307, headers=((b"location", b"/docs"),))


def pages(settings: Settings) -> Mapping[str, Callable[[], Awaitable[Answer]]]:  # noqa: ARG001 - to be written
    return {}
