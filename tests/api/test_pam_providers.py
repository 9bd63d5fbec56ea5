"""``/PamProviders``: made, listed, read, replaced and deleted, with secret values that nobody ever sees again."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from pam_kit import (
    GUID,
    PROVIDERS,
    TYPES,
    VAULT,
    VAULT_VALUES,
    basic,
    body,
    entry,
    local,
    oauth,
    provider,
    type_named,
    values,
    vault,
)

from canary import leaks, new_canary
from complaints import complaint
from keyrelay.pam import providers as keeping
from live import ANONYMOUS, BASIC, V1, V2, Command, LiveServer, run_keyrelay

KEYS_V1 = ["Id", "Name", "Area", "ProviderType", "ProviderTypeParamValues", "SecuredAreaId", "Remote"]
KEYS_V2 = ["Id", "Name", "ProviderType", "ProviderTypeParamValues", "Remote"]
INNER_KEYS = ["Id", "Name", "ProviderTypeParams"]
PARAMETER_KEYS = ["Id", "Name", "DisplayName", "DataType", "InstanceLevel"]
VALUE_KEYS = ["Id", "Value", "InstanceId", "InstanceGuid", "ProviderTypeParam"]
BOTH = pytest.mark.parametrize(("version", "keys"), [(V1, KEYS_V1), (V2, KEYS_V2)], ids=["v1", "v2"])


def one(number: int) -> str:
    return f"{PROVIDERS}/{number}"


def delete(server: LiveServer, number: int, **more):
    return server.request("DELETE", one(number), **more)


def shown_values(answer: dict) -> dict[str, str | None]:
    return {value["ProviderTypeParam"]["Name"]: value["Value"] for value in answer["ProviderTypeParamValues"]}


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [found["Name"] for found in answer.json()]


# --- Making and reading ----------------------------------------------------------------------------------------


@BOTH
def test_a_provider_is_answered_in_the_shape_of_its_version(server, version, keys):
    made = server.post(PROVIDERS, json=body(server, "Vault", VAULT, VAULT_VALUES), headers=version)
    assert made.status_code == 200
    shown = made.json()
    assert list(shown) == keys
    assert (shown["Name"], shown["Remote"]) == ("Vault", False)
    assert list(shown["ProviderType"]) == INNER_KEYS
    kind = type_named(server, VAULT)
    assert [shown["ProviderType"][key] for key in ("Id", "Name")] == [kind["Id"], kind["Name"]]
    inner = shown["ProviderType"]["ProviderTypeParams"]
    assert all(list(parameter) == [*PARAMETER_KEYS, "ProviderType"] for parameter in inner)
    assert [{**parameter, "ProviderType": None} for parameter in kind["Parameters"]] == inner
    assert shown_values(shown) == {**VAULT_VALUES, "Token": None}
    for value in shown["ProviderTypeParamValues"]:
        assert list(value) == VALUE_KEYS
        assert list(value["ProviderTypeParam"]) == PARAMETER_KEYS
        assert (value["InstanceId"], value["InstanceGuid"]) == (None, None)
    read = server.get(one(shown["Id"]), headers=version)
    assert read.content == made.content
    assert server.get(PROVIDERS, headers=version).json() == [shown]


def test_version_1_shows_what_only_it_has(server):
    sent = {**body(server, "A"), "Area": 7, "SecuredAreaId": 9, "Remote": "true"}
    made = server.post(PROVIDERS, json=sent, headers=V2).json()
    shown = server.get(one(made["Id"]), headers=V1).json()
    assert (shown["Area"], shown["SecuredAreaId"], shown["Remote"]) == (7, 9, True)
    plain = server.get(one(provider(server, "B")), headers=V1).json()
    assert (plain["Area"], plain["SecuredAreaId"], plain["Remote"]) == (1, None, False)


def test_a_parameter_is_found_by_its_id_and_by_its_name_where_there_is_no_id(server):
    kind = type_named(server, VAULT)
    ids = {parameter["Name"]: parameter["Id"] for parameter in kind["Parameters"]}
    given = [
        {"Value": VAULT_VALUES["Host"], "ProviderTypeParam": {"Id": ids["Host"]}},
        {"Value": VAULT_VALUES["Token"], "ProviderTypeParam": {"Id": 0, "Name": "Token"}},
        # The id counts where both are given, and digits are a number.
        {"Value": VAULT_VALUES["Path"], "ProviderTypeParam": {"Id": str(ids["Path"]), "Name": "Host"}},
    ]
    sent = {"Name": "Vault", "ProviderType": {"Id": kind["Id"]}, "ProviderTypeParamValues": given}
    assert shown_values(server.post(PROVIDERS, json=sent).json()) == {**VAULT_VALUES, "Token": None}


@pytest.mark.parametrize("spell", [str.upper, str.lower, "{{{}}}".format, " {} ".format])
def test_the_id_of_a_type_may_be_spelled_in_several_ways(server, spell):
    sent = {"Name": "A", "ProviderType": {"Id": spell(type_named(server, "LocalDB")["Id"])}}
    assert server.post(PROVIDERS, json=sent).status_code == 200


def test_values_that_are_empty_count_as_not_given(server):
    kind = type_named(server, VAULT)
    sent = body(server, "Vault", VAULT, {**VAULT_VALUES, "Namespace": "", "Secret": None, "Unknown": ""})
    made = server.post(PROVIDERS, json=sent).json()
    assert set(shown_values(made)) == set(VAULT_VALUES)
    assert made["ProviderType"]["Id"] == kind["Id"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Name": None}, "Name is required"),
        ({"Name": " "}, "Name is required"),
        ({"Name": "x" * 256}, "255"),
        ({"Name": "a\r\nb"}, "control character"),
        ({"Name": ["a"]}, "Name must be text"),
        ({"ProviderType": None}, "ProviderType with its Id is required"),
        ({"ProviderType": {}}, "ProviderType with its Id is required"),
        ({"ProviderType": {"Id": "11111111-2222-3333-4444-555555555555"}}, "no type of that Id"),
        ({"ProviderType": {"Id": 5}}, "Id must be text"),
        ({"ProviderType": "LocalDB"}, "ProviderType must be an object"),
        ({"Remote": "perhaps"}, "Remote must be true or false"),
        ({"Area": "one"}, "Area must be a whole number"),
        ({"Area": 2**31}, "32 bits"),
        ({"SecuredAreaId": 1.5}, "SecuredAreaId must be a whole number"),
        ({"ProviderTypeParamValues": {}}, "must be a list of objects"),
        ({"ProviderTypeParamValues": [None]}, "must be a list of objects"),
        ({"ProviderTypeParamValues": [{}] * 201}, "200"),
        ({"ProviderTypeParamValues": []}, "Host needs a value"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Token": ""})}, "Token needs a value"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Secret": "x"})}, "Secret is given at each use"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "host": "x"})}, "no parameter of Hashicorp-Vault"),
        ({"ProviderTypeParamValues": [{"Value": "x", "ProviderTypeParam": {"Id": 9999}}]}, "9999 is no parameter"),
        ({"ProviderTypeParamValues": [{"Value": "x"}]}, "is no parameter"),
        ({"ProviderTypeParamValues": [{"Value": 5, "ProviderTypeParam": {"Name": "Host"}}]}, "Value must be text"),
        ({"ProviderTypeParamValues": values(VAULT_VALUES) * 2}, "more than once"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Host": "a\nb"})}, "control character"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Token": "a\0b"})}, "control character"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Host": "x" * 16_385})}, "16384"),
        ({"ProviderTypeParamValues": values({**VAULT_VALUES, "Token": "••••••••"})}, "mask"),
        ({"NAME": "Vault"}, "Name is given more than once"),
    ],
)
@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_what_cannot_be_a_provider_is_refused_and_none_is_made(module_server, version, change, said):
    before = module_server.get(PROVIDERS).content
    sent = json.dumps({**body(module_server, "Vault", VAULT, VAULT_VALUES), **change})
    headers = {**version, "content-type": "application/json"}
    assert said in complaint(module_server.post(PROVIDERS, content=sent, headers=headers), 400)
    assert module_server.get(PROVIDERS).content == before


def test_everything_that_is_wrong_is_said_at_once(module_server):
    sent = {**body(module_server, "", VAULT, {"Host": "a\nb", "Token": "***"}), "Area": "x"}
    message = complaint(module_server.post(PROVIDERS, json=sent), 400)
    assert "Area" in message
    rest = complaint(module_server.post(PROVIDERS, json={**sent, "Area": 1}), 400)
    for said in ("Name is required", "Host holds a control", "Token is a row of mask", "Path needs a value"):
        assert said in rest


def test_no_complaint_repeats_a_secret_value(module_server):
    secret = new_canary()
    for given in ({"Token": secret + "\0"}, {"Token": secret, "Nonsense": secret}, {"token": secret}):
        sent = body(module_server, "", VAULT, given)
        assert leaks({"token": secret}, module_server.post(PROVIDERS, json=sent).content) == []


def test_a_name_is_taken_once_in_whatever_case(server):
    number = provider(server, "Straße")
    for taken in ("Straße", "STRASSE", "strasse"):
        assert f"number {number}" in complaint(server.post(PROVIDERS, json=body(server, taken)), 400)
    other = provider(server, "Other")
    sent = {**body(server, "straße"), "Id": other}
    assert f"number {number}" in complaint(server.put(PROVIDERS, json=sent), 400)
    assert server.put(PROVIDERS, json={**sent, "Id": number}).json()["Name"] == "straße"


@pytest.mark.parametrize(
    "unknown",
    ["0", "99", "-1", "x", "2147483648", "9" * 30, "0" * 5000, "0" * 5000 + "1", "1.0", "1e0", "%D9%A1", "1 "],
)
@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_an_unknown_provider_is_answered_404(module_server, version, unknown):
    for method in ("GET", "DELETE"):
        complaint(module_server.request(method, f"{PROVIDERS}/{unknown}", headers=version), 404)


def test_paths_match_in_any_case_and_with_a_trailing_slash(server):
    number = provider(server)
    for path in (f"/keyfactorapi/pamproviders/{number}", f"/KEYFACTORAPI/PAMPROVIDERS/{number}/", f"{PROVIDERS}/"):
        assert server.get(path).status_code == 200
    assert names(server.get("/keyfactorapi/pamproviders/types/"))


# --- Lists -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(module_server) -> LiveServer:
    for name in ("bravo", "Alpha", "charlie 'quoted' \"twice\""):
        provider(module_server, name)
    vault(module_server, "delta")
    return module_server


ALL = ["Alpha", "bravo", "charlie 'quoted' \"twice\"", "delta"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ALL),
        ({"SortAscending": "1"}, ALL[::-1]),
        ({"ReturnLimit": "2"}, ALL[:2]),
        ({"ReturnLimit": "3", "PageReturned": "2"}, ALL[3:]),
        ({"QueryString": 'name -eq "ALPHA"'}, ["Alpha"]),
        ({"QueryString": 'Name -contains "L"'}, ["Alpha", "charlie 'quoted' \"twice\"", "delta"]),
        ({"QueryString": 'Name -ne "Alpha" AND ProviderType -eq "LocalDB"'}, ["bravo", "charlie 'quoted' \"twice\""]),
        ({"QueryString": 'ProviderType -startswith "hashi"'}, ["delta"]),
        ({"QueryString": 'Name -endswith "a" OR Name -eq "bravo"'}, ["Alpha", "bravo", "delta"]),
        ({"QueryString": 'Name -eq "charlie \'quoted\' ""twice"""'}, ["charlie 'quoted' \"twice\""]),
        ({"QueryString": "Area -eq 1 AND SecuredAreaId -eq NULL"}, ALL),
        ({"QueryString": "Area -eq 2"}, []),
        ({"SortField": "ProviderType", "SortAscending": "0", "ReturnLimit": "1"}, ["delta"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "pq.", "PQ."])
