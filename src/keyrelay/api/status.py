"""``/Status`` of the compatible API (contract 7.1), and the probes for machines that watch us."""

from __future__ import annotations

import json
from collections.abc import Sequence

from keyrelay import request_id
from keyrelay.api.answers import JSON, PRIVATE, Answer
from keyrelay.api.operations import Call, Operation, Resource, Services, Style
from keyrelay.errors import KeyrelayError


def resources(base_path: str, style: Style, services: Services, known: Sequence[Resource]) -> list[Resource]:
    """``known``: the resources that /Status/Endpoints tells of, beside its own."""
    here: list[Resource] = []

    async def endpoints(call: Call) -> Answer:
        listed = [
            f"{method} {resource.path.removeprefix(base_path)}"
            for resource in (*known, *here)
            for method, operation in resource.operations.items()
            if operation.open_to(call.identity, {})
        ]
        return Answer(200, json.dumps(sorted(listed)).encode(), (JSON,))

    here += [
        Resource(f"{base_path}/Status/Endpoints", {"GET": Operation({1: endpoints}, None)}, style, services),
        Resource(f"{base_path}/Status/HealthCheck", {"GET": Operation({1: _health_check}, None)}, style, services),
    ]
    return here


async def _health_check(call: Call) -> Answer:
    await call.services.store.ping()
    return Answer(204)


_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


async def live() -> Answer:
    """This process answers."""
    return Answer(200, b"alive\n", (_PLAIN, *PRIVATE))


async def ready(services: Services) -> Answer:
    """This process can do its work: the database answers, and the profile can be opened."""
    try:
        await services.store.ping()
        await services.keeper.snapshot()
    except KeyrelayError as error:
        current = request_id.current() or ""
        body = {"status": "not ready", "code": error.code, "request_id": current}
        return Answer(503, json.dumps(body).encode(), (JSON, *PRIVATE, (b"x-request-id", current.encode())))
    return Answer(200, b'{"status": "ready"}', (JSON, *PRIVATE))
