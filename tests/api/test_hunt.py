"""A hunt for a 500: random bodies, headers and octets; and what is put is what is got."""

from __future__ import annotations

import json
from typing import Any

import pytest
from endpoints import ENDPOINTS, TEST
from hypothesis import given, settings
from hypothesis import strategies as st

from complaints import OWN, complaint
from live import BASIC, OAUTH, SMTP, V1, V2, LiveServer

hunt = settings(max_examples=300)

WORDS = st.sampled_from(
    [
        "",
        "a",
        "\0",
        "\r\n",
        "\ud800",
        "*",
        "smtp.example.org",
        "a@b.example",
        "https://h/t",
        "basic",
        "true",
        "25",
        "1e5",
    ]
)
NUMBERS = st.integers(-3, 4) | st.integers(-(2**33), 2**33) | st.sampled_from([25, 465, 65535, 65536, 10**30])
LEAVES = (
    st.none()
    | st.booleans()
    | NUMBERS
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | WORDS
)
INNER = ("SecretValue", "Provider", "Parameters", "Name", "Value")
KEYS = st.sampled_from(sorted({key for place in ENDPOINTS for key in (*place.kinds, *map(place.key, INNER))}))
ANY_KEYS = KEYS | KEYS.map(str.lower) | st.text(max_size=8) | WORDS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_KEYS, inner, max_size=4), max_leaves=8
)
BODIES = st.dictionaries(ANY_KEYS, ANYTHING, max_size=8)


