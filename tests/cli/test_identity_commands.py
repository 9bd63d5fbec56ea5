"""``keyrelay idp`` and ``keyrelay token``, as an administrator types them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from keyrelay.settings import Settings
from live import SMTP, V2
from oidc_server import AUDIENCE, DISCOVERY, KEYS, OidcServer
from token_server import Answer, redirect, says


@pytest.fixture(scope="module")
def shared_provider(tmp_path_factory):
    with OidcServer(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def provider(shared_provider):
    shared_provider.answers.clear()
    return shared_provider


def add(provider, *more: str, authority: str | None = None) -> list[str]:
    given = [f"--authority={authority or provider.issuer}", f"--audience={AUDIENCE}"]
    return ["idp", "add", "entra", *given, *more]


def trusting(provider) -> dict[str, str]:
    return {"CA_BUNDLE": str(provider.authority)}


# --- idp -----------------------------------------------------------------------------------------------------


def test_a_provider_is_added_listed_disabled_enabled_and_removed(keyrelay, provider):
    more = ["--display-name=Entra ID", "--claim=roles=roles,realm_access.roles", "--claim", "name=upn"]
    done = keyrelay.run(*add(provider, *more), **trusting(provider))
    assert (done.returncode, done.stdout) == (0, "Identity provider entra added. It signs with 1 key.\n"), done
    (listed,) = keyrelay.read("idp", "list")
    assert re.fullmatch(r"[0-9a-f-]{36}", listed.pop("id"))
    assert listed == {
        "scheme": "entra",
        "display_name": "Entra ID",
        "authority": provider.issuer,
        "audience": AUDIENCE,
        "claims": {
            "name": ["upn"],
            "roles": ["roles", "realm_access.roles"],
            "groups": ["groups"],
            "subject": ["sub"],
            "client_id": ["azp", "client_id", "appid"],
            "oid": ["oid"],
        },
        "enabled": True,
        "client_id": None,
        "has_client_secret": False,
        "from_settings": False,
    }
    assert keyrelay.ok("idp", "disable", "Entra") == "Identity provider entra is disabled.\n"
    assert "disabled" in keyrelay.ok("idp", "list")
    assert keyrelay.ok("idp", "enable", "entra") == "Identity provider entra is enabled.\n"
    assert "disabled" not in keyrelay.ok("idp", "list")
    assert keyrelay.ok("idp", "remove", "entra") == "Identity provider entra removed.\n"
    assert keyrelay.read("idp", "list") == []
    assert "keyrelay idp list" in keyrelay.refused("unknown_name", "idp", "remove", "entra")


def test_what_the_settings_name_is_listed_as_such_and_cannot_be_changed(keyrelay):
    given = {"OIDC_AUTHORITY": "https://login.example.org", "OIDC_AUDIENCE": "a", "OIDC_SCHEME": "corp"}
    assert "from the settings" in keyrelay.run("idp", "list", **given).stdout
    for command in ("disable", "enable", "remove", "sign-in"):
        more = ["--client-id=a"] if command == "sign-in" else []
        assert "KEYRELAY_OIDC_AUTHORITY" in keyrelay.refused("unsuitable", "idp", command, "corp", *more, **given)


def test_people_sign_in_through_a_provider_as_a_client(keyrelay, provider, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-ours\n")
    more = ["--client-id=portal-1", f"--client-secret-file={secret}"]
    done = keyrelay.run(*add(provider, *more), **trusting(provider))
    assert done.stdout.splitlines() == [
        "Identity provider entra added. It signs with 1 key.",
        "People sign in to the portal through entra as portal-1, a client with a secret.",
    ], done
    (listed,) = keyrelay.read("idp", "list")
    assert (listed["client_id"], listed["has_client_secret"]) == ("portal-1", True)
    assert "people sign in" in keyrelay.ok("idp", "list")
    done = keyrelay.run("idp", "sign-in", "Entra", "--client-id", "portal-2", **trusting(provider))
    assert done.stdout == "People sign in to the portal through entra as portal-2, a public client.\n", done
    done = keyrelay.run(
        *("idp", "sign-in", "entra", "--client-id=portal-2", "--client-secret-file=-"),
        **trusting(provider),
        given="another secret of ours",
    )
    assert done.stdout.endswith("as portal-2, a client with a secret.\n"), done
    off = keyrelay.ok("idp", "sign-in", "entra", "--off")
    assert off == "Nobody signs in to the portal through entra any more.\n"
    assert "people sign in" not in keyrelay.ok("idp", "list")
    (listed,) = keyrelay.read("idp", "list")
    assert (listed["client_id"], listed["has_client_secret"]) == (None, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--client-id"),
        (["--off", "--client-id=a"], "--off alone"),
        (["--client-id="], "The client id must be"),
        (["--client-id=a b"], "The client id must be"),
        (["--client-id=a", "--client-secret-file={empty}"], "needs none"),
        (["--client-id=a", "--client-secret-file={stars}"], "only a mask"),
        (["--client-id=a", "--client-secret-file=/nowhere"], "cannot be read"),
    ],
)
def test_a_client_that_cannot_be_one_is_refused(keyrelay, tmp_path, options, words):
    files = {"empty": tmp_path / "empty", "stars": tmp_path / "stars"}
    files["empty"].write_text("\n")
    files["stars"].write_text("********")
    given = [option.format(**files) for option in options]
    assert words in keyrelay.refused("unsuitable", "idp", "sign-in", "entra", *given)


def test_a_provider_where_nobody_can_sign_in_is_told_before(keyrelay, provider):
    provider.answers[DISCOVERY] = lambda _: says(provider.discovery | {"authorization_endpoint": None})
    refused = keyrelay.run(*add(provider, "--client-id=a"), **trusting(provider))
    assert "identity_provider_unusable" in refused.stderr
    assert "has no authorization_endpoint" in refused.stderr
    assert keyrelay.run(*add(provider), **trusting(provider)).returncode == 0
    refused = keyrelay.run("idp", "sign-in", "entra", "--client-id=a", **trusting(provider))
    assert "has no authorization_endpoint" in refused.stderr
    assert keyrelay.ok("idp", "sign-in", "entra", "--client-id=a", "--unchecked").startswith("People sign in")


WRONG = {
    "issuer": (DISCOVERY, lambda p: says(p.discovery | {"issuer": "https://x"}), "the issuer 'https://x', and not"),
    "no keys": (DISCOVERY, lambda p: says({"issuer": p.issuer}), "has no jwks_uri"),
    "plain keys": (DISCOVERY, lambda p: says(p.discovery | {"jwks_uri": "http://x/"}), "no URL that begins with https://"),
    "elsewhere": (DISCOVERY, lambda p: redirect(p.issuer), "redirects, which is not followed"),
    "nothing": (DISCOVERY, lambda _: Answer(404), "answers 404"),
    "no JSON": (DISCOVERY, lambda _: Answer(200, b"<html>"), "is no JSON object"),
    "useless": (KEYS, lambda _: says({"keys": [{"kty": "oct", "k": "AA"}]}), "no key that tokens can be checked with"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_provider_is_said_and_nothing_is_kept(keyrelay, provider, wrong):
    path, make, words = WRONG[wrong]
    provider.answers[path] = make(provider)
    said = keyrelay.refused("identity_provider_unusable", *add(provider), **trusting(provider))
    assert words in said
    assert keyrelay.read("idp", "list") == []


def test_a_provider_that_cannot_be_reached_or_trusted_is_told_apart(keyrelay, provider):
    code = "identity_provider_unusable"
    assert "KEYRELAY_CA_BUNDLE" in keyrelay.refused(code, *add(provider))
    nobody = "https://127.0.0.1:1/tenant"
    said = keyrelay.refused(code, *add(provider, authority=nobody), **trusting(provider))
    assert "nobody listens there" in said
    assert "--unchecked" in said


def test_an_unchecked_provider_is_kept_without_a_look(keyrelay, provider):
    nobody = "https://127.0.0.1:1/tenant"
    assert keyrelay.ok(*add(provider, "--unchecked", authority=nobody)) == "Identity provider entra added.\n"
    assert keyrelay.read("idp", "list")[0]["authority"] == nobody


@pytest.mark.parametrize("claim", ["roles", "rolls=roles", "roles=", "roles=a,,b"])
def test_claims_that_make_no_sense_are_refused(keyrelay, provider, claim):
    assert "roles=realm_access.roles" in keyrelay.refused("unsuitable", *add(provider, "--claim", claim))


# --- token ---------------------------------------------------------------------------------------------------


def make(keyrelay, *arguments: str) -> str:
    """A new token, as a script reads it from standard output."""
    done = keyrelay.run("token", "create", *arguments)
    assert done.returncode == 0, done
    return done.stdout.removesuffix("\n")


def test_a_token_is_printed_once_and_signs_in_until_it_is_revoked(keyrelay, start):
    token = make(keyrelay, "Deploy", "--permission=/system_settings/read/", "--permission", "/pam/read")
    server = start(Settings(data_dir=keyrelay.data_dir, port=0))
    headers = V2 | {"authorization": f"Bearer {token}"}
    assert httpx2.get(server.url + SMTP, headers=headers).status_code == 200
    (listed,) = keyrelay.read("token", "list")
    assert token.startswith(f"keyrelay_{listed['id']}_")
    assert (listed["name"], listed["permissions"]) == ("deploy", ["/pam/read/", "/system_settings/read/"])
    assert listed["made_by"].endswith("(command line)")
    assert token.rpartition("_")[2] not in str(listed) + keyrelay.ok("token", "list")
    assert keyrelay.ok("token", "revoke", "deploy") == "Token deploy revoked.\n"
    assert httpx2.get(server.url + SMTP, headers=headers).status_code == 401
    keyrelay.refused("unknown_name", "token", "revoke", "deploy")


def test_a_token_ends_in_ninety_days_unless_something_else_is_said(keyrelay):
    ends = {"a": [], "b": ["--expires", "12h"], "c": ["--expires=never"]}
    for name, option in ends.items():
        make(keyrelay, name, "--permission=/pam/", *option)
    listed = {row["name"]: row["expires_at"] for row in keyrelay.read("token", "list")}
    assert listed.pop("c") is None
    for name, life in (("a", timedelta(days=90)), ("b", timedelta(hours=12))):
        left = datetime.fromisoformat(listed[name]) - datetime.now(UTC)
        assert timedelta() < life - left < timedelta(minutes=1)
    assert "never" in keyrelay.ok("token", "list")


@pytest.mark.parametrize(
    "arguments",
    [
        ["a b", "--permission=/pam/"],
        ["a", "--permission=no string"],
        ["a", "--permission=/pam/", "--expires=tomorrow"],
        ["a", "--permission=/pam/", "--expires=2020-01-01T00:00"],
    ],
)
def test_a_token_that_makes_no_sense_is_refused_in_one_line(keyrelay, arguments):
    keyrelay.refused("unsuitable", "token", "create", *arguments)


def test_a_token_without_a_permission_is_not_made(keyrelay):
    assert keyrelay.run("token", "create", "a").returncode != 0
    assert keyrelay.read("token", "list") == []
