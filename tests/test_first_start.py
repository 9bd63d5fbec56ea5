"""``make run`` on a machine that has never seen keyrelay, and every start and stop after that."""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from live import ANONYMOUS, SMTP, V2, Command, run_keyrelay


@contextmanager
def serving(environment, *options):
    command = Command.serve(environment, *options)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            for pid in processes_of(command.process.pid):
                os.kill(pid, signal.SIGKILL)
        command.ended()


@pytest.fixture
def environment(tmp_path):
    """A data directory that does not exist yet."""
    return {"KEYRELAY_DATA_DIR": str(tmp_path / "new" / "data")}


def get(command, password, user="admin"):
    return httpx2.get(command.url + SMTP, auth=(user, password), headers=V2, timeout=10)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()}


def test_the_first_start_prints_a_password_that_opens_the_profile(environment):
    with serving(environment) as command:
        assert get(command, command.password).status_code == 200
        assert get(command, command.password + "x").status_code == 401
        assert any("shown only now" in line for line in command.printed)
        assert command.url.startswith("http://127.0.0.1:")
        assert any(environment["KEYRELAY_DATA_DIR"] in line for line in command.printed)


def test_the_second_start_prints_no_password_and_keeps_profile_users_and_key(environment):
    data_dir = Path(environment["KEYRELAY_DATA_DIR"])
    with serving(environment) as first:
        password = first.password
        put = httpx2.put(first.url + SMTP, auth=("admin", password), headers=V2, json=ANONYMOUS, timeout=10)
        assert put.status_code == 200
        run_keyrelay(environment, "user", "add", "jsmith", "--password-file", "-", given="the first password")
        first.stop()
    key = (data_dir / "master.key").read_bytes()
    with serving(environment | {"KEYRELAY_ADMIN_PASSWORD": "only for the first start"}) as second:
        assert not [line for line in second.printed if "password" in line]
        got = get(second, password)
        assert (got.status_code, got.json(), got.headers["etag"]) == (200, put.json(), put.headers["etag"])
        assert get(second, "only for the first start").status_code == 401
        assert get(second, "the first password", user="jsmith").status_code == 403  # known, without a role
    assert (data_dir / "master.key").read_bytes() == key


def test_a_password_given_by_the_operator_is_used_and_not_printed(environment, tmp_path):
    file = tmp_path / "password"
    file.write_text("from the operator\n")
    with serving(environment | {"KEYRELAY_ADMIN_PASSWORD_FILE": str(file)}) as command:
        assert get(command, "from the operator").status_code == 200
        printed = command.printed + list(command.stop())
    assert "from the operator" not in str(printed)
    assert "with the password" not in str(printed)


def test_a_command_that_comes_first_makes_the_user_and_says_so_once(environment):
    done = run_keyrelay(environment, "user", "list", "--json")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    with serving(environment) as command:
        assert "password" not in str(command.printed)
        assert get(command, line.rpartition(" ")[2]).status_code == 200


def test_what_is_kept_is_readable_by_its_owner_alone(environment):
    before = os.umask(0)  # the worst that an operator can have set
    try:
        with serving(environment, "--self-signed") as command:
            command.wait_until_alive()
            data_dir = Path(environment["KEYRELAY_DATA_DIR"])
            found = modes(data_dir)
    finally:
        os.umask(before)
    assert {"keyrelay.db", "keyrelay.db-wal", "master.key", "ca-key.pem", "server-key.pem"} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode != 0o600 and not name.endswith(".pem")} == {}
    assert found["ca-key.pem"] == found["server-key.pem"] == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_it_in_time_and_as_a_service_manager_expects(environment, workers):
    with serving(environment, "--workers", workers) as command:
        idle = httpx2.Client(base_url=command.url)  # a connection kept open holds nothing up
        assert idle.get(SMTP, auth=("admin", command.password)).status_code == 200
        family = processes_of(command.process.pid)
        begun = time.monotonic()
        printed, errors = command.stop()
        assert time.monotonic() - begun < 10  # what is under way may take that long, and nothing is
        idle.close()
    # systemd takes both for a clean end: exit code 0, and death by the signal it sent.
    assert command.process.returncode in {0, -signal.SIGTERM}
    assert (printed, [line for line in errors.splitlines() if " error " in line or "Traceback" in line]) == ("", [])
    assert gone(family)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_it_without_a_traceback(environment, workers):
    with serving(environment, "--workers", workers) as command:
        command.wait_until_alive()
        family = processes_of(command.process.pid)
        for pid in family:  # a terminal sends it to all of them
            os.kill(pid, signal.SIGINT)
        _, errors = command.ended()
    assert command.process.returncode in {0, 130, -signal.SIGINT}
    assert "Traceback" not in errors
    assert "unexpected" not in errors
    assert gone(family)