def test_lists_are_searched_sorted_and_paged(listed, prefix, asked, found):
    parameters = {prefix + key: value for key, value in asked.items()}
    assert names(listed.get(PROVIDERS, params=parameters, headers=V1)) == found
    assert names(listed.get(PROVIDERS, params=parameters, headers=V2)) == found


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"SortField": "Remote"}, "0xA011004A"),
        ({"QueryString": "Nonsense -eq 1"}, "0xA0110010"),
        ({"QueryString": "Name -eq"}, "0xA0110010"),
        ({"ReturnLimit": "-1"}, "0xA0110010"),
        ({"SortAscending": "2"}, "0xA0110010"),
        ({"PageReturned": "1", "pq.pageReturned": "2"}, "0xA0110010"),
    ],
)
def test_a_list_that_cannot_be_given_is_refused(listed, asked, code):
    answer = listed.get(PROVIDERS, params=asked)
    message = complaint(answer, 400)
    assert answer.json()["ErrorCode"] == code
    assert next(iter(asked)) in message


# --- Replacing -------------------------------------------------------------------------------------------------


def replaced(server: LiveServer, number: int, version=V1, **changes):
    sent = {**body(server, "Vault", VAULT, VAULT_VALUES), "Id": number, "Remote": False, **changes}
    return server.put(PROVIDERS, json=sent, headers=version)


