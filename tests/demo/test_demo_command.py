"""``keyrelay demo``: what it prints works, all of it stays on this machine, and nothing of it stays."""

import os
import re
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from demo_process import eventually, started
from keyrelay.demo import example_mail
from keyrelay.demo.catcher import ANSWERS, LOST
from live import clean_environment, keyrelay, run_keyrelay


def inbox_of(demo) -> str:
    return httpx2.get(demo.inbox, trust_env=False).raise_for_status().text


def diagnosed(demo, recipient: str) -> dict:
    return demo.client().post("/api/v1/diagnoses", json={"recipient": recipient}).raise_for_status().json()


def test_the_urls_that_it_prints_answer_on_one_host(demo):
    assert httpx2.get(demo.documents, trust_env=False).status_code == 200
    assert "Inbox of the mail catcher" in inbox_of(demo)
    assert httpx2.get(demo.url + "/readyz", trust_env=False).status_code == 200
    urls = re.findall(r"https?://[^/\s)]+", demo.printed)
    assert {url.rpartition(":")[0] for url in urls} == {"http://127.0.0.1"}


def test_everything_that_listens_does_so_on_loopback_alone(demo):
    family = demo.family()
    assert len(family) == 2, "the demo and its server"
    listening = [address for number in family for address in listeners(number)]
    assert len(listening) == 6, listening
    assert {address for address, _ in listening} == {"127.0.0.1"}


def listeners(process: int) -> list[tuple[str, int]]:
    """Where a process listens, by what the system knows."""
    files = Path(f"/proc/{process}/fd").iterdir()
    targets = {str(file.readlink()) for file in files if file.is_symlink()}
    found = []
    for table, width in (("tcp", 8), ("tcp6", 32), ("udp", 8), ("udp6", 32)):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            bound = state == "0A" or table.startswith("udp")
            if bound and f"socket:[{inode}]" in targets:
                number, _, port = local.partition(":")
                name = socket.inet_ntoa(bytes.fromhex(number)[::-1]) if width == 8 else number
                found.append((name, int(port, 16)))
    return found


def test_the_profile_works_and_the_message_is_at_the_catcher(demo):
    report = diagnosed(demo, "ops@example.org")
    assert report["verdict"] == "ok", report
    verdicts = {finding["stage"]: finding["verdict"] for finding in report["stages"]}
    assert {verdicts[name] for name in ("vault", "tls", "token", "auth", "data")} == {"ok"}, verdicts
    listed = re.findall(r'<a href="(/messages/\d+)">([^<]*)</a></th>\n<td>([^<]*)</td>', inbox_of(demo))
    (path,) = [path for path, _, recipient in listed if recipient == "ops@example.org"]
    shown = httpx2.get(demo.inbox + path[1:], trust_env=False).text
    assert "<dt>Over TLS</dt><dd>yes</dd>" in shown
    assert "<dt>Signed in as</dt><dd>pki@demo.example</dd>" in shown
    assert report["message_id"] in shown.replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.parametrize(
    ("domain", "code"), [("refused", 550), ("blocked", 554), ("full", 452), ("busy", 451), ("Refused", 550)]
)
def test_the_addresses_that_it_names_get_what_it_says(demo, domain, code):
    report = diagnosed(demo, f"somebody@{domain}.example")
    assert (report["verdict"], report["failed_stage"]) == ("failed", "recipient")
    assert report["stages"][-2]["reply"]["code"] == code


def test_the_sign_in_can_be_changed_to_basic_with_the_entry_that_is_kept_here(demo):
    client = demo.client()
    basic = {
        "authentication": "basic",
        "relay_username": {"secret_value": "mailer"},
        "relay_password": {"provider": 2, "parameters": {"SecretName": "smtp-password"}},
    }
    report = client.post("/api/v1/diagnoses", json={"profile": basic, "recipient": "basic@example.org"}).json()
    assert report["verdict"] == "ok", report
    wrong = {**basic, "relay_password": {"secret_value": "forged"}}
    report = client.post("/api/v1/diagnoses", json={"profile": wrong, "recipient": "basic@example.org"}).json()
    assert report["failed_stage"] == "auth", report


def test_the_people_whose_passwords_it_prints_may_what_it_says(demo):
    paths = ["/api/v1/profile", "/api/v1/messages", "/KeyfactorAPI/PamProviders", "/KeyfactorAPI/Audit"]
    may = {user: [demo.client(user).get(path).status_code for path in paths] for user in ("auditor", "helpdesk")}
    assert may == {"auditor": [200, 200, 200, 200], "helpdesk": [403, 200, 403, 403]}
    refused = demo.client("auditor").patch(
        "/api/v1/profile", content='{"port": 26}', headers={"content-type": "application/merge-patch+json"}
    )
    assert refused.status_code == 403


