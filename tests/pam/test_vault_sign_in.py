"""Signing in at HashiCorp Vault and OpenBao: leases, and what happens to a token that is refused."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from double import page, says
from vault_cases import Clock, of_app_role, of_kubernetes, of_token
from vault_double import ROOT, SECRET_ID, Issued, VaultDouble, refused, whole

from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.backends.vault_sign_in import Lease
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import fetch, problem


@pytest.fixture
def vault(tmp_path) -> Iterator[VaultDouble]:
    with VaultDouble(tmp_path) as vault:
        vault.put("secret/mail/smtp relay", {"password": "Zx9-ordinary-Qk7"})
        vault.put("kv/mail/smtp relay", {"password": "Zx9-ordinary-Qk7"})
        yield vault


def test_a_hundred_fetches_share_one_sign_in(vault):
    vault.wait = 0.05
    case = of_app_role(vault)

    async def many():
        return await asyncio.gather(*(case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)))

    assert {found.reveal() for found in asyncio.run(many())} == {"Zx9-ordinary-Qk7"}
    assert vault.sign_ins == 1
    fetch(case)
    assert vault.sign_ins == 1, "the token is kept, in another event loop too"


def test_a_hundred_fetches_share_one_failure_and_the_next_signs_in_anew(vault):
    case = of_app_role(vault)
    wrong = case.refused

    async def many():
        asked = (case.backend.fetch(case.wanted, wrong, case.means) for _ in range(100))
        return await asyncio.gather(*asked, return_exceptions=True)

    failures = asyncio.run(many())
    assert {failure.problem for failure in failures} == {"denied"}
    assert len({id(failure) for failure in failures}) == 100, "each has a traceback of its own"
    assert vault.sign_ins == 1
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"


def test_whoever_is_cancelled_leaves_the_sign_in_to_the_others(vault):
    vault.wait = 0.2
    case = of_app_role(vault)

    async def work():
        first, second = (asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(work()).reveal() == "Zx9-ordinary-Qk7"
    assert vault.sign_ins == 1


def test_a_sign_in_that_ended_with_its_event_loop_is_not_waited_for(vault):
    vault.wait = 0.2
    case = of_app_role(vault)

    async def leaves():
        task = asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(leaves())
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"


def test_a_sign_in_of_another_event_loop_is_not_waited_for(vault):
    vault.wait = 0.3
    case = of_app_role(vault)
    found = []
    other = threading.Thread(target=lambda: found.append(fetch(case).reveal()))
    other.start()
    found.append(fetch(case).reveal())
    other.join()
    assert found == ["Zx9-ordinary-Qk7"] * 2


def test_a_token_is_renewed_before_its_lease_ends(vault):
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 790  # of 1200 seconds
    fetch(case)
    assert vault.asked("renew-self") == []
    clock.now += 20
    fetch(case)
    assert (len(vault.asked("renew-self")), vault.sign_ins) == (1, 1)
    clock.now += 790
    fetch(case)
    assert (len(vault.asked("renew-self")), vault.sign_ins) == (1, 1)


def test_a_lease_that_ended_is_not_renewed(vault):
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    vault.revoke_all()
    clock.now += 1300
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert (len(vault.asked("renew-self")), vault.sign_ins) == (0, 2)


@pytest.mark.parametrize("given", [Issued(seconds=1200, renewable=False), Issued(seconds=1200, renewable=True)])
def test_a_token_that_cannot_be_renewed_is_exchanged_for_a_new_one(vault, given):
    vault.issues, vault.renews = given, None
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 810
    fetch(case)
    assert vault.sign_ins == 2
    assert len(vault.asked("renew-self")) == given.renewable


def test_near_the_longest_life_of_a_token_a_new_one_is_got(vault):
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 810
    vault.renews = 300
    fetch(case)
    clock.now += 210
    fetch(case)
    assert (len(vault.asked("renew-self")), vault.sign_ins) == (1, 2)


def test_while_a_renewal_fails_the_old_token_is_used_and_not_every_fetch_tries(vault, caplog):
    caplog.set_level(logging.WARNING)
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 810
    answer, vault._routed = (
        vault._routed,
        lambda asked, parts: (
            refused(503, "Vault is sealed") if parts[-1] in {"renew-self", "login"} else answer(asked, parts)
        ),
    )
    assert [fetch(case).reveal() for _ in range(3)] == ["Zx9-ordinary-Qk7"] * 3
    assert len(vault.asked("renew-self")) == 1
    assert [record.message for record in caplog.records].count(
        "A vault token could not be renewed; the old one is used until it ends"
    ) == 1
    clock.now += 31
    fetch(case)
    assert len(vault.asked("renew-self")) == 2
    clock.now += 1200
    assert problem(case).problem == "sealed"


def test_a_token_that_dies_while_it_cannot_be_renewed_is_exchanged(vault):
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 810
    answer = vault._routed
    vault._routed = lambda asked, parts: refused(500, "no") if parts[-1] == "renew-self" else answer(asked, parts)
    fetch(case)
    vault.revoke_all()
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert vault.sign_ins == 2


def test_a_token_without_an_end_is_kept(vault):
    vault.issues = Issued(seconds=0)
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 10**9
    fetch(case)
    assert (len(vault.asked("renew-self")), vault.sign_ins) == (0, 1)


@pytest.mark.parametrize("says_invalid", [True, False])
def test_a_kept_token_that_the_vault_no_longer_knows_is_exchanged_once(vault, says_invalid):
    vault.says_invalid = says_invalid
    case = of_app_role(vault)
    fetch(case)
    vault.revoke_all()
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert vault.sign_ins == 2


def test_a_hundred_fetches_with_a_dead_token_share_the_new_sign_in(vault):
    case = of_app_role(vault)
    fetch(case)
    vault.revoke_all()

    async def many():
        return await asyncio.gather(*(case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)))

    assert {found.reveal() for found in asyncio.run(many())} == {"Zx9-ordinary-Qk7"}
    assert vault.sign_ins == 2


def test_a_new_token_that_is_refused_too_is_not_exchanged_again(vault):
    vault.issues = Issued(seconds=1200, rights=())
    case = of_app_role(vault)
    assert problem(case).problem == "denied"
    assert vault.sign_ins == 1


def test_a_young_token_that_lives_and_lacks_the_right_leaves_no_others_behind(vault):
    clock = Clock()
    vault.issues = Issued(seconds=86400, renewable=True, rights=("kv",))
    case = of_app_role(vault, clock=clock)
    assert [problem(case).problem for _ in range(5)] == ["denied"] * 5
    assert vault.sign_ins == 1
    clock.now += 601  # the role may have got new policies, which only a new token has
    vault.issues = Issued(seconds=86400, renewable=True)
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert vault.sign_ins == 2


def test_the_kept_tokens_are_bounded_and_no_credential_names_them(vault):
    case = of_app_role(vault)
    vault.issues = Issued(seconds=1200)
    leases = case.backend._leases
    for number in range(230):
        key = leases.key(case.given | {"Namespace": str(number)})
        leases._keep(key, Lease(SecretText("hvs.x"), 1200, renewable=True, ours=True).beginning(10**9))
    assert len(leases._kept) <= 200
    assert all(SECRET_ID.encode() not in key and len(key) == 32 for key in leases._kept)


def test_providers_with_other_credentials_do_not_share_a_token(vault):
    case = of_app_role(vault)
    fetch(case)
    assert problem(replace(case, given=case.refused)).problem == "denied"


def test_providers_that_differ_in_their_path_alone_share_a_token(vault):
    case = of_app_role(vault)
    fetch(case)
    fetch(replace(case, given=case.given | {"Path": "v1/kv"}))
    assert vault.sign_ins == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refused(400, "invalid role or secret ID"), "denied"),
        (refused(403, "permission denied"), "denied"),
        (refused(404, "no handler for route"), "bad_parameter"),
        (refused(405, "unsupported operation"), "bad_parameter"),
        (refused(429, "lease count quota exceeded"), "sealed"),
        (refused(503, "Vault is sealed"), "sealed"),
        (page(), "bad_answer"),
        (says({"auth": None}), "bad_answer"),
        (says({"auth": {"client_token": ""}}), "bad_answer"),
        (says({"auth": {"client_token": 7}}), "bad_answer"),
        (says({"auth": {"client_token": "a\r\nb"}}), "bad_answer"),
        (says({"auth": {"client_token": "", "mfa_requirement": {"mfa_request_id": "x"}}}), "denied"),
    ],
)
def test_a_sign_in_that_fails(vault, answer, expected):
    vault.trouble = answer
    failure = problem(of_app_role(vault))
    assert failure.problem == expected
    assert "signing in" in failure.detail


@pytest.mark.parametrize("odd", ["../../sys", "a?b", "a#b", "a\r\nb", "//x", "%2e%2e"])
def test_where_the_sign_in_is_mounted_leads_nowhere_else(vault, odd):
    assert problem(of_app_role(vault, AuthPath=odd)).problem in {"bad_parameter", "denied"}
    assert {asked.path for asked in vault.asked()} <= {"/v1/auth/a%3Fb/login", "/v1/auth/a%23b/login"} | {
        "/v1/auth/x/login",
        "/v1/auth/%252e%252e/login",
    }


@pytest.mark.parametrize("odd", ["a\r\nX-Injected: yes", "ä", " x"])
def test_a_namespace_that_no_header_may_hold_is_refused(vault, odd):
    assert problem(of_token(vault, Namespace=odd)).problem == "bad_parameter"


def test_a_given_token_that_lives_for_a_while_is_renewed(vault):
    vault.tokens[ROOT] = Issued(seconds=3600, renewable=True)
    vault.renews = 3600
    clock = Clock()
    case = of_token(vault, clock=clock)
    fetch(case)
    fetch(case)
    assert len(vault.asked("lookup-self")) == 1
    clock.now += 2500
    fetch(case)
    clock.now += 2500
    fetch(case)
    assert (len(vault.asked("lookup-self")), len(vault.asked("renew-self"))) == (1, 2)


def test_a_given_token_is_looked_up_again_when_the_vault_could_not_say(vault):
    vault.tokens[ROOT] = Issued(seconds=3600, renewable=True)
    vault.trouble = refused(503, "Vault is sealed")
    clock = Clock()
    case = of_token(vault, clock=clock)
    assert problem(case).problem == "sealed"
    vault.trouble = None
    fetch(case)
    clock.now += 2500
    fetch(case)
    assert (len(vault.asked("lookup-self")), len(vault.asked("renew-self"))) == (2, 1)


def test_a_given_token_that_is_refused_is_asked_with_once(vault):
    case = of_token(vault, Token=SecretText("hvs.nobody"))
    assert [problem(case).problem for _ in range(2)] == ["denied"] * 2
    assert (len(vault.asked("lookup-self")), len(vault.asked("/secret/"))) == (1, 2)


def test_a_given_token_that_may_not_look_itself_up_works(vault):
    vault.tokens[ROOT] = Issued(seconds=3600, renewable=True, default_policy=False)
    case = of_token(vault)
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert len(vault.asked("lookup-self")) == 1


def test_a_given_token_that_was_put_right_in_the_vault_works_without_a_restart(vault):
    del vault.tokens[ROOT]
    case = of_token(vault)
    assert problem(case).problem == "denied"
    vault.tokens[ROOT] = Issued()
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"


def test_the_service_account_token_is_read_anew_at_each_sign_in(vault):
    case = of_kubernetes(vault)
    fetch(case)
    vault.revoke_all()
    vault.service_accounts.clear()
    (case.means.secret_files / "token").write_text(vault.service_account())
    assert fetch(case).reveal() == "Zx9-ordinary-Qk7"
    assert vault.sign_ins == 2


def test_a_service_account_token_that_the_vault_refuses_is_denied(vault):
    case = of_kubernetes(vault)
    vault.service_accounts.clear()
    assert problem(case).problem == "denied"


NO_TOKENS = {
    "another secret": "Zx9-ordinary-Qk7",
    "something like a token": "a.b.c",
    "no JSON": "Zm9v.YmFy.eA",
    "JSON of another kind": "W10.W10.eA",
    "empty": "",
    "binary": "\udcff",
}


@pytest.mark.parametrize("content", NO_TOKENS.values(), ids=NO_TOKENS)
def test_no_other_file_is_sent_to_a_host_that_a_provider_names(vault, content):
    case = of_kubernetes(vault)
    (case.means.secret_files / "token").write_bytes(content.encode(errors="surrogateescape"))
    failure = problem(case)
    assert failure.problem == "bad_parameter"
    assert vault.asked() == []


def test_a_token_of_somebody_who_is_no_service_account_is_not_sent(vault):
    case = of_kubernetes(vault)
    (case.means.secret_files / "token").write_text(vault.service_account(subject="somebody@example.org"))
    assert problem(case).problem == "bad_parameter"
    assert vault.asked() == []


@pytest.mark.parametrize("file", ["../token", "/etc/hostname", "token/../../x", "nothing", "a\0b", "link"])
def test_no_file_outside_of_the_operators_directory_is_read(vault, tmp_path, file):
    case = of_kubernetes(vault, TokenFile=file)
    (tmp_path / "token").write_text(vault.service_account())
    (case.means.secret_files / "link").symlink_to(tmp_path / "token")
    failure = problem(case)
    assert failure.problem == "bad_parameter"
    assert "TokenFile" in failure.detail
    assert vault.asked() == []


def test_without_a_directory_of_the_operator_no_file_is_read(vault):
    case = of_kubernetes(vault)
    assert problem(replace(case, means=vault.means())).problem == "bad_parameter"
    assert vault.asked() == []


def test_nothing_of_a_secret_is_logged_while_leases_are_renewed_and_exchanged(vault, caplog):
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    case = of_app_role(vault, clock=clock)
    fetch(case)
    clock.now += 810
    fetch(case)
    vault.revoke_all()
    fetch(case)
    vault.trouble = whole({"x": "y"})
    with pytest.raises(VaultFailed):
        fetch(case)
    said = caplog.text + json.dumps([str(record.__dict__) for record in caplog.records])
    assert not [secret for secret in (SECRET_ID, "Zx9-ordinary-Qk7", *vault.issued) if secret in said]
