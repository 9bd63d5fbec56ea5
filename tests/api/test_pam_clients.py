"""What published clients send, byte for byte over a socket, and what they need to find in the answers.

kfutil 1.8 is built on generated code: headers in Go's spelling, camelCase or PascalCase keys, a query in percent
encoding. keyfactor-go-client 3 sends the body ``null`` where there is none, and repeats a request that took too long
with nothing but its body.
"""

from __future__ import annotations

import base64
import json
import socket
from urllib.parse import urlsplit

import pytest
from pam_kit import PROVIDERS, TYPES, VAULT, VAULT_VALUES, entries, type_named

from live import ADMIN_PASSWORD, LiveServer

BASIC = "Authorization: Basic " + base64.b64encode(rf"KEYFACTOR\admin:{ADMIN_PASSWORD}".encode()).decode()
# Go's net/http writes these first, and the others sorted by name.
KFUTIL = (
    "User-Agent: OpenAPI-Generator/1.0.0/go",
    "Accept: application/json",
    BASIC,
    "X-Keyfactor-Api-Version: 1",
    "X-Keyfactor-Requested-With: APIClient",
    "Accept-Encoding: gzip",
)
GO_CLIENT = (
    "User-Agent: Go-http-client/1.1",
    "Accept: application/json",
    BASIC,
    "Content-Type: application/json",
    "X-Keyfactor-Api-Version: 1",
    "X-Keyfactor-Requested-With: APIClient",
    "Accept-Encoding: gzip",
)
GO_REPEAT = ("User-Agent: Go-http-client/1.1", BASIC, "Accept-Encoding: gzip")
NULL = b"null"


class Wire:
    """One connection, kept open from request to request as these clients do."""

    def __init__(self, server: LiveServer) -> None:
        address = urlsplit(server.url)
        self._host = address.netloc
        self._socket = socket.create_connection((address.hostname, address.port), timeout=20)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, line: str, headers: tuple[str, ...], body: bytes | None = None) -> Heard:
        first, *others = headers
        head = [f"{line} HTTP/1.1", f"Host: {self._host}", first]
        head += [] if body is None else [f"Content-Length: {len(body)}"]
        self._socket.sendall("\r\n".join([*head, *others, "", ""]).encode() + (body or b""))
        return self._answer()

    def _answer(self) -> Heard:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        return Heard(status, headers, self._file.read(length))


class Heard:
    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status, self.headers, self.content = status, headers, content

    def json(self):
        """The body, for a decoder that is chosen by finding "json" in the type."""
        assert "json" in self.headers["content-type"]
        return json.loads(self.content)

    def message(self) -> str:
        """What these clients print of an error."""
        answer = self.json()
        assert list(answer) == ["ErrorCode", "Message"]
        assert "FailedOperations" not in answer
        return answer["Message"]


@pytest.fixture
def wire(server):
    connection = Wire(server)
    yield connection
    connection.close()