def test_the_outbox_has_something_of_everything_to_show(demo):
    client = demo.client()

    def states():
        listed = client.get("/api/v1/messages", params={"limit": 200}).json()["messages"]
        found = [message["state"] for message in listed]
        return found if "sending" not in found and found.count("queued") <= 1 else None

    found = eventually(states)
    assert {"accepted", "refused", "deferred", "held", "queued"} <= set(found)
    assert len(found) == len(list(example_mail.messages(datetime.now(UTC))))


def test_the_profile_has_a_history_and_its_secret_is_in_the_vault(demo):
    client = demo.client()
    profile = client.get("/api/v1/profile").json()
    assert profile["client_secret"] == {"provider": 1, "parameters": {"Secret": "mail", "Key": "client-secret"}}
    assert profile["authentication"] == "oauth_client_credentials"
    printed = run_keyrelay({"KEYRELAY_DATA_DIR": str(demo.data_dir)}, "smtp", "history", "--json")
    assert '"revision": 2' in printed.stdout, printed


def test_a_port_that_is_taken_is_one_clear_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_keyrelay({"TMPDIR": str(tmp_path)}, "demo", "--port", port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert "[port_in_use]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_is_refused_and_left_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    done = run_keyrelay({}, "demo", "--port", "0", "--data-dir", str(mine))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "[data_dir_unusable]" in done.stderr
    assert [(file.name, file.read_text()) for file in mine.iterdir()] == [("letter", "dear")]


@pytest.mark.long
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_within_seconds_and_leaves_nothing(tmp_path, sign):
    with started(tmp_path) as demo:
        assert list(demo.passing.iterdir()), "there was something to remove"
        admin = ("admin", demo.password("admin"))
        with httpx2.stream("GET", demo.url + "/api/v1/events", auth=admin) as events:  # somebody is listening still
            assert events.status_code == 200
            family, began = demo.family(), time.monotonic()
            assert demo.end(sign) == (0, "")
            assert time.monotonic() - began < 10
        assert [number for number in family if Path(f"/proc/{number}/cmdline").exists()] == []
        assert list(demo.passing.iterdir()) == []


@pytest.mark.long
def test_it_ends_with_an_error_when_its_server_does(tmp_path):
    with started(tmp_path) as demo:
        (server,) = demo.family() - {demo.process.pid}
        os.kill(server, signal.SIGKILL)
        demo.process.communicate(timeout=20)
        demo.errors.seek(0)
        assert (demo.process.returncode, demo.errors.read()) == (
            1,
            "keyrelay: The server has ended by itself. Look into its log with --data-dir. [unsuitable]\n",
        )
        assert list(demo.passing.iterdir()) == []


@pytest.mark.long
def test_data_that_are_kept_can_be_looked_at_afterwards_and_all_else_is_gone(tmp_path):
    """And what is set for another keyrelay is none of its business."""
    kept = tmp_path / "kept"
    others = {"KEYRELAY_DATABASE_URL": "postgresql://nobody@localhost/none", "KEYRELAY_HOST": "0.0.0.0"}
    with started(tmp_path, "--data-dir", str(kept), environment=others) as demo:
        assert demo.data_dir == kept
        assert demo.end() == (0, "")
        assert list(demo.passing.iterdir()) == []
    listed = run_keyrelay({"KEYRELAY_DATA_DIR": str(kept)}, "user", "list")
    assert ["admin" in listed.stdout, "auditor" in listed.stdout, "helpdesk" in listed.stdout] == [True] * 3


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8, 1.6])
def test_it_ends_cleanly_when_it_has_hardly_begun(tmp_path, seconds):
    process = subprocess.Popen(
        [keyrelay(), "demo", "--port", "0"],
        env=clean_environment() | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "Starting the demo.\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=20)
    *begun, stopped = printed.splitlines()
    assert (process.returncode, stopped, errors) == (0, "Stopped.", "")
    assert begun == [] or begun[-1] == "Stop with Ctrl+C."  # a machine in a hurry is up by then
    assert list(tmp_path.iterdir()) == []


def test_the_page_about_the_demo_shows_what_it_prints(demo):
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    shown = re.search(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    printed = demo.printed.removeprefix("Starting the demo.\n\n")
    for place, number in ((demo.url, 8080), (demo.inbox.removesuffix("/"), 40001), (demo.issuer, 40002)):
        printed = printed.replace(place, f"http://127.0.0.1:{number}")
    printed = printed.replace(str(demo.data_dir.parent), "DIRECTORY")
    assert re.sub(r"(\w{5}-){3}\w{5}", "xxxxx-xxxxx-xxxxx-xxxxx", printed) == shown


def test_the_page_about_the_demo_names_every_domain_and_its_answer():
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `([\w.]+\.example)` \| (\S+ ?[\d.]*)", page, re.MULTILINE))
    assert named == {domain: answer[:9] for domain, answer in ANSWERS.items()} | {LOST: "none: "}
