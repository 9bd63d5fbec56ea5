"""The conformance list of the contract (8.3), one section for each of its points.

What sends mail (7, 8) is checked here up to the sending; what real clients of the PAM API send is replayed in
tests/api/test_pam_clients.py.
"""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from pam_kit import PROVIDERS, TYPES, VAULT, basic, body, entries, entry, local, oauth, provider, type_named, vault

from keyrelay.api import wire_v1, wire_v2
from keyrelay.profile.keeper import UNCONFIGURED
from keyrelay.profile.model import Basic, SmtpProfile
from keyrelay.secrets.model import FromPam
from live import ANONYMOUS, BASIC, OAUTH, SMTP, V1, V2

V1_KEYS = [
    "Host",
    "Id",
    "Port",
    "RelayAuthenticationType",
    "RelayUsername",
    "SenderAccount",
    "SenderAddress",
    "SenderName",
    "UseSSL",
]
V2_KEYS = [
    "Host",
    "Id",
    "Port",
    "RelayAuthenticationType",
    "RelayUsername",
    "RelayPassword",
    "SenderAccount",
    "SenderName",
    "UseSSL",
    "ClientId",
    "ClientSecret",
    "TokenEndpoint",
    "Scope",
    "Audience",
    "RequestHeaders",
]
TEST = {**ANONYMOUS, "RelayAuthenticationType": 0, "TestRecipient": "ops@example.org"}


def assert_error(answer: httpx2.Response, status: int, *said: str, code: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert list(body) == ["ErrorCode", "Message"]
    assert code is None or body["ErrorCode"] == code
    for text in said:
        assert text in body["Message"]


# --- 1 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "keys"), [(None, V1_KEYS), ("1", V1_KEYS), ("1.0", V1_KEYS), ("2", V2_KEYS), ("2.0", V2_KEYS)]
)
def test_01_the_version_header_chooses_the_shape(module_server, header, keys):
    headers = {} if header is None else {"X-Keyfactor-Api-Version": header}
    assert list(module_server.get(SMTP, headers=headers).json()) == keys


@pytest.mark.parametrize("header", ["3", "x", "", "0", "1.1", "2.0.0", "v2", "1,2", "-1", "٢"])
def test_01_an_unknown_version_is_refused_and_the_answer_names_those_there_are(module_server, header):
    answer = module_server.get(SMTP, headers={"x-keyfactor-api-version": header.encode()})
    assert_error(answer, 400, "1.0", "2.0")
    assert answer.headers["api-supported-versions"] == "1.0, 2.0"


def test_01_two_version_headers_that_disagree_are_refused(module_server):
    headers = [("x-keyfactor-api-version", "1"), ("x-keyfactor-api-version", "2")]
    assert_error(module_server.get(SMTP, headers=headers), 400, "1.0", "2.0")


def test_01_an_operation_without_version_2_says_which_it_has(module_server):
    answer = module_server.get("/KeyfactorAPI/Status/Endpoints", headers=V2)
    assert_error(answer, 400, "1.0")
    assert answer.headers["api-supported-versions"] == "1.0"


# --- 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/keyfactorapi/smtp",
        "/KEYFACTORAPI/SMTP",
        "/KeyfactorApi/Smtp/",
        "/KeyfactorAPI/SMTP/",
        "/keyfactorAPI/status/endpoints/",
        "/Api/V1/Profile/",
    ],
)
def test_02_paths_match_in_any_case_and_with_a_trailing_slash(module_server, path):
    assert module_server.get(path).status_code == 200


# --- 3 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spell", [str, str.lower, str.upper, lambda key: key[0].lower() + key[1:]])
def test_03_keys_match_in_any_case_and_answers_are_pascal_case_in_order(server, spell):
    def respell(value):
        if isinstance(value, dict):
            return {spell(key): respell(inner) for key, inner in value.items()}
        return [respell(inner) for inner in value] if isinstance(value, list) else value

    answer = server.put_v2(respell(OAUTH))
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == V2_KEYS
    assert answer.json()["RequestHeaders"] == [{"Name": "X-Tenant", "Value": "abc"}]
    assert answer.json()["ClientId"] == {**OAUTH["ClientId"], "Parameters": None, "Provider": None}


# --- 4 -------------------------------------------------------------------------------------------------------


