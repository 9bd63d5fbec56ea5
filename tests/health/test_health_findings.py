"""What is found of databases, certificates and tokens, for the page about health."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bearing import CHIEF, READ
from keyrelay import __version__
from keyrelay.access.api_tokens import ApiTokens
from keyrelay.health.certificates import kept
from keyrelay.health.database import database
from keyrelay.health.nodes import nodes_found
from keyrelay.health.secrets import tokens_found
from keyrelay.outbox.budget import Load
from keyrelay.outbox.overview import NodeAlive
from keyrelay.settings import Settings
from keyrelay.store.reading import open_to_read
from keyrelay.store.schema import HEAD


def test_the_database_is_told_whichever_it_is(fresh_settings, start):
    server = start(fresh_settings)
    found = server.run(lambda node: database(node.store, node.settings))
    assert found.facts.kind == ("PostgreSQL" if fresh_settings.sqlite_file is None else "SQLite")
    assert found.facts.schema == HEAD
    assert found.facts.octets > 100_000
    assert found.finding.verdict == "ok"


def test_a_page_and_a_command_tell_another_version_each_in_its_words():
    now = datetime.now(UTC)
    old = NodeAlive("a", "0.0.1", True, now, now, 0, Load())
    page, command = nodes_found((old,), "node"), nodes_found((old,))
    assert f"this node is of version {__version__}" in page.found
    assert f"this command is of version {__version__}" in command.found
    assert "command" not in f"{page.found} {page.advice}"


def test_a_database_that_takes_no_changes_is_a_failure(sqlite_settings):
    async def look():
        store = await open_to_read(sqlite_settings)
        try:
            return await database(store, sqlite_settings)
        finally:
            await store.close()

    with asyncio.Runner() as runner:
        found = runner.run(look()).finding
    assert found.verdict == "failure"
    assert "takes no changes" in found.found


def test_every_certificate_is_told_of_though_none_can_be_read(tmp_path):
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    found = kept(
        Settings(
            data_dir=tmp_path,
            tls_cert=nothing,
            tls_key=nothing,
            relay_client_cert=nothing,
            ca_bundle=nothing,
        )
    )
    assert {each.finding.verdict for each in found} == {"failure"}
    assert {each.ends_at for each in found} == {None}
    assert [each.title for each in kept(Settings(data_dir=tmp_path, self_signed=True))] == [
        *("Our TLS certificate", "Authority of our own"),
        *("Client certificates for relays and vaults", "Authorities trusted besides"),
    ]


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((), "No API token ends soon."),
        ((None, 61, -1), "No API token ends soon."),
        ((1.5,), "An API token ends in 1 day."),
        ((59, 40, 90), "2 API tokens end soon, the first in 40 days."),
    ],
)
def test_tokens_are_warned_of_from_60_days_before_their_end(sqlite_server, ends, told):
    now = datetime.now(UTC)

    async def make(node):
        tokens = ApiTokens(node.store, node.journal)
        for number, days in enumerate(ends):
            end = None if days is None else now + timedelta(days=abs(days), minutes=1)
            await tokens.create(f"t{number}", (READ,), end, CHIEF)
        return await tokens.all()

    made = sqlite_server.run(make)
    later = [replace(token, expires_at=now) if ends[at] == -1 else token for at, token in enumerate(made)]
    assert tokens_found(later, now).found == told