@st.composite
def spoiled(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A valid body with a few things changed, taken away or added."""
    spoiled = dict(body)
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from(sorted(body)) | ANY_KEYS)
        if draw(st.booleans()):
            spoiled.pop(key, None)
        else:
            spoiled[key] = draw(ANYTHING)
    return spoiled


def accepts_or_complains(response: Any) -> None:
    if response.status_code not in {200, 204, 304}:
        complaint(response)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
@hunt
@given(data=st.data())
def test_no_body_leads_to_a_500(endpoint, data, module_server):
    body = data.draw(BODIES | spoiled(endpoint.body))
    accepts_or_complains(endpoint.send(module_server, body))


@pytest.mark.parametrize("endpoint", ENDPOINTS[:2] + ENDPOINTS[5:], ids=lambda endpoint: endpoint.name)
@settings(max_examples=80)
@given(data=st.data())
def test_no_octets_lead_to_a_500(endpoint, data, module_server):
    whole = json.dumps(endpoint.body).encode()
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    octets = data.draw(st.binary(max_size=20) | st.just(whole[start:end]))
    accepts_or_complains(endpoint.send(module_server, whole[:start] + octets + whole[end:]))


HEADER_NAMES = st.sampled_from(
    [
        "x-keyfactor-api-version",
        "content-type",
        "authorization",
        "if-match",
        "if-none-match",
        "origin",
        "accept",
    ]
) | st.from_regex(r"[A-Za-z][A-Za-z-]{0,12}", fullmatch=True).filter(lambda name: name.lower() not in FRAMING)
FRAMING = {
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "expect",
    "trailer",
    "keep-alive",
    "host",
}
HEADER_VALUES = st.sampled_from(
    [b"1", b"2.0", b"application/json", b"text/xml", b"*", b'"1-0"', b'W/"1-0-v2"', b"Basic YTpi", b"Bearer x", b"null"]
) | st.binary(max_size=30).map(lambda value: bytes(octet for octet in value if octet > 31 and octet != 127).strip())


@hunt
@given(headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4), query=st.text(max_size=20), data=st.data())
def test_no_header_and_no_query_leads_to_a_500(headers, query, data, module_server):
    method = data.draw(st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE"]))
    path = data.draw(st.sampled_from([SMTP, TEST, OWN, "/KeyfactorAPI/Status/Endpoints", "/livez", "/"]))
    text = query.encode("utf-8", "ignore").decode()
    sent = [(name.encode(), value) for name, value in headers]
    accepts = module_server.request(method, path, params={text: text, "dry_run": text}, headers=sent, json=BASIC)
    if accepts.status_code != 307:
        accepts_or_complains(accepts)


# --- What is put is what is got ------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30)
SECRETS = TEXTS.filter(lambda text: any(character.isalnum() for character in text))
LABELS = st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ADDRESSES = st.builds("{}@{}.example.org".format, LABELS, LABELS)
TOKEN = st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,10}", fullmatch=True)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
COMMON = {
    "Host": HOSTS,
    "Port": st.integers(1, 65535),
    "UseSSL": st.booleans(),
    "SenderAccount": ADDRESSES,
    "SenderName": TEXTS,
}
GIVEN = st.fixed_dictionaries({"SecretValue": SECRETS})
PROFILES = st.one_of(
    st.fixed_dictionaries(COMMON | {"RelayAuthenticationType": st.just(0)}),
    st.fixed_dictionaries(
        COMMON | {"RelayAuthenticationType": st.just(2), "RelayUsername": GIVEN, "RelayPassword": GIVEN}
    ),
    st.fixed_dictionaries(
        COMMON
        | {"RelayAuthenticationType": st.sampled_from([3, 4]), "ClientId": GIVEN, "ClientSecret": GIVEN}
        | {"TokenEndpoint": st.builds("https://{}/{}".format, HOSTS, LABELS)},
        optional={
            "Scope": TEXTS,
            "Audience": TEXTS,
            "RequestHeaders": st.lists(
                st.fixed_dictionaries({"Name": TOKEN, "Value": VISIBLE}), min_size=1, max_size=3
            ),
        },
    ),
)
OPTIONAL = ("RelayUsername", "RelayPassword", "ClientId", "ClientSecret")
OPTIONAL += ("TokenEndpoint", "Scope", "Audience", "RequestHeaders")
NOTHING = dict.fromkeys(OPTIONAL)


@settings(max_examples=60)
@given(body=PROFILES)
def test_what_is_put_in_version_2_is_what_get_shows(body, module_server):
    answer = module_server.put_v2(body)
    assert answer.status_code == 200, answer.text
    expected = NOTHING | {"Id": 1} | body | {"RelayPassword": None, "ClientSecret": None}
    for name in ("RelayUsername", "ClientId"):
        if expected[name]:
            expected[name] = expected[name] | {"Parameters": None, "Provider": None}
    assert answer.json() == expected
    assert module_server.get(SMTP, headers=V2).content == answer.content


@settings(max_examples=60)
@given(body=PROFILES.filter(lambda body: body["RelayAuthenticationType"] < 3), as_form=st.booleans())
def test_what_is_put_in_version_1_is_what_get_shows(body, as_form, module_server):
    plain = {key: value["SecretValue"] if isinstance(value, dict) else value for key, value in body.items()}
    sent = {"data": {key: str(value) for key, value in plain.items()}} if as_form else {"json": plain}
    answer = module_server.put(SMTP, headers=V1, **sent)
    assert answer.status_code == 200, answer.text
    expected = {"RelayUsername": None, "Id": 1} | plain | {"SenderAddress": plain["SenderAccount"]}
    expected.pop("RelayPassword", None)
    assert answer.json() == expected
    assert module_server.get(SMTP, headers=V1).content == answer.content


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "host": st.none() | HOSTS,
        "port": st.none() | st.integers(1, 65535),
        "use_ssl": st.booleans(),
        "sender_account": st.none() | ADDRESSES,
        "sender_name": st.none() | TEXTS,
        "token_endpoint": st.none() | st.just("https://login.example.org/other"),
        "scope": st.none() | TEXTS,
        "audience": st.none() | TEXTS,
        "request_headers": st.none() | st.just([{"name": "X-A", "value": "b"}]),
        "client_id": st.none() | st.fixed_dictionaries({"secret_value": SECRETS}),
        "client_secret": st.none() | st.fixed_dictionaries({"secret_value": SECRETS}),
    },
)
NEEDED = {"host", "port", "sender_account", "sender_name", "token_endpoint", "client_id", "client_secret"}
BINDS = ("host", "port", "token_endpoint", "scope", "audience", "client_id")


@hunt
@given(change=CHANGES)
def test_a_patch_does_what_a_simple_model_says(change, module_server):
    configure(module_server)
    before = module_server.get(OWN).json()
    after = before | {field: value for field, value in change.items() if field != "client_secret"}
    after["request_headers"] = after["request_headers"] or []
    moves = any(after[field] != before[field] for field in BINDS) or security(after) != security(before)
    allowed = not any(change.get(field, "kept") is None for field in NEEDED) and (
        "client_secret" in change or not moves
    )
    answer = module_server.patch(OWN, json=change)
    if not allowed:
        complaint(answer, 400)
        after = before
    else:
        assert answer.status_code == 200, answer.text
    shown = module_server.get(OWN).json()
    assert shown.pop("client_secret")["stored"] is True
    after.pop("client_secret")
    assert shown == after


def configure(server: LiveServer) -> None:
    if server.get(OWN).json()["authentication"] != "oauth_client_credentials":
        server.put_v2(OAUTH).raise_for_status()


def security(profile: dict[str, Any]) -> str:
    if not profile["use_ssl"]:
        return "when offered"
    return "from the start" if profile["port"] == 465 else "required"
