"""``/PamProviders/Local/{id}/Entries``: secrets that keyrelay itself keeps, and never gives back."""

from __future__ import annotations

import json
import time

import pytest
from pam_kit import PROVIDERS, VAULT_VALUES, basic, entries, entry, local, provider, vault

from canary import leaks, new_canary
from complaints import complaint
from keyrelay.errors import KeyUnknown, SecretGone
from keyrelay.pam.backend import VaultFailed
from keyrelay.secrets.model import FromPam
from live import ANONYMOUS, BASIC, V1, V2, LiveServer, run_keyrelay

KEYS = ["ProviderId", "SecretName", "Description"]


def fetched(server: LiveServer, number: int, name: str) -> str:
    """What the server itself gets when it uses an entry."""
    reference = FromPam(number, {"SecretName": name})

    async def fetch(node):
        return (await node.vaults.fetch(reference)).text.reveal()

    return server.run(fetch)


def delete(server: LiveServer, number: int, name: str, **more):
    return server.request("DELETE", entries(number), params={"secretName": name}, **more)


def put(server: LiveServer, number: int, **sent):
    return server.put(entries(number), json=sent, headers=V1)


# --- What works ------------------------------------------------------------------------------------------------


def test_an_entry_is_kept_listed_and_used_and_its_value_is_in_no_answer(server):
    number = provider(server)
    sent = {"SecretName": "smtp-pass", "Description": "for the relay", "SecretValue": "s3cret-value"}
    made = server.post(entries(number), json=sent, headers=V1)
    assert made.status_code == 200
    assert list(made.json()) == KEYS
    assert made.json() == {"ProviderId": number, "SecretName": "smtp-pass", "Description": "for the relay"}
    assert server.get(entries(number)).json() == [made.json()]
    assert fetched(server, number, "smtp-pass") == "s3cret-value"


def test_keys_match_in_any_case_and_unknown_ones_are_ignored(server):
    number = provider(server)
    made = server.post(entries(number), json={"secretname": "a", "SECRETVALUE": "b", "ProviderId": 99, "Id": 1})
    assert made.json() == {"ProviderId": number, "SecretName": "a", "Description": None}


def test_a_put_without_a_value_keeps_it_and_clears_the_description(server):
    number = provider(server)
    entry(server, number, "a", "first", Description="about it")
    for kept in ({}, {"SecretValue": None}):
        answer = put(server, number, SecretName="a", **kept)
        assert (answer.status_code, answer.json()["Description"]) == (200, None)
        assert fetched(server, number, "a") == "first"
    answer = put(server, number, SecretName="a", Description="again", SecretValue="second")
    assert answer.json()["Description"] == "again"
    assert fetched(server, number, "a") == "second"
    assert server.get(entries(number)).json() == [answer.json()]


def test_a_replaced_or_deleted_value_is_erased(server):
    number = provider(server)
    rows = lambda: list(server.run(lambda node: node.store.rows("SELECT id FROM stored_secret")))  # noqa: E731
    entry(server, number, "a", "first")
    before = rows()
    put(server, number, SecretName="a", SecretValue="second").raise_for_status()
    assert len(rows()) == 1
    assert rows() != before
    gone = delete(server, number, "a")
    assert (gone.status_code, gone.content) == (204, b"")
    assert rows() == []
    assert server.get(entries(number)).json() == []
    complaint(delete(server, number, "a"), 404)
    with pytest.raises(VaultFailed, match="not_found"):
        fetched(server, number, "a")


def test_entries_of_two_providers_know_nothing_of_each_other(server):
    one, two = provider(server, "One"), provider(server, "Two")
    entry(server, one, "a", "of one")
    entry(server, two, "a", "of two")
    assert (fetched(server, one, "a"), fetched(server, two, "a")) == ("of one", "of two")
    delete(server, one, "a").raise_for_status()
    assert fetched(server, two, "a") == "of two"
    complaint(put(server, one, SecretName="a", SecretValue="x"), 404)


def test_names_are_told_apart_by_case_and_accents(server):
    number = provider(server)
    names = ["name", "NAME", "n\u00e4me", "na\u0308me", " name", "näme ", "a/b?c#d&e=f%20", "名前", "🔑"]
    for name in names:
        entry(server, number, name, "secret of " + name)
    assert {each["SecretName"] for each in server.get(entries(number)).json()} == set(names)
    for name in names:
        assert fetched(server, number, name) == "secret of " + name
        delete(server, number, name).raise_for_status()
    assert server.get(entries(number)).json() == []


