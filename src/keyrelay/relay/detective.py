"""A look at a relay without credentials, after something failed: what it speaks, here and on the usual ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyrelay.network.trust import Trust
from keyrelay.profile.model import SUBMISSIONS_PORT, SmtpProfile, TransportSecurity
from keyrelay.relay import certificate, extensions
from keyrelay.relay.causes.model import Look
from keyrelay.relay.connecting import ascii_host, connect, resolve
from keyrelay.relay.hello import hello_name
from keyrelay.relay.model import StageFailed
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Wire

_log = logging.getLogger(__name__)
_USUAL_PORTS = (587, SUBMISSIONS_PORT, 25)
_SECONDS = 2.0
_READY, _COMPLETED = 220, 250  # RFC 5321 section 4.2.3


@dataclass(frozen=True, slots=True)
class Findings:
    """``look``: what is spoken on the profile's own port; ``better_port``: where the wanted mode works.

    ``tls`` has protocol, cipher and chain as seen without verification, when TLS could be spoken at all.
    """

    look: Look | None = None
    better_port: int | None = None
    ports: dict[int, Look] | None = None
    tls: dict[str, Any] | None = None


async def investigate(
    profile: SmtpProfile, addresses: Sequence[str], trust: Trust, wished_name: str | None
) -> Findings:
    """Look at the profile's port and at the usual ones, all at once, for a few seconds at the most. Never raises.

    ``addresses`` are those of the profile's host, numeric: it is not looked up again. ``wished_name``: see hello_name.
    """
    visit = _Visit(profile.host, addresses, trust, wished_name)
    others = [port for port in _USUAL_PORTS if port != profile.port]
    own, *elsewhere = await asyncio.gather(visit.look(profile.port), *map(visit.look, others))
    look, tls = own
    ports = {port: found for port, (found, _) in zip(others, elsewhere, strict=True) if found not in {None, "refused"}}
    wanted = "implicit-tls" if profile.security is TransportSecurity.IMPLICIT_TLS else "starttls"
    # UseSSL means TLS from the first byte on 465, and STARTTLS everywhere else (contract 2.5).
    better = next(
        (
            port
            for port, found in ports.items()
            if found == ("implicit-tls" if port == SUBMISSIONS_PORT else "starttls")
        ),
        None,
    )
    return Findings(look, None if look == wanted else better, ports, tls)


class _Visit:
    def __init__(self, host: str, addresses: Sequence[str], trust: Trust, wished_name: str | None) -> None:
        self._host = host
        self._addresses = addresses
        self._trust = trust
        self._wished_name = wished_name

    async def look(self, port: int) -> tuple[Look | None, dict[str, Any] | None]:
        """What is spoken on a port, and what TLS showed; None when nothing is known."""
        try:
            async with asyncio.timeout(2 * _SECONDS):
                found = await self._plain(port)
                if found in {None, "plain", "refused"}:
                    return found, None
                tls = await self._tls(port, starttls=found == "starttls")
        except (StageFailed, OSError, TimeoutError):
            return None, None
        except Exception:  # noqa: BLE001 - what it was to explain is told without it
            _log.exception("A second look at a relay failed")
            return None, None
        if found == "starttls":
            return found, tls
        return ("implicit-tls" if tls else found), tls

    async def _plain(self, port: int) -> Look | None:
        try:
            wire = await self._open(port)
        except StageFailed as failure:
            if failure.evidence.kind == "refused":
                return "refused"
            raise
        try:
            offers = await self._hello(wire)
        except (TimeoutError, NotSmtp, ConnectionEnded):
            return "silent"
        finally:
            wire.abort()
        if offers is None:
            return None
        return "starttls" if offers.starttls else "plain"

    async def _tls(self, port: int, *, starttls: bool) -> dict[str, Any] | None:
        wire = await self._open(port)
        try:
            if starttls:
                if await self._hello(wire) is None:
                    return None
                wire.write(b"STARTTLS\r\n")
                if not (await wire.reply()).positive:
                    return None
            return certificate.tls_facts(await wire.start_tls(self._trust.unverified(), ascii_host(self._host)))
        except (OSError, TimeoutError, NotSmtp, ConnectionEnded):
            return None
        finally:
            wire.abort()

    async def _open(self, port: int) -> Wire:
        addresses = [one for known in self._addresses for one in await resolve(known, port, seconds=_SECONDS)]
        connected, _, _ = await connect(addresses, seconds=_SECONDS)
        _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(_SECONDS), sock=connected)
        return wire

    async def _hello(self, wire: Wire) -> extensions.Extensions | None:
        """What the relay offers; None when it has turned us away, which tells nothing of what it speaks to others."""
        if (await wire.reply()).code != _READY:
            return None
        name = hello_name(self._wished_name, wire.transport.get_extra_info("sockname"))
        wire.write(b"EHLO %s\r\n" % name.encode())
        reply = await wire.reply()
        return extensions.read(reply) if reply.code == _COMPLETED else None
