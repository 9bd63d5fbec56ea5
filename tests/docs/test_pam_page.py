"""The page about PAM providers shows commands that work, and says what the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pages
import pytest

from keyrelay import settings
from keyrelay.cli.pam import EXIT_CODES
from keyrelay.pam import registry
from keyrelay.pam.local import LocalDb
from live import ADMIN_PASSWORD, Command, clean_environment
from vaulting import SimpleVault

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pam.md").read_text(encoding="utf-8")
# Every block of commands with the text that stands below it, in the order of the page.
SHOWN = re.findall(r"^```sh\n(.*?)^```\n\n```(?:text|json)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path):
    """A server, a vault that it trusts, and the environment of somebody who types what the page says."""
    with SimpleVault(tmp_path, key="password") as vault:
        vault.secrets["mail/smtp"] = "of the relay"
        here = {"KEYRELAY_CA_BUNDLE": str(vault.authority), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}
        server = Command.serve(here | {"KEYRELAY_DATA_DIR": str(tmp_path / ".keyrelay")})
        try:
            server.wait_until_alive()
            programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            given = {"PASSWORD": ADMIN_PASSWORD, "SMTP_PASSWORD": "secret of mine", "VAULT_TOKEN": vault.token}
            yield clean_environment() | here | programs | given, vault, server
        finally:
            server.stop()


def test_the_commands_of_the_page_print_what_it_shows(place, tmp_path):
    pages.require_program("curl")
    environment, vault, server = place
    assert len(SHOWN) == PAGE.count("```sh\n") == 6
    environment["KEYRELAY_DATA_DIR"] = ".keyrelay"  # as the first block says, for all of them
    for commands, shown in SHOWN:
        script = commands.replace("http://127.0.0.1:8080", server.url)
        script = script.replace("https://vault.example.org:8200", vault.url)
        done = typed(script, environment, tmp_path)
        assert (without_times(done.stdout), done.stderr) == (without_times(shown), ""), commands


def typed(script: str, environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_of_the_readme_work_too(place, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n([^`]*?keyrelay pam .*?)^```$", readme, re.MULTILINE | re.DOTALL)
    environment = place[0] | {"KEYRELAY_DATA_DIR": ".keyrelay"}
    done = typed(script.replace(".venv/bin/", ""), environment, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("Found after")


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d( ms|,$)", r"-\1", text, flags=re.MULTILINE)


def rows(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    (text,) = re.findall(rf"^\| {first} \|.*\n\|[ -|]*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_page_lists_every_type_with_its_parameters():
    backends = registry.load(LocalDb(None, None))
    built_in = {name for name, backend in backends.items() if type(backend).__module__.startswith("keyrelay.pam.")}
    assert sorted(row[0].strip("`") for row in rows("Type")) == sorted(built_in)
    for name, with_provider, with_use, _ in rows("Type"):
        parameters = backends[name.strip("`")].parameters
        for cell, instance in ((with_provider, False), (with_use, True)):
            assert cell == " ".join(marked(one) for one in parameters if one.instance is instance), name


def marked(parameter) -> str:
    name = parameter.name + "*" * parameter.secret
    return f"`{name}`" if parameter.required else f"`[{name}]`"


def test_the_page_has_every_verdict_and_its_exit_code():
    told = {row[0].strip("`"): int(row[2]) for row in rows("Verdict")}
    assert told == EXIT_CODES
    assert list(told) == list(EXIT_CODES)


def test_the_settings_of_the_page_have_their_defaults():
    defaults = {name: variable.default_text for name, _, variable in settings.variables()}
    assert {row[0].strip("`"): row[1] for row in rows("Setting")}.items() <= defaults.items()
    for name in re.findall(r"KEYRELAY_\w+", PAGE):
        assert name in defaults or name.removesuffix("_FILE") in defaults, name
