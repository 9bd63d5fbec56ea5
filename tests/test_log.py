"""The log: one event is one line, and a traceback tells places and no values."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest

from keyrelay import log
from keyrelay.errors import UnknownName

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def started(capsys):
    """Start the log as a process does; what that gives reads what was written since."""

    def start(level: str = "info", form: str = "text") -> Callable[[], str]:
        log.start(level, form)
        return lambda: capsys.readouterr().err

    return start


def fail_with(error: BaseException) -> None:
    canary = "canary-local"  # noqa: F841 - a value that a careless traceback would show
    raise error


def logged_failure(error: BaseException) -> None:
    try:
        fail_with(error)
    except BaseException:
        logging.getLogger("keyrelay.test").exception("it failed")


def test_a_line_for_people_has_time_level_event_and_facts(started):
    read = started()
    logging.getLogger("keyrelay.test").warning("sign-in failed", extra={"facts": {"user": "jo", "tries": 3}})
    assert re.fullmatch(STAMP + r" warning sign-in failed user='jo' tries=3\n", read())


def test_a_line_for_machines_is_one_json_object(started):
    read = started(form="json")
    logging.getLogger("keyrelay.test").error("it failed", extra={"facts": {"user": "jörg\n", "at_all": object}})
    (line,) = read().splitlines()
    event = json.loads(line)
    assert re.fullmatch(STAMP, event.pop("at"))
    assert event.pop("at_all")
    assert event == {"level": "error", "event": "it failed", "logger": "keyrelay.test", "user": "jörg\n"}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "name", ["jo\nadmin", "jo\r\n2026-01-01T00:00:00.000Z error made up", "jo\x1b[2J", "jo\x85\u2028x"]
)
def test_what_a_caller_sends_cannot_begin_a_line_of_its_own(started, form, name):
    read = started(form=form)
    logging.getLogger("keyrelay.test").warning("event", extra={"facts": {"user": name}})
    written = read()
    assert written.count("\n") == 1
    assert "\x1b" not in written
    assert "\r" not in written


def test_a_message_of_a_library_stays_on_one_line(started):
    read = started()
    logging.getLogger("uvicorn.error").error("one\r\ntwo %s", "three\nfour")
    assert read().count("\n") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_tells_places_and_neither_words_nor_values(started, form):
    read = started("debug", form)
    logged_failure(ValueError("canary-message"))
    written = read()
    assert "canary" not in written
    assert "ValueError" in written
    assert re.search(r"test_log\.py:\d+ fail_with", written)
    assert written.count("\n") == 1


def test_the_words_of_our_own_errors_are_told(started):
    read = started()
    logged_failure(UnknownName("There is no user jo."))
    assert "There is no user jo." in read()


def test_the_systems_words_are_told_without_the_file(started):
    read = started()
    logged_failure(FileNotFoundError(2, "No such file or directory", "canary-file"))
    written = read()
    assert "No such file or directory" in written
    assert "canary" not in written


def test_the_cause_of_an_error_brings_no_values_in(started):
    read = started("debug")
    try:
        try:
            fail_with(ValueError("canary-cause"))
        except ValueError as cause:
            raise RuntimeError("canary-outside") from cause
    except RuntimeError:
        logging.getLogger("keyrelay.test").exception("it failed")
    assert "canary" not in read()


@pytest.mark.parametrize("name", ["asyncpg", "sqlalchemy.engine", "alembic.runtime", "asyncio"])
def test_libraries_that_print_statements_stay_quiet_at_debug_level(started, name):
    read = started("debug")
    logging.getLogger(name).debug("SELECT canary")
    logging.getLogger(name).info("SELECT canary")
    logging.getLogger("keyrelay.test").debug("ours is told")
    written = read()
    assert "canary" not in written
    assert "ours is told" in written


@pytest.mark.parametrize(("level", "told"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_less_important_than_the_level_is_left_out(started, level, told):
    read = started(level)
    logger = logging.getLogger("keyrelay.test")
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("event")
    assert read().count("\n") == told


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_short_way_writes_what_the_long_way_writes(started, form):
    """The line of a request, with nobody else listening and with somebody who does."""
    read = started(form=form)
    logger, facts = logging.getLogger("keyrelay.test"), {"user": "jo\n", "status": 202}
    log.line(logger, logging.INFO, "request", dict(facts))
    log.line(logger, logging.DEBUG, "not wanted", dict(facts))
    logging.getLogger().addHandler(logging.NullHandler())
    log.line(logger, logging.INFO, "request", dict(facts))
    short, long = (re.sub(STAMP, "", line) for line in read().splitlines())
    assert short == long
    assert "202" in short
