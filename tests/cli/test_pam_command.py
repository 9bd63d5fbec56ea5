"""``keyrelay pam``, as an administrator types it: secrets come in by every way but an argument, and never out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest

from canary import leaks, new_canary
from keyrelay.cli.pam import EXIT_CODES
from keyrelay.pam.backend import Problem
from live import Command, clean_environment, run_keyrelay
from live import keyrelay as program
from pam.double import Answered, page, says
from vaulting import TYPE, SimpleVault

WANTED = ("--param", "Secret=mail/smtp", "--param", "Key=value")


@pytest.fixture
def vault(tmp_path) -> Iterator[SimpleVault]:
    with SimpleVault(tmp_path) as vault:
        vault.secrets["mail/smtp"] = new_canary()
        yield vault


def added(vault: SimpleVault, *secret: str, **values: str) -> tuple[str, ...]:
    """The command that adds a provider for this vault, with its token given as ``secret`` says."""
    given = {"Host": vault.url, "Path": "v1/secret/data", **values}
    return (
        *("pam", "add", "Vault", "--type", TYPE),
        *(f"--set={name}={value}" for name, value in given.items()),
        *(f"--set-secret={each}" for each in secret),
    )


def tried(keyrelay, vault: SimpleVault, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return keyrelay.run("pam", "try", *arguments, CA_BUNDLE=str(vault.authority), **variables)


@pytest.fixture
def local(keyrelay) -> Any:
    """The command, with a local provider and an entry in it."""
    keyrelay.ok("pam", "add", "Local secrets", "--type", "LocalDB")
    keyrelay.ok("pam", "entry", "add", "Local secrets", "smtp", "--secret-file=-", given="of the entry\n")
    return keyrelay


def providers(keyrelay) -> list[str]:
    return [one["name"] for one in keyrelay.read("pam", "list")]


# --- Types ---------------------------------------------------------------------------------------------------


def test_types_are_listed_with_their_parameters(keyrelay):
    table = keyrelay.ok("pam", "types")
    assert re.search(r"^Type +With the provider +With each use *\n", table)
    (text,) = re.findall(r"^Hashicorp-Vault (.*\n(?: .*\n)*)", table, re.MULTILINE)
    assert text.split() == ["Host", "Secret", "Token*", "Key", "Path", "[Namespace]"]
    assert table.endswith("\n* is secret; [ ] may be left out.\n")


def test_types_as_json_say_all_there_is_to_know(keyrelay):
    kinds = {kind["name"]: kind for kind in keyrelay.read("pam", "types")}
    assert {"LocalDB", "Mounted-File", "Environment", TYPE, "AWS-SecretsManager"} <= set(kinds)
    delinea = {one["name"]: one for one in kinds["Delinea-SecretServer"]["parameters"]}
    assert (delinea["Password"]["secret"], delinea["Host"]["secret"]) == (True, False)
    assert (delinea["SecretId"]["with_each_use"], delinea["Host"]["with_each_use"]) == (True, False)
    azure = {one["name"]: one for one in kinds["Azure-KeyVault"]["parameters"]}
    assert (azure["AuthorityHost"]["required"], azure["AuthorityHost"]["default"]) == (False, "public")
    assert (kinds["LocalDB"]["usable"], kinds["LocalDB"]["install"]) == (True, None)


@pytest.fixture
def without_aws(tmp_path) -> dict[str, str]:
    """An environment in which the library for AWS is not installed."""
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "botocore.py").write_text("raise ImportError('not here')\n")
    return {"PYTHONPATH": str(tmp_path / "lacking")}


def test_a_type_whose_library_is_missing_says_how_to_install_it(keyrelay, without_aws):
    done = run_keyrelay(keyrelay.environment | without_aws, "pam", "types")
    assert re.search(r"^AWS-SecretsManager .*\n +needs: pip install keyrelay\[aws\] ", done.stdout, re.MULTILINE)
    done = run_keyrelay(keyrelay.environment | without_aws, "pam", "types", "--json")
    kinds = {kind["name"]: kind["install"] for kind in json.loads(done.stdout)}
    assert kinds["AWS-SecretsManager"] == "pip install keyrelay[aws]"
    assert kinds["Hashicorp-Vault"] is None


# --- Adding: where a secret may come from --------------------------------------------------------------------


def test_a_secret_is_read_from_standard_input(keyrelay, vault):
    assert keyrelay.ok(*added(vault, "Token=-"), given=vault.token + "\n") == (
        "Provider Vault added; its number is 1.\n"
    )
    assert tried(keyrelay, vault, "Vault", *WANTED).returncode == 0


def test_a_secret_is_read_from_a_file_without_its_last_line_end(keyrelay, vault, written):
    keyrelay.ok(*added(vault, f"Token=@{written(vault.token + chr(13) + chr(10))}"))
    assert tried(keyrelay, vault, "1", *WANTED).returncode == 0


def test_several_secrets_come_from_where_each_is(keyrelay, written):
    planted = {"user": new_canary(), "password": new_canary()}
    secrets = ("--set-secret=Username=-", f"--set-secret=Password=@{written(planted['password'])}")
    command = ("pam", "add", "Server", "--type", "delinea-secretserver", "--set=Host=https://127.0.0.1:1", *secrets)
    keyrelay.ok(*command, given=planted["user"])
    (shown,) = keyrelay.read("pam", "list")
    assert (shown["name"], shown["type"], shown["remote"]) == ("Server", "Delinea-SecretServer", False)
    assert shown["values"]["Host"] == "https://127.0.0.1:1"
    for name in ("Username", "Password"):
        assert set(shown["values"][name]) == {"stored", "given_at"}
    assert leaks(planted, json.dumps(shown).encode()) == []


class Terminal:
    """The command on a terminal of its own, as a person sits before it."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._ours, theirs = os.openpty()
        self.shown = ""
        self._process = subprocess.Popen(
            [program(), *arguments],
            env=clean_environment() | environment,
            # getpass asks on the terminal that controls the process, which must not be that of who runs the tests.
            preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 - no threads matter to it
        )
        os.close(theirs)

    def answer(self, prompt: str, text: str) -> None:
        """Wait for a prompt, and type."""
        while not self.shown.endswith(prompt):
            self._read()
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """Wait for the end, and give the exit code."""
        try:
            while True:
                self._read()
        except OSError:  # nobody has the other side open any more
            return self._process.wait(30)
        finally:
            os.close(self._ours)

    def _read(self) -> None:
        part = os.read(self._ours, 4096)
        if not part:
            raise OSError("closed")
        self.shown += part.decode()