def camel(value):
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: camel(inner) for key, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def encoded(value) -> bytes:
    """As Go's encoder writes it: no spaces, and these three characters escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode() + b"\n"


# --- kfutil ----------------------------------------------------------------------------------------------------

# The integration manifest of the vault's extension, as kfutil pam types-create posts it.
VAULT_TYPE = {
    "Name": VAULT,
    "Parameters": [
        {"Name": "Host", "DisplayName": "Vault Host", "DataType": 1, "InstanceLevel": False},
        {"Name": "Token", "DisplayName": "Vault Token", "DataType": 2, "InstanceLevel": False},
        {"Name": "Path", "DisplayName": "KV Engine Path", "DataType": 1, "InstanceLevel": False},
        {"Name": "Secret", "DisplayName": "KV Secret Name", "DataType": 1, "InstanceLevel": True},
        {"Name": "Key", "DisplayName": "KV Secret Key", "DataType": 1, "InstanceLevel": True},
    ],
}


def major(heard: Heard) -> int:
    return int(heard.headers["x-keyfactor-product-version"].split(".")[0])


@pytest.mark.parametrize("spell", [lambda value: value, camel], ids=["PascalCase", "camelCase"])
def test_kfutil_makes_changes_and_deletes_a_provider(server, wire, spell):
    probe = wire.ask("GET /KeyfactorAPI/Status/Endpoints", GO_CLIENT)
    assert probe.status == 200
    assert all(isinstance(each, str) for each in probe.json())
    assert major(probe) < 12

    headers = (*KFUTIL[:3], "Content-Type: application/json", *KFUTIL[3:])
    kind = wire.ask(f"POST {TYPES}", headers, encoded(spell(VAULT_TYPE)))
    assert kind.status == 200
    ids = {parameter["Name"]: parameter["Id"] for parameter in kind.json()["Parameters"]}
    listed = wire.ask(f"GET {TYPES}", KFUTIL)
    assert kind.json() in listed.json()

    given = [
        {"Value": value, "ProviderTypeParam": {"Id": ids[name], "Name": name}} for name, value in VAULT_VALUES.items()
    ]
    sent = {"Name": "My <vault> & I", "Area": 1, "ProviderType": {"Id": kind.json()["Id"]}, "Remote": False}
    sent |= {"ProviderTypeParamValues": given, "SecuredAreaId": None}
    made = wire.ask(f"POST {PROVIDERS}", headers, encoded(spell(sent)))
    assert made.status == 200, made.content
    number = made.json()["Id"]
    assert made.json()["Name"] == "My <vault> & I"

    for blank in ("%20", "+"):
        query = f"pq.queryString=name{blank}-eq{blank}%22My{blank}%3Cvault%3E{blank}%26{blank}I%22"
        assert wire.ask(f"GET {PROVIDERS}?{query}", KFUTIL).json() == [made.json()]
    assert wire.ask(f"GET {PROVIDERS}?pq.queryString=name%20-eq%20%22X%22", KFUTIL).json() == []
    assert wire.ask(f"GET {PROVIDERS}", KFUTIL).json() == [made.json()]
    assert wire.ask(f"GET {PROVIDERS}/{number}", KFUTIL).json() == made.json()

    changed = wire.ask(f"PUT {PROVIDERS}", headers, encoded(spell({**sent, "Id": number, "Name": "Renamed"})))
    assert changed.status == 200, changed.content
    assert changed.json()["Name"] == "Renamed"
    again = wire.ask(f"PUT {PROVIDERS}", headers, encoded(spell(changed.json())))  # exported, and imported again
    assert (again.status, again.json()) == (200, changed.json())

    gone = wire.ask(f"DELETE {PROVIDERS}/{number}", KFUTIL)
    assert (gone.status, gone.content) == (204, b"")
    missing = wire.ask(f"GET {PROVIDERS}/{number}", KFUTIL)
    assert missing.status == 404
    assert str(number) in missing.message()


def test_kfutil_is_told_what_is_wrong_in_a_sentence(wire):
    headers = (*KFUTIL[:3], "Content-Type: application/json", *KFUTIL[3:])
    refused = wire.ask(f"POST {PROVIDERS}", headers, encoded({"Name": "X", "ProviderType": {}}))
    assert refused.status == 400
    assert "ProviderType" in refused.message()


def test_kfutil_finds_the_version_it_can_work_with_in_every_answer(wire):
    for line in (f"GET {PROVIDERS}", f"GET {PROVIDERS}/99", f"GET {TYPES}"):
        assert major(wire.ask(line, KFUTIL)) < 12


# --- keyfactor-go-client ---------------------------------------------------------------------------------------


def go(value) -> bytes:
    """The same client's bodies end without a line."""
    return encoded(value).rstrip(b"\n")


