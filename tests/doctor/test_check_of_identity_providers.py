"""Identity providers: whether they give the keys that their tokens are signed with, told without their words."""

from __future__ import annotations

import pytest

from bearing import register
from canary import leaks, new_canary
from doctoring import environment, found
from oidc_server import DISCOVERY, OidcServer
from token_server import says

ID = "identity-providers"


@pytest.fixture
def provider(tmp_path):
    with OidcServer(tmp_path / "provider") as provider:
        yield provider


def test_without_providers_there_is_nobody_to_ask(server):
    found(environment(server.settings), ID, "ok", "Nobody")


def test_a_provider_that_gives_keys_is_ok_and_offline_it_is_not_asked(server, provider):
    register(server, provider)
    environ = environment(server.settings, CA_BUNDLE=provider.authority)
    found(environ, ID, "ok", "the identity provider")
    register(server, provider, "okta", "api://another")
    found(environ, ID, "ok", "all 2")
    asked = len(provider.requests)
    found(environ, ID, "skipped", "--offline", offline=True)
    assert len(provider.requests) == asked


def test_a_provider_that_gives_no_keys_is_a_failure_until_it_is_disabled(server, provider):
    register(server, provider)
    found(environment(server.settings), ID, "failure", "entra (1 of 1)")  # its certificate is not trusted
    environ = environment(server.settings, CA_BUNDLE=provider.authority)
    provider.published.clear()
    found(environ, ID, "failure", "entra")
    provider.down = True
    found(environ, ID, "failure", "entra")
    server.run(lambda node: node.identity_providers.disable("entra"))
    found(environ, ID, "ok", "Nobody")


def test_what_a_provider_says_is_not_told(server, provider):
    secret = new_canary()
    register(server, provider)
    provider.answers[DISCOVERY] = says({"issuer": f"https://{secret}.example.org", "jwks_uri": f"http://{secret}"})
    finding = found(environment(server.settings, CA_BUNDLE=provider.authority), ID, "failure")
    assert leaks({"word": secret}, str(finding).encode()) == []


def test_the_provider_of_the_settings_is_asked_too(server, provider):
    settings = {"OIDC_AUTHORITY": provider.issuer, "OIDC_AUDIENCE": "keyrelay", "CA_BUNDLE": provider.authority}
    found(environment(server.settings, **settings), ID, "ok", "the identity provider")
