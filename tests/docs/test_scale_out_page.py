"""The page about many nodes shows commands that work, and says what the code says."""

import asyncio
import re
import subprocess

import pages
from deployments import COMPOSE, PAGE, SETS

from keyrelay import settings
from keyrelay.outbox.worker import Pace
from keyrelay.settings import Settings
from keyrelay.store.postgresql import PostgresqlStore
from live import ADMIN_PASSWORD, clean_environment, keyrelay

_MASTER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def test_the_secrets_that_the_page_makes_are_those_that_compose_mounts(tmp_path):
    pages.require_program("openssl")
    (script,) = re.findall(r"^```sh\n(cd docs/deploy\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    directory = tmp_path / "docs" / "deploy"
    directory.mkdir(parents=True)
    done = pages.typed(script, clean_environment(), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = {file.name: file.read_text().strip() for file in (directory / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in COMPOSE["secrets"].values()}
    read = settings.read(
        {f"KEYRELAY_{name.upper()}": made[name] for name in ("master_key", "database_url", "admin_password")}
    )
    assert made["postgres_password"] in read.database_url
    assert read.database_url.endswith("@postgres/keyrelay")
    assert (directory / "secrets").stat().st_mode & 0o777 == 0o700


def test_every_command_and_every_setting_of_the_page_is_there():
    named = list(pages.commands(PAGE))
    assert {("serve",), ("serve", "--no-worker"), ("worker",)} <= {tuple(tokens) for tokens in named}
    for tokens in named:
        pages.require_command(tokens)
    pages.require_settings(PAGE)


def test_the_figures_in_the_text_are_those_of_the_code():
    assert "`KEYRELAY_LEASE_SECONDS`\n(30)" in PAGE
    assert Settings().lease_seconds == 30
    assert "`KEYRELAY_RELAY_SESSIONS` (8)" in PAGE
    assert Settings().relay_sessions == 8
    assert "what is under way 20 seconds" in PAGE
    assert Pace().goodbye == 20
    assert f"`terminationGracePeriodSeconds: {SETS['kubernetes'][1].grace}`" in PAGE


def test_the_address_of_two_machines_is_one_that_keyrelay_takes(postgres):
    (address,) = re.findall(r"`(postgresql://\S+)`", PAGE)
    assert settings.read({"KEYRELAY_DATABASE_URL": address}).database_url == address
    real = postgres.empty_database().replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    real += address[address.index("?") :]
    node = {
        "KEYRELAY_DATABASE_URL": real,
        "KEYRELAY_MASTER_KEY": _MASTER_KEY,
        "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD,
    }
    done = subprocess.run(
        [keyrelay(), "user", "list"],
        env=clean_environment() | node,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "admin" in done.stdout) == (0, True), done.stderr


def test_a_process_has_no_more_connections_than_the_page_says(postgres):
    pool, listening_one, together = map(
        int,
        re.search(r"at most (\d) connections and (\d) more that listens: (\d) for each process", PAGE).groups(),
    )

    url = postgres.fresh_database()

    async def look() -> int:
        store = await PostgresqlStore.open(url)
        try:
            return store._pool.get_max_size()
        finally:
            await store.close()

    assert asyncio.run(look()) == pool
    assert (listening_one, together) == (1, pool + 1)


def test_the_parameter_that_pgbouncer_must_ignore_is_the_one_that_is_set():
    source = pages.read("src/keyrelay/store/postgresql.py")
    (given,) = re.findall(r"server_settings=\{(.*?)\}", source)
    assert re.findall(r'"(\w+)":', given) == re.findall(r"`ignore_startup_parameters = (\w+)`", PAGE)


def test_the_place_for_the_figures_is_marked_once():
    assert PAGE.count("\n### Figures\n") == 1
