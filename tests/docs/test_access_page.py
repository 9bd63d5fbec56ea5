"""The page about signing in shows commands that work, and says what the code says."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pages
import pytest

from keyrelay import errors
from keyrelay.access import api_tokens, key_sets, token_claims, token_text
from keyrelay.access.admission import Reason
from keyrelay.access.identity_provider import ClaimNames
from keyrelay.access.round_trip import LIFE
from keyrelay.portal.provider_sign_in import BACK
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, Command, clean_environment
from oidc_server import AUDIENCE, OidcServer

PAGE = pages.read("docs/access.md").partition("\n## Roles and claims\n")[0]  # which has a test of its own
SHOWN = pages.shown_blocks(PAGE)
AUTHORITY = "https://login.example.org/tenant"


@pytest.fixture
def place(tmp_path) -> Iterator[tuple[dict[str, str], OidcServer, Command]]:
    """A server, a provider that it trusts, and the environment of somebody who types what the page says."""
    with OidcServer(tmp_path / "provider") as provider:
        provider.clients["terraform"] = "the client's secret"
        here = {"KEYRELAY_CA_BUNDLE": str(provider.authority), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}
        server = Command.serve(here | {"KEYRELAY_DATA_DIR": str(tmp_path / ".keyrelay")})
        try:
            server.wait_until_alive()
            programs = {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "NO_PROXY": "*",
                "CURL_CA_BUNDLE": str(provider.authority),
                "KEYRELAY_DATA_DIR": ".keyrelay",
            }
            given = {"CLIENT_SECRET": "the client's secret", "MONITORING_PASSWORD": "a password of its own"}
            yield clean_environment() | here | programs | given, provider, server
        finally:
            server.stop()


def test_the_commands_of_the_page_print_what_it_shows(place, tmp_path):
    pages.require_program("curl")
    environment, provider, server = place
    assert len(SHOWN) == PAGE.count("```sh\n") - 1 == 5
    for commands, shown in SHOWN:
        script = commands.replace("http://127.0.0.1:8080", server.url).replace(AUTHORITY, provider.issuer)
        done = pages.typed("exec 2>&1\n" + script, environment, tmp_path)
        assert without_moments(done.stdout) == without_moments(shown), commands


def without_moments(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "THEN", text).rstrip("\n")


def test_every_command_and_setting_that_the_page_names_is_there():
    named = list(pages.commands(PAGE))
    assert len(named) > 12
    for tokens in named:
        pages.require_command(tokens)
    pages.require_settings(PAGE)
    assert f"--audience {AUDIENCE}" in PAGE


def test_the_page_has_every_reason_of_the_log():
    listed = [reason for row in pages.rows(PAGE, "Reason") for reason in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(listed) == sorted(get_args(Reason))


def test_the_page_says_where_each_claim_stands():
    names, said = ClaimNames().as_mapping(), {}
    for _, where, option in pages.rows(PAGE, "Kind of claim"):
        said[option.strip("`=")] = re.findall(r"`([^`]+)`", where)
    assert said == names


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert token_claims._SKEW == 60
    assert token_text.LONGEST == 16 * 1024
    assert key_sets._FRESH_SECONDS == 3600
    assert key_sets._KEPT_SECONDS == 24 * 3600
    assert key_sets._LOOK_SECONDS == 10
    for words in ("60 seconds", "16 KiB", "for an hour", "up to 24 hours", "once in 10 seconds"):
        assert words in PAGE
    assert f"begins with `{api_tokens.PREFIX}`" in PAGE.replace("It\nbegins", "It begins")


def test_the_page_says_what_the_portal_does():
    codes = {row[0].strip("`") for row in pages.rows(PAGE, "Page says")}
    new = {errors.SignInNotBegun, errors.SignInDenied, errors.SignInRefused, errors.IdentityProviderFailed}
    assert codes == {kind.code for kind in new}
    settings = Settings()
    assert (settings.session_idle_minutes, settings.session_hours, LIFE) == (30, 12, 600)
    for words in ("30 minutes without a click", "12 hours at most", "more than ten minutes", f"org{BACK}\n"):
        assert words in PAGE
