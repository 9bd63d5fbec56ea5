"""Settings: whether they can be read, what contradicts itself, and what makes keyrelay less safe than it could be."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from keyrelay import listening
from keyrelay.aside import aside
from keyrelay.doctor.case import Case
from keyrelay.errors import CannotListen, PortInUse
from keyrelay.health.finding import Finding, failure, ok, warning
from keyrelay.setting_values import PREFIX, is_loopback
from keyrelay.settings import Settings

_HOUR = 3600
_PROVING = {"verify-ca", "verify-full"}  # modes of libpq that know whom they talk to
_MOST_NAMED = 10


async def readable(case: Case) -> Finding:
    if case.problems:
        more = len(case.problems) - _MOST_NAMED
        told = "; ".join(map(str, case.problems[:_MOST_NAMED])) + (f"; and {more} more" if more > 0 else "")
        return failure(f"{told}.", "Correct the settings named; docs/reference/settings.md lists them all.")
    number = sum(name.startswith(PREFIX) and bool(text) for name, text in case.environ.items())
    return ok(f"All settings can be read; given: {number}, and the others have their defaults.")


async def fitting(case: Case) -> Finding:
    """What each alone would be right, and makes no sense together."""
    found = list(_misfits(case.settings))
    if not found:
        return ok("No setting contradicts another.")
    return warning(f"Some settings contradict each other: {'; '.join(found)}.", "Change one of each.")


def _misfits(chosen: Settings) -> list[str]:
    waits = f"the first wait of {PREFIX}RETRY_WAITS is longer than {PREFIX}RETRY_HOURS, so nothing is ever tried again"
    size = f"{PREFIX}MESSAGE_MEGABYTES is more than {PREFIX}OUTBOX_MEGABYTES"
    accepted = f"{PREFIX}KEEP_ACCEPTED_CONTENT_DAYS is more than {PREFIX}KEEP_ACCEPTED_DAYS"
    failed = f"{PREFIX}KEEP_FAILED_CONTENT_DAYS is more than {PREFIX}KEEP_FAILED_DAYS"
    return [
        told
        for holds, told in (
            (chosen.retry_waits[0] > chosen.retry_hours * _HOUR, waits),
            (chosen.message_megabytes > chosen.outbox_megabytes, size),
            (chosen.keep_accepted_content_days > chosen.keep_accepted_days, accepted),
            (chosen.keep_failed_content_days > chosen.keep_failed_days, failed),
        )
        if holds
    ]


async def safe(case: Case) -> Finding:
    found = list(_weaknesses(case.settings))
    if not found:
        return ok("No setting makes it less safe than it is by itself.")
    return warning(
        f"These are less safe than they could be: {'; '.join(found)}.", "Take them away where they are not needed."
    )


def _weaknesses(chosen: Settings) -> list[str]:
    sign_in = f"{PREFIX}ALLOW_INSECURE_SIGN_IN lets credentials cross connections that are not encrypted or verified"
    http = f"{PREFIX}ALLOW_PLAIN_HTTP lets passwords of callers cross a network readable by anyone on it"
    metrics = f"{PREFIX}OPEN_METRICS shows /metrics to everybody"
    database = f"the address in {PREFIX}DATABASE_URL has no sslmode=verify-full, and its host is another machine"
    open_http = chosen.allow_plain_http and not (is_loopback(chosen.host) or listening.speaks_tls(chosen))
    return [
        told
        for holds, told in (
            (chosen.allow_insecure_sign_in, sign_in),
            (open_http, http),
            (chosen.open_metrics, metrics),
            (_trusts_any_database(chosen), database),
        )
        if holds
    ]


def _trusts_any_database(chosen: Settings) -> bool:
    if chosen.sqlite_file is not None or chosen.database_url is None:
        return False
    parts = urlsplit(chosen.database_url)
    modes = parse_qs(parts.query).get("sslmode", [])
    if modes and modes[-1] in _PROVING:
        return False
    places = parts.netloc.rpartition("@")[2].split(",")
    hosts = [urlsplit(f"//{place}").hostname or "" for place in places]
    # Without a host, or with a path in its place, it is a socket of this machine.
    return any(host and "%2f" not in host.lower() and not is_loopback(host) for host in hosts)


async def port(case: Case) -> Finding:
    """Bound and given back at once: nobody who connects meanwhile gets through to us, or is kept from a server."""
    chosen = case.settings
    try:
        (await aside(lambda: listening.bound(chosen))).close()
    except PortInUse as problem:
        if case.overview is not None and case.overview.nodes:
            return ok(f"Somebody listens on port {chosen.port}, as the nodes that are alive should.")
        return failure(problem.message, problem.advice)
    except CannotListen as problem:
        return failure(problem.message, problem.advice)
    return ok(f"Port {chosen.port} is free." if chosen.port else "keyrelay serve takes any free port.")


async def address(case: Case) -> Finding:
    chosen = case.settings
    if listening.speaks_tls(chosen):
        return ok(f"keyrelay serve speaks https on {chosen.host}.")
    if is_loopback(chosen.host):
        return ok(f"keyrelay serve speaks http on {chosen.host}, to this machine alone.")
    if chosen.allow_plain_http:
        return ok(f"keyrelay serve speaks http on {chosen.host}, as {PREFIX}ALLOW_PLAIN_HTTP says.")
    return failure(
        f"keyrelay serve would not start: {PREFIX}HOST is no loopback address, and there is no certificate.",
        f"Give {PREFIX}TLS_CERT and {PREFIX}TLS_KEY, or {PREFIX}SELF_SIGNED=yes; behind a proxy that does TLS on the "
        f"same trusted network, {PREFIX}ALLOW_PLAIN_HTTP=yes.",
    )
