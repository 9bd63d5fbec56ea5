"""How keyrelay is: versions, nodes, database, keys, and what will end soon."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime

from keyrelay.access.api_tokens import ApiTokens
from keyrelay.access.permissions import READ_PAM, READ_SECURITY, READ_SETTINGS
from keyrelay.api.answers import Answer
from keyrelay.aside import aside
from keyrelay.health import certificates, programs, secrets
from keyrelay.health.database import database
from keyrelay.health.finding import SOON
from keyrelay.portal.page import Asked, Right
from keyrelay.secrets.keyring import data_keys

_MOST = 100  # rows of a table


async def _show(asked: Asked) -> Answer:
    from keyrelay.health.nodes import nodes_found  # as the outbox, for whoever asks first
    from keyrelay.outbox.overview import overview

    services, now = asked.services, datetime.now(UTC)
    await asked.desk.clock()
    nodes = (await overview(asked.desk.office)).nodes
    tokens = await ApiTokens(services.store, services.journal).all()
    ending = [token for token in tokens if token.expires_at is not None and token.expires_at < now + SOON]
    profile = (await services.keeper.snapshot()).profile
    providers = (await services.providers.catalogue()).providers.values()
    readable = [one for one in providers if asked.identity.may(f"{READ_PAM}{one.id}/")]
    clients = await services.identity_providers.all() if asked.identity.may(READ_SECURITY) else ()
    kept = secrets.stored(profile, readable, clients)
    keys = await data_keys(services.store)
    return await asked.show(
        "health.html",
        now=now,
        python=programs.python_found(sys.version_info[:3], now.date()),
        openssl=programs.openssl_found(ssl.OPENSSL_VERSION_INFO[0], ssl.OPENSSL_VERSION),
        nodes=nodes[:_MOST],
        nodes_finding=nodes_found(nodes, "node"),
        database=await database(services.store, services.settings),
        keys=keys[:_MOST],
        more_keys=max(0, len(keys) - _MOST),
        certificates=await aside(lambda: certificates.kept(services.settings)),
        relay=None if profile is None else profile.host,
        secrets=kept[:_MOST],
        more_secrets=max(0, len(kept) - _MOST),
        tokens=ending[:_MOST] if asked.identity.may(READ_SECURITY) else (),
        tokens_finding=secrets.tokens_found(tokens, now),
    )


PAGES = {"/health": {"GET": Right(_show, READ_SETTINGS)}}