def test_04_version_1_shows_the_literal_for_a_user_name_kept_in_a_pam():
    reference = FromPam(3, {"SecretName": "smtp-user"})
    profile = SmtpProfile("mail.example.org", 25, False, "a@example.org", "A", Basic(reference, reference))
    snapshot = replace(UNCONFIGURED, profile=profile)
    assert wire_v1.response(snapshot).relay_username == "UnsupportedPAMSecret"
    shown = wire_v2.Secret(None, {"SecretName": "smtp-user"}, 3)
    assert (wire_v2.response(snapshot).relay_username, wire_v2.response(snapshot).relay_password) == (shown, shown)


def test_04_a_user_name_put_as_a_reference_shows_as_the_literal_in_version_1(server):
    server.put_v2(basic(provider(server))).raise_for_status()
    before = server.get_v2()
    old = server.get_v1()
    assert old["RelayUsername"] == "UnsupportedPAMSecret"
    assert_error(server.put_v1({**old, "RelayPassword": "x"}), 400, "RelayUsername", "UnsupportedPAMSecret")
    assert server.get_v2() == before


def test_04_the_literal_is_refused_in_a_version_1_put_and_nothing_changes(server):
    server.put_v2(BASIC)
    before = server.get_v2()
    body = {**BASIC, "RelayUsername": "UnsupportedPAMSecret", "RelayPassword": "secret"}
    assert_error(server.put_v1(body), 400, "RelayUsername", "UnsupportedPAMSecret")
    assert server.get_v2() == before


# --- 5 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "field"), [(BASIC, "RelayPassword"), (OAUTH, "ClientSecret")])
def test_05_no_answer_holds_a_hidden_secret_or_differs_with_its_length(server, profile, field):
    seen = set()
    for secret in ("s", "a longer secret" * 20):
        put = server.put_v2({**profile, field: {"SecretValue": secret}})
        assert put.json()[field] is None
        seen.add((put.content, server.get(SMTP, headers=V1).content, server.get(SMTP, headers=V2).content))
    assert len(seen) == 1


@pytest.mark.parametrize("profile", [basic, oauth])
def test_05_no_answer_differs_with_a_secret_that_is_in_a_pam(server, profile):
    number, seen = provider(server), set()
    for field in ("smtp-user", "smtp-pass", "client", "client-secret"):
        entry(server, number, field, "s")
    for secret in ("t", "a longer secret" * 20):
        for field in ("smtp-pass", "client-secret"):
            answer = server.put(entries(number), json={"SecretName": field, "SecretValue": secret})
            assert answer.json() == {"ProviderId": number, "SecretName": field, "Description": None}
        put = server.put_v2(profile(number))
        assert put.status_code == 200, put.text
        places = [(SMTP, V1), (SMTP, V2), (PROVIDERS, V1), (PROVIDERS, V2), (entries(number), V1)]
        seen.add((put.content, *(server.get(path, headers=version).content for path, version in places)))
    assert len(seen) == 1


# --- 6 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [V1, V2])
def test_06_a_put_without_host_and_sender_name_names_both_and_changes_nothing(server, headers):
    server.put_v2(BASIC)
    before = server.get(SMTP, headers=headers)
    answer = server.put(SMTP, json={"Port": 25, "SenderAccount": "a@example.org", "SenderName": ""}, headers=headers)
    assert_error(answer, 400, "Host is required.", "SenderName is required.")
    after = server.get(SMTP, headers=headers)
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_06_every_missing_field_of_each_type_is_named(module_server):
    basic = module_server.put_v2({"RelayAuthenticationType": 2})
    assert_error(basic, 400, *(f"{name} is required." for name in ("Host", "Port", "SenderAccount", "SenderName")))
    assert_error(basic, 400, "RelayUsername is required.", "RelayPassword is required.")
    oauth = module_server.put_v2({"RelayAuthenticationType": 4, "ClientId": {}, "ClientSecret": None})
    assert_error(oauth, 400, *(f"{name} is required." for name in ("ClientId", "ClientSecret", "TokenEndpoint")))


def test_06_version_1_takes_25_for_a_missing_port_and_version_2_asks_for_one(server):
    body = {key: value for key, value in ANONYMOUS.items() if key != "Port"}
    for missing in ({}, {"Port": 0}, {"Port": None}, {"Port": ""}):
        assert server.put_v1({**body, **missing}).json()["Port"] == 25
        assert_error(server.put_v2({**body, **missing}), 400, "Port is required.")


# --- 7 and 8; sending is in tests/api/test_smtp_test.py -------------------------------------------------------------