def test_a_secret_is_asked_for_on_a_terminal_and_not_shown_there(keyrelay, vault):
    terminal = Terminal(keyrelay.environment, *added(vault, "Token"))
    terminal.answer("Token: ", vault.token)
    terminal.answer("Once more: ", vault.token)
    assert terminal.end() == 0
    assert "Provider Vault added" in terminal.shown
    assert leaks({"token": vault.token}, terminal.shown.encode()) == []
    assert tried(keyrelay, vault, "Vault", *WANTED).returncode == 0


def test_a_secret_typed_in_two_ways_is_none(keyrelay, vault):
    terminal = Terminal(keyrelay.environment, *added(vault, "Token"))
    terminal.answer("Token: ", vault.token)
    terminal.answer("Once more: ", vault.token + "x")
    assert terminal.end() == 1
    assert "The two differ." in terminal.shown
    assert providers(keyrelay) == []


def test_without_a_terminal_nothing_is_asked(keyrelay, vault):
    line = keyrelay.refused("unsuitable", *added(vault, "Token"), given=vault.token)
    assert "no terminal to ask for Token" in line
    assert providers(keyrelay) == []


def test_a_secret_is_never_an_argument_and_one_that_is_is_not_repeated(keyrelay, vault):
    token = vault.token
    for arguments, told in (
        (added(vault, Token=token), "an argument is seen by everybody"),
        (added(vault, f"Token={token}"), "does not say where the secret is"),
        (added(vault, f"={token}"), "does not say where the secret is"),
        ((*added(vault), "--set", token), "not of the form NAME=VALUE"),
    ):
        line = keyrelay.refused("unsuitable", *arguments)
        assert told in line
        assert leaks({"token": token}, line.encode()) == []
    assert providers(keyrelay) == []


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (("Token=-", "Other=-"), "Standard input can hold one secret."),
        (("Token=-", "Token"), "more than once"),
        (("Token=@",), "does not say where"),
        (("Token=@no-such-file",), "no-such-file cannot be read"),
    ],
    ids=str,
)
def test_a_secret_that_comes_from_nowhere_is_explained(keyrelay, vault, secret, told):
    assert told in keyrelay.refused("unsuitable", *added(vault, *secret))
    assert providers(keyrelay) == []


