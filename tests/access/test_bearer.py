"""Signing in with a token of an identity provider: who it lets in, as whom, with which roles, and for how long."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx2
import pytest

from bearing import CHIEF, PROBE, READ, ask, counted, grant, held, register, status, trusting, who
from complaints import without_id
from keyrelay.access import sign_in as sign_in_module
from keyrelay.access.bearer import Bearers
from keyrelay.access.claims import ClaimType
from keyrelay.access.identity_provider import ClaimNames
from keyrelay.access.signatures import PublicKey
from keyrelay.api.quick_reads import QuickReads
from keyrelay.errors import Unsuitable
from live import ADMIN_PASSWORD, SMTP, V2
from oidc_server import AUDIENCE, OidcServer


@pytest.fixture
def verified(monkeypatch):
    """The signatures that are checked, one entry each."""
    return counted(monkeypatch, PublicKey, "has_signed")


def test_a_token_with_a_role_reads_the_profile_and_is_named_by_its_provider(open_house, provider):
    token = provider.token()
    assert status(open_house, token) == 200
    assert status(open_house, token, PROBE) == 200
    assert who(open_house, token) == "entra:jo@example.org"


def test_a_known_identity_without_a_role_is_told_so_at_the_first_request(open_house, provider):
    answer = ask(open_house, provider.token(roles=["Nobodies"]), PROBE)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (403, "0xA0140002")
    assert "entra:jo@example.org" in answer.json()["Message"]
    assert ask(open_house, provider.token(roles=None)).status_code == 403


def test_a_role_without_the_permission_is_told_which_one_is_missing(house, provider):
    answer = ask(house, provider.token(), method="PUT", json={})
    assert (answer.status_code, answer.json()["ErrorCode"]) == (403, "0xA0140003")
    assert answer.json()["Message"].endswith("/system_settings/modify/")


def test_a_role_that_is_given_or_taken_counts_at_once(open_house, provider):
    token = provider.token(roles=["Writers"])
    assert status(open_house, token) == 403
    role = grant(open_house, "Writers", READ)
    assert status(open_house, token) == 200

    async def take(node) -> None:
        async with node.store.change("access") as change:
            await change.run("DELETE FROM role_claim WHERE role = $1", role)

    open_house.run(take)
    assert status(open_house, token) == 403


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_may_be_written_in_any_case(house, provider, word):
    headers = V2 | {"authorization": f"{word} {provider.token()}"}
    assert httpx2.get(house.url + SMTP, headers=headers).status_code == 200


def test_basic_goes_on_beside_it(house):
    assert httpx2.get(house.url + SMTP, headers=V2, auth=("admin", ADMIN_PASSWORD)).status_code == 200


# --- Claims --------------------------------------------------------------------------------------------------

KINDS = [
    (ClaimType.USER, "Jo@Example.org", {}),
    (ClaimType.GROUP, "PKI Admins", {"groups": ["x", "pki admins"]}),
    (ClaimType.OAUTH_ROLE, "Lookers", {"roles": ["Lookers"]}),
    (ClaimType.OAUTH_ROLE, "Alone", {"roles": "Alone"}),
    (ClaimType.OAUTH_SUBJECT, "subject-1", {}),
    (ClaimType.OAUTH_CLIENT_ID, "client-7", {"azp": "client-7", "appid": "other"}),
    (ClaimType.OAUTH_CLIENT_ID, "client-8", {"client_id": "client-8"}),
    (ClaimType.OAUTH_CLIENT_ID, "client-9", {"appid": "client-9"}),
    (ClaimType.OAUTH_OID, "object-1", {"oid": "object-1"}),
]


def test_every_kind_of_claim_gives_the_role_that_has_it(house, provider):
    for kind, value, claims in KINDS:
        grant(house, value, READ, kind=kind)
        assert status(house, provider.token(**{"roles": None} | claims)) == 200, (kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "claims"),
    [
        (ClaimType.OAUTH_ROLE, "Writers", {"groups": ["Writers"]}),
        (ClaimType.OAUTH_ROLE, "writers", {"roles": ["WRITERS"]}),
        (ClaimType.OAUTH_ROLE, "Writers", {"roles": ["Writers2", "Write", "Writers "]}),
        (ClaimType.GROUP, "g", {"roles": ["g"]}),
        (ClaimType.OAUTH_SUBJECT, "Subject-1", {}),
        (ClaimType.COMPUTER, "jo@example.org", {}),
        (ClaimType.OAUTH_OID, "subject-1", {}),
    ],
)
def test_a_claim_of_another_kind_or_spelling_gives_nothing(house, provider, kind, value, claims):
    grant(house, value, "/pam/read/", kind=kind)
    assert "/pam/read/" not in held(house, provider.token(**{"roles": []} | claims))


def test_the_claims_can_be_called_otherwise(house, provider):
    with_dots = "https://example.org/groups"
    names = ClaimNames(
        name=("upn", "email"),
        roles=("realm_access.roles", "resource_access.keyrelay.roles"),
        groups=(with_dots,),
        client_id=("app",),
    )
    register(house, provider, "keycloak", "other-audience", names)
    grant(house, "Deep", READ, scheme="keycloak")
    grant(house, "Deeper", "/pam/read/", scheme="keycloak")
    grant(house, "far", "/security/read/", scheme="keycloak", kind=ClaimType.GROUP)
    token = provider.token(
        aud="other-audience",
        email="jo@mail.example.org",
        realm_access={"roles": ["Deep"]},
        resource_access={"keyrelay": {"roles": ["Deeper"]}},
        **{with_dots: ["far"]},
    )
    assert who(house, token) == "keycloak:jo@mail.example.org"
    assert held(house, token) == ["/pam/read/", "/security/read/", READ]


def test_one_without_a_name_that_can_be_shown_is_nobody(house, provider):
    for name in ("", " ", "x" * 257, "jo\nadmin", "jo\x00", "\ud800", "\u202ejo", 7, ["jo"], {"a": 1}):
        assert status(house, provider.token(preferred_username=name, sub=None)) == 401, name
    assert who(house, provider.token(preferred_username=None)) == "entra:subject-1"


# --- Several providers ---------------------------------------------------------------------------------------


def test_two_providers_with_the_same_subject_never_share_a_role(fresh_settings, provider, tmp_path, start):
    with OidcServer(tmp_path / "other") as other:
        server = start(trusting(fresh_settings, provider, other))
        register(server, provider, "entra")
        register(server, other, "okta")
        for kind, value in ((ClaimType.OAUTH_SUBJECT, "subject-1"), (ClaimType.OAUTH_ROLE, "Readers")):
            grant(server, value, READ, kind=kind, scheme="entra")
        grant(server, "jo@example.org", "/pam/read/", kind=ClaimType.USER, scheme="okta")
        mine, theirs = provider.token(roles=["Readers"]), other.token(roles=["Readers"])
        for _ in range(2):
            assert (held(server, mine), held(server, theirs)) == ([READ], ["/pam/read/"])
        assert (who(server, mine), who(server, theirs)) == ("entra:jo@example.org", "okta:jo@example.org")
        # Nor does a key of the one sign for the other, whatever it is called.
        assert status(server, provider.token(iss=other.issuer)) == 401


def test_providers_may_share_an_issuer_with_audiences_of_their_own(open_house, provider):
    register(open_house, provider, "machines", "api://machines")
    grant(open_house, "Readers", "/pam/read/", scheme="machines")
    person, machine = provider.token(), provider.token(aud=["api://machines", "api://else"])
    assert who(open_house, person) == "entra:jo@example.org"
    assert who(open_house, machine) == "machines:jo@example.org"
    assert (status(open_house, person), status(open_house, machine)) == (200, 403)
    assert status(open_house, provider.token(aud="api://else")) == 401


def test_the_provider_of_the_settings_works_and_cannot_be_changed(sqlite_settings, provider, start):
    settings = replace(
        trusting(sqlite_settings, provider),
        oidc_authority=provider.issuer,
        oidc_audience=AUDIENCE,
        oidc_claims=(("roles", ("groups",)),),
    )
    server = start(settings)
    grant(server, "Readers", READ, scheme="oidc")
    assert status(server, provider.token(groups=["Readers"])) == 200
    assert status(server, provider.token(roles=["Readers"])) == 403
    keeper = server.node.identity_providers
    for change in (keeper.disable, partial(keeper.enable, by=CHIEF), keeper.remove):
        with pytest.raises(Unsuitable, match="comes from the settings"):
            server.run(lambda _, change=change: change("OIDC"))


# --- Once per token ------------------------------------------------------------------------------------------


def test_a_token_is_verified_once_for_many_requests(open_house, provider, verified):
    token = provider.token()
    assert {status(open_house, token) for _ in range(30)} == {200}
    assert len(verified) == 1
    assert provider.looks == 1


def test_a_token_that_is_remembered_takes_the_quick_road(house, provider, monkeypatch):
    token = provider.token()
    assert status(house, token) == 200
    answered = []
    answer = QuickReads.answer

    def noted(reads, scope):
        answered.append(answer(reads, scope))
        return answered[-1]

    monkeypatch.setattr(QuickReads, "answer", noted)
    assert [status(house, token) for _ in range(3)] == [200] * 3
    assert [type(whole) for whole in answered] == [bytes] * 3


def test_a_token_is_verified_once_for_many_first_requests_at_once(open_house, provider, verified):
    token = provider.token()
    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda _: status(open_house, token), range(40))) == {200}
    assert len(verified) == 1
    assert provider.looks == 1


def test_many_tokens_at_once_from_one_address_all_get_in(open_house, provider, verified):
    """A good token uses up no allowance, and the keys are fetched once for all."""
    tokens = [provider.token(sub=f"subject-{number}") for number in range(60)]
    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(lambda token: status(open_house, token), tokens)) == {200}
    assert len(verified) == 60
    assert provider.looks == 1


def test_a_token_is_not_remembered_beyond_its_end(house, provider, monkeypatch, verified):
    token = provider.token(exp=int(time.time()) + 100)
    assert status(house, token) == 200
    now = time.time

    class Later:
        @staticmethod
        def time() -> float:
            return now() + 101

    monkeypatch.setattr(sign_in_module, "time", Later)
    # Clocks may differ by a minute: it is looked at again, and still accepted.
    assert [status(house, token) for _ in range(2)] == [200, 200]
    assert len(verified) == 3


def test_the_memory_of_tokens_has_a_bound(house, provider, monkeypatch):
    monkeypatch.setattr(sign_in_module, "_REMEMBERED", 3)
    tokens = [provider.token(sub=f"subject-{number}") for number in range(8)]
    assert {status(house, token) for token in tokens * 2} == {200}


def test_access_that_changes_while_a_token_is_looked_at_costs_it_a_second_look(house, provider, monkeypatch):
    real, changed = Bearers.admit, []

    async def admit(self, token):
        if not changed:
            changed.append(token)
            async with house.node.store.change("access"):
                pass
        return await real(self, token)

    monkeypatch.setattr(Bearers, "admit", admit)
    assert status(house, provider.token()) == 200
    assert changed


# --- Answers and the log -------------------------------------------------------------------------------------


def test_without_credentials_both_ways_to_sign_in_are_offered(house):
    answer = httpx2.get(house.url + SMTP)
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == [
        'Basic realm="keyrelay", charset="UTF-8"',
        'Bearer realm="keyrelay"',
    ]


def test_a_bad_token_gets_one_answer_whatever_is_wrong_and_the_log_says_what(house, provider, logged):
    bad = {
        "expired": provider.token(exp=int(time.time()) - 100),
        "audience": provider.token(aud="else"),
        "unknown issuer": provider.token(iss="https://else.example.org"),
        "malformed": "x.y.z",
    }
    answers = [ask(house, token) for token in bad.values()]
    assert {answer.status_code for answer in answers} == {401}
    assert len({without_id(answer) for answer in answers}) == 1
    for answer in answers:
        assert answer.headers.get_list("www-authenticate") == [
            'Basic realm="keyrelay", charset="UTF-8"',
            'Bearer realm="keyrelay", error="invalid_token"',
        ]
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    refused = [line for line in lines if line["event"] == "token refused"]
    assert [line["reason"] for line in refused] == list(bad)
    assert {line["address"] for line in refused} == {"127.0.0.1"}
    assert refused[0]["providers"] == "entra"
    for token in bad.values():
        assert token not in logged.getvalue()


def test_our_own_api_answers_alike(house):
    answer = ask(house, "x.y.z", "/api/v1/profile")
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_required")
    assert answer.headers.get_list("www-authenticate")[1] == 'Bearer realm="keyrelay", error="invalid_token"'


def test_bad_tokens_use_up_the_allowance_of_their_address_and_good_ones_get_in(house, provider):
    answers = [ask(house, f"x.y.{number}") for number in range(40)]
    assert {answer.status_code for answer in answers} == {401, 429}
    waits = [int(answer.headers["retry-after"]) for answer in answers if answer.status_code == 429]
    assert 1 <= min(waits) <= max(waits) <= 60
    assert status(house, provider.token()) == 200
