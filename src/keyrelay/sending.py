"""The part of the composition root that sends: settings become the outbox of a node."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import replace
from datetime import timedelta

from keyrelay.audit.journal import Journal
from keyrelay.outbox.budget import PRESETS, Limit, Limits
from keyrelay.outbox.housekeeping import Keeping
from keyrelay.outbox.office import Office
from keyrelay.outbox.outbox import Outbox
from keyrelay.outbox.room import Room
from keyrelay.outbox.schedule import RetryPolicy
from keyrelay.outbox.worker import Pace
from keyrelay.profile.keeper import ProfileKeeper
from keyrelay.relay.credentials import Opener
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.opening import Patience, Terms
from keyrelay.relay.pool import Limits as PoolLimits
from keyrelay.secrets.keyring import Keyring
from keyrelay.settings import Settings
from keyrelay.store.model import Store

_MEGABYTE = 1024 * 1024
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)


def outbox(  # noqa: PLR0913, PLR0917 - what it is made of
    settings: Settings,
    store: Store,
    keyring: Keyring,
    journal: Journal,
    keeper: ProfileKeeper,
    opener: Opener,
    terms: Terms,
) -> Outbox:
    """The outbox of this process."""
    office = Office(
        node=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        name=f"{socket.gethostname()}:{os.getpid()}",
        store=store,
        keyring=keyring,
        journal=journal,
        policy=retry_policy(settings),
        limits=limits(settings),
        lease=timedelta(seconds=settings.lease_seconds),
    )
    file = settings.sqlite_file
    room = Room(store, settings.outbox_megabytes * _MEGABYTE, None if file is None else file.parent)
    patient = replace(terms, patience=Patience(reply=float(settings.relay_seconds)))
    mailer = Mailer(keeper.snapshot, opener, patient, PoolLimits(sessions=settings.relay_sessions))
    pace = Pace(settings.relay_sessions)
    return Outbox(office, room, mailer, keeper.snapshot, pace, keeping=keeping(settings))


def retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        waits=tuple(timedelta(seconds=seconds) for seconds in settings.retry_waits),
        life=timedelta(hours=settings.retry_hours),
        unknown=settings.unknown_outcome,
    )


def limits(settings: Settings) -> Limits:
    """Those of the preset, with what is set for itself in their place."""
    preset = PRESETS[settings.relay_limits].limits if settings.relay_limits != "none" else Limits()
    rates = {(rate.counted, rate.window): rate for rate in preset.rates}
    if settings.relay_messages_per_minute is not None:
        rates["messages", _MINUTE] = Limit("messages", settings.relay_messages_per_minute, _MINUTE)
    if settings.relay_recipients_per_day is not None:
        rates["recipients", _DAY] = Limit("recipients", settings.relay_recipients_per_day, _DAY)
    return Limits(settings.relay_connections or preset.connections, tuple(rates.values()))


def keeping(settings: Settings) -> Keeping:
    """For how long what is kept."""
    return Keeping(
        accepted_content=timedelta(days=settings.keep_accepted_content_days),
        failed_content=timedelta(days=settings.keep_failed_content_days),
        accepted=timedelta(days=settings.keep_accepted_days),
        failed=timedelta(days=settings.keep_failed_days),
        audit=timedelta(days=settings.keep_audit_days),
        most=settings.outbox_megabytes * _MEGABYTE,
    )