@BOTH
def test_a_replacement_keeps_nothing_that_is_not_sent_but_secrets(server, version, keys):
    number = vault(server, Namespace="team")
    given = {"Host": "https://vault.example.org:8200", "Path": "v1/secret/data", "Namespace": "team"}
    answer = replaced(server, number, version, Name="Renamed", ProviderTypeParamValues=values(given))
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == keys
    assert answer.json()["Name"] == "Renamed"
    assert shown_values(answer.json()) == {**given, "Token": None}
    assert answer.content == server.get(one(number), headers=version).content
    opened = server.run(lambda node: _opened(node, number))
    assert opened["Token"] == "token-1"


async def _opened(node, number):
    opened = await node.providers.open_values(await node.providers.provider(number))
    return {name: value if isinstance(value, str) else value.reveal() for name, value in opened.items()}


@pytest.mark.parametrize(
    "moved",
    [
        {"Host": "https://evil.example.org"},
        {"Path": "v1/other/data"},
        {"Namespace": "x"},
        {"Path": "V1/secret/data"},
        {"Host": "https://vault.example.org:8200 "},
    ],
)
def test_a_secret_has_to_be_given_again_when_another_value_changes(server, moved):
    number = vault(server)
    before = server.get(one(number)).content
    given = {"Host": VAULT_VALUES["Host"], "Path": VAULT_VALUES["Path"], **moved}
    answer = replaced(server, number, ProviderTypeParamValues=values(given))
    assert "Token must be given again" in complaint(answer, 400)
    assert answer.json()["ErrorCode"] == "0xA0110011"
    assert server.get(one(number)).content == before
    again = replaced(server, number, ProviderTypeParamValues=values({**given, "Token": "token-2"}))
    assert again.status_code == 200
    assert server.run(lambda node: _opened(node, number)) == {**given, "Token": "token-2"}


