"""When keyrelay itself fails, neither the answer, nor the log, nor the terminal tells what it was working on."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from complaints import OWN, complaint, nothing_changes
from keyrelay import cli, log
from keyrelay.profile.keeper import ProfileKeeper
from keyrelay.setting_values import PREFIX
from live import ANONYMOUS, BASIC, OAUTH, SMTP, V1, V2

CANARY = "qXzJvKwQxVjZkYWq"
PIECES = [CANARY[start : start + 6] for start in range(len(CANARY) - 5)]


def holds_canary(text: str) -> bool:
    return any(piece in text for piece in PIECES)


def plain(secret: str) -> Exception:
    return RuntimeError(f"cannot use {secret}", secret)


def chained(secret: str) -> Exception:
    error = KeyError(secret)
    error.__cause__ = ValueError(secret)
    error.add_note(secret)
    return error


def gathered(secret: str) -> Exception:
    return ExceptionGroup(secret, [ValueError(secret), OSError(secret)])


def undecodable(secret: str) -> Exception:
    return UnicodeDecodeError("utf-8", secret.encode(), 0, 1, secret)


def named_after_it(secret: str) -> Exception:
    return OSError(5, "Input/output error", secret)


FAILURES = [plain, chained, gathered, undecodable, named_after_it]


@pytest.fixture(params=["text", "json"])
def logged(request, monkeypatch) -> io.StringIO:
    """The log of this process as keyrelay writes it at debug level."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.start("debug", request.param)
    return written


@pytest.mark.parametrize("failure", FAILURES)
def test_an_internal_error_tells_a_request_id_and_nothing_else(failure, sqlite_server, logged, monkeypatch):
    sqlite_server.put_v2(BASIC).raise_for_status()

    async def _write(*_: object, **__: object) -> None:
        raise failure(CANARY)

    given = {"secret_value": CANARY}
    with nothing_changes(sqlite_server), monkeypatch.context() as patched:
        patched.setattr(ProfileKeeper, "_write", _write)
        for answer in (
            sqlite_server.put_v2(BASIC | {"RelayPassword": {"SecretValue": CANARY}}),
            sqlite_server.put_v1(BASIC | {"RelayUsername": "mailer", "RelayPassword": CANARY}),
            sqlite_server.patch(OWN, json={"relay_password": given}),
        ):
            complaint(answer, 500)
            assert not holds_canary(answer.text + str(answer.headers))
            assert logged.getvalue().count(answer.headers["x-request-id"]) == 2  # what went wrong, and the request
    assert "_write" in logged.getvalue()  # where it happened
    assert not holds_canary(logged.getvalue())


@pytest.mark.parametrize("failure", FAILURES)
def test_a_command_that_fails_unexpectedly_prints_one_line_without_the_secret(failure, tmp_path, monkeypatch, capsys):
    async def snapshot(*_: object) -> None:
        raise failure(CANARY)

    monkeypatch.setattr(ProfileKeeper, "snapshot", snapshot)
    monkeypatch.setenv(PREFIX + "DATA_DIR", str(tmp_path))
    monkeypatch.setenv(PREFIX + "LOG_LEVEL", "debug")
    monkeypatch.setenv(PREFIX + "ADMIN_PASSWORD", CANARY)
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"relay_password": {"secret_value": CANARY}}))
    for arguments in (["get"], ["get", "--json"], ["set", str(body)]):
        monkeypatch.setattr(sys, "argv", ["keyrelay", "smtp", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
    printed = "".join(capsys.readouterr())
    assert printed.count("failed unexpectedly") == 3
    assert "Traceback" not in printed
    assert not holds_canary(printed)


def test_no_answer_differs_with_the_length_of_the_secret_it_hides(sqlite_server):
    seen = []
    for length in (1, 16, 4096):
        secret = {"SecretValue": "s" * length}
        answers = []
        for body in (BASIC | {"RelayPassword": secret}, OAUTH | {"ClientSecret": secret}):
            answers += [sqlite_server.put_v2(body), *(sqlite_server.get(SMTP, headers=headers) for headers in (V1, V2))]
            answers.append(sqlite_server.get(OWN))
        given = {"relay_password": {"secret_value": "s" * length}, "relay_username": {"secret_value": "mailer"}}
        for rehearsal in ({}, {"dry_run": "true"}):
            change = given | {"authentication": "basic"}
            answers.append(sqlite_server.patch(OWN, params=rehearsal, json=change))
        assert {answer.status_code for answer in answers} == {200}
        seen.append([_without_times(answer.text) for answer in answers])
        sqlite_server.put_v2(ANONYMOUS).raise_for_status()
    assert seen[0] == seen[1] == seen[2]


def _without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "then", text)
