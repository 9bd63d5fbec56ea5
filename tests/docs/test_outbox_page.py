"""The page about the outbox shows commands that work, and says what the code says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import httpx2
import pages
import pytest

from keyrelay import errors
from keyrelay.access.permissions import READ_METRICS, SUBMIT, SUBMIT_AS
from keyrelay.api import messages, submission_bodies
from keyrelay.api.problems import SHOWN
from keyrelay.cli import sysexits
from keyrelay.outbox import composing, housekeeping, pressure, room
from keyrelay.outbox.budget import PRESETS, Limit
from keyrelay.outbox.model import ACTIONS, NEXT, STATES
from keyrelay.outbox.schedule import RetryPolicy
from live import ADMIN_PASSWORD, Command, clean_environment

PAGE = pages.read("docs/outbox.md")
SHOWN_BLOCKS = pages.shown_blocks(PAGE)
(RELAY,) = re.findall(r"^```sh\n(keyrelay chaos-relay .*)\n```$", PAGE, re.MULTILINE)


# --- What it shows -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    return clean_environment() | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "*",
    }


@pytest.fixture(scope="module")
def relay_port(programs) -> Iterator[str]:
    """The relay that the page starts, on a free port."""
    here = RELAY.replace("--port 2525", "--port 0")
    with subprocess.Popen(["bash", "-c", f"exec {here}"], stdout=subprocess.PIPE, env=programs, text=True) as running:
        yield re.search(r"port (\d+)", running.stdout.readline())[1]
        running.terminate()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[tuple[Path, Command]]:
    """A server, and the directory that its data directory is in."""
    directory = tmp_path_factory.mktemp("outbox-page")
    given = {"KEYRELAY_DATA_DIR": str(directory / ".keyrelay"), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}
    server = Command.serve(given | {"KEYRELAY_RELAY_LIMITS": "office365"})  # metrics tell of limits where there are any
    try:
        server.wait_until_alive()
        yield directory, server
    finally:
        server.stop()


def test_the_commands_of_the_page_print_what_it_shows(place, programs, relay_port):
    pages.require_program("curl")
    directory, server = place
    environment = programs | {
        "PASSWORD": ADMIN_PASSWORD,
        "BACKUP_PASSWORD": "a password of its own",
        "KEYRELAY_DATA_DIR": ".keyrelay",
    }
    assert len(SHOWN_BLOCKS) == PAGE.count("```sh\n") - 1 == 6
    an_hour_ago = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    for commands, shown in SHOWN_BLOCKS:
        script = commands.replace("http://127.0.0.1:8080", server.url).replace("2525", relay_port)
        done = pages.typed(re.sub(r'(?<="since": ")[^"]+', an_hour_ago, script), environment, directory)
        printed = pages.without_chance(done.stdout)
        assert (printed, done.stderr) == (pages.without_chance(shown), ""), commands


def test_the_same_key_gives_the_first_answer_again_as_the_page_says(place):
    _, server = place
    with httpx2.Client(base_url=server.url, auth=("admin", ADMIN_PASSWORD)) as client:
        path, key = "/api/v1/messages", {"idempotency-key": "once"}
        body = {"to": "ops@example.org", "text": "x"}
        first, again = (client.post(path, json=body, headers=key) for _ in range(2))
        other = client.post(path, json=body | {"text": "y"}, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert "`Idempotency-Replayed: true`" in PAGE
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")


def test_every_command_that_the_page_names_is_there():
    named = list(pages.commands(PAGE))
    assert len(named) > 20
    for tokens in named:
        pages.require_command(tokens)


def test_every_path_that_the_page_names_is_there(place):
    _, server = place
    with httpx2.Client(base_url=server.url, auth=("admin", ADMIN_PASSWORD)) as client:
        assert set(re.findall(r"`(?:GET|POST) (\S+?)`", PAGE)) >= {
            "/api/v1/messages",
            "/api/v1/outbox",
            "/api/v1/events",
        }
        for path in re.findall(r"`(?:GET|POST) (/\S+?)`", PAGE):
            known = client.put(path.replace("{id}", "x"))  # nothing here takes a PUT
            assert known.status_code == 405, path


# --- What it says --------------------------------------------------------------------------------------------


def test_the_page_has_every_state_with_what_may_come_next_and_what_people_may_do():
    told = {state.strip("`"): (following, actions) for state, _, following, actions in pages.rows(PAGE, "State")}
    assert told.keys() == set(STATES)
    for state, (following, actions) in told.items():
        allowed = {action: after for action, (before, after) in ACTIONS.items() if state in before}
        by_itself = NEXT[state] - set(allowed.values())
        assert following == ", ".join(f"`{one}`" for one in STATES if one in by_itself), state
        assert actions == ", ".join(sorted(allowed)), state


def test_the_page_has_every_field_and_every_parameter():
    fields = {name for row in pages.rows(PAGE, "Field") for name in re.findall(r"`(\w+)`", row[0])}
    assert fields == composing.FIELDS | {"send_after", "priority"}
    parameters = {name for row in pages.rows(PAGE, "Parameter") for name in re.findall(r"`(\w+)`", row[0])}
    assert parameters == submission_bodies._ENVELOPE


def test_the_answers_of_the_page_are_those_of_the_server():
    statuses = {kind.code: how.status for kind, how in SHOWN.items()}
    told = {row[1].strip("`"): int(row[0]) for row in pages.rows(PAGE, "Answer")}
    assert told.pop("") == 202
    assert told.items() <= statuses.items()
    assert {errors.KeyReused.code, errors.OutboxFull.code, errors.StoreUnavailable.code} <= told.keys()
    assert f"is 409, `{errors.NotNow.code}`" in PAGE
    assert statuses[errors.NotNow.code] == 409


def test_the_page_has_every_exit_code_of_send():
    named = {"OK", "USAGE", "DATA", "NO_INPUT", "REFUSED", "SOFTWARE", "LATER", "CONFIG"}
    assert [int(row[0]) for row in pages.rows(PAGE, "Exit code")] == sorted(getattr(sysexits, name) for name in named)


def test_the_page_names_the_permissions_that_are_asked_for():
    told = [row[1].partition("`,")[0].strip("`") for row in pages.rows(PAGE, "To")]
    reading = [messages.READ_MESSAGES, messages.READ_CONTENT, messages.MODIFY_MESSAGES]
    assert told == [SUBMIT, f"{SUBMIT_AS}ADDRESS/", *reading, READ_METRICS]


def test_the_page_tells_every_reason_to_slow_down_or_pause_and_how_long_that_takes():
    told = {why.strip("`"): (effect, wait) for why, _, effect, wait in pages.rows(PAGE, "Why")}
    assert list(told) == list(get_args(pressure.Why))
    for why, (effect, wait) in told.items():
        assert effect == ("pauses" if why in pressure.PAUSING else "slows down"), why
        assert wait == waits(pressure._WAITS[why]), why
    assert "It takes three of them in a row" in PAGE
    assert pressure.STORM == 3


def waits(spans: tuple[timedelta, ...]) -> str:
    if not spans:
        return "never"
    *first, last = map(span, spans)
    return ", ".join([*first, f"then every {last}"])


def span(length: timedelta) -> str:
    for seconds, unit in ((3600, "h"), (60, "min")):
        if length.total_seconds() >= seconds:
            return f"{length.total_seconds() / seconds:g} {unit}"
    return f"{length.total_seconds():g} s"


def test_the_page_has_every_preset_with_its_limits_and_where_they_are_from():
    told = {
        name.strip("`"): (connections, limits, whom) for name, connections, limits, whom in pages.rows(PAGE, "Preset")
    }
    assert list(told) == list(PRESETS)
    for name, (connections, limits, whom) in told.items():
        preset = PRESETS[name]
        assert connections == str(preset.limits.connections or ""), name
        assert limits == ", ".join(map(limit_text, preset.limits.rates)), name
        assert f"]({preset.source})" in whom, name


def limit_text(limit: Limit) -> str:
    windows = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
    window = windows[int(limit.window.total_seconds())]
    counted = limit.counted.removesuffix("s") if limit.most == 1 else limit.counted
    return f"{limit.most:,} {counted} {'an' if window == 'hour' else 'a'} {window}"


def test_the_settings_of_the_page_have_their_defaults():
    pages.require_settings(PAGE)
    first, second = re.split(r"^## How long what is kept$", PAGE, flags=re.MULTILINE)
    pages.require_defaults([*pages.rows(first, "Setting"), *pages.rows(second, "Setting")])
    for name, default in re.findall(r"`(KEYRELAY_\w+)` \(([\d,]+)", PAGE):
        pages.require_defaults([[name, default, ""]])
    assert "`retry` (the default)" in PAGE
    assert RetryPolicy().unknown == "retry"


def test_the_figures_in_the_text_are_those_of_the_code():
    for sentence, true in {
        "each a fifth shorter or longer": RetryPolicy().jitter == 1 / 5,
        "After the third\n  time it is held": RetryPolicy().most_unknown == 3,
        "remembered for 24 hours": timedelta(hours=24) == housekeeping._KEYS,
        "more than four fifths of": housekeeping._CROWDED == 4 / 5,
        "every five minutes": timedelta(minutes=5) == housekeeping._EVERY,
        "less than 64 MB left": room._KEPT_FREE == 64 * 1024 * 1024,
    }.items():
        assert sentence in PAGE, sentence
        assert true, sentence