def test_a_secret_that_is_left_out_together_with_other_mistakes_is_plain_bad_input(server):
    number = vault(server)
    answer = replaced(server, number, Name="", ProviderTypeParamValues=values({"Host": "https://other.example.org"}))
    message = complaint(answer, 400)
    assert answer.json()["ErrorCode"] == "0xA0110010"
    assert "Token must be given again" in message
    assert "Path needs a value" in message


def test_a_replaced_secret_is_erased(server):
    number = vault(server)
    rows = lambda: server.run(lambda node: node.store.rows("SELECT id FROM stored_secret"))  # noqa: E731
    (first,) = rows()
    replaced(server, number, ProviderTypeParamValues=values({**VAULT_VALUES, "Token": "token-2"})).raise_for_status()
    (second,) = rows()
    assert first != second
    replaced(server, number, ProviderTypeParamValues=values({**VAULT_VALUES, "Token": ""})).raise_for_status()
    assert list(rows()) == [second]
    assert delete(server, number).status_code == 204
    assert list(rows()) == []


@pytest.mark.parametrize(
    ("version", "change", "said"),
    [
        (V1, {"Id": None}, "Id is required"),
        (V2, {"Id": None}, "Id is required"),
        (V1, {"Id": "x"}, "Id must be a whole number"),
        (V1, {"ProviderType": None}, "ProviderType is required"),
        (V1, {"Name": None}, "Name is required"),
        (V2, {"Name": None}, "Name is required"),
    ],
)
def test_a_replacement_says_what_is_missing(module_server, version, change, said):
    number = vault(module_server, f"Vault {said} {len(version)} {version['x-keyfactor-api-version']} {change}")
    before = module_server.get(one(number)).content
    assert said in complaint(replaced(module_server, number, version, **change), 400)
    assert module_server.get(one(number)).content == before


