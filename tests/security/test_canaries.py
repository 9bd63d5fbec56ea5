"""No secret ever leaves: canaries are planted in every place that takes a secret, and searched for everywhere."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from canary import leaks, new_canary
from live import BASIC, OAUTH, SMTP, V1, V2, Command, run_keyrelay
from postgres import Cluster

OWN = "/api/v1/profile"
TEST = SMTP + "/Test"
OWN_BASIC = {
    "host": "smtp.example.org",
    "port": 587,
    "use_ssl": True,
    "sender_account": "pki@example.org",
    "sender_name": "PKI",
    "authentication": "basic",
    "relay_username": {"secret_value": "mailer"},
}
OWN_OAUTH = {
    "host": "smtp.example.org",
    "port": 587,
    "use_ssl": True,
    "sender_account": "pki@example.org",
    "sender_name": "PKI",
    "authentication": "oauth_client_credentials",
    "client_id": {"secret_value": "client"},
    "token_endpoint": "https://login.example.org/token",
}


@dataclass
class Scene:
    """A server with its database after every kind of request was made, and all that could be seen of it."""

    environment: dict[str, str]
    hidden: dict[str, str] = field(default_factory=dict)
    visible: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    log: bytes = b""
    commands: bytes = b""
    database: bytes = b""

    def plant(self, name: str) -> str:
        assert name not in self.hidden, name
        self.hidden[name] = new_canary()
        return self.hidden[name]

    def show(self, name: str) -> str:
        return self.visible.setdefault(name, new_canary())

    def keep(self, response: httpx2.Response) -> None:
        response.read()
        headers = b"\n".join(name + b": " + value for name, value in response.headers.raw)
        told = f"{response.request.method} {response.request.url.path} {response.status_code}"
        self.answers.append((told, headers + b"\n\n" + response.content))

    def command(self, *arguments: str, given: str = "", fails: bool = False) -> None:
        done = run_keyrelay(self.environment, *arguments, given=given)
        assert (done.returncode != 0) == fails, done.stderr
        self.commands += f"{done.stdout}\n{done.stderr}\n".encode()


@pytest.fixture(scope="module", params=["sqlite text", "postgresql json"])
def scene(request, tmp_path_factory) -> Iterator[Scene]:
    kind, form = request.param.split()
    directory = tmp_path_factory.mktemp("canaries")
    scene = Scene({"KEYRELAY_DATA_DIR": str(directory), "KEYRELAY_LOG_LEVEL": "debug", "KEYRELAY_LOG_FORMAT": form})
    master_key = (scene.plant("master key") + scene.plant("master key, rest")).encode()[:32]
    scene.environment["KEYRELAY_MASTER_KEY"] = base64.b64encode(master_key).decode()
    scene.environment["KEYRELAY_ADMIN_PASSWORD"] = scene.plant("admin password")
    if kind == "postgresql":
        url, password = _postgresql_database(request.getfixturevalue("postgres"), scene.plant("database password"))
        scene.environment["KEYRELAY_DATABASE_URL"] = url
    command = Command.serve(scene.environment)
    try:
        _play(scene, command.url)
    finally:
        scene.log = "\n".join([*command.printed, *command.stop()]).encode()
    scene.database = _dump(url, password) if kind == "postgresql" else _sqlite_files(directory)
    return scene


def _postgresql_database(cluster: Cluster, password: str) -> tuple[str, str]:
    cluster.execute(f"DROP ROLE IF EXISTS canary; CREATE ROLE canary LOGIN PASSWORD '{password}'")
    url = cluster.empty_database()
    name = url.rpartition("/")[2]
    cluster.execute(f'ALTER DATABASE "{name}" OWNER TO canary')
    return f"postgresql://canary:{password}@127.0.0.1:{cluster.port}/{name}", password


def _dump(url: str, password: str) -> bytes:
    programs = Cluster.programs()
    assert programs is not None
    shown = url.replace(f":{password}@", "@")
    done = subprocess.run(
        [programs / "pg_dump", "--dbname", shown], env={"PGPASSWORD": password}, capture_output=True, check=True
    )
    return done.stdout


def _sqlite_files(directory: Path) -> bytes:
    with (
        closing(sqlite3.connect(directory / "keyrelay.db")) as source,
        closing(sqlite3.connect(directory / "backup.db")) as target,
    ):
        source.backup(target)
    return b"\n".join(file.read_bytes() for file in directory.iterdir() if file.is_file())


def _play(scene: Scene, url: str) -> None:
    with httpx2.Client(
        base_url=url, auth=("admin", scene.hidden["admin password"]), event_hooks={"response": [scene.keep]}
    ) as client:
        _good_changes(scene, client)
        _bad_changes(scene, client)
        _unreadable_bodies(scene, client)
        _strangers(scene, client)
    _on_the_command_line(scene)


def _good_changes(scene: Scene, client: httpx2.Client) -> None:
    plant = scene.plant

    def changed(response: httpx2.Response) -> None:
        assert response.status_code == 200, response.text
        for headers in (V1, V2):
            client.get(SMTP, headers=headers)
        client.get(OWN)

    named = {"RelayUsername": {"SecretValue": scene.show("user name")}}
    basic = BASIC | named | {"RelayPassword": {"SecretValue": plant("PUT v2 password")}}
    changed(client.put(SMTP, headers=V2, json=basic))
    oauth = OAUTH | {"ClientId": {"SecretValue": scene.show("client id")}}
    oauth["ClientSecret"] = {"SecretValue": plant("PUT v2 client secret")}
    changed(client.put(SMTP, headers=V2, json=oauth))
    v1 = BASIC | {"RelayUsername": scene.show("v1 user name")}
    changed(client.put(SMTP, headers=V1, json=v1 | {"RelayPassword": plant("PUT v1 password")}))
    changed(client.put(SMTP, headers=V1, data=v1 | {"RelayPassword": plant("PUT v1 form password")}))
    for style, body, secret in (("basic", OWN_BASIC, "relay_password"), ("oauth", OWN_OAUTH, "client_secret")):
        changed(client.put(OWN, json=body | {secret: {"secret_value": plant(f"PUT {style}")}}))
        changed(client.patch(OWN, json={secret: {"secret_value": plant(f"PATCH {style}")}}))
        for method in ("PUT", "PATCH"):
            given = body | {secret: {"secret_value": plant(f"dry {method} {style}")}}
            changed(client.request(method, OWN, params={"dry_run": "true"}, json=given))
    test = {"TestRecipient": "ops@example.org"}
    client.post(TEST, headers=V2, json=BASIC | test | {"RelayPassword": {"SecretValue": plant("Test v2 password")}})
    client.post(TEST, headers=V2, json=OAUTH | test | {"ClientSecret": {"SecretValue": plant("Test v2 client secret")}})
    client.post(TEST, headers=V1, json=v1 | test | {"RelayPassword": plant("Test v1 password")})


def _bad_changes(scene: Scene, client: httpx2.Client) -> None:
    """Secrets in bodies that can be read and are refused."""
    targets = [
        ("PUT v1", "PUT", SMTP, V1, BASIC | {"RelayUsername": "mailer"}, "RelayPassword", False, "Port"),
        ("PUT v2", "PUT", SMTP, V2, BASIC, "RelayPassword", True, "Port"),
        ("PUT v2 oauth", "PUT", SMTP, V2, OAUTH, "ClientSecret", True, "Port"),
        ("Test v1", "POST", TEST, V1, BASIC, "RelayPassword", True, "Port"),
        ("Test v2", "POST", TEST, V2, OAUTH, "ClientSecret", True, "Port"),
        ("PATCH", "PATCH", OWN, {}, OWN_BASIC, "relay_password", True, "port"),
        ("PUT", "PUT", OWN, {}, OWN_OAUTH, "client_secret", True, "port"),
    ]
    for name, method, path, headers, body, secret, is_object, port in targets:
        snake = path == OWN
        value, provider, parameters = (
            ("secret_value", "provider", "parameters") if snake else ("SecretValue", "Provider", "Parameters")
        )

        def planted(what: str, name: str = name) -> str:
            return scene.plant(f"{name}: {what}")

        def given(text: object, *, is_object: bool = is_object, value: str = value) -> object:
            return {value: text} if is_object else text

        bodies: list[dict[str, object]] = [
            {secret: given(planted("beside a wrong type")), port: "many"},
            {secret: [planted("in a list")]},
            {secret: {"x": planted("in a foreign object")}},
            {secret: given([planted("as a list")])},
            {secret: given({"x": planted("as an object")})},
            {secret: given(planted("too long") * 500)},
            {secret: given(planted("with control characters") + "\r\n\0")},
            {secret: given(planted("with half a pair") + "\ud800")},
            {secret: {provider: planted("as a provider")}},
            {secret: {provider: 77, parameters: {"SecretName": planted("as a parameter")}}},
            {secret: {provider: 77, parameters: planted("as parameters")}},
            {secret: {provider: 77, value: planted("with a provider")}},
            {port: planted("as a port")},
            {("use_ssl" if snake else "UseSSL"): planted("as a flag")},
            {("request_headers" if snake else "RequestHeaders"): planted("as headers")},
        ]
        for changes in bodies:
            refused = client.request(method, path, headers=headers, content=json.dumps(body | changes))
            # Parameters mean nothing without a provider, version 1 has no headers and no objects.
            assert refused.status_code in {200, 400, 501}, refused.text
        twice = json.dumps(body | {secret: given(planted("given twice"))})
        again = json.dumps({secret: given(planted("given twice, again"))})
        client.request(method, path, headers=headers, content=f"{twice[:-1]}, {again[1:]}")
        stale = {**headers, "if-match": '"1-0"'}
        client.request(method, path, headers=stale, json=body | {secret: given(planted("to another revision"))})
        unknown = {**headers, "x-keyfactor-api-version": "7"}
        client.request(method, path, headers=unknown, json=body | {secret: given(planted("in version 7"))})
        for media in ("application/xml", "text/plain", "application/x-www-form-urlencoded"):
            odd = {**headers, "content-type": media}
            content = json.dumps(body | {secret: given(planted("as " + media))})
            client.request(method, path, headers=odd, content=content)


def _unreadable_bodies(scene: Scene, client: httpx2.Client) -> None:
    for method, path, headers in (
        ("PUT", SMTP, V1),
        ("PUT", SMTP, V2),
        ("POST", TEST, V1),
        ("POST", TEST, V2),
        ("PUT", OWN, {}),
        ("PATCH", OWN, {}),
    ):
        start = f'{{"{"relay_password" if path == OWN else "RelayPassword"}": '
        for what, before, after in (
            ("cut off", '"', ""),
            ("without quotes", "", "}"),
            ("with single quotes", "'", "'}"),
            ("not UTF-8", '"', '\xff"}'),
            ("with a raw line break", '"', '\n"}'),
            ("too large", '"', "x" * 300_000 + '"}'),
            ("too deep", '"', '", "x": ' + "[" * 100_000),
            ("in a list", '[{"x": "', '"}]'),
            ("before a long number", '"', '", "x": ' + "9" * 5000 + "}"),
        ):
            canary = scene.plant(f"{method} {path} {headers.get('x-keyfactor-api-version')} {what}")
            body = (start + before + canary + after).encode("latin-1")
            refused = client.request(
                method, path, headers={**headers, "content-type": "application/json"}, content=body
            )
            assert refused.status_code in {400, 413}, refused.text
    form = {**V1, "content-type": "application/x-www-form-urlencoded"}
    for what, text in (
        ("as bad percent", "Host=h&RelayPassword={}%ff"),
        ("as raw octets", "Host=h&RelayPassword={}\xe4"),
        ("with bare ampersands", "Host=h&RelayPassword=a&{0}&{0}"),
        ("alone", "{}"),
    ):
        content = text.format(scene.plant("form " + what)).encode("latin-1")
        client.put(SMTP, headers=form, content=content)


def _strangers(scene: Scene, client: httpx2.Client) -> None:
    """Secrets sent by those who may not, and passwords that are wrong."""
    weak, roleless = scene.plant("password of a reader"), scene.plant("password without a role")
    scene.command("role", "add", "reader", "--permission", "/system_settings/read/")
    scene.command("user", "add", "weak", "--role", "reader", "--password-file", "-", given=weak)
    scene.command("user", "add", "roleless", "--password-file", "-", given=roleless)
    for name, auth, status in (
        ("reader", ("weak", weak), 403),
        ("roleless", ("roleless", roleless), 403),
        ("wrong password", ("admin", scene.plant("wrong password")), 401),
        ("unknown user", ("nobody", scene.plant("password of nobody")), 401),
    ):
        body = BASIC | {"RelayPassword": {"SecretValue": scene.plant(f"PUT by {name}")}}
        refused = client.put(SMTP, headers=V2, json=body, auth=auth)
        assert refused.status_code == status, refused.text
        own = client.patch(OWN, json={"relay_password": {"secret_value": scene.plant(f"PATCH by {name}")}}, auth=auth)
        assert own.status_code == status, own.text
    bare = httpx2.Client(base_url=client.base_url, event_hooks=client.event_hooks)
    for name, header in (
        ("Bearer", "Bearer {}"),
        ("Basic, not base64", "Basic {}!"),
        ("no scheme", "{}"),
        ("Negotiate", "Negotiate {}"),
    ):
        refused = bare.get(SMTP, headers={"authorization": header.format(scene.plant(name))})
        assert refused.status_code == 401
    no_colon = base64.b64encode(scene.plant("Basic without a colon").encode()).decode()
    assert bare.get(SMTP, headers={"authorization": f"Basic {no_colon}"}).status_code == 401
    bare.close()


def _on_the_command_line(scene: Scene) -> None:
    scene.command("user", "passwd", "weak", "--password-file", "-", given=scene.plant("changed password"))
    scene.command("user", "list", "--json")
    good = OWN_BASIC | {"relay_password": {"secret_value": scene.plant("smtp set")}}
    scene.command("smtp", "set", "-", given=json.dumps(good))
    for what, body in (
        ("with a wrong port", '{{"relay_password": {{"secret_value": "{}"}}, "port": -1}}'),
        ("as text", '{{"relay_password": "{}"}}'),
        ("cut off", '{{"relay_password": "{}'),
    ):
        text = body.format(scene.plant("smtp set " + what))
        scene.command("smtp", "set", "-", given=text, fails=True)
    for command in ("get", "history"):
        scene.command("smtp", command)
        scene.command("smtp", command, "--json")
    scene.command("smtp", "restore", "1")
    scene.command("keys", "rotate")


def test_no_answer_holds_a_secret(scene):
    assert len(scene.answers) > 200
    seen = set(leaks(scene.hidden, b"\n".join(answer for _, answer in scene.answers)))
    traitors = {name: scene.hidden[name] for name in seen}
    assert {told: found for told, answer in scene.answers if (found := leaks(traitors, answer))} == {}


def test_no_log_line_at_debug_level_holds_a_secret(scene):
    assert b"sign-in failed" in scene.log
    assert leaks(scene.hidden, scene.log) == []


def test_neither_history_nor_any_command_prints_a_secret(scene):
    assert b"relay_password" in scene.commands
    assert leaks(scene.hidden, scene.commands) == []


def test_the_database_holds_no_secret_in_the_clear(scene):
    assert b"smtp.example.org" in scene.database
    assert leaks(scene.hidden, scene.database) == []


def test_the_database_holds_user_names_and_client_ids_encrypted_too(scene):
    assert leaks(scene.visible, b"\n".join(answer for _, answer in scene.answers)) == list(scene.visible)
    assert leaks(scene.visible, scene.database + scene.log) == []


@pytest.mark.parametrize("disguise", [str, str.upper, json.dumps, "say {} again".format])
def test_the_search_itself_finds_a_secret(disguise):
    canary = new_canary().lower() if disguise is not str.upper else new_canary().upper()
    for seen in (
        disguise(canary).encode(),
        canary[5:11].encode(),
        canary.encode().hex().encode(),
        base64.b64encode(b"admin:" + canary.encode()),
        base64.b64encode(b"x" + canary.encode()),
        base64.b64encode(b"xy" + canary.encode() + b"z"),
    ):
        assert leaks({"it": canary}, b"before " + seen + b" after") == ["it"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@127.0.0.1:1/db",
        "postgresql://u:x[{}]@127.0.0.1:1/db",
        "postgresql://u:{}\u2100x@127.0.0.1:1/db",
        "postgresql://u:1/{}@127.0.0.1:1/db",
        "postgresql://u:{}#1@127.0.0.1:1/db",
        "postgresql://u:{}@127.0.0.1:x/db",
        "postgresql://127.0.0.1:1/db?user=u&password={}&sslmode=x",
        "mysql://u:{}@127.0.0.1/db",
        "{}",
    ],
)
def test_a_database_url_that_cannot_be_used_is_not_repeated(url, tmp_path):
    canary = new_canary()
    environment = {"KEYRELAY_DATABASE_URL": url.format(canary), "KEYRELAY_DATA_DIR": str(tmp_path)}
    done = run_keyrelay(environment | {"KEYRELAY_LOG_LEVEL": "debug"}, "smtp", "get")
    assert done.returncode == 1
    assert leaks({"database password": canary}, (done.stdout + done.stderr).encode()) == []


@pytest.mark.parametrize("name", ["KEYRELAY_MASTER_KEY", "KEYRELAY_PREVIOUS_MASTER_KEY"])
def test_a_setting_that_cannot_be_used_is_not_repeated(name, tmp_path):
    canary = new_canary()
    done = run_keyrelay({name: canary, "KEYRELAY_DATA_DIR": str(tmp_path)}, "smtp", "get")
    assert done.returncode == 1
    assert leaks({name: canary}, (done.stdout + done.stderr).encode()) == []
