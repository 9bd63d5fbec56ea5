"""The vault: one KV engine of version 2, as HashiCorp Vault answers for it ("KV secrets engine - version 2 (API)")."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keyrelay.demo.credentials import Credentials
from keyrelay.demo.local_http import here_alone

ENGINE = "v1/secret/data"
SECRET = "mail"  # noqa: S105 - the name of one
CLIENT_SECRET, PASSWORD = "client-secret", "smtp-password"


def application(credentials: Credentials) -> Starlette:
    made_at = datetime.now(UTC).isoformat()
    held = {SECRET: {CLIENT_SECRET: credentials.client_secret, PASSWORD: credentials.mailer_password}}

    def denied(request: Request) -> Response | None:
        shown = request.headers.get("x-vault-token", "").encode()
        if hmac.compare_digest(shown, credentials.vault_token.reveal().encode()):
            return None
        return _answer({"errors": ["permission denied"]}, 403)

    async def look_up(request: Request) -> Response:
        return denied(request) or _answer({"data": {"ttl": 0, "renewable": False, "policies": ["demo"]}})

    async def read(request: Request) -> Response:
        refusal = denied(request)
        if refusal is not None:
            return refusal
        found = held.get(request.path_params["name"])
        if found is None:
            return _answer({"errors": []}, 404)
        values = {key: value.reveal() for key, value in found.items()}
        facts = {"version": 1, "created_time": made_at, "deletion_time": "", "destroyed": False}
        return _answer({"data": {"data": values, "metadata": facts}, "mount_type": "kv"})

    routes = [Route("/v1/auth/token/lookup-self", look_up), Route(f"/{ENGINE}/{{name:path}}", read)]
    return Starlette(routes=routes, middleware=here_alone())


def _answer(document: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(document, status, {"cache-control": "no-store"})