def test_version_2_asks_for_remote_and_looks_at_no_type(server):
    number = vault(server)
    sent = {"Id": number, "Name": "Vault", "ProviderTypeParamValues": values(VAULT_VALUES)}
    assert "Remote is required" in complaint(server.put(PROVIDERS, json=sent, headers=V2), 400)
    for ignored in ({}, {"ProviderType": {"Id": type_named(server, "LocalDB")["Id"]}}, {"ProviderType": "x"}):
        assert server.put(PROVIDERS, json={**sent, "Remote": False, **ignored}, headers=V2).status_code == 200


def test_a_provider_stays_of_its_type(server):
    number = vault(server)
    answer = replaced(server, number, ProviderType={"Id": type_named(server, "LocalDB")["Id"]})
    assert "ProviderType cannot be changed" in complaint(answer, 400)


@pytest.mark.parametrize("number", [0, 99, -1, 2**31 - 1, "99"])
def test_replacing_an_unknown_provider_is_answered_404(module_server, number):
    for version in (V1, V2):
        complaint(replaced(module_server, number, version), 404)


def test_a_remote_provider_needs_no_values_and_serves_no_profile(server):
    sent = {**body(server, "Far", VAULT), "Remote": True}
    number = server.post(PROVIDERS, json=sent).raise_for_status().json()["Id"]
    used = {**BASIC, "RelayPassword": {"Provider": number, "Parameters": {"Secret": "a", "Key": "b"}}}
    answer = server.put_v2(used)
    assert "remote" in complaint(answer, 400)
    assert answer.json()["ErrorCode"] == "0xA0110002"
    assert replaced(server, number).status_code == 200
    assert server.put_v2(used).status_code == 200
    assert "remote" in complaint(replaced(server, number, Remote=True), 400)
    assert server.get(one(number)).json()["Remote"] is False


# --- In use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "said"),
    [(basic, ("relay username", "relay password")), (oauth, ("client id", "client secret"))],
)
def test_a_provider_that_the_profile_uses_is_not_deleted(server, profile, said):
    number = provider(server)
    server.put_v2(profile(number)).raise_for_status()
    for version in (V1, V2):
        message = complaint(delete(server, number, headers=version), 400)
        assert "SMTP" in message
        for field in said:
            assert field in message
    assert server.get(one(number)).status_code == 200
    server.put_v2(ANONYMOUS).raise_for_status()
    assert delete(server, number).status_code == 204
    complaint(server.get(one(number)), 404)
    complaint(delete(server, number), 404)


