"""The places that take a profile: what each is sent, and what it expects there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from complaints import OWN, complaint
from live import BASIC, OAUTH, SMTP, V1, V2, LiveServer

TEST = SMTP + "/Test"
V1_BASIC = BASIC | {"RelayUsername": "mailer", "RelayPassword": "secret-1"}
OWN_OAUTH = {
    "host": "smtp.example.org",
    "port": 587,
    "use_ssl": True,
    "sender_account": "mailer@example.org",
    "sender_name": "PKI",
    "authentication": "oauth_client_credentials",
    "client_id": {"secret_value": "client"},
    "client_secret": {"secret_value": "secret-2"},
    "token_endpoint": "https://login.example.org/token",
    "scope": "mail",
    "audience": "relay",
    "request_headers": [{"name": "X-Tenant", "value": "abc"}],
}
_V1_KINDS = {
    "Host": "text",
    "Id": "integer",
    "Port": "integer",
    "RelayAuthenticationType": "integer",
    "RelayPassword": "text",
    "RelayUsername": "text",
    "SenderAccount": "text",
    "SenderName": "text",
    "UseSSL": "flag",
}
_V2_KINDS = {
    "Host": "text",
    "Port": "integer",
    "RelayAuthenticationType": "integer",
    "SenderAccount": "text",
    "SenderName": "text",
    "UseSSL": "flag",
    "ClientId": "secret",
    "ClientSecret": "secret",
    "TokenEndpoint": "text",
    "Scope": "text",
    "Audience": "text",
    "RequestHeaders": "headers",
}
SNAKE = {
    "Host": "host",
    "Port": "port",
    "SenderAccount": "sender_account",
    "SenderName": "sender_name",
    "UseSSL": "use_ssl",
    "ClientId": "client_id",
    "ClientSecret": "client_secret",
    "TokenEndpoint": "token_endpoint",
    "Scope": "scope",
    "Audience": "audience",
    "RequestHeaders": "request_headers",
}
_OWN_KINDS = {SNAKE[key]: kind for key, kind in _V2_KINDS.items() if key in SNAKE} | {"authentication": "word"}


@dataclass(frozen=True)
class Endpoint:
    """Somewhere to send a body; ``kinds`` gives for each of its fields what is expected there."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    kinds: dict[str, str]
    required: tuple[str, ...]

    def send(self, server: LiveServer, body: object) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = self.headers | {"content-type": "application/json"}
        return server.request(self.method, self.path, headers=headers, content=content)

    def key(self, name: str) -> str:
        """How this endpoint spells SecretValue, Name and so on."""
        return {"SecretValue": "secret_value"}.get(name, name.lower()) if self.path == OWN else name


_COMMON = ("Host", "SenderAccount", "SenderName")
_OAUTH = ("ClientId", "ClientSecret", "TokenEndpoint")
OWN_REQUIRED = ("host", "port", "sender_account", "sender_name", "client_id", "client_secret", "token_endpoint")
ENDPOINTS = [
    Endpoint("PUT v1", "PUT", SMTP, V1, V1_BASIC, _V1_KINDS, (*_COMMON, "RelayUsername", "RelayPassword")),
    Endpoint("PUT v2", "PUT", SMTP, V2, OAUTH, {"Id": "integer"} | _V2_KINDS, (*_COMMON, "Port", *_OAUTH)),
    Endpoint(
        *("Test v1", "POST", TEST, V1, V1_BASIC | {"TestRecipient": "ops@example.org"}),
        {key: kind for key, kind in _V1_KINDS.items() if key != "Id"}
        | {"TestRecipient": "text", "RelayPassword": "secret or text", "RelayUsername": "secret or text"},
        (*_COMMON, "Port", "TestRecipient", "RelayUsername", "RelayPassword"),
    ),
    Endpoint(
        *("Test v2", "POST", TEST, V2, OAUTH | {"TestRecipient": "ops@example.org"}),
        _V2_KINDS | {"TestRecipient": "text"},
        (*_COMMON, "Port", "TestRecipient", *_OAUTH),
    ),
    Endpoint("PUT own", "PUT", OWN, {}, OWN_OAUTH, _OWN_KINDS, OWN_REQUIRED),
    Endpoint("PATCH own", "PATCH", OWN, {}, OWN_OAUTH, _OWN_KINDS, ()),
]
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)


def refused(server: LiveServer, endpoint: Endpoint, body: object, *names: str) -> None:
    """The body is refused, and the message names these."""
    message = complaint(endpoint.send(server, body), 400)
    for name in names:
        assert name in message, f"{message!r} does not name {name}, for {body!r}"