def test_what_is_wrong_with_the_values_is_told_at_once(keyrelay):
    command = ("pam", "add", "Vault", "--type", TYPE, "--set=host=https://127.0.0.1:1", "--set=Key=x")
    line = keyrelay.refused("bad_input", *command)
    for told in ("Host needs a value", "Token needs a value", "it takes Host, Token, Path", "Key is given at each use"):
        assert told in line
    keyrelay.refused("unsuitable", *command, "--set=Key=y")
    assert "no provider type Vault." in keyrelay.refused("unknown_name", "pam", "add", "Vault", "--type", "Vault")


def test_a_second_provider_of_the_same_name_is_refused_in_any_case(local):
    local.refused("name_taken", "pam", "add", "LOCAL SECRETS", "--type", "LocalDB")
    assert providers(local) == ["Local secrets"]


def test_the_list_shows_values_and_that_secrets_are_there(keyrelay, vault):
    keyrelay.ok(*added(vault, "Token=-"), given=vault.token)
    table = keyrelay.ok("pam", "list")
    assert re.search(rf"^1 +Vault +{TYPE} +Host {vault.url} *$", table, re.MULTILINE)
    assert re.search(r"^ +Token stored since \d{4}-\d\d-\d\d *$", table, re.MULTILINE)


def test_what_looks_like_markup_in_a_name_is_shown_as_it_was_given(keyrelay):
    assert "[red]x[/red]" in keyrelay.ok("pam", "add", "[red]x[/red]", "--type", "LocalDB")
    assert "[red]x[/red]" in keyrelay.ok("pam", "list")


# --- Entries -------------------------------------------------------------------------------------------------


def test_an_entry_is_added_changed_and_removed(local, written):
    local.ok("pam", "entry", "add", "1", "imap", "--description", "for reading", "--secret-file", str(written("x")))
    assert local.read("pam", "entry", "list", "local secrets") == [
        {"name": "imap", "description": "for reading"},
        {"name": "smtp", "description": None},
    ]
    assert re.search(r"^imap +for reading *$", local.ok("pam", "entry", "list", "1"), re.MULTILINE)
    assert local.ok("pam", "entry", "remove", "1", "imap") == "Entry imap removed.\n"
    assert [entry["name"] for entry in local.read("pam", "entry", "list", "1")] == ["smtp"]