def test_a_deleted_provider_takes_its_entries_along(server):
    number = provider(server)
    entry(server, number, "a")
    entry(server, number, "b")
    assert delete(server, number).status_code == 204
    assert list(server.run(lambda node: node.store.rows("SELECT 1 FROM stored_secret"))) == []
    assert list(server.run(lambda node: node.store.rows("SELECT 1 FROM pam_entry"))) == []


def test_the_values_of_every_use_are_listed_with_the_provider(server):
    number = provider(server)
    other = provider(server, "Other")
    server.put_v2(basic(number)).raise_for_status()
    for version in (V1, V2):
        found = server.get(one(number), headers=version).json()["ProviderTypeParamValues"]
        assert [value["Value"] for value in found] == ["smtp-user", "smtp-pass"]
        assert len({value["Id"] for value in found}) == 2
        assert len({value["InstanceGuid"] for value in found}) == 2  # one user of the provider each
        for value in found:
            assert re.fullmatch(GUID, value["InstanceGuid"])
            assert isinstance(value["InstanceId"], int)
            assert value["ProviderTypeParam"]["InstanceLevel"] is True
        assert server.get(one(other), headers=version).json()["ProviderTypeParamValues"] == []
        assert server.get(PROVIDERS, headers=version).json()[0]["ProviderTypeParamValues"] == found


def test_values_of_one_use_share_a_guid(server):
    number = vault(server)
    reference = {"Provider": number, "Parameters": {"Secret": "mail", "Key": "password"}}
    server.put_v2({**BASIC, "RelayPassword": reference}).raise_for_status()
    found = server.get(one(number)).json()["ProviderTypeParamValues"]
    mine = [value for value in found if value["InstanceGuid"]]
    assert [value["Value"] for value in mine] == ["mail", "password"]
    assert len({value["InstanceGuid"] for value in mine}) == 1


def test_what_was_read_can_be_sent_back_as_it_is(server):
    number = vault(server)
    reference = {"Provider": number, "Parameters": {"Secret": "mail", "Key": "password"}}
    server.put_v2({**BASIC, "RelayPassword": reference}).raise_for_status()
    for version in (V1, V2):
        read = server.get(one(number), headers=version)
        back = server.put(PROVIDERS, json=read.json(), headers=version)
        assert (back.status_code, back.content) == (200, read.content), back.text


def test_an_id_is_never_given_again(server):
    first = provider(server, "First")
    server.put_v2(basic(first)).raise_for_status()
    server.put_v2(ANONYMOUS).raise_for_status()
    assert delete(server, first).status_code == 204
    second = provider(server, "First")
    assert second > first
    assert delete(server, second).status_code == 204
    assert provider(server, "Second") > second


def test_a_revision_whose_provider_is_gone_is_not_restored(server):
    number = provider(server)
    old = server.put_v2(basic(number)).raise_for_status()
    assert old.json()["RelayPassword"]["Provider"] == number
    server.put_v2(ANONYMOUS).raise_for_status()
    server.run(lambda node: node.keeper.restore(1, by="tester"))
    assert server.get_v2()["RelayPassword"]["Provider"] == number
    server.put_v2(ANONYMOUS).raise_for_status()
    delete(server, number).raise_for_status()
    provider(server, "Another")
    before = server.get_v2()
    history = server.run(lambda node: node.keeper.history())
    assert [entry.restorable for entry in history] == [True, False, True, False]
    with pytest.raises(Exception, match=f"PAM provider {number} does not exist"):
        server.run(lambda node: node.keeper.restore(1, by="tester"))
    assert server.get_v2() == before


