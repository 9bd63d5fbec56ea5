"""What the README shows is what happens."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pages
import pytest

from live import Command, clean_environment, run_keyrelay

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
# (language, text) of every fenced block, in order.
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# Every request with the answer that stands below it. They are run in the order of the page.
REQUESTS = [
    (command, answer)
    for (_, command), (language, answer) in pairwise(BLOCKS)
    if command.startswith("curl ") and language in {"json", "http"} and "/messages" not in command
]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """``keyrelay serve`` as ``make run`` starts it, on a free port and with its data elsewhere."""
    with serving({"KEYRELAY_DATA_DIR": str(tmp_path_factory.mktemp("readme"))}) as command:
        yield command


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[Command]:
    command = Command.serve(environment)
    try:
        command.wait_until_alive()
        yield command
    finally:
        command.stop()


def test_the_first_start_prints_what_the_readme_shows(started):
    printed = re.sub(r"data in .*/keyrelay\.db", "data in .keyrelay/keyrelay.db", "\n".join(started.printed) + "\n")
    printed = printed.replace(started.url, "http://127.0.0.1:8080")
    shown = [text for language, text in BLOCKS if language == "text"]
    assert re.sub(r"(\w{5}-){3}\w{5}", "xxxxx-xxxxx-xxxxx-xxxxx", printed) == shown[0]


def test_the_requests_of_the_readme_get_the_answers_shown(started):
    pages.require_program("curl")
    assert len(REQUESTS) == 3
    for request, shown in REQUESTS:
        assert without_chance(run(request, started)) == without_chance(shown), request


def test_the_test_of_a_relay_that_misbehaves_prints_what_the_readme_shows(tmp_path):
    relay, commands = (text for _, text in BLOCKS if "chaos-relay" in text or "smtp test" in text)
    shown = [text for language, text in BLOCKS if language == "text"][1]
    environment = programs()
    with running(relay) as port:
        script = commands.replace(".venv/bin/", "").replace("2525", port).replace("=.keyrelay", f"={tmp_path}/data")
        done = subprocess.run(["bash", "-c", script], capture_output=True, env=environment, text=True, check=False)
    printed = done.stdout.partition("\n")[2].replace(port, "2525")
    assert (without_times(printed), done.returncode) == (without_times(shown), 1), done.stderr


def test_what_is_handed_in_goes_out_and_the_readme_shows_what_became_of_it(tmp_path):
    pages.require_program("curl")
    at = next(index for index, (_, text) in enumerate(BLOCKS) if "/api/v1/messages" in text)
    (_, request), (_, answer), (_, commands), (_, shown) = BLOCKS[at : at + 4]
    (relay,) = re.findall(r"`(\.venv/bin/keyrelay chaos-relay [^`]*)`", README)
    environment = programs() | {"KEYRELAY_DATA_DIR": str(tmp_path / "data")}
    with running(relay) as port, serving(environment) as server:
        profile = {"host": "localhost", "port": int(port), "sender_account": "pki@example.org", "sender_name": "PKI"}
        assert run_keyrelay(environment, "smtp", "set", "-", given=json.dumps(profile)).returncode == 0
        assert pages.without_chance(run(request, server)) == pages.without_chance(answer)
        done = pages.typed(commands.replace(".venv/bin/", ""), environment, tmp_path)
    assert (pages.without_chance(done.stdout), done.stderr) == (pages.without_chance(shown), "")


def programs() -> dict[str, str]:
    """The environment of somebody who types what stands here."""
    return clean_environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "dumb"}


@contextmanager
def running(relay: str) -> Iterator[str]:
    """The relay that such a line starts, on a free port."""
    here = relay.replace(".venv/bin/", "").replace("--port 2525", "--port 0")
    environment = programs() | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        ["bash", "-c", "exec " + here], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        yield re.search(r"port (\d+)", process.stdout.readline())[1]
        process.terminate()


def without_times(text: str) -> list[str]:
    return [re.sub(r" +\d+\.\d ms", " - ms", line).rstrip() for line in text.splitlines()]


def test_the_password_in_the_readmes_request_is_in_none_of_the_answers():
    put = json.loads(re.search(r"-d '(.*?)'", REQUESTS[0][0], re.DOTALL).group(1))
    assert put["RelayPassword"]["SecretValue"] not in "".join(answer for _, answer in REQUESTS)


def test_the_readme_names_both_commands_of_the_front_door():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    assert {"make run", "make test"} <= set(re.findall(r"^make \w+", README, re.MULTILINE))


def run(request: str, server: Command) -> str:
    environment = clean_environment() | {
        "PASSWORD": server.password,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "*",
    }
    ran = subprocess.run(
        ["sh", "-euc", request.replace("http://127.0.0.1:8080", server.url)],
        env=environment,
        capture_output=True,
        timeout=30,
        check=True,
    )
    return ran.stdout.decode().replace("\r\n", "\n").rstrip("\n") + "\n"


def without_chance(answer: str) -> str:
    """An answer without what differs from one run to the next."""
    answer = re.sub(r"(?m)^date: .*", "date: then", answer)
    answer = re.sub(r'"request_id": "[0-9a-f]{16}"', '"request_id": "ID"', answer)
    return re.sub(r'(?m)^etag: "(\d+)-[0-9a-f]+-(v\d)"', r'etag: "\1-0-\2"', answer)