@pytest.mark.parametrize("headers", [GO_CLIENT, GO_REPEAT], ids=["at first", "repeated"])
def test_the_go_client_works_through_a_providers_life(server, wire, headers):
    types = wire.ask(f"GET {TYPES}", headers, NULL)
    assert types.status == 200
    (local,) = [kind for kind in types.json() if kind["Name"] == "LocalDB"]
    # Its structure for a type has no omitempty on the object, so that the name comes along.
    sent = {"Name": "Mail secrets", "Area": 1, "ProviderType": {"Id": local["Id"], "Name": "LocalDB"}}
    made = wire.ask(f"POST {PROVIDERS}", headers, go(sent))
    assert made.status == 200, made.content
    number = made.json()["Id"]
    assert wire.ask(f"GET {PROVIDERS}/{number}", headers, NULL).json() == made.json()
    query = "QueryString=name%20-eq%20%22mail%20secrets%22&PageReturned=1&ReturnLimit=10&SortField=Name&SortAscending=0"
    assert wire.ask(f"GET {PROVIDERS}?{query}", headers, NULL).json() == [made.json()]

    entry = {"SecretName": "smtp-pass", "Description": "for the relay", "SecretValue": "value"}
    kept = wire.ask(f"POST {entries(number)}", headers, go(entry))
    assert kept.status == 200, kept.content
    assert kept.json() == {"ProviderId": number, "SecretName": "smtp-pass", "Description": "for the relay"}
    assert wire.ask(f"GET {entries(number)}", headers, NULL).json() == [kept.json()]
    changed = wire.ask(f"PUT {entries(number)}", headers, go({"SecretName": "smtp-pass", "SecretValue": "another"}))
    assert changed.status == 200
    gone = wire.ask(f"DELETE {entries(number)}?secretName=smtp-pass", headers, NULL)
    assert (gone.status, gone.content) == (204, b"")

    renamed = wire.ask(f"PUT {PROVIDERS}", headers, go({"Id": number, **sent, "Name": "Renamed"}))
    assert (renamed.status, renamed.json()["Name"]) == (200, "Renamed")
    assert wire.ask(f"DELETE {PROVIDERS}/{number}", headers, NULL).status == 204
    missing = wire.ask(f"DELETE {PROVIDERS}/{number}", headers, NULL)
    assert missing.status == 404
    assert missing.message()  # JSON: otherwise it says only that it cannot connect


def test_the_go_client_registers_and_deletes_a_type(wire):
    sent = {"Name": "1Password-CLI", "Parameters": [{"Name": "Vault", "DataType": 1}, {"Name": "Token", "DataType": 2}]}
    made = wire.ask(f"POST {TYPES}", GO_CLIENT, go(sent))
    assert made.status == 200
    assert made.json()["Name"] == "1Password-CLI"
    assert wire.ask(f"DELETE {TYPES}/{made.json()['Id']}", GO_CLIENT, NULL).status == 204


def test_the_go_client_prints_why_something_is_in_use(server, wire):
    kind = type_named(server, "LocalDB")
    number = wire.ask(f"POST {PROVIDERS}", GO_CLIENT, go({"Name": "A", "ProviderType": {"Id": kind["Id"]}})).json()[
        "Id"
    ]
    refused = wire.ask(f"DELETE {TYPES}/{kind['Id']}", GO_CLIENT, NULL)
    assert refused.status == 400
    assert "A" in refused.message()
    assert number


@pytest.mark.parametrize("body", [NULL, b"null\n", b"", b"{}", b"not JSON"])
def test_whatever_body_comes_with_a_get_or_a_delete_is_ignored(server, wire, body):
    assert wire.ask(f"GET {PROVIDERS}", GO_CLIENT, body).json() == []
    kind = type_named(server, "LocalDB")
    number = wire.ask(f"POST {PROVIDERS}", GO_CLIENT, go({"Name": "A", "ProviderType": {"Id": kind["Id"]}})).json()[
        "Id"
    ]
    assert wire.ask(f"DELETE {PROVIDERS}/{number}", GO_CLIENT, body).status == 204


# --- Scripts ---------------------------------------------------------------------------------------------------


def test_a_script_in_its_own_spelling_works(server, wire):
    headers = ("Accept: */*", BASIC, "X-Keyfactor-Requested-With: XMLHttpRequest", "x-keyfactor-appkey: anything")
    listed = wire.ask(
        "GET /KeyfactorApi/PamProviders?pq.queryString=Name%20-contains%20%22x%22&pq.returnLimit=5", headers
    )
    assert (listed.status, listed.json()) == (200, [])