def test_ctrl_c_ends_a_worker_that_is_just_being_born_without_a_traceback(environment, eventually):
    """As when one has died, or was slow to start and was given up."""
    with serving(environment, "--workers", "2") as command:
        new = without_a_worker(command)
        eventually(lambda: any(map(catches_ctrl_c, new())))
        family = processes_of(command.process.pid)
        for pid in family:
            os.kill(pid, signal.SIGINT)
        _, errors = command.ended()
    assert command.process.returncode in {0, 130, -signal.SIGINT}
    assert "Traceback" not in errors
    assert gone(family)


def test_a_worker_that_ends_while_it_starts_is_replaced_at_once(environment, eventually):
    with serving(environment, "--workers", "2") as command:
        new = without_a_worker(command)
        eventually(new)
        (ending,) = new()
        os.kill(ending, signal.SIGSTOP)
        time.sleep(1)  # by now it is asked whether it is well
        os.kill(ending, signal.SIGKILL)
        eventually(lambda: new() - {ending})
        assert get(command, command.password).status_code == 200


def test_several_workers_answer_as_one(environment):
    with serving(environment, "--workers", "2") as command:
        auth = ("admin", command.password)
        for number in range(10):
            name = f"PKI {number}"
            body = ANONYMOUS | {"SenderName": name}
            assert httpx2.put(command.url + SMTP, auth=auth, headers=V2, json=body, timeout=10).status_code == 200
            # Each request has a connection of its own, so both processes are asked sooner or later.
            assert {get(command, command.password).json()["SenderName"] for _ in range(5)} == {name}
        assert len(processes_of(command.process.pid)) >= 3


def test_workers_do_not_outlive_the_first_process(environment):
    """Left alone they would keep the port, and the next start would find it in use."""
    with serving(environment, "--workers", "2") as command:
        command.wait_until_alive()
        *workers, first = processes_of(command.process.pid)
        os.kill(first, signal.SIGKILL)
        try:
            assert gone(workers)
        finally:
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        command.ended()


def processes_of(pid: int) -> list[int]:
    """A process and all that descend from it, the first one last."""
    children = [int(text) for text in told_of(pid, f"task/{pid}/children").split()]
    return [*(each for child in children for each in processes_of(child)), pid]


def without_a_worker(command: Command) -> Callable[[], set[int]]:
    """Kill one of the workers; what is returned finds those that have come since."""
    command.wait_until_alive()
    first = command.process.pid
    before = workers_of(first)
    os.kill(before[0], signal.SIGKILL)
    return lambda: set(workers_of(first)) - set(before)


def workers_of(pid: int) -> list[int]:
    return [each for each in processes_of(pid) if "spawn_main" in told_of(each, "cmdline")]


def catches_ctrl_c(pid: int) -> bool:
    """Python runs in it, and would raise KeyboardInterrupt wherever it is."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", told_of(pid, "status"), re.MULTILINE)
    return bool(caught and int(caught[1], 16) & 1 << signal.SIGINT - 1)


def told_of(pid: int, what: str) -> str:
    """Nothing, once the process is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{what}").read_text()
    return ""


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
