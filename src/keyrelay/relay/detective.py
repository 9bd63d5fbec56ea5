"""A look at a relay without credentials, after something failed: what it speaks, here and on the usual ports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from keyrelay.profile.model import SUBMISSIONS_PORT, SmtpProfile, TransportSecurity
from keyrelay.relay import certificate, extensions
from keyrelay.relay.connecting import ascii_host, connect, resolve
from keyrelay.relay.model import StageFailed
from keyrelay.relay.security import Trust
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Wire

Look = Literal["implicit-tls", "starttls", "plain", "silent", "refused"]
_USUAL_PORTS = (587, SUBMISSIONS_PORT, 25)
_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Findings:
    """``look``: what is spoken on the profile's own port; ``better_port``: where the wanted mode works.

    ``tls`` has protocol, cipher and chain as seen without verification, when TLS could be spoken at all.
    """

    look: Look | None = None
    better_port: int | None = None
    ports: dict[int, Look] | None = None
    tls: dict[str, Any] | None = None


async def investigate(profile: SmtpProfile, trust: Trust, hello_name: str) -> Findings:
    """Look at the profile's port and at the usual ones, all at once, for a few seconds at the most. Never raises."""
    visit = _Visit(profile.host, trust, hello_name)
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
    def __init__(self, host: str, trust: Trust, hello_name: str) -> None:
        self._host = host
        self._trust = trust
        self._hello_name = hello_name

    async def look(self, port: int) -> tuple[Look | None, dict[str, Any] | None]:
        """What is spoken on a port, and what TLS showed; None when nothing is known."""
        try:
            async with asyncio.timeout(2 * _SECONDS):
                found = await self._plain(port)
                if found in {"plain", "refused"}:
                    return found, None
                tls = await self._tls(port, starttls=found == "starttls")
        except (StageFailed, OSError, TimeoutError):
            return None, None
        if found == "starttls":
            return found, tls
        return ("implicit-tls" if tls else found), tls

    async def _plain(self, port: int) -> Look:
        try:
            wire = await self._open(port)
        except StageFailed as failure:
            if failure.evidence.kind == "refused":
                return "refused"
            raise
        try:
            await wire.reply()
            offers = await self._hello(wire)
        except (TimeoutError, NotSmtp, ConnectionEnded):
            return "silent"
        finally:
            wire.abort()
        return "starttls" if offers.starttls else "plain"

    async def _tls(self, port: int, *, starttls: bool) -> dict[str, Any] | None:
        wire = await self._open(port)
        try:
            if starttls:
                await wire.reply()
                await self._hello(wire)
                wire.write(b"STARTTLS\r\n")
                if not (await wire.reply()).positive:
                    return None
            return certificate.tls_facts(await wire.start_tls(self._trust.unverified(), ascii_host(self._host)))
        except (OSError, TimeoutError, NotSmtp, ConnectionEnded):
            return None
        finally:
            wire.abort()

    async def _open(self, port: int) -> Wire:
        addresses = await resolve(self._host, port, seconds=_SECONDS)
        connected, _, _ = await connect(addresses, seconds=_SECONDS)
        _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(_SECONDS), sock=connected)
        return wire

    async def _hello(self, wire: Wire) -> extensions.Extensions:
        wire.write(b"EHLO %s\r\n" % self._hello_name.encode())
        return extensions.read(await wire.reply())
