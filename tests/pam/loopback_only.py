"""A fence around tests of libraries that look for clouds: nothing beyond loopback is contacted."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_CLOUDS = ("AZURE_", "AWS_", "GOOGLE_", "GCE_", "GCLOUD_", "CLOUDSDK_", "IDENTITY_", "MSI_", "IMDS_", "BOTO_")
_ALSO = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        target = arguments[1][0]
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        target = arguments[0]
    else:
        return
    if not _is_loopback(target):
        _watching[-1].append(f"{event} {target}")
        raise ConnectionRefusedError(f"a test wants to reach {target}")


sys.addaudithook(_hook)


def _is_loopback(target: Any) -> bool:
    text = target.decode() if isinstance(target, bytes) else target
    if text in {None, "", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


@contextmanager
def strays() -> Iterator[list[str]]:
    """What is tried beyond loopback in here; each try fails."""
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


@pytest.fixture
def cloudless(monkeypatch, tmp_path) -> Iterator[list[str]]:
    """No cloud's variables, files or tools, and no way out; to try one fails the test at its end."""
    for name in [name for name in os.environ if name.upper().startswith(_CLOUDS) or name.upper() in _ALSO]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(tools))  # no az, azd, pwsh or gcloud
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with strays() as seen:
        yield seen
        assert seen == []
