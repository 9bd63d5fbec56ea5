"""Opening the credentials of a profile: given, stored, or in a vault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from keyrelay.errors import KeyUnknown
from keyrelay.pam.local import EntryDraft, LocalDb
from keyrelay.pam.model import ProviderDraft
from keyrelay.profile.model import Basic, OAuthClientCredentials, SmtpProfile
from keyrelay.relay.credentials import Opened, Opener
from keyrelay.relay.model import Evidence, StageFailed
from keyrelay.relay.sign_in import NoSignIn
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText
from keyrelay.server import Node
from relaying import as_given

GIVEN = SecretText("given-just-now")
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n"


def basic(password: GivenSecret, port: int = 587) -> SmtpProfile:
    return SmtpProfile("relay.example.org", port, True, "pki@example.org", "PKI", Basic(SecretText("user"), password))


@pytest.fixture
def on_a_node(fresh_settings) -> Callable[..., Any]:
    """Runs work on a node whose local provider has an entry ``entry`` with the value asked for."""

    def run(work: Callable[[Node, Opener, int], Any], value: str = "a-value-of-the-vault") -> Any:
        async def main() -> Any:
            node = await Node.open(fresh_settings)
            try:
                kind = (await node.providers.catalogue()).type_named(LocalDb.name)
                provider = await node.providers.add(ProviderDraft(name="ours", type_id=kind.id))
                draft = EntryDraft(name="entry", description=None, secret=SecretText(value))
                await node.providers.add_entry(provider.id, draft)
                return await work(node, Opener(node.store, node.keyring, node.vaults), provider.id)
            finally:
                await node.close()

        return asyncio.run(main())

    return run


def test_a_secret_that_was_just_given_is_itself():
    opened = asyncio.run(as_given().open(basic(GIVEN)))
    assert opened.credentials.password is GIVEN
    assert opened.fetched == {}


def test_without_a_sign_in_nothing_is_opened():
    profile = SmtpProfile("relay.example.org", 25, False, "pki@example.org", "PKI")
    assert asyncio.run(as_given().open(profile)) == Opened(NoSignIn(), {})


def test_a_stored_secret_opens_for_its_destination_alone(on_a_node):
    async def work(node: Node, opener: Opener, _: int) -> tuple[str, SmtpProfile]:
        kept = (await node.keeper.replace(basic(SecretText("kept-here")), by="tester")).profile
        revealed = (await opener.open(kept)).credentials.password.reveal()
        with pytest.raises(KeyUnknown):
            await opener.open(basic(kept.authentication.relay_password, port=2525))
        return revealed

    assert on_a_node(work) == "kept-here"


def test_a_secret_of_a_vault_tells_where_it_came_from(on_a_node):
    async def work(_: Node, opener: Opener, provider: int) -> Opened:
        return await opener.open(basic(FromPam(provider, {"SecretName": "entry"})))

    opened = on_a_node(work)
    assert opened.credentials.password.reveal() == "a-value-of-the-vault"
    assert {field: one.provider.name for field, one in opened.fetched.items()} == {"relay_password": "ours"}


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (FromPam(77, {"SecretName": "entry"}), "bad_parameter"),
        (FromPam(1, {"SecretName": "another"}), "not_found"),
        (FromPam(1, {}), "parameter_missing"),
        (FromPam(1, {"secretname": "entry"}), "parameter_missing"),
    ],
)
def test_a_reference_that_gives_nothing_fails_at_the_stage_vault(on_a_node, reference, problem):
    async def work(_: Node, opener: Opener, provider: int) -> Evidence:
        assert provider == 1
        with pytest.raises(StageFailed) as failed:
            await opener.open(basic(reference))
        return failed.value.evidence

    evidence = on_a_node(work)
    assert (evidence.stage, evidence.kind) == ("vault", problem)
    assert evidence.facts == {"field": "relay_password", "provider": reference.provider}


@pytest.mark.parametrize(("value", "where"), [("ends\n", " at its end"), ("has\ttabs", ""), ("a\r\nb", ""), (KEY, "")])
def test_a_password_with_line_breaks_is_refused_before_it_is_sent(on_a_node, value, where):
    async def work(_: Node, opener: Opener, provider: int) -> Evidence:
        with pytest.raises(StageFailed) as failed:
            await opener.open(basic(FromPam(provider, {"SecretName": "entry"})))
        return failed.value.evidence

    evidence = on_a_node(work, value)
    assert (evidence.stage, evidence.kind) == ("vault", "bad_answer")
    assert evidence.detail == f"the value holds a line break or another control character{where}"


def test_a_client_secret_may_be_a_private_key_of_several_lines(on_a_node):
    async def work(_: Node, opener: Opener, provider: int) -> str:
        reference = FromPam(provider, {"SecretName": "entry"})
        oauth = OAuthClientCredentials(SecretText("app"), reference, "https://login.example.org/token")
        profile = SmtpProfile("relay.example.org", 587, True, "pki@example.org", "PKI", oauth)
        return (await opener.open(profile)).credentials.request.client_secret.reveal()

    assert on_a_node(work, KEY) == KEY
