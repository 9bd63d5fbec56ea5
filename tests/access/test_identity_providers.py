"""Keeping identity providers: what can be one, what cannot stand beside another, and the one of the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bearing import CHIEF, READ, entries, grant, register
from keyrelay import settings
from keyrelay.access.identity import Identity
from keyrelay.access.identity_provider import ClaimNames
from keyrelay.access.identity_providers import made
from keyrelay.audit.acting import act_as
from keyrelay.audit.model import Actor
from keyrelay.errors import InUse, NameTaken, PermissionMissing, SettingsInvalid, UnknownName, Unsuitable

AUTHORITY = "https://login.example.org/tenant/v2.0"


def new(scheme="entra", authority=AUTHORITY, audience="api://keyrelay", title=None, names=None):
    return made(scheme, authority=authority, audience=audience, display_name=title, names=names or ClaimNames())


def known(server) -> list[str]:
    return [provider.scheme for provider in server.run(lambda node: node.identity_providers.all())]


@pytest.mark.parametrize(
    "scheme", ["", "a b", "a:b", r"a\b", "a/b", "ä", "x" * 65, "-a", "keyrelay", "Token", "CLI", "a\n"]
)
def test_a_scheme_cannot_be_mistaken_for_anything_else(scheme):
    with pytest.raises(Unsuitable, match="The scheme must be"):
        new(scheme)


@pytest.mark.parametrize(
    "authority",
    [
        *("", "login.example.org", "http://login.example.org", "http://192.0.2.1/", "ftp://login.example.org"),
        *("https://", "https:///tenant", "https://a:b@login.example.org", "https://login.example.org/?a=b"),
        *("https://login.example.org/#a", "https://login.example.org/a b", "https://login.example.org/\u00fc"),
        *("https://login.example.org:99999/", "https://[::1", "https://x/" + "x" * 1024, "https://login.example.org\n"),
        *("http://localhost.example.org/", "http://127.0.0.1.example.org/", "https://login.example.org\\@evil/"),
    ],
)
def test_an_authority_is_a_url_that_can_be_asked_safely(authority):
    with pytest.raises(Unsuitable, match="The authority must"):
        new(authority=authority)


@pytest.mark.parametrize("authority", ["http://127.0.0.1:8080/t", "http://localhost/t", "http://[::1]/t", AUTHORITY])
def test_plain_http_is_for_this_machine_alone(authority):
    assert new(authority=authority).authority == authority


@pytest.mark.parametrize(("audience", "title"), [("", None), ("a b", None), ("x" * 513, None), ("a", " "), ("a", "\n")])
def test_audience_and_title_can_be_read(audience, title):
    with pytest.raises(Unsuitable):
        new(audience=audience, title=title)


def test_what_is_kept_is_what_was_given(server):
    names = ClaimNames(name=("upn",), roles=("realm_access.roles", "roles"), oid=())
    given = new(title="Entra ID of Example", names=names)
    server.run(lambda node: node.identity_providers.add(given, CHIEF))
    assert server.run(lambda node: node.identity_providers.all()) == (given,)


def test_a_scheme_and_a_kind_of_token_belong_to_one_provider(server):
    register(server, AUTHORITY, "entra")
    for other in (new("ENTRA", audience="other"), new("other")):
        with pytest.raises(NameTaken):
            server.run(lambda node, other=other: node.identity_providers.add(other, CHIEF))
    register(server, AUTHORITY, "other", "other")
    assert known(server) == ["entra", "other"]


def test_one_whose_claims_give_roles_is_not_removed(server):
    register(server, AUTHORITY)
    role = grant(server, "Readers", "/pam/read/")
    with pytest.raises(InUse):
        server.run(lambda node: node.identity_providers.remove("entra"))
    assert known(server) == ["entra"]

    async def forget(node) -> None:
        async with node.store.change("access") as change:
            await change.run("DELETE FROM role_claim WHERE role = $1", role)
            await change.run("DELETE FROM claim WHERE scheme = 'entra'")

    server.run(forget)
    server.run(lambda node: node.identity_providers.remove("entra"))
    assert known(server) == []
    for change, more in (("remove", ()), ("disable", ()), ("enable", (CHIEF,))):
        with pytest.raises(UnknownName):
            server.run(lambda node, change=change, more=more: getattr(node.identity_providers, change)("entra", *more))


def test_their_number_has_a_bound(sqlite_server, monkeypatch):
    monkeypatch.setattr("keyrelay.access.identity_providers._MOST", 1)
    register(sqlite_server, AUTHORITY)
    with pytest.raises(InUse):
        register(sqlite_server, AUTHORITY, "other", "other")


# --- The one of the settings ---------------------------------------------------------------------------------

GIVEN = {
    "KEYRELAY_OIDC_AUTHORITY": AUTHORITY,
    "KEYRELAY_OIDC_AUDIENCE": "api://keyrelay",
    "KEYRELAY_OIDC_SCHEME": "corp",
    "KEYRELAY_OIDC_CLAIMS": "name=upn,sub roles=realm_access.roles",
}


def test_the_settings_name_one_that_is_the_same_on_every_node(sqlite_settings, start):
    read = settings.read(GIVEN)
    fields = {name: getattr(read, name) for name in ("oidc_authority", "oidc_audience", "oidc_scheme", "oidc_claims")}
    servers = [start(replace(sqlite_settings, **fields)) for _ in range(2)]
    found = [server.run(lambda node: node.identity_providers.all()) for server in servers]
    assert found[0] == found[1]
    ((provider,), _) = found
    assert (provider.scheme, provider.authority, provider.from_settings) == ("corp", AUTHORITY, True)
    assert provider.names == ClaimNames(name=("upn", "sub"), roles=("realm_access.roles",))
    with pytest.raises(NameTaken):
        register(servers[0], "https://other.example.org", "Corp", "other")
    for change, more in (("remove", ()), ("disable", ()), ("enable", (CHIEF,))):
        with pytest.raises(Unsuitable, match="comes from the settings"):
            servers[0].run(
                lambda node, change=change, more=more: getattr(node.identity_providers, change)("CORP", *more)
            )


def test_one_that_is_kept_and_means_the_same_stands_back_for_it(sqlite_settings, start):
    first = start(sqlite_settings)
    register(first, "https://other.example.org", "CORP", "other")
    register(first, AUTHORITY, "same-tokens")
    register(first, AUTHORITY, "other", "other")
    chosen = replace(sqlite_settings, oidc_authority=AUTHORITY, oidc_audience="api://keyrelay", oidc_scheme="corp")
    second = start(chosen)
    assert known(second) == ["corp", "other"]
    assert known(first) == ["CORP", "other", "same-tokens"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AUTHORITY", "http://login.example.org"),
        ("AUDIENCE", "a b"),
        ("SCHEME", "token"),
        ("CLAIMS", "roles"),
        ("CLAIMS", "rolls=roles"),
        ("CLAIMS", "roles="),
        ("CLAIMS", "roles=a,"),
        ("CLAIMS", "roles=a roles=b"),
        ("CLAIMS", "roles=" + ",".join(f"c{number}" for number in range(61))),
    ],
)
def test_settings_that_cannot_be_used_are_a_reason_not_to_start(name, text):
    with pytest.raises(SettingsInvalid, match=f"KEYRELAY_OIDC_{name} must"):
        settings.read(GIVEN | {f"KEYRELAY_OIDC_{name}": text})


def test_authority_and_audience_belong_together():
    with pytest.raises(SettingsInvalid, match="KEYRELAY_OIDC_AUTHORITY and KEYRELAY_OIDC_AUDIENCE belong together"):
        settings.read({"KEYRELAY_OIDC_AUTHORITY": AUTHORITY})


# --- The trail -----------------------------------------------------------------------------------------------


def test_every_change_of_an_identity_provider_is_in_the_audit_trail(server):
    async def work(node) -> None:
        keeper = node.identity_providers
        act_as(Actor("jo"))
        await keeper.add(new(title="Entra"), CHIEF)
        await keeper.disable("entra")
        await keeper.disable("entra")  # changes nothing
        await keeper.enable("Entra", CHIEF)
        await keeper.remove("ENTRA")

    server.run(work)
    added, disabled, enabled, removed = entries(server, "IdentityProvider")
    assert added[:3] == ("jo", 1, "entra")
    assert added[3]["authority"] == AUTHORITY
    assert added[3]["claims"]["roles"] == ["roles"]
    assert disabled == ("jo", 2, "entra", {"enabled": {"before": True, "after": False}})
    assert enabled == ("jo", 2, "entra", {"enabled": {"before": False, "after": True}})
    assert removed == ("jo", 3, "entra", {})


def test_who_holds_less_than_claims_give_lets_nobody_in_by_them(server):
    register(server, AUTHORITY, "entra")
    grant(server, "Chiefs", "/")
    deputy = Identity("deputy", ("Deputy",), frozenset({READ, "/security/"}))
    server.run(lambda node: node.identity_providers.disable("entra"))
    with pytest.raises(PermissionMissing):
        server.run(lambda node: node.identity_providers.enable("entra", deputy))

    async def lose(node):  # as when it was in the settings, and is not any more
        async with node.store.change("access") as change:
            await change.run("DELETE FROM identity_provider")

    server.run(lose)
    with pytest.raises(PermissionMissing):
        server.run(lambda node: node.identity_providers.add(new(), deputy))
    assert known(server) == []
    server.run(lambda node: node.identity_providers.add(new("other"), deputy))
    assert known(server) == ["other"]