def secret_of(keyrelay, name: str) -> str:
    """What an entry holds, from the database itself: no command shows it."""
    script = """
import asyncio, os, sys
from keyrelay import settings
from keyrelay.secrets.model import FromPam
from keyrelay.server import Node

async def main():
    node = await Node.open(settings.read(os.environ))
    print((await node.vaults.fetch(FromPam(1, {"SecretName": sys.argv[1]}))).text.reveal())
    await node.close()

asyncio.run(main())
"""
    python = Path(program()).with_name("python")
    done = subprocess.run(
        [python, "-c", script, name],
        env=clean_environment() | keyrelay.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.removesuffix("\n")


def test_set_changes_the_secret_or_the_description_and_keeps_the_other(local):
    assert secret_of(local, "smtp") == "of the entry"
    assert local.ok("pam", "entry", "set", "1", "smtp", "--description", "for mail") == "Entry smtp changed.\n"
    assert secret_of(local, "smtp") == "of the entry"
    local.ok("pam", "entry", "set", "1", "smtp", "--secret-file", "-", given="rotated\n")
    assert secret_of(local, "smtp") == "rotated"
    assert local.read("pam", "entry", "list", "1") == [{"name": "smtp", "description": "for mail"}]


def test_set_asks_for_the_secret_on_a_terminal(local):
    secret = new_canary()
    terminal = Terminal(local.environment, "pam", "entry", "set", "1", "smtp")
    terminal.answer("New secret: ", secret)
    terminal.answer("Once more: ", secret)
    assert terminal.end() == 0
    assert leaks({"secret": secret}, terminal.shown.encode()) == []
    assert secret_of(local, "smtp") == secret


def test_an_entry_that_cannot_be_is_explained_and_nothing_changes(local):
    before = local.read("pam", "entry", "list", "1")
    for code, arguments, given in (
        ("name_taken", ("add", "1", "smtp", "--secret-file=-"), "x"),
        ("bad_input", ("add", "1", "empty", "--secret-file=-"), "\n"),
        ("bad_input", ("set", "1", "smtp", "--secret-file=-"), ""),
        ("bad_input", ("add", "1", "a\x1b[31m", "--secret-file=-"), "x"),
        ("unsuitable", ("add", "1", "imap"), "x"),
        ("unsuitable", ("set", "1", "smtp"), "x"),
        ("unknown_name", ("set", "1", "imap", "--secret-file=-"), "x"),
        ("unknown_name", ("remove", "1", "imap"), ""),
        ("unknown_name", ("list", "Nowhere"), ""),
        ("unknown_name", ("list", "2"), ""),
    ):
        local.refused(code, "pam", "entry", *arguments, given=given)
    assert local.read("pam", "entry", "list", "1") == before


def test_entries_are_for_local_providers_only(keyrelay, vault):
    keyrelay.ok(*added(vault, "Token=-"), given=vault.token)
    assert TYPE in keyrelay.refused("bad_input", "pam", "entry", "list", "Vault")


# --- Removing ------------------------------------------------------------------------------------------------


def test_a_provider_is_removed_by_name_or_number(local):
    assert local.ok("pam", "remove", "LOCAL SECRETS") == "Provider Local secrets removed.\n"
    local.ok("pam", "add", "2", "--type", "LocalDB")  # a name of digits is not confused with a number
    local.ok("pam", "add", "Three", "--type", "LocalDB")
    assert "no PAM provider 1." in local.refused("unknown_name", "pam", "remove", "1")
    assert local.ok("pam", "remove", "3") == "Provider Three removed.\n"
    assert local.ok("pam", "remove", "2") == "Provider 2 removed.\n"


def test_what_the_profile_uses_stays(local):
    reference = {"provider": 1, "parameters": {"SecretName": "smtp"}}
    profile: dict[str, Any] = {"host": "smtp.example.org", "port": 587, "use_ssl": True, "authentication": "basic"}
    profile |= {"relay_username": reference, "relay_password": reference}
    profile |= {"sender_account": "pki@example.org", "sender_name": "PKI"}
    local.ok("smtp", "set", "-", given=json.dumps(profile))
    assert "password of the SMTP profile" in local.refused("in_use", "pam", "remove", "1")
    assert "password of the SMTP profile" in local.refused("in_use", "pam", "entry", "remove", "1", "smtp")
    assert local.read("pam", "entry", "list", "1") != []
    assert local.read("smtp", "get")["relay_password"] == reference


def test_a_server_that_runs_knows_at_once(local, vault):
    server = Command.serve(local.environment)
    try:
        server.wait_until_alive()
        with httpx2.Client(base_url=server.url, auth=("admin", local.environment["KEYRELAY_ADMIN_PASSWORD"])) as client:
            body = {"parameters": {"SecretName": "smtp"}}
            assert client.post("/api/v1/pam-providers/1/try", json=body).json()["verdict"] == "found"
            local.ok("pam", "entry", "remove", "1", "smtp")
            assert client.post("/api/v1/pam-providers/1/try", json=body).json()["verdict"] == "not_found"
            local.ok(*added(vault, "Token=-"), given=vault.token)
            shown = client.get("/KeyfactorAPI/PamProviders").json()
            assert [one["Name"] for one in shown] == ["Local secrets", "Vault"]
    finally:
        server.stop()


# --- Trying --------------------------------------------------------------------------------------------------


def test_every_way_to_end_has_an_exit_code_of_its_own():
    assert set(EXIT_CODES) == {"found", *get_args(Problem)}
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert EXIT_CODES["found"] == 0
    assert not {1, 2} & set(EXIT_CODES.values())  # those of commands that failed, and of lines nobody understands


@pytest.fixture
def configured(keyrelay, vault) -> Any:
    """The command, with the vault as provider 1."""
    keyrelay.ok(*added(vault, "Token=-"), given=vault.token)
    return keyrelay


def test_a_secret_that_is_there_is_found_and_not_shown(configured, vault):
    done = tried(configured, vault, "Vault", *WANTED)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"Found after \d+\.\d ms\. The vault gives this secret\.\n", done.stdout)


TROUBLES = {
    "denied": says({"errors": ["permission denied"]}, 403),
    "sealed": says({"errors": ["Vault is sealed"]}, 503),
    "unreachable": Answered(hang_up=True),
    "timeout": Answered(wait=20),
    "bad_answer": page(),
}


