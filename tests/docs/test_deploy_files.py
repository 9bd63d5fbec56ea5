"""What the files of docs/deploy start works, and all that they name is there."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pages
import pytest
import trustme
from deployments import COMPOSE, DOCKERFILE, PAGE, SETS, Stated, named

from keyrelay import listening, settings
from keyrelay.cli import app
from keyrelay.outbox.worker import Pace
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, ANONYMOUS, SMTP, V2, Command, clean_environment, keyrelay
from relaying import running

_STORE_SECONDS = 10  # that the database may take for the last words of a node
_MASTER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

NODES = [pytest.param(node, id=f"{name}: {node.command[0]}") for name, nodes in SETS.items() for node in nodes]


@pytest.mark.parametrize("node", NODES)
def test_a_node_of_the_manifests_has_settings_that_there_are_and_files_that_are_mounted(node, tmp_path):
    files = {name for name, text in node.environment.items() if text.startswith("/")}
    assert files, "its secrets are in files"
    for name in files:
        assert node.environment[name] in node.mounts, name
    there = secrets("postgresql://keyrelay@postgres/keyrelay", tmp_path)
    read = settings.read(dict(node.environment) | {name: there[node.mounts[node.environment[name]]] for name in files})
    assert (read.master_key, read.admin_password) == (_MASTER_KEY, ADMIN_PASSWORD)
    assert read.database_url.startswith("postgresql://")


def test_the_certificate_of_the_database_is_checked_with_an_authority_that_is_mounted():
    _, _, query = named("Secret", "keyrelay")["stringData"]["database-url"].partition("?")
    mode, authority = (pair.partition("=")[2] for pair in query.split("&"))
    assert mode == "verify-full"
    for node in SETS["kubernetes"]:
        assert node.mounts[authority] == "database-ca.pem"


@pytest.mark.parametrize("node", NODES)
def test_a_node_of_the_manifests_is_started_by_a_command_that_there_is(node):
    pages.require_command(node.command)
    assert f'ENTRYPOINT ["{app.name[0]}"]\n' in DOCKERFILE


@pytest.mark.parametrize("node", NODES)
def test_a_node_of_the_manifests_has_time_to_settle_what_is_under_way(node):
    server = listening.options(Settings())["timeout_graceful_shutdown"]
    wanted = Pace().goodbye if node.command == ["worker"] else server + node.before_stop
    assert node.grace >= wanted + _STORE_SECONDS


@pytest.mark.parametrize("name", SETS)
def test_all_nodes_of_a_manifest_have_the_same_settings_but_for_listening(name):
    server, worker = SETS[name]
    beside = set(server.environment.items()) - set(worker.environment.items())
    assert worker.environment.items() <= server.environment.items()
    assert {variable for variable, _ in beside} <= {
        *("KEYRELAY_HOST", "KEYRELAY_PORT", "KEYRELAY_TLS_CERT", "KEYRELAY_TLS_KEY", "KEYRELAY_ALLOW_PLAIN_HTTP"),
    }


def test_the_images_are_postgresql_and_one_of_your_own():
    images = {service["image"] for service in COMPOSE["services"].values()} | {
        node.image for node in SETS["kubernetes"]
    }
    assert images == {"postgres:15", "keyrelay:latest"}
    assert "docker build -f docs/deploy/Dockerfile -t keyrelay .\n" in PAGE


def test_the_services_reach_the_ports_that_the_servers_listen_on():
    (port,) = COMPOSE["services"]["server"]["ports"]
    assert port == f"127.0.0.1:8080:{COMPOSE['services']['server']['environment']['KEYRELAY_PORT']}"
    server = SETS["kubernetes"][0]
    service = named("Service", "keyrelay")["spec"]
    (listens,) = named("Deployment", "keyrelay")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert str(listens["containerPort"]) == server.environment["KEYRELAY_PORT"]
    assert {each["targetPort"] for each in service["ports"]} == {listens["name"]}
    assert service["selector"] == server.labels != SETS["kubernetes"][1].labels
    assert {probe["httpGet"]["port"] for probe in server.probes} == {listens["name"]}
    for name in ("keyrelay", "keyrelay-worker"):
        spec = named("Deployment", name)["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_a_rolling_update_takes_no_pod_away_before_another_is_ready():
    told = re.search(r"`maxSurge: (\d+)`, `maxUnavailable: (\d+)`", PAGE)
    for name in ("keyrelay", "keyrelay-worker"):
        rolling = named("Deployment", name)["spec"]["strategy"]["rollingUpdate"]
        assert (
            rolling
            == {"maxSurge": int(told[1]), "maxUnavailable": int(told[2])}
            == {"maxSurge": 1, "maxUnavailable": 0}
        )


# --- What they start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_what_a_manifest_starts_takes_mail_in_and_sends_it(name, postgres, tmp_path):
    server, worker = SETS[name]
    values = secrets(postgres.empty_database(), tmp_path)
    with running() as relay, started(server, values, tmp_path) as (url, client):
        for probe in server.probes:
            assert is_well(probe, url), probe
        profile = ANONYMOUS | {"Host": "127.0.0.1", "Port": relay.port}
        client.put(SMTP, json=profile, headers=V2).raise_for_status()
        message = client.post("/api/v1/messages", json={"to": "ops@example.org", "text": "x"}).raise_for_status().json()
        assert [node["works"] for node in client.get("/api/v1/outbox").json()["nodes"]] == [False]
        with subprocess.Popen([keyrelay(), *worker.command], env=environment(worker, values, tmp_path)) as process:
            try:
                wait_until_accepted(client, message["id"])
            finally:
                process.terminate()
        assert process.returncode == 0
    assert not (tmp_path / "data").exists(), "a node on PostgreSQL writes no files: its file system may be read-only"


def secrets(database_url: str, directory: Path) -> dict[str, str]:
    """What the files hold that the manifests mount."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems).decode()
    given = {"database_url": database_url, "master_key": _MASTER_KEY, "admin_password": ADMIN_PASSWORD}
    given |= {name.replace("_", "-"): text for name, text in given.items()}
    given |= {"tls.crt": chain, "tls.key": certificate.private_key_pem.bytes().decode()}
    return {name: written(directory, text, name) for name, text in given.items()}