def test_the_longest_that_is_allowed_is_kept(server):
    number = provider(server)
    name, description, secret = "n" * 400, "d" * 2000, "s" * 16_384
    entry(server, number, name, secret, Description=description)
    assert server.get(entries(number)).json()[0]["Description"] == description
    assert fetched(server, number, name) == secret
    delete(server, number, name).raise_for_status()


def test_a_description_and_a_value_may_have_lines(server):
    number = provider(server)
    key = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"
    entry(server, number, "key", key, Description="line\r\n\tline")
    assert fetched(server, number, "key") == key


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["Beta", "alpha", "gamma"]),
        ({"SortField": "Description"}, None),
        ({"QueryString": 'SecretName -eq "ALPHA"'}, ["alpha"]),
        ({"QueryString": 'Description -contains "relay"'}, ["Beta", "alpha"]),
        ({"QueryString": "Description -eq NULL"}, ["gamma"]),
        ({"ReturnLimit": "1", "PageReturned": "2"}, None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "pq."])
def test_entries_are_searched_sorted_and_paged(server, prefix, asked, found):
    number = provider(server)
    entry(server, number, "alpha", Description="relay A")
    entry(server, number, "Beta", Description="Relay b")
    entry(server, number, "gamma")
    answer = server.get(entries(number), params={prefix + key: value for key, value in asked.items()})
    assert answer.status_code == 200, answer.text
    shown = [each["SecretName"] for each in answer.json()]
    if found is not None:
        assert sorted(shown) == found
    elif "ReturnLimit" in asked:
        assert shown == ["Beta"]
    else:
        assert set(shown) == {"alpha", "Beta", "gamma"}


def test_an_unknown_sort_field_has_its_own_code(server):
    answer = server.get(entries(provider(server)), params={"pq.sortField": "SecretValue"})
    complaint(answer, 400)
    assert answer.json()["ErrorCode"] == "0xA011004A"


# --- What is refused -------------------------------------------------------------------------------------------

REFUSED = [
    ({"SecretName": None}, "SecretName is required"),
    ({"SecretName": ""}, "SecretName is required"),
    ({"SecretName": "n" * 401}, "400"),
    ({"SecretName": "a\nb"}, "control character"),
    ({"SecretName": "a\0"}, "control character"),
    ({"SecretName": "\ud800"}, "control character"),
    ({"SecretName": 5}, "SecretName must be text"),
    ({"Description": "d" * 2001}, "2000"),
    ({"Description": "\x1b[31m"}, "control character"),
    ({"Description": []}, "Description must be text"),
    ({"SecretValue": "s" * 16_385}, "16384"),
    ({"SecretValue": "a\0b"}, "control character"),
    ({"SecretValue": "********"}, "mask"),
    ({"SecretValue": "•••• ••••"}, "mask"),
    ({"SecretValue": {"SecretValue": "x"}}, "SecretValue must be text"),
    ({"secretname": "x"}, "more than once"),
]


@pytest.mark.parametrize(("change", "said"), [*REFUSED, ({"SecretValue": None}, "SecretValue is required")])
def test_what_cannot_be_an_entry_is_refused(module_server, shared, change, said):
    sent = {"SecretName": "new", "SecretValue": "value", **change}
    before = module_server.get(entries(shared)).content
    answer = module_server.post(entries(shared), content=json.dumps(sent), headers=as_json())
    assert said in complaint(answer, 400)
    assert module_server.get(entries(shared)).content == before


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_cannot_replace_an_entry_is_refused_and_the_old_one_stays(module_server, shared, change, said):
    sent = {"SecretName": "kept", "SecretValue": "other", "Description": "other", **change}
    before = module_server.get(entries(shared)).content
    answer = module_server.put(entries(shared), content=json.dumps(sent), headers=as_json())
    assert said in complaint(answer, 400)
    assert module_server.get(entries(shared)).content == before
    assert fetched(module_server, shared, "kept") == "value"


def as_json() -> dict[str, str]:
    return {**V1, "content-type": "application/json"}


@pytest.fixture(scope="module")
def shared(module_server) -> int:
    number = provider(module_server, "Shared")
    entry(module_server, number, "kept", "value")
    return number