@pytest.mark.parametrize("problem", TROUBLES)
def test_trouble_with_the_vault_is_explained_and_has_its_exit_code(configured, vault, problem):
    vault.trouble = TROUBLES[problem]
    done = tried(configured, vault, "Vault", *WANTED, PAM_SECONDS="1")
    assert (done.returncode, done.stderr) == (EXIT_CODES[problem], "")
    first, *rest = done.stdout.splitlines()
    assert re.match(rf"{problem.replace('_', ' ').capitalize()} after \d+\.\d ms\. [A-Z].*\.$", first)
    assert [line.partition(":")[0] for line in rest] == ["In detail", "What to do"]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (("--param=Secret=mail/none", "--param=Key=value"), "not_found"),
        (("--param=Secret=mail/smtp",), "parameter_missing"),
        ((), "parameter_missing"),
        (("--param=Secret=../sys", "--param=Key=value"), "bad_parameter"),
    ],
    ids=str,
)
def test_trouble_with_the_parameters_has_its_exit_code(configured, vault, parameters, problem):
    done = tried(configured, vault, "Vault", *parameters)
    assert (done.returncode, done.stderr) == (EXIT_CODES[problem], "")
    assert "What to do: " in done.stdout


def test_a_missing_library_is_told_with_the_command_that_installs_it(keyrelay, without_aws):
    keyrelay.ok("pam", "add", "Cloud", "--type", "AWS-SecretsManager", "--set", "Region=eu-central-1")
    done = run_keyrelay(keyrelay.environment | without_aws, "pam", "try", "Cloud", "--param", "SecretId=smtp")
    assert done.returncode == EXIT_CODES["extra_missing"]
    assert "In detail: pip install keyrelay[aws]\n" in done.stdout


def test_json_is_the_answer_of_the_api(local):
    done = local.run("pam", "try", "1", "--param", "SecretName=smtp", "--json")
    assert json.loads(done.stdout) | {"milliseconds": 0} == {
        "provider": 1,
        "type": "LocalDB",
        "verdict": "found",
        "milliseconds": 0,
        "sentence": "The vault gives this secret.",
        "detail": None,
        "remedy": None,
    }
    done = local.run("pam", "try", "1", "--param", "SecretName=imap", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (EXIT_CODES["not_found"], "not_found")


def test_what_cannot_be_tried_is_one_line(local):
    assert "no PAM provider Nowhere." in local.refused("unknown_name", "pam", "try", "Nowhere")
    local.refused("unsuitable", "pam", "try", "1", "--param", "SecretName")
    local.refused("unsuitable", "pam", "try", "1", "--param", "SecretName=a", "--param", "SecretName=b")


# --- Secrets are nowhere -------------------------------------------------------------------------------------


def test_a_secret_is_in_no_output_no_file_and_no_argument(keyrelay, vault):
    planted = {"token": vault.token, "value": vault.secrets["mail/smtp"], "entry": new_canary(), "new": new_canary()}
    told = [
        keyrelay.ok(*added(vault, "Token=-"), given=planted["token"]),
        keyrelay.ok("pam", "add", "Local", "--type", "LocalDB"),
        keyrelay.ok("pam", "entry", "add", "Local", "smtp", "--secret-file=-", given=planted["entry"]),
        keyrelay.ok("pam", "entry", "set", "Local", "smtp", "--secret-file=-", given=planted["new"]),
    ]
    for command in (
        ("list",),
        ("list", "--json"),
        ("entry", "list", "Local"),
        ("entry", "list", "Local", "--json"),
        ("try", "Local", "--param=SecretName=smtp"),
        ("try", "Local", "--param=SecretName=smtp", "--json"),
        ("try", "Vault", *WANTED),
        ("try", "Vault", *WANTED, "--json"),
    ):
        done = keyrelay.run("pam", *command, CA_BUNDLE=str(vault.authority), LOG_LEVEL="debug", LOG_FORMAT="json")
        assert done.returncode == 0, done
        told += [done.stdout, done.stderr]
    assert leaks(planted, "\n".join(told).encode()) == []
    kept = b"".join(file.read_bytes() for file in keyrelay.data_dir.rglob("*") if file.is_file())
    assert leaks(planted, kept) == []


def test_a_secret_is_not_among_the_arguments_while_the_command_runs(keyrelay, vault):
    process = subprocess.Popen(
        [program(), *added(vault, "Token=-")],
        env=clean_environment() | keyrelay.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = b""
    process.stdin.write(vault.token)
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while b"Token=-" not in seen and time.monotonic() < deadline:
        seen += Path(f"/proc/{process.pid}/cmdline").read_bytes()
    seen += Path(f"/proc/{process.pid}/environ").read_bytes()
    assert process.communicate(timeout=30)[0] == "Provider Vault added; its number is 1.\n"
    assert b"Token=-" in seen
    assert leaks({"token": vault.token}, seen) == []
