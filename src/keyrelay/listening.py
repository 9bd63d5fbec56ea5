"""Where and how a server process listens: the socket, TLS, and the settings of the HTTP server."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from keyrelay.errors import CannotListen, PlainHttpRefused, PortInUse, TlsUnusable
from keyrelay.setting_values import is_loopback
from keyrelay.settings import Settings

_BACKLOG = 2048
_OTHER_FILES = 512
_HANDSHAKE_SECONDS = 10.0
# With a certificate made here, browsers would refuse plain http on localhost for whatever else listens there.
_HSTS = ("strict-transport-security", "max-age=31536000")


def listen(chosen: Settings) -> socket.socket:
    """The listening socket. Raises PlainHttpRefused, PortInUse or CannotListen."""
    if not speaks_tls(chosen) and not chosen.allow_plain_http and not is_loopback(chosen.host):
        raise PlainHttpRefused(f"keyrelay does not listen on {chosen.host} without TLS: passwords would be readable.")
    listener = bound(chosen)
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def bound(chosen: Settings) -> socket.socket:
    """A socket at our address and port that does not listen yet. Raises PortInUse or CannotListen."""
    try:
        found = socket.getaddrinfo(chosen.host, chosen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except UnicodeError as problem:  # a name with an empty or overlong part
        raise CannotListen(f"Cannot listen on {chosen.host}: that is no host name.") from problem
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise PortInUse(f"Port {chosen.port} on {chosen.host} is in use by another program.") from problem
        raise CannotListen(f"Cannot listen on {chosen.host} port {chosen.port}: {problem.strerror}.") from problem
    return listener


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where a TLS handshake has a bound of its own: until it is done, nobody counts the connection."""
    import uvloop

    class Loop(uvloop.Loop):
        async def create_server(self, *given: Any, **more: Any) -> asyncio.Server:
            if more.get("ssl") is not None:
                more.setdefault("ssl_handshake_timeout", _HANDSHAKE_SECONDS)
            return cast("asyncio.Server", await super().create_server(*given, **more))

    return Loop()


def make_room(connections: int) -> None:
    """See to it that so many connections can be open, beside those to relays, vaults and the database."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # the system allows less for other reasons
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def url(chosen: Settings, port: int) -> str:
    """What to type to reach us."""
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    return f"{'https' if speaks_tls(chosen) else 'http'}://{host}:{port}"


def speaks_tls(chosen: Settings) -> bool:
    return chosen.self_signed or chosen.tls_cert is not None


def options(chosen: Settings) -> dict[str, Any]:
    """The settings of uvicorn, the same for every process. Raises TlsUnusable or DataDirUnusable."""
    from keyrelay.api.protocol import BoundedProtocol

    common: dict[str, Any] = {
        "loop": "keyrelay.listening:new_event_loop",
        "http": BoundedProtocol,
        "ws": "none",
        "interface": "asgi3",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": 10,
        # A worker that has not begun by then is given up and made anew, which helps no busy machine.
        "timeout_worker_healthcheck": 20,
        # A request has nothing of the one before it on its connection: not its id, and not its user.
        "reset_contextvars": True,
    }
    if speaks_tls(chosen):
        certificate, key = _certificate(chosen)
        common |= {"ssl_certfile": certificate, "ssl_keyfile": key}
        common |= {} if chosen.self_signed else {"headers": [_HSTS]}
    return common


def _certificate(chosen: Settings) -> tuple[Path, Path]:
    if chosen.self_signed:
        from keyrelay.self_signed import certificate_for

        return certificate_for(chosen.data_dir, chosen.host)
    certificate, key = chosen.tls_cert, chosen.tls_key
    assert certificate is not None  # noqa: S101 - speaks_tls says so
    assert key is not None  # noqa: S101 - the settings come in pairs
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as problem:
        raise TlsUnusable(
            f"The certificate {certificate} with key {key} cannot be used: {problem.strerror}."
        ) from problem
    return certificate, key