def test_an_empty_value_is_refused_when_posted_and_keeps_what_is_there_when_put(server):
    number = provider(server)
    answer = server.post(entries(number), json={"SecretName": "a", "SecretValue": ""})
    assert "SecretValue is required" in complaint(answer, 400)
    entry(server, number, "a", "first")
    put(server, number, SecretName="a", SecretValue="").raise_for_status()  # empty counts as missing (P3)
    assert fetched(server, number, "a") == "first"


def test_a_name_is_taken_once(server):
    number = provider(server)
    entry(server, number, "a", "first")
    answer = server.post(entries(number), json={"SecretName": "a", "SecretValue": "second"})
    assert "a already" in complaint(answer, 400)
    assert fetched(server, number, "a") == "first"


def test_an_unknown_entry_is_neither_changed_nor_deleted(module_server, shared):
    complaint(put(module_server, shared, SecretName="no", SecretValue="x"), 404)
    for name in ("no", "KEPT", "kept ", "a" * 5000, "\0", "\n"):
        complaint(delete(module_server, shared, name), 404)


@pytest.mark.parametrize("query", ["", "?secretName=", "?secretName=a&secretName=b", "?secretName=a&SecretName=a"])
def test_a_deletion_names_one_entry(module_server, shared, query):
    assert "SecretName" in complaint(module_server.request("DELETE", entries(shared) + query), 400)


def test_the_name_in_the_query_is_read_in_any_case_and_decoded(server):
    number = provider(server)
    for spelled in ("secretName=a%20b", "SECRETNAME=a+b", "SecretName=a%20b&x-unknown=1"):
        entry(server, number, "a b")
        assert server.request("DELETE", f"{entries(number)}?{spelled}", headers=V1).status_code == 204


def test_only_local_providers_have_entries(server):
    number = vault(server)
    sent = {"SecretName": "a", "SecretValue": "b"}
    for answer in (
        server.get(entries(number)),
        server.post(entries(number), json=sent),
        server.put(entries(number), json=sent),
        delete(server, number, "a"),
    ):
        assert "LocalDB" in complaint(answer, 400)
    assert VAULT_VALUES["Host"] in server.get(f"{PROVIDERS}/{number}").text


@pytest.mark.parametrize("unknown", ["0", "99", "x", "2147483648", "0" * 5000, "-1"])
def test_an_unknown_provider_is_answered_404(module_server, unknown):
    sent = {"SecretName": "a", "SecretValue": "b"}
    path = f"{PROVIDERS}/Local/{unknown}/Entries"
    complaint(module_server.get(path), 404)
    complaint(module_server.post(path, json=sent), 404)
    complaint(module_server.put(path, json=sent), 404)
    complaint(module_server.request("DELETE", path, params={"secretName": "a"}), 404)


def test_entries_exist_in_version_1_only(module_server, shared):
    answer = module_server.get(entries(shared), headers=V2)
    assert "1.0" in complaint(answer, 400)
    assert answer.headers["api-supported-versions"] == "1.0"


def test_an_entry_that_the_profile_uses_is_not_deleted(server):
    number = provider(server)
    entry(server, number, "smtp-pass", "first")
    entry(server, number, "free")
    server.put_v2(basic(number)).raise_for_status()
    message = complaint(delete(server, number, "smtp-pass"), 400)
    assert "relay password of the SMTP profile" in message
    assert fetched(server, number, "smtp-pass") == "first"
    assert delete(server, number, "free").status_code == 204
    server.put_v2(ANONYMOUS).raise_for_status()
    assert delete(server, number, "smtp-pass").status_code == 204


# --- At rest ---------------------------------------------------------------------------------------------------


def test_entries_and_provider_secrets_live_through_a_rotation_of_the_keys(fresh_settings, start):
    server = start(fresh_settings)
    number, other = provider(server), vault(server)
    entry(server, number, "a", "value of a")
    environment = {"KEYRELAY_DATA_DIR": str(fresh_settings.data_dir)}
    if fresh_settings.database_url is not None:
        environment["KEYRELAY_DATABASE_URL"] = fresh_settings.database_url
    used = {row[0] for row in server.run(lambda node: node.store.rows("SELECT key_id FROM stored_secret"))}
    done = run_keyrelay(environment, "keys", "rotate")
    assert done.returncode == 0, done.stderr
    now = {row[0] for row in server.run(lambda node: node.store.rows("SELECT key_id FROM stored_secret"))}
    assert used.isdisjoint(now)
    # The process that went on serving, and one that starts now.
    for each in (server, start(fresh_settings)):
        assert fetched(each, number, "a") == "value of a"
        assert each.run(lambda node: opened(node, other))["Token"] == "token-1"


