"""Values of the right type that no mail server, address or port can have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from endpoints import SNAKE, Endpoint, each_endpoint, refused

from complaints import OWN, complaint, nothing_changes
from live import OAUTH


@pytest.fixture(autouse=True)
def _configured(module_server):
    if module_server.get_v2()["ClientId"] is None:
        module_server.put_v2(OAUTH).raise_for_status()


PORTS = [-1, -25, 65536, 99999, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**64, 10**40, "-1", "65536", "9" * 40]
RAW_NUMBERS = ["1e2", "25.0", "1E400", "-1e-400", "9" * 4000, "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000]
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "+25", "025", "0x19", ".5", "25.", "1_000"]


@each_endpoint
def test_ports_that_cannot_be_are_refused(endpoint, module_server):
    port = "port" if endpoint.path == OWN else "Port"
    with nothing_changes(module_server):
        for value in PORTS:
            refused(module_server, endpoint, endpoint.body | {port: value}, port)
        without = json.dumps({key: value for key, value in endpoint.body.items() if key != port})[:-1]
        for number in RAW_NUMBERS + NO_NUMBERS:
            refused(module_server, endpoint, f'{without}, "{port}": {number}}}'.encode())


BAD_ADDRESSES = ["x", "@", "a@", "@b.example", "a@b@c.example", "a b@c.example", "a@b c", "PKI <a@b.example>"]
BAD_ADDRESSES += ["a@b..example", ".a@b.example", "a.@b.example", "a..a@b.example", "a@-b.example", "a@b_c.example"]
BAD_ADDRESSES += ["a@b.example,c@d.example", "a@b.example;", "a@[999.1.1.1]", "a@[1.2.3"]
BAD_ADDRESSES += [
    "a@" + "b" * 64 + ".example",
    "a@" + "b." * 200 + "example",
    "mailto:a@b.example",
    '"a@b.example',
    "\\",
]
BAD_HOSTS = ["https://smtp.example.org", "smtp://h", "//h", "h/x", "smtp example org", " h", "h ", "<h>", '"h"', "h\\x"]
BAD_HOSTS += ["smtp.example.org:587", "[::1]:25", "[::1", "::1]", "[]", "[1.2.3.4", ":::", "::1%", '::1%a"b', "1::2::3"]
BAD_HOSTS += ["a..b", ".", "..", ".a", "-a.example", "a-.example", "a" * 64 + ".example", "a" * 300, "a." * 200 + "b"]
BAD_HOSTS += ["1.2.3.4.5", "256.1.1.1", "1.2.3", "12", "0x7f.1", "user@h", "a,b", "*", "*.example.org", "?", "a\u3000b"]
BAD_HOSTS += ["\U0001f600.example.org", "\U0001f4e7", "a\u200b.example", "\u202eh.example", "xn--\u00e4.example"]
BAD_URLS = [
    "login.example.org",
    "http://login.example.org/token",
    "ftp://h/x",
    "https://",
    "https:///x",
    "https://h:0/x",
]
BAD_URLS += ["https://h:99999/x", "https://h:x/", "https://u:p@h/x", "https://u@h/x", "https://h/x#y", "https://h/a b"]
BAD_URLS += [
    "https://[::1/x",
    "https://h\u00e4/x",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "https://" + "a" * 3000,
]
BAD_HEADERS = [
    ("", "a"),
    ("X A", "a"),
    ("X:A", "a"),
    ("X\u00e4", "a"),
    ("a" * 200, "a"),
    ("X-A", " a"),
    ("X-A", "\u00e4"),
]
BAD_HEADERS += [("Host", "a"), ("content-length", "1"), ("Transfer-Encoding", "chunked"), ("CONNECTION", "close")]
ODD = {
    "Host": [
        "smtp",
        "smtp.example.org.",
        "a_b.example",
        "127.0.0.1",
        "::1",
        "xn--bcher-kva.example",
        "b\u00fccher.example",
    ],
    "SenderAccount": [
        "a+b@example.org",
        "pki@localhost",
        "pki@corp.local",
        "pki@server",
        "a@[127.0.0.1]",
        "j\u00f6rg@example.org",
    ],
    "SenderName": ["PKI, the <mailer>", '"quoted"', "\u00fc\u4e2d\U0001f600", "a" * 255, "="],
    "Port": [1, 65535, 25, 465],
    "TokenEndpoint": ["https://h:8443/a/b?c=d", "https://[::1]/token", "HTTPS://Login.Example.ORG/t"],
}
VALUES = {
    "Host": BAD_HOSTS,
    "SenderAccount": BAD_ADDRESSES,
    "TestRecipient": BAD_ADDRESSES,
    "TokenEndpoint": BAD_URLS,
    "RelayAuthenticationType": [1, 5, -1, 99, "1", 2**31 - 1],
    "RequestHeaders": [[{"Name": name, "Value": value}] for name, value in BAD_HEADERS] + [[{"Name": "X-A"}] * 33],
}


def spelled(value: Any, endpoint: Endpoint) -> Any:
    if isinstance(value, list):
        return [{endpoint.key(key): text for key, text in header.items()} for header in value]
    return value


@each_endpoint
@pytest.mark.parametrize("field", VALUES)
def test_values_that_cannot_be_are_refused_by_name(endpoint, field, module_server):
    name = SNAKE.get(field, field) if endpoint.path == OWN else field
    accepted = []
    with nothing_changes(module_server):
        for value in VALUES[field] if name in endpoint.kinds else []:
            answer = endpoint.send(module_server, endpoint.body | {name: spelled(value, endpoint)})
            if answer.status_code in {200, 501}:
                accepted.append(value)
            else:
                assert name in complaint(answer, 400)
        assert accepted == []


def test_values_that_only_look_odd_are_accepted(module_server):
    for field, values in ODD.items():
        for value in values:
            answer = module_server.put_v2(OAUTH | {field: value})
            assert answer.status_code == 200, f"{value}: {answer.text}"
            assert answer.json()[field] == value
