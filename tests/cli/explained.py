"""What the tests of ``keyrelay smtp test`` share: a profile as it is typed in, and what may be printed."""

from __future__ import annotations

import re
from typing import Any

from keyrelay.profile.model import Basic
from keyrelay.relay.model import STAGES
from live_causes import PASSWORD, USER, Scene

ESCAPE = "\x1b"


def document_of(scene: Scene, endpoint: str) -> dict[str, Any]:
    """The profile of a scene, as ``keyrelay smtp set`` takes it."""
    document: dict[str, Any] = {
        "host": scene.host,
        "port": scene.port,
        "use_ssl": scene.use_ssl,
        "sender_account": scene.sender,
        "sender_name": "PKI",
        "authentication": "anonymous",
    }
    if endpoint:
        document |= {
            "authentication": "oauth_client_credentials",
            "client_id": {"secret_value": "a-client"},
            "client_secret": {"secret_value": scene.client_secret},
            "token_endpoint": endpoint,
        }
    elif isinstance(scene.authentication, Basic):
        document |= {
            "authentication": "basic",
            "relay_username": {"secret_value": USER},
            "relay_password": {"secret_value": PASSWORD},
        }
    return document


def marks(lines: list[str]) -> dict[str, str]:
    """The mark of each stage; every stage has its line."""
    shown = [line.split()[:2] for line in lines if re.match(r" [✓✗·] \w+ ", line)]
    assert sorted(stage for _, stage in shown) == sorted(STAGES)
    return {stage: mark for mark, stage in shown}


def assert_fit_for_people(text: str) -> None:
    assert ESCAPE not in text
    assert "Traceback" not in text
    for secret in (PASSWORD, "a-client-secret", "an-opaque-token"):
        assert secret not in text
    for line in text.splitlines():
        assert line.isprintable(), line
        assert not re.search(r"[{}]|\bNone\b", line), line
