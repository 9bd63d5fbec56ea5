"""Credentials that change in the vault and at the relay while mail is on its way: no restart, nothing lost."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from contextlib import suppress

import pytest
from vault_double import VaultDouble
from vaulted import basic_profile, hashicorp, mailer_of, node_of, reference, terms_of, trusting

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.profile.model import OAuthClientCredentials, SmtpProfile
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import Envelope, StageFailed
from relaying import CONTENT, certificates, running
from token_server import TokenServer, issues

MESSAGES = 200
SENDERS = 20


@pytest.fixture
def vault(tmp_path):
    with VaultDouble(tmp_path) as vault:
        yield vault


@pytest.fixture
def accounts(postfix):
    """Two accounts at the relay by turns: the second does not exist yet."""
    first, second = (f"user{secrets.token_hex(4)}@example.org" for _ in range(2))
    passwords = {first: "first-" + secrets.token_urlsafe(12), second: "second-" + secrets.token_urlsafe(12)}
    postfix.let_in(first, passwords[first])
    yield passwords
    for user in (first, second):
        with suppress(AssertionError):  # it may be gone already
            postfix.shut_out(user)


async def deliver(mailer: Mailer, recipient: str, number: int) -> None:
    """What the outbox does: hand over, and come back later when nobody took it."""
    content = f"Subject: {number}\r\n\r\nNumber {number}.\r\n".encode()
    for _ in range(100):
        try:
            delivery = await mailer.send(Envelope("pki@example.org", (recipient,)), content)
        except StageFailed as failure:
            if failure.evidence.stage not in {"vault", "token", "auth"}:
                raise
            await asyncio.sleep(0.05)
        else:
            assert delivery.accepted == (recipient,)
            return
    pytest.fail("a message was never taken")


@pytest.mark.parametrize("first", ["vault", "relay"])
def test_a_rotation_in_the_middle_of_two_hundred_messages_loses_none(  # noqa: PLR0917 - each is a party to it
    first, vault, postfix, accounts, sqlite_settings, tmp_path
):
    (old, old_password), (new, new_password) = accounts.items()
    recipient = f"rotated{secrets.token_hex(3)}@example.org"
    settings = trusting(sqlite_settings, tmp_path, vault.authority, postfix.authority)
    before = len(postfix.log())

    def in_the_vault() -> None:
        vault.put("secret/smtp", {"username": new, "password": new_password})

    def at_the_relay() -> None:
        postfix.let_in(new, new_password)
        postfix.shut_out(old)

    async def main() -> None:
        vault.put("secret/smtp", {"username": old, "password": old_password})
        steps = [in_the_vault, at_the_relay] if first == "vault" else [at_the_relay, in_the_vault]
        async with node_of(settings) as node:
            there = await hashicorp(node, vault)
            username, password = (reference(there, "smtp", key) for key in ("username", "password"))
            profile = basic_profile("localhost", postfix.submission_port, username, password)
            await node.keeper.replace(profile, by="tester")
            # Sessions are given up after a few messages, so that many sign in again.
            async with mailer_of(node, terms_of(node), messages=5) as mailer:
                await send_all(mailer, recipient, steps)

    asyncio.run(main())
    numbers = [re.findall(rb"^Number (\d+)\.$", message, re.MULTILINE) for message in postfix.messages(recipient)]
    assert sorted(int(number) for (number,) in numbers) == list(range(MESSAGES))
    log = postfix.log()[before:]
    assert set(re.findall(r"client=.* sasl_username=(\S+)", log)) == {old, new}
    # auth=0/1 is a session with one refused AUTH.
    refused = [int(tried) - int(good) for good, tried in re.findall(r"disconnect from .* auth=(\d+)/(\d+)", log)]
    assert set(refused) <= {0, 1}
    assert 1 in refused, "the rotation was not noticed at all"
    assert not any(secret in log for secret in (old_password, new_password))


async def send_all(mailer: Mailer, recipient: str, steps: list[Callable[[], None]]) -> None:
    """Send all messages, and take the steps when a third of them has gone out."""
    numbers = iter(range(MESSAGES))
    a_third = asyncio.Event()

    async def sender() -> None:
        for number in numbers:
            await deliver(mailer, recipient, number)
            if number >= MESSAGES // 3:
                a_third.set()

    async def rotate() -> None:
        await a_third.wait()
        for step in steps:
            await asyncio.to_thread(step)

    await asyncio.gather(rotate(), *(sender() for _ in range(SENDERS)))


def test_a_client_secret_that_was_changed_in_the_vault_gets_a_new_token_at_once(vault, sqlite_settings, tmp_path):
    old, new = (secrets.token_urlsafe(18) for _ in range(2))
    token = "token-" + secrets.token_urlsafe(18)
    sender = "pki@example.org"
    with (
        TokenServer(tmp_path) as provider,
        running(starttls=True, auth=("XOAUTH2",), users={sender: token}) as relay,
    ):
        provider.answer = issues(token, 1)  # too short to be kept for the next message
        settings = trusting(sqlite_settings, tmp_path, vault.authority, provider.authority, certificates().authority)

        async def main() -> None:
            vault.put("secret/app", {"id": "our-app", "secret": old})
            provider.clients = {"our-app": old}
            async with node_of(settings) as node:
                there = await hashicorp(node, vault)
                client = OAuthClientCredentials(
                    reference(there, "app", "id"), reference(there, "app", "secret"), provider.url
                )
                profile = SmtpProfile("localhost", relay.port, True, sender, "PKI", client)
                await node.keeper.replace(profile, by="tester")
                async with mailer_of(node, terms_of(node), messages=1) as mailer:
                    await deliver(mailer, "one@b.test", 1)
                    provider.clients = {"our-app": new}
                    vault.put("secret/app", {"id": "our-app", "secret": new})
                    await asyncio.sleep(1.1)
                    await deliver(mailer, "two@b.test", 2)

        asyncio.run(main())
        assert [message.recipients for message in relay.messages] == [("one@b.test",), ("two@b.test",)]
        assert [request.form["client_secret"] for request in provider.requests] == [old, old, new]


@pytest.mark.parametrize("rotated", ["vault and relay", "relay alone"])
def test_an_old_password_is_not_tried_by_every_message_that_waits(rotated, vault, sqlite_settings, tmp_path):
    """Relays lock an account after a few refusals: a hundred messages must not be a hundred of them."""
    old, new = (secrets.token_urlsafe(18) for _ in range(2))
    user = "mailer@example.org"
    settings = trusting(sqlite_settings, tmp_path, vault.authority, certificates().authority)

    async def main(relay: ChaosRelay, another: ChaosRelay) -> list[BaseException]:
        vault.put("secret/smtp", {"username": user, "password": old})
        async with node_of(settings) as node:
            there = await hashicorp(node, vault)
            names = [reference(there, "smtp", key) for key in ("username", "password")]
            await node.keeper.replace(basic_profile("localhost", relay.port, *names), by="tester")
            async with mailer_of(node, terms_of(node), messages=1) as mailer:
                await deliver(mailer, "warm@b.test", 0)
                if rotated == "vault and relay":
                    vault.put("secret/smtp", {"username": user, "password": new})
                # Another relay that knows the new password alone, on the same port as far as the profile knows.
                await node.keeper.replace(basic_profile("localhost", another.port, *names), by="tester")
                sending = (mailer.send(Envelope("pki@example.org", (f"r{n}@b.test",)), CONTENT) for n in range(100))
                outcomes = await asyncio.gather(*sending, return_exceptions=True)
                return [one for one in outcomes if isinstance(one, BaseException)]

    with (
        running(starttls=True, auth=("PLAIN",), users={user: old}) as relay,
        running(starttls=True, auth=("PLAIN",), users={user: new}) as another,
    ):
        failed = asyncio.run(main(relay, another))
    if rotated == "vault and relay":
        assert failed == []
        assert len(another.messages) == 100
    else:
        assert len(failed) == 100
        assert {one.evidence.stage for one in failed} == {"auth"}
    sign_ins = [line for _, line in another.commands if line.upper().startswith("AUTH")]
    assert len(sign_ins) - len(another.messages) == 1