async def opened(node, number):
    values = await node.providers.open_values(await node.providers.provider(number))
    return {name: value if isinstance(value, str) else value.reveal() for name, value in values.items()}


def test_another_node_sees_every_change(fresh_settings, start):
    one, two = start(fresh_settings), start(fresh_settings)
    number = provider(one)
    entry(one, number, "a", "first")
    assert fetched(two, number, "a") == "first"
    assert two.get(f"{PROVIDERS}/{number}").content == one.get(f"{PROVIDERS}/{number}").content
    put(one, number, SecretName="a", SecretValue="second").raise_for_status()
    until(lambda: fetched(two, number, "a") == "second")
    two.put_v2({**BASIC, "RelayPassword": local(number, "a")}).raise_for_status()
    until(lambda: one.get_v2()["RelayPassword"] is not None)
    complaint(one.request("DELETE", f"{PROVIDERS}/{number}"), 400)
    one.put_v2(ANONYMOUS).raise_for_status()
    two.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
    until(lambda: one.get(f"{PROVIDERS}/{number}").status_code == 404)
    complaint(one.put_v2({**BASIC, "RelayPassword": local(number, "a")}), 400)


def until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


MOVES = {
    "the content of one row to another": (
        "UPDATE stored_secret SET sealed = (SELECT sealed FROM stored_secret WHERE id = $1),"
        " key_id = (SELECT key_id FROM stored_secret WHERE id = $1) WHERE id = $2"
    ),
    "a row to another entry": "UPDATE pam_entry SET secret = $1 WHERE secret = $2",
}


@pytest.mark.parametrize("how", MOVES)
def test_a_ciphertext_that_was_moved_to_another_entry_does_not_open(server, how):
    one, two = provider(server, "One"), provider(server, "Two")
    entry(server, one, "a", "of the first")
    entry(server, one, "b", "of the second")
    entry(server, two, "a", "of the third")
    kept = server.run(lambda node: node.store.rows("SELECT provider, name, secret FROM pam_entry"))
    rows = {(number, name): secret for number, name, secret in kept}
    for target in ((one, "b"), (two, "a")):

        async def move(node, target=target):
            async with node.store.change("pam") as change:
                await change.run(MOVES[how], rows[one, "a"], rows[target])

        server.run(move)
        with pytest.raises((KeyUnknown, SecretGone)):
            fetched(server, *target)
    assert fetched(server, one, "a") == "of the first"


@pytest.mark.parametrize(
    ("told", "instead"),
    [("vault.example.org", "evil.example.org"), ('"Host"', '"Path2"')],
)
def test_a_token_does_not_open_for_a_provider_whose_row_was_written_by_hand(server, told, instead):
    number = vault(server)

    async def write(node):
        async with node.store.change("pam") as change:
            ((document,),) = await change.rows("SELECT document FROM pam_provider WHERE id = $1", number)
            assert told in document
            await change.run(
                "UPDATE pam_provider SET document = $1 WHERE id = $2", document.replace(told, instead), number
            )

    server.run(write)
    with pytest.raises(KeyUnknown):
        server.run(lambda node: opened(node, number))


def test_a_token_does_not_open_for_another_provider(server):
    one, two = vault(server, "One", Token="token of one"), vault(server, "Two", Token="token of two")

    async def swap(node):
        async with node.store.change("pam") as change:
            ((document,),) = await change.rows("SELECT document FROM pam_provider WHERE id = $1", one)
            await change.run("UPDATE pam_provider SET document = $1 WHERE id = $2", document, two)

    server.run(swap)
    assert server.run(lambda node: opened(node, one))["Token"] == "token of one"
    with pytest.raises(KeyUnknown):
        server.run(lambda node: opened(node, two))


def test_no_refusal_repeats_a_value(module_server, shared):
    secret = new_canary()
    for sent in (
        {"SecretName": "", "SecretValue": secret},
        {"SecretName": "kept", "SecretValue": secret},
        {"SecretName": "x", "SecretValue": secret + "\0"},
        {"SecretName": "x", "SecretValue": [secret]},
        {"SecretName": "x", "SecretValue": secret, secret: secret, secret.lower(): secret},
    ):
        for answer in (
            module_server.post(entries(shared), json=sent),
            module_server.put(entries(shared), json={**sent, "SecretName": "no"}),
        ):
            assert leaks({"value": secret}, answer.content) == []
            delete(module_server, shared, "x")