def test_restoring_at_the_command_line_says_that_the_provider_is_gone(sqlite_settings, start):
    server = start(sqlite_settings)
    number = provider(server)
    server.put_v2(basic(number)).raise_for_status()
    server.put_v2(ANONYMOUS).raise_for_status()
    delete(server, number).raise_for_status()
    environment = {"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir)}
    done = run_keyrelay(environment, "smtp", "restore", "1", "--yes")
    if done.returncode == 2:  # no such option
        done = run_keyrelay(environment, "smtp", "restore", "1", given="y\n")
    assert done.returncode == 1
    assert f"provider {number} does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["provider", "remote", "entry"])
def test_no_storm_leaves_a_profile_that_names_what_is_gone(server, what):
    rounds = 6

    def taken(number: int):
        if what == "provider":
            return delete(server, number)
        if what == "remote":
            sent = {**body(server, f"Renamed {number}"), "Id": number, "Remote": True}
            return server.put(PROVIDERS, json=sent)
        return server.request("DELETE", f"{PROVIDERS}/Local/{number}/Entries", params={"secretName": "smtp-pass"})

    with ThreadPoolExecutor(8) as pool:
        for turn in range(rounds):
            number = provider(server, f"P{turn}")
            entry(server, number, "smtp-pass")
            server.put_v2(ANONYMOUS).raise_for_status()
            work = [pool.submit(server.put_v2, basic(number)) for _ in range(3)]
            work += [pool.submit(taken, number) for _ in range(2)]
            work += [pool.submit(server.put_v2, basic(number)) for _ in range(3)]
            done = [each.result() for each in work]
            assert {answer.status_code for answer in done} <= {200, 204, 400, 404}, [answer.text for answer in done]
            used = server.get_v2()["RelayPassword"]
            found = server.get(one(number))
            if used is not None and what != "entry":
                assert used["Provider"] == number
                assert found.status_code == 200
                assert found.json()["Remote"] is False


# --- Secrecy ---------------------------------------------------------------------------------------------------


def test_secret_values_are_in_no_answer_no_log_and_nowhere_in_the_database(sqlite_settings, database_text):
    planted = {"token": new_canary(), "second token": new_canary(), "entry": new_canary()}
    command = Command.serve({"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir), "KEYRELAY_LOG_LEVEL": "debug"})
    server = LiveServer(sqlite_settings)
    server.url, server.auth = command.url, ("admin", command.password)
    said = []
    server.client = httpx2.Client(
        base_url=command.url,
        auth=server.auth,
        timeout=30,
        event_hooks={"response": [lambda answer: said.append((answer.read(), str(answer.headers)))]},
    )
    try:
        number = vault(server, Token=planted["token"])
        replaced(server, number, ProviderTypeParamValues=values({**VAULT_VALUES, "Token": planted["second token"]}))
        replaced(server, number, ProviderTypeParamValues=values({"Host": "x", "Token": planted["token"]}))
        replaced(server, number, Id=99, ProviderTypeParamValues=values({**VAULT_VALUES, "Token": planted["token"]}))
        mine = provider(server)
        entry(server, mine, "smtp-pass", planted["entry"])
        server.put_v2({**BASIC, "RelayPassword": local(mine)}).raise_for_status()
        for path in (PROVIDERS, TYPES, one(number), one(mine), f"{PROVIDERS}/Local/{mine}/Entries"):
            server.get(path, headers=V1)
        delete(server, mine)
        disk = database_text()
    finally:
        server.client.close()
        printed, errors = command.stop()
    assert len(said) > 10
    for answer, headers in said:
        assert leaks(planted, answer + headers.encode()) == []
    assert leaks(planted, disk) == []
    assert leaks(planted, (printed + errors).encode()) == []


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_no_answer_differs_with_the_length_of_a_secret(server, version):
    number, seen = vault(server), set()
    for secret in ("t", "a longer token" * 50):
        put = replaced(server, number, version, ProviderTypeParamValues=values({**VAULT_VALUES, "Token": secret}))
        read = server.get(one(number), headers=version)
        listed = server.get(PROVIDERS, headers=version)
        assert put.status_code == 200
        seen.add((put.content, read.content, listed.content))
    assert len(seen) == 1


def test_there_are_only_so_many_providers(sqlite_server, monkeypatch):
    monkeypatch.setattr(keeping, "_MOST_PROVIDERS", 1)
    provider(sqlite_server, "One")
    assert "already" in complaint(sqlite_server.post(PROVIDERS, json=body(sqlite_server, "Two")), 400)
