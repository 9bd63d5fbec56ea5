"""A hunt for a 500 through everything that the PAM API takes: bodies, paths, queries; and a simple model of entries."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pam_kit import PROVIDERS, TYPES, VAULT, VAULT_VALUES, body, entries, entry, local, provider, type_named, vault

from complaints import complaint
from keyrelay.pam import providers as keeping
from live import BASIC, SMTP, V1, V2, LiveServer

hunt = settings(max_examples=250)

KEYS = [
    *("Id", "Name", "Area", "ProviderType", "ProviderTypeParamValues", "SecuredAreaId", "Remote", "Value"),
    *("InstanceId", "InstanceGuid", "ProviderTypeParam", "DisplayName", "DataType", "InstanceLevel", "Parameters"),
    *("SecretName", "SecretValue", "Description", "Provider"),
]
TEXTS = st.sampled_from(
    ["", "a", "\0", "\r\n", "\ud800", "***", "Host", "Token", "SecretName", VAULT, "LocalDB", "1", "{}"]
)
NUMBERS = st.integers(-3, 12) | st.integers(-(2**33), 2**33) | st.just(10**30)
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
ANY_KEYS = st.sampled_from(KEYS) | st.sampled_from(KEYS).map(str.lower) | st.text(max_size=6) | TEXTS
ANYTHING = st.recursive(
    LEAVES | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_KEYS, inner, max_size=5),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def stocked(module_server) -> LiveServer:
    module_server.hunted = (provider(module_server, "Local"), vault(module_server, "Vault"))
    entry(module_server, module_server.hunted[0], "kept")
    module_server.bodies = {
        "POST provider": body(module_server, "New", VAULT, VAULT_VALUES),
        "PUT provider": {
            **body(module_server, "Vault", VAULT, VAULT_VALUES),
            "Id": module_server.hunted[1],
            "Remote": False,
        },
        "POST type": {"Name": "New", "Parameters": type_named(module_server, VAULT)["Parameters"]},
        "POST entry": {"SecretName": "new", "SecretValue": "value", "Description": "about it"},
        "PUT entry": {"SecretName": "kept", "SecretValue": "value", "Description": "about it"},
        "PUT profile": {**BASIC, "RelayUsername": local(1), "RelayPassword": local(module_server.hunted[0])},
    }
    return module_server


PLACES: dict[str, Callable[[int], tuple[str, str]]] = {
    "POST provider": lambda _: ("POST", PROVIDERS),
    "PUT provider": lambda _: ("PUT", PROVIDERS),
    "POST type": lambda _: ("POST", TYPES),
    "POST entry": lambda number: ("POST", entries(number)),
    "PUT entry": lambda number: ("PUT", entries(number)),
    "PUT profile": lambda _: ("PUT", SMTP),
}


@st.composite
def spoiled(draw: st.DrawFn, value: Any, depth: int = 3) -> Any:
    """A valid body with a few things changed, taken away or added, inside it too."""
    if not depth or draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    if isinstance(value, dict):
        made = {key: draw(spoiled(inner, depth - 1)) if draw(st.booleans()) else inner for key, inner in value.items()}
        for key in draw(st.lists(st.sampled_from(sorted(value)) | ANY_KEYS, max_size=2)):
            if draw(st.booleans()):
                made.pop(key, None)
            else:
                made[key] = draw(ANYTHING)
        return made
    if isinstance(value, list):
        return [draw(spoiled(inner, depth - 1)) if draw(st.booleans()) else inner for inner in value]
    return draw(ANYTHING) if draw(st.booleans()) else value


def works_or_complains(answer: Any) -> None:
    if answer.status_code not in {200, 204}:
        complaint(answer)


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setattr(keeping, "_MOST_PROVIDERS", 30)
    monkeypatch.setattr(keeping, "_MOST_TYPES", 60)


@pytest.mark.parametrize("place", PLACES)
@hunt
@given(data=st.data())
def test_no_body_leads_to_a_500(place, data, stocked):
    sent = data.draw(spoiled(stocked.bodies[place]) | st.dictionaries(ANY_KEYS, ANYTHING, max_size=8))
    method, path = PLACES[place](stocked.hunted[0])
    headers = data.draw(st.sampled_from([V1, V2])) | {"content-type": "application/json"}
    works_or_complains(stocked.request(method, path, content=json.dumps(sent), headers=headers))
    works_or_complains(stocked.get(PROVIDERS, headers=headers))


SEGMENTS = st.sampled_from(
    ["PamProviders", "Types", "Local", "Entries", "1", "2", "0", "x", "%00", "%0a", "%2f", "..", ""]
)
QUERIES = st.dictionaries(
    st.sampled_from(
        ["QueryString", "pq.queryString", "PageReturned", "ReturnLimit", "SortField", "SortAscending", "secretName"]
    ),
    st.sampled_from(["", "1", "-1", "Name", "SecretName", 'Name -eq "a"', "Name -eq", "\0", "((", "99999999999"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    max_size=3,
)


@hunt
@given(
    segments=st.lists(SEGMENTS | st.integers(-1, 2**40).map(str), max_size=4),
    query=QUERIES,
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    version=st.sampled_from([V1, V2]),
)
def test_no_path_and_no_query_leads_to_a_500(segments, query, method, version, stocked):
    path = "/".join([PROVIDERS, *segments])
    # Clients take dot segments out before they send: such a path is another operation's, or the start page's.
    assume(posixpath.normpath(path).startswith(PROVIDERS))
    if method == "DELETE" and any(str(number) in segments for number in stocked.hunted):
        method = "GET"  # they are needed again
    works_or_complains(stocked.request(method, path, params=query, headers=version, json={}))


@settings(max_examples=60)
@given(octets=st.binary(max_size=60), place=st.sampled_from(sorted(PLACES)))
def test_no_octets_lead_to_a_500(octets, place, stocked):
    method, path = PLACES[place](stocked.hunted[0])
    whole = json.dumps(stocked.bodies[place]).encode()
    middle = len(whole) // 2
    headers = {**V1, "content-type": "application/json"}
    works_or_complains(stocked.request(method, path, content=octets, headers=headers))
    spoilt = whole[:middle] + octets + whole[middle:]
    works_or_complains(stocked.request(method, path, content=spoilt, headers=headers))


# --- Entries do what a simple model says -----------------------------------------------------------------------

PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
NAMES = st.sampled_from(["a", "A", "ä", "a b", "a/b", "'", '"', "%", "\\", "名"]) | PLAIN
SECRETS = PLAIN.filter(lambda text: any(character.isalnum() for character in text))
STEPS = st.lists(
    st.tuples(st.sampled_from(["POST", "PUT", "DELETE"]), NAMES, SECRETS | st.none(), PLAIN | st.none()), max_size=8
)


@settings(max_examples=40)
@given(steps=STEPS)
def test_entries_are_what_was_last_said_of_them(steps, stocked):
    number = provider(stocked, "Modelled")
    model: dict[str, str | None] = {}
    try:
        for method, name, secret, description in steps:
            sent = {"SecretName": name, "SecretValue": secret, "Description": description}
            if method == "DELETE":
                answer = stocked.request("DELETE", entries(number), params={"secretName": name})
                assert answer.status_code == (204 if name in model else 404), answer.text
                model.pop(name, None)
                continue
            answer = stocked.request(method, entries(number), json=sent)
            possible = name in model if method == "PUT" else (name not in model and secret is not None)
            assert (answer.status_code == 200) == possible, answer.text
            if possible:
                model[name] = description
        shown = stocked.get(entries(number)).json()
        assert {each["SecretName"]: each["Description"] for each in shown} == model
    finally:
        stocked.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
