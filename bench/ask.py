"""One request at a time: to prepare a server, to time its first answer, and to check what it answers."""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

from process import Failed, Process

PATH = "/KeyfactorAPI/SMTP"
USER = "admin"
_PAUSE = 0.002
_PATIENCE = 60.0
# Fewer than keyrelay lets one user try at the same time.
_AT_ONCE = 6

PROFILE: dict[str, Any] = {
    "Host": "smtp.example.com",
    "Port": 587,
    "RelayAuthenticationType": 2,
    "RelayUsername": {"SecretValue": "mailer"},
    "RelayPassword": {"SecretValue": "only for this run"},
    "SenderAccount": "pki@example.com",
    "SenderName": "PKI",
    "UseSSL": True,
}


def headers(password: str, version: int, user: str = USER) -> dict[str, str]:
    """What an official client sends with a read."""
    basic = b64encode(f"{user}:{password}".encode()).decode()
    return {
        "Authorization": f"Basic {basic}",
        "x-keyfactor-requested-with": "APIClient",
        "x-keyfactor-api-version": str(version),
    }


def get(port: int, path: str, sent: Mapping[str, str]) -> bytes:
    """The body of a 200; anything else ends the run."""
    return _ask(port, "GET", path, sent, None)


def put_profile(port: int, password: str) -> None:
    sent = headers(password, 2) | {"Content-Type": "application/json"}
    _ask(port, "PUT", PATH, sent, json.dumps(PROFILE))


def sign_in_anew(port: int, password: str) -> None:
    """Sign in with credentials that nobody has sent before, some at a time: spellings of the user name."""
    spellings = ["".join(letters) for letters in product(*((letter, letter.upper()) for letter in USER))][1:]

    def ask_as(user: str) -> None:
        get(port, PATH, headers(password, 2, user))

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(ask_as, spellings))


def first_answer(process: Process, port: int, path: str, sent: Mapping[str, str]) -> float:
    """Seconds from the start of ``process`` to its first 200."""
    while time.perf_counter() - process.started < _PATIENCE:
        process.require_alive()
        try:
            get(port, path, sent)
        except ConnectionError:
            time.sleep(_PAUSE)
        else:
            return time.perf_counter() - process.started
    raise Failed(f"{process.name} has not answered within {_PATIENCE:.0f} s.")


def _ask(port: int, method: str, path: str, sent: Mapping[str, str], body: str | None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request(method, path, body, dict(sent))
        answer = connection.getresponse()
        received = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise Failed(f"{method} {path} on port {port} answered {answer.status}: {received[:200]!r}")
    return received
