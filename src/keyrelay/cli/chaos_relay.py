"""``keyrelay chaos-relay``."""

from __future__ import annotations

import asyncio
import errno
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import EXTENSIONS, CertificateKind, Script, TlsVersion
from keyrelay.errors import CannotListen, PortInUse, Unsuitable

_Seconds = Annotated[float, Parameter(validator=Number(gte=0, lte=3600))]


def chaos_relay(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 2525,
    reply: list[str] | None = None,
    rcpt_reply: list[str] | None = None,
    stall: str | None = None,
    close: str | None = None,
    drip: _Seconds = 0.0,
    delay: _Seconds = 0.0,
    starttls: bool = False,
    implicit_tls: bool = False,
    certificate: CertificateKind = "good",
    client_ca: bool = False,
    tls_version: TlsVersion | None = None,
    directory: Path | None = None,
    auth: list[str] | None = None,
    user: list[str] | None = None,
    auth_needs_tls: bool = False,
    require_auth: bool = False,
    echo_credentials: bool = False,
    extension: list[str] | None = None,
    inject: str = "",
    raw_greeting: str | None = None,
    silent: bool = False,
) -> None:
    """Run a mail server that misbehaves as you tell it, to see what your programs and alerts make of it.

    It takes mail and throws it away. The stages to name are greeting, ehlo, helo, starttls, auth, mail, rcpt, data,
    body (the answer to the whole message), bdat, rset and quit. Without options it behaves well.

    Parameters
    ----------
    host
        Address to listen on; only this machine can reach it unless you name another.
    port
        Port to listen on; 0 chooses a free one.
    reply
        What to say at a stage, as in rcpt="550 5.1.1 no such user". Once for each line.
    rcpt_reply
        What to say to one recipient, as in joe@example.org="452 4.2.2 mailbox full", or to a domain: @example.org="…".
    stall
        Stage (or tls) at which it says nothing any more.
    close
        Stage (or tls) at which it closes the connection instead of answering; mid:STAGE closes in the middle of the
        answer, after-dot when it has taken the message.
    drip
        Seconds between the bytes of each answer.
    delay
        Seconds that everything takes in each direction.
    starttls
        Offer STARTTLS.
    implicit_tls
        Speak TLS from the first byte.
    certificate
        The certificate to show; by_name has one each for a.test and b.test, and the good one for other names.
    client_ca
        Want a client certificate from its own authority.
    tls_version
        Speak only this version of TLS; 1.0 stands for 1.0 and 1.1.
    directory
        Where its authority and certificates are kept; else they go away when it ends.
    auth
        Mechanism to sign in with: PLAIN, LOGIN, XOAUTH2 or OAUTHBEARER. Once for each.
    user
        Who may sign in, as NAME=PASSWORD or NAME=TOKEN. Once for each.
    auth_needs_tls
        Offer to sign in only when TLS is on.
    require_auth
        Take mail only from those who are signed in.
    echo_credentials
        Refuse to sign anybody in, and repeat what was sent.
    extension
        Extension to offer, once for each, instead of the usual ones.
    inject
        Clear text right behind the answer to STARTTLS, such as an answer that nobody asked for.
    raw_greeting
        Text instead of a greeting, as another kind of server would send it.
    silent
        Take connections and never say anything.
    """
    script = Script(
        extensions=EXTENSIONS if extension is None else tuple(extension),
        starttls=starttls,
        implicit_tls=implicit_tls,
        auth=tuple(mechanism.upper() for mechanism in auth or ()),
        auth_needs_tls=auth_needs_tls,
        users=_users(user or ()),
        require_auth=require_auth,
        replies=_replies(reply or ()),
        rcpt_replies=_replies(rcpt_reply or ()),
        stall=stall,
        close=close,
        drip=drip,
        delay=delay,
        inject=_bytes(inject),
        raw_greeting=None if raw_greeting is None else _bytes(raw_greeting),
        certificate=certificate,
        client_ca=client_ca,
        tls_version=tls_version,
        echo_credentials=echo_credentials,
        silent=silent,
    )
    with ExitStack() as until_the_end:
        certificates = None
        if script.uses_tls:
            if directory is None:
                directory = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="chaos-relay-")))
            certificates = Certificates(directory)
        asyncio.run(_run(script, certificates, host, port))


async def _run(script: Script, certificates: Certificates | None, host: str, port: int) -> None:
    relay = ChaosRelay(script, certificates=certificates, host=host, port=port, keep_messages=False, report=_report)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await relay.start()
    except OSError as problem:
        unlistenable = PortInUse if problem.errno == errno.EADDRINUSE else CannotListen
        raise unlistenable(
            f"The chaos relay cannot listen on {host} port {port}.", remedy="Choose another with --host or --port."
        ) from None
    print(f"Chaos relay on {host} port {relay.port}")
    if certificates is not None:
        print(f"Authority to trust: {certificates.authority}")
        if script.client_ca:
            print(f"Client certificate: {certificates.client_certificate}, its key: {certificates.client_key}")
    print("Stop with Ctrl+C.", flush=True)
    try:
        await stopped.wait()
    finally:
        await relay.stop()
    print(f"Stopped after {relay.connections} connections and {relay.accepted} messages.")


def _report(session: int, text: str) -> None:
    # What a client sent must not reach the terminal as anything but text.
    print(f"#{session} {''.join(letter if letter.isprintable() else '?' for letter in text)}", flush=True)


def _replies(given: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    replies: dict[str, tuple[str, ...]] = {}
    for one in given:
        found = re.fullmatch(r"(.+?)=(\d{3}(?:[ -].*)?)", one)
        if found is None:
            raise Unsuitable(f'{one!r} is no reply; write it as rcpt="550 5.1.1 no such user".')
        replies[found[1]] = (*replies.get(found[1], ()), found[2])
    return replies


def _users(given: Sequence[str]) -> Mapping[str, str]:
    if not all(one.partition("=")[0] and one.partition("=")[1] for one in given):
        raise Unsuitable("A user is given as NAME=PASSWORD or NAME=TOKEN.")  # not what was given: it may be a password
    return {name: secret for name, _, secret in (one.partition("=") for one in given)}


def _bytes(text: str) -> bytes:
    return (text + "\r\n").encode() if text else b""