@pytest.mark.parametrize("headers", [V1, V2])
@pytest.mark.parametrize("missing", ["TestRecipient", "Host", "Port", "RelayAuthenticationType", "SenderAccount"])
def test_08_a_test_without_a_required_field_is_refused(module_server, headers, missing):
    body = {key: value for key, value in TEST.items() if key != missing}
    assert_error(module_server.post(SMTP + "/Test", json=body, headers=headers), 400, f"{missing} is required.")


def test_07_a_test_never_touches_the_stored_profile(server):
    server.put_v2(BASIC)
    before = server.get(SMTP, headers=V2)
    server.post(SMTP + "/Test", json=TEST, headers=V2)
    assert server.get(SMTP, headers=V2).headers["etag"] == before.headers["etag"]


# --- 9 -------------------------------------------------------------------------------------------------------


def test_09_no_credentials_are_answered_401_with_a_challenge(module_server):
    answer = httpx2.get(module_server.url + SMTP)
    assert_error(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_09_an_identity_without_a_role_and_one_without_the_right_are_told_apart(server):
    server.add_user("nobody", "long enough 1")
    server.add_user("viewer", "long enough 1", "/system_settings/read/")
    nobody, viewer = ("nobody", "long enough 1"), ("viewer", "long enough 1")
    assert_error(server.get(SMTP, auth=nobody), 403, "nobody", code="0xA0140002")
    assert_error(server.get("/KeyfactorAPI/Status/Endpoints", auth=nobody), 403, "nobody", code="0xA0140002")
    assert server.get(SMTP, auth=viewer).status_code == 200
    answer = server.put_v2(ANONYMOUS, auth=viewer)
    assert_error(answer, 403, "viewer")
    assert answer.json()["Message"].endswith("/system_settings/modify/")


# --- 10 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spell", [int, str])
def test_10_a_provider_may_be_a_number_or_its_digits(server, spell):
    number = provider(server)
    put = server.put_v2({**BASIC, "RelayPassword": {**local(number), "Provider": spell(number)}})
    assert put.status_code == 200, put.text
    assert put.json()["RelayPassword"] == {"SecretValue": None, **local(number)} | {"Provider": number}
    other = {**BASIC, "RelayPassword": local(spell(number + 1))}
    assert_error(server.put_v2(other), 400, f"PAM provider {number + 1} does not exist", code="0xA0110002")


def test_10_a_secret_that_is_both_stored_and_a_reference_is_refused(module_server):
    body = {**BASIC, "RelayPassword": {"SecretValue": "x", "Provider": 1}}
    assert_error(module_server.put_v2(body), 400, "RelayPassword", "SecretValue")


# --- 11 ------------------------------------------------------------------------------------------------------


def test_11_unknown_keys_are_ignored_and_so_is_an_id_of_0_or_1(server):
    for ours in (0, 1, "1", None):
        assert server.put_v2({**ANONYMOUS, "Id": ours, "Nonsense": [{"deep": "er"}]}).status_code == 200
        assert server.put_v1({**ANONYMOUS, "Id": ours, "TestRecipient": 5}).status_code == 200


@pytest.mark.parametrize("put", ["put_v1", "put_v2"])
def test_11_any_other_id_is_refused(module_server, put):
    assert_error(getattr(module_server, put)({**ANONYMOUS, "Id": 2}), 400, "Id")


@pytest.mark.parametrize("twice", ['"host":"a","Host":"b"', '"Host":"a","Host":"a"', '"x":1,"X":2'])
def test_11_the_same_key_twice_is_refused(module_server, twice):
    body = '{"Port":25,"SenderAccount":"a@example.org","SenderName":"A",' + twice + "}"
    answer = module_server.put(SMTP, content=body, headers={**V2, "content-type": "application/json"})
    assert_error(answer, 400, "more than once")


# --- 12 ------------------------------------------------------------------------------------------------------


def test_12_a_body_of_null_does_not_disturb_a_get(module_server):
    headers = {**V2, "content-type": "application/json"}
    plain = module_server.get(SMTP, headers=V2)
    for content in (b"null", b'{"Host":"x"}', b"not json"):
        answer = module_server.request("GET", SMTP, content=content, headers=headers)
        assert (answer.status_code, answer.content) == (200, plain.content)


def test_12_a_body_of_null_does_not_disturb_a_delete(server):
    number = provider(server)
    headers = {**V1, "content-type": "application/json"}
    assert server.request("GET", f"{PROVIDERS}/{number}", content=b"null", headers=headers).json()["Id"] == number
    assert server.request("DELETE", f"{PROVIDERS}/{number}", content=b"null", headers=headers).status_code == 204


# --- 13 ------------------------------------------------------------------------------------------------------


def test_13_version_1_takes_the_form_that_the_python_sdk_sends(server):
    form = (
        "Host=mail.example.org&Id=1&Port=25&RelayAuthenticationType=0&SenderAccount=pki%40example.org"
        "&SenderName=PKI&UseSSL=false"
    )
    headers = {**V1, "content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    answer = server.put(SMTP, content=form, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["SenderAccount"] == "pki@example.org"
    assert_error(server.put(SMTP, content=form, headers={**headers, **V2}), 415)


@pytest.mark.parametrize("media", ["application/xml", "text/xml", "text/plain", "multipart/form-data", "json", "*/*"])
def test_13_other_media_types_are_refused(module_server, media):
    answer = module_server.put(SMTP, content=b"<SMTP/>", headers={**V1, "content-type": media})
    assert_error(answer, 415)


@pytest.mark.parametrize(
    "media",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/json",
        "application/json-patch+json",
        "application/vnd.example+json",
    ],
)
def test_13_every_kind_of_json_is_read_and_so_is_a_body_without_a_type(server, media):
    content = (
        b'{"Host":"mail.example.org","Port":"25","SenderAccount":"a@example.org","SenderName":"A","UseSSL":"true"}'
    )
    headers = V2 if media is None else {**V2, "content-type": media}
    answer = server.put(SMTP, content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["Port"], answer.json()["UseSSL"]) == (25, True)


# --- 14 ------------------------------------------------------------------------------------------------------


def test_14_a_provider_is_made_with_200_and_deleted_with_204_unless_it_is_in_use(server):
    made = server.post(PROVIDERS, json=body(server, "Local secrets"))
    number = made.json()["Id"]
    assert (made.status_code, server.put_v2(basic(number)).status_code) == (200, 200)
    for version in (V1, V2):
        used = server.request("DELETE", f"{PROVIDERS}/{number}", headers=version)
        assert_error(used, 400, "relay username of the SMTP profile", "relay password of the SMTP profile")
    server.put_v2(ANONYMOUS).raise_for_status()
    gone = server.request("DELETE", f"{PROVIDERS}/{number}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert_error(server.get(f"{PROVIDERS}/{number}"), 404)


def test_14_an_entry_and_a_type_are_not_deleted_while_they_are_in_use(server):
    number = provider(server, "Local secrets")
    entry(server, number, "smtp-pass")
    server.put_v2(basic(number)).raise_for_status()
    path, query = entries(number), {"secretName": "smtp-pass"}
    assert_error(server.request("DELETE", path, params=query), 400, "relay password of the SMTP profile")
    kind = type_named(server, "LocalDB")["Id"]
    assert_error(server.request("DELETE", f"{TYPES}/{kind}"), 400, "Local secrets")
    server.put_v2(ANONYMOUS).raise_for_status()
    assert server.request("DELETE", path, params=query).status_code == 204
    assert server.request("DELETE", f"{PROVIDERS}/{number}").status_code == 204
    assert server.request("DELETE", f"{TYPES}/{kind}").status_code == 204


# --- 15 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "profile"), [(0, ANONYMOUS), (2, BASIC), (3, OAUTH), (4, OAUTH), ("4", OAUTH)])
def test_15_each_type_is_echoed_as_it_was_sent(server, number, profile):
    answer = server.put_v2({**profile, "RelayAuthenticationType": number})
    assert answer.json()["RelayAuthenticationType"] == int(number)
    assert server.get_v2()["RelayAuthenticationType"] == int(number)


@pytest.mark.parametrize("number", [1, 5, -1, 99])
def test_15_other_types_are_refused_and_the_answer_names_the_allowed_ones(module_server, number):
    for put in (module_server.put_v1, module_server.put_v2):
        assert_error(put({**ANONYMOUS, "RelayAuthenticationType": number}), 400, "0", "2", "3", "4")


@pytest.mark.parametrize("number", [3, 4])
def test_15_version_1_points_to_version_2_for_oauth(module_server, number):
    body = {**TEST, "RelayAuthenticationType": number}
    for answer in (module_server.put_v1(body), module_server.post(SMTP + "/Test", json=body, headers=V1)):
        assert_error(answer, 400, "version 2")


def test_15_a_version_1_put_clears_stored_oauth_fields(server):
    server.put_v2(OAUTH)
    assert server.put_v1(ANONYMOUS).status_code == 200
    profile = server.get_v2()
    assert all(profile[key] is None for key in V2_KEYS[9:])


# --- 16 ------------------------------------------------------------------------------------------------------


def test_16_sender_address_follows_sender_account_and_stands_in_for_it_on_input(server):
    body = {key: value for key, value in ANONYMOUS.items() if key != "SenderAccount"}
    answer = server.put_v1({**body, "SenderAddress": "old@example.org"}).json()
    assert list(answer) == V1_KEYS
    assert answer["SenderAccount"] == answer["SenderAddress"] == "old@example.org"
    both = server.put_v1({**ANONYMOUS, "SenderAddress": "other@example.org"}).json()
    assert both["SenderAddress"] == both["SenderAccount"] == ANONYMOUS["SenderAccount"]
    assert_error(server.put_v2({**body, "SenderAddress": "old@example.org"}), 400, "SenderAccount is required.")


# --- 17 ------------------------------------------------------------------------------------------------------


def test_17_an_unconfigured_profile_is_shown_in_both_versions(server):
    fixed = {"Id": 1, "Port": 25, "RelayAuthenticationType": 0, "UseSSL": False}
    assert server.get_v1() == dict.fromkeys(V1_KEYS) | fixed
    assert server.get_v2() == dict.fromkeys(V2_KEYS) | fixed


# --- 18 ------------------------------------------------------------------------------------------------------


def test_18_a_change_without_the_requested_with_header_passes_with_basic(server):
    assert server.put(SMTP, json=ANONYMOUS).status_code == 200


# --- 19 ------------------------------------------------------------------------------------------------------


def test_19_plain_and_prefixed_list_parameters_give_the_same_result(server):
    for name in ("a", "b", "c"):
        provider(server, name)
    vault(server, "d")
    asked = {
        "QueryString": 'Name -ne "b"',
        "PageReturned": "1",
        "ReturnLimit": "2",
        "SortField": "Name",
        "SortAscending": "1",
    }
    answers = {
        server.get(PROVIDERS, params={prefix + key: value for key, value in asked.items()}).content
        for prefix in ("", "pq.")
    }
    assert len(answers) == 1
    found = server.get(PROVIDERS, params=asked).json()
    assert [each["Name"] for each in found] == ["d", "c"]
    assert found[0]["ProviderType"]["Name"] == VAULT


@pytest.mark.parametrize("key", ["SortField", "pq.sortField"])
def test_19_an_unknown_sort_field_is_refused_and_named(module_server, key):
    number = provider(module_server, f"For {key}")
    for path in (PROVIDERS, entries(number)):
        assert_error(module_server.get(path, params={key: "Nonsense"}), 400, "Nonsense", code="0xA011004A")


# --- 20 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["/system_settings/modify/", "/system_setting/modify/", "/system_settings/", "/"])
def test_20_both_spellings_of_the_modify_permission_allow_a_put(server, held):
    server.add_user("changer", "long enough 1", held)
    assert server.put_v2(ANONYMOUS, auth=("changer", "long enough 1")).status_code == 200


def test_20_both_spellings_do_for_a_profile_that_uses_a_provider_and_none_replaces_the_right_to_read_it(server):
    number = provider(server)
    for spelled in ("/system_settings/modify/", "/system_setting/modify/"):
        without, user = (f"{name}{len(spelled)}" for name in ("without", "user"))
        server.add_user(without, "long enough 1", spelled)
        server.add_user(user, "long enough 1", spelled, f"/pam/read/{number}/")
        assert_error(server.put_v2(basic(number), auth=(without, "long enough 1")), 403, f"/pam/read/{number}/")
        assert server.put_v2(basic(number), auth=(user, "long enough 1")).status_code == 200


# --- 21 ------------------------------------------------------------------------------------------------------


def test_21_the_login_probe_of_official_clients_succeeds(server):
    server.add_user("user", "pass-pass-1", "/system_settings/read/")
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "x-keyfactor-api-version": "1",
        "x-keyfactor-requested-with": "APIClient",
    }
    answer = server.get("/KeyfactorAPI/Status/Endpoints", headers=headers, auth=("DOMAIN\\user", "pass-pass-1"))
    assert answer.status_code == 200
    endpoints = answer.json()
    assert "GET /SMTP" in endpoints
    assert "PUT /SMTP" not in endpoints
    assert all(isinstance(endpoint, str) for endpoint in endpoints)
    major = int(answer.headers["x-keyfactor-product-version"].split(".")[0])
    assert major < 12  # kfutil refuses to change providers from 12 on


# --- Beside the list: headers and conditions ----------------------------------------------------------------


def test_version_1_answers_say_that_they_are_deprecated_and_version_2_answers_do_not(module_server):
    for path, method in ((SMTP, "GET"), (SMTP, "PUT"), (SMTP + "/Test", "POST")):
        old = module_server.request(method, path, json=ANONYMOUS, headers=V1)
        assert old.headers["deprecation"].startswith("@")
        assert old.headers["link"] == f'<{path}>; rel="successor-version"'
        new = module_server.request(method, path, json=ANONYMOUS, headers=V2)
        assert "deprecation" not in new.headers
        assert "link" not in new.headers
        assert old.headers["api-supported-versions"] == new.headers["api-supported-versions"] == "1.0, 2.0"
    assert "deprecation" not in module_server.get("/KeyfactorAPI/Status/Endpoints").headers


def test_a_get_with_the_current_tag_is_answered_304_and_any_change_ends_that(server):
    first = server.get(SMTP, headers=V2)
    unchanged = server.get(SMTP, headers={**V2, "if-none-match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]
    assert server.get(SMTP, headers={**V2, "if-none-match": '"other", W/' + first.headers["etag"]}).status_code == 304
    assert server.get(SMTP, headers={**V1, "if-none-match": first.headers["etag"]}).status_code == 200
    put = server.put_v2(ANONYMOUS)
    after = server.get(SMTP, headers={**V2, "if-none-match": first.headers["etag"]})
    assert (after.status_code, after.headers["etag"]) == (200, put.headers["etag"])


@pytest.mark.parametrize("stale", ['"0-0-v9"', "nonsense", 'W/"0-0-v2"', "0-0-v2"])
def test_a_put_with_another_tag_is_answered_412_and_changes_nothing(server, stale):
    tag = server.put_v2(BASIC).headers["etag"]
    answer = server.put(SMTP, json=ANONYMOUS, headers={**V2, "if-match": stale})
    assert_error(answer, 412)
    assert server.get(SMTP, headers=V2).headers["etag"] == tag


def test_a_put_with_the_current_tag_of_either_version_passes(server):
    for reading in (V1, V2):
        tag = server.get(SMTP, headers=reading).headers["etag"]
        assert server.put(SMTP, json=ANONYMOUS, headers={**V2, "if-match": f'"x", {tag}'}).status_code == 200
    assert server.put(SMTP, json=ANONYMOUS, headers={**V2, "if-match": "*"}).status_code == 200


def test_a_put_may_ask_for_anything_but_what_is_there(server):
    tag = server.put_v2(BASIC).headers["etag"]
    assert_error(server.put(SMTP, json=ANONYMOUS, headers={**V2, "if-none-match": tag}), 412)
    assert server.put(SMTP, json=ANONYMOUS, headers={**V2, "if-none-match": '"other"'}).status_code == 200


def test_a_put_replaces_everything_that_it_does_not_send(server):
    server.put_v2(OAUTH)
    answer = server.put_v2(ANONYMOUS).json()
    assert answer == dict.fromkeys(V2_KEYS) | {"Id": 1, "RelayAuthenticationType": 0, "UseSSL": False} | ANONYMOUS


def test_credentials_that_the_type_does_not_use_are_not_kept(server):
    answer = server.put_v2({**BASIC, "RelayAuthenticationType": 0, "ClientId": OAUTH["ClientId"]}).json()
    assert (answer["RelayUsername"], answer["ClientId"]) == (None, None)


def test_answers_are_not_cached_and_name_no_server(module_server):
    headers = module_server.get(SMTP).headers
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert "x-powered-by" not in headers


def test_the_quick_road_and_the_long_road_give_the_same_answer(server):
    for profile in (None, BASIC, OAUTH):
        if profile is not None:
            server.put_v2(profile)
        for version in (V1, V2):
            quick = server.get(SMTP, headers=version)
            long = server.get(SMTP + "/", headers={**version, "x-anything": "else"})
            assert quick.content == long.content
            assert {**quick.headers, "date": ""} == {**long.headers, "date": ""}


def test_the_list_of_endpoints_names_each_once(module_server):
    endpoints = module_server.get("/KeyfactorAPI/Status/Endpoints").json()
    assert endpoints == sorted(set(endpoints))
    assert {"GET /SMTP", "PUT /SMTP", "POST /SMTP/Test", "GET /Status/Endpoints"} <= set(endpoints)
