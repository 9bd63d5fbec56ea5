"""What was answered 200 survives: the server, or its database, is killed again and again under a storm of PUTs."""

from __future__ import annotations

import asyncio
import random
import time

import httpx2
import pytest
from storm import Storm, marker_in, password_of

from keyrelay.secrets.stored import reveal as resolve
from keyrelay.server import Node
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, SMTP, V2, Command

_KILLS = 10
_ANSWERS_BETWEEN = 32
_CLIENTS = 4


def environment_of(settings: Settings) -> dict[str, str]:
    chosen = {
        "KEYRELAY_DATA_DIR": str(settings.data_dir),
        "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "KEYRELAY_LOG_LEVEL": "error",  # nobody reads the log here, and a pipe that is full would stop the server
    }
    return chosen if settings.database_url is None else chosen | {"KEYRELAY_DATABASE_URL": settings.database_url}


def kept_password(settings: Settings) -> tuple[str, str]:
    """The profile's marker, and the password that its stored secret really holds."""

    async def read() -> tuple[str, str]:
        node = await Node.open(settings)
        try:
            profile = (await node.keeper.snapshot()).profile
            source = dict(profile.secrets())["relay_password"]
            to = profile.destination.text()
            secret = await resolve(node.store, node.keyring, source, field="relay_password", destination=to)
            return profile.sender_name, secret.reveal()
        finally:
            await node.close()

    return asyncio.run(read())


@pytest.mark.long
def test_a_server_killed_again_and_again_loses_no_answered_put(fresh_settings):
    environment = environment_of(fresh_settings)
    command = Command.serve(environment)
    try:
        with Storm(command.url) as storm:
            storm.start(_CLIENTS)
            for _ in range(_KILLS):
                storm.wait_for_answers(_ANSWERS_BETWEEN)
                time.sleep(random.uniform(0, 0.03))
                command.kill()
                storm.pause()
                command = Command.serve(environment)
                command.wait_until_alive()
                storm.url = command.url
                storm.check(environment)
                storm.resume(command.url)
            storm.pause()
            storm.check(environment)
        marker, password = kept_password(fresh_settings)
        assert password == password_of(marker)
        assert len(storm.answered) >= _KILLS * _ANSWERS_BETWEEN
    finally:
        command.kill()


@pytest.mark.long
@pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
def test_a_database_killed_under_a_storm_is_waited_for_and_loses_no_answered_put(fresh_settings, postgres):
    environment = environment_of(fresh_settings)
    command = Command.serve(environment)
    running = True
    try:
        with Storm(command.url) as storm:
            storm.start(_CLIENTS)
            for _ in range(3):
                storm.wait_for_answers(_ANSWERS_BETWEEN)
                refused = storm.unavailable
                postgres.kill()
                running = False
                wait_for_refusals(storm, refused + _CLIENTS)
                storm.pause()
                answer = httpx2.get(command.url + SMTP, auth=("admin", ADMIN_PASSWORD), headers=V2, timeout=30)
                if answer.status_code == 200:
                    assert marker_in(answer.json()) in storm.asked
                else:
                    assert answer.status_code == 503
                    assert set(answer.json()) == {"ErrorCode", "Message"}
                storm.resume(command.url)
                postgres.resume()
                running = True
                storm.wait_for_answers(_ANSWERS_BETWEEN)
                storm.pause()
                storm.check(environment)
                storm.resume(command.url)
        marker, password = kept_password(fresh_settings)
        assert password == password_of(marker)
    finally:
        command.kill()
        if not running:
            postgres.resume()


def wait_for_refusals(storm: Storm, number: int) -> None:
    deadline = time.monotonic() + 20
    while storm.unavailable < number:
        assert not storm.problems, storm.problems[:5]
        assert time.monotonic() < deadline, "PUTs are not refused while the database is down"
        time.sleep(0.01)