def written(directory: Path, text: str, name: str = "file") -> str:
    (directory / name).write_text(text)
    return str(directory / name)


def environment(node: Stated, files: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The node's environment, on this machine: files are elsewhere, and only loopback is listened on."""
    here = {name: files[node.mounts[text]] if text in node.mounts else text for name, text in node.environment.items()}
    moved = {"KEYRELAY_HOST": "127.0.0.1", "KEYRELAY_PORT": "0"}
    here |= {name: text for name, text in moved.items() if name in here}
    return clean_environment() | here | {"KEYRELAY_DATA_DIR": str(directory / "data")}


class started:  # noqa: N801 - a context
    """A server node, and a client that is signed in there."""

    def __init__(self, node: Stated, files: Mapping[str, str], directory: Path) -> None:
        assert node.command[0] == "serve"
        self._command = Command.serve(environment(node, files, directory), *node.command[1:])

    def __enter__(self) -> tuple[str, httpx2.Client]:
        self._command.wait_until_alive()
        url = self._command.url
        self._client = httpx2.Client(base_url=url, auth=("admin", ADMIN_PASSWORD), verify=False, timeout=30)
        return url, self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._command.stop()


def is_well(probe: Any, url: str) -> bool:
    """What the probe finds, as the machinery makes it: without a look at the certificate."""
    if isinstance(probe, dict):
        asked = probe["httpGet"]
        assert url.startswith(asked.get("scheme", "HTTP").lower() + "://")
        return httpx2.get(url + asked["path"], verify=False, timeout=10).status_code == 200
    kind, program, *arguments = probe
    assert (kind, program) == ("CMD", "python")
    here = [argument.replace("http://127.0.0.1:8080", url) for argument in arguments]
    assert here != arguments
    return subprocess.run([sys.executable, *here], env=clean_environment(), timeout=30, check=False).returncode == 0


def wait_until_accepted(client: httpx2.Client, message: str) -> None:
    deadline = time.monotonic() + 30
    while (state := client.get(f"/api/v1/messages/{message}").json()["state"]) != "accepted":
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


# --- The image ------------------------------------------------------------------------------------------------


def test_the_image_has_all_that_keyrelay_is_made_of(tmp_path):
    source = tmp_path / "src"
    for names, place in re.findall(r"^COPY (.+) /src(/\S*)$", DOCKERFILE, re.MULTILINE):
        for name in names.split():
            copy(pages.ROOT / name, source / place.strip("/"), into=place.endswith("/"))
    install = "pip install --no-cache-dir --no-deps --no-build-isolation /src\n"
    assert DOCKERFILE.index("COPY src ") < DOCKERFILE.index(install)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("keyrelay-*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    assert (tmp_path / "installed" / "keyrelay" / "store" / "migrations" / "versions").is_dir()
    assert "--require-hashes -r /src/requirements/run.txt -r /src/requirements/build.txt" in DOCKERFILE


def copy(source: Path, target: Path, *, into: bool) -> None:
    """As COPY does: a directory's content, and a file into a directory when that is said with a slash."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    assert into, source
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def test_the_image_is_not_run_by_root_and_its_settings_are_there():
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")
    pages.require_settings(DOCKERFILE)
    pages.require_command(["serve"])
    assert '\nCMD ["serve"]\n' in DOCKERFILE
