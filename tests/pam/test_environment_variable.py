"""Secrets from environment variables: those the operator has opened, and never keyrelay's own settings."""

from __future__ import annotations

import ssl

import pytest

from keyrelay.pam.backend import Means
from keyrelay.pam.backends.environment import Environment
from keyrelay.testing.pam import Case, PamContract, fetch, problem


def case_of(variable, begins="SMTP_", value=""):
    return Case(
        backend=Environment(),
        means=Means(ssl.create_default_context, ssl.create_default_context, secret_variables=begins),
        given={},
        wanted={"Variable": variable},
        value=value,
        missing={"Variable": "SMTP_NONE"},
    )


class TestEnvironment(PamContract):
    @pytest.fixture
    def case(self, monkeypatch):
        monkeypatch.setenv("SMTP_PASSWORD", "of-the-mail-server")
        return case_of("SMTP_PASSWORD", value="of-the-mail-server")


@pytest.mark.parametrize("begins", [None, ""])
def test_without_the_setting_nothing_is_read(monkeypatch, begins):
    monkeypatch.setenv("SMTP_PASSWORD", "here")
    failure = problem(case_of("SMTP_PASSWORD", begins))
    assert failure.problem == "bad_parameter"
    assert "KEYRELAY_SECRET_VARIABLES" in failure.detail


@pytest.mark.parametrize("variable", ["PATH", "smtp_PASSWORD", "XSMTP_PASSWORD", "SMTP"])
def test_a_name_that_begins_otherwise_is_denied_whether_it_is_set_or_not(monkeypatch, variable):
    assert problem(case_of(variable)).problem == "denied"
    monkeypatch.setenv(variable, "here")
    assert problem(case_of(variable)).problem == "denied"


@pytest.mark.parametrize("begins", ["K", "KEYRELAY_", "KEYRELAY_MASTER"])
def test_the_settings_of_keyrelay_are_never_read_whatever_the_operator_opened(monkeypatch, begins):
    monkeypatch.setenv("KEYRELAY_MASTER_KEY", "here")
    failure = problem(case_of("KEYRELAY_MASTER_KEY", begins))
    assert failure.problem == "denied"
    assert "settings" in failure.detail


@pytest.mark.parametrize("variable", ["SMTP_A=B", "SMTP_\0", "SMTP_\n", "SMTP_ä", "SMTP_\ud800", "SMTP_ A", "1SMTP"])
def test_what_is_no_name_of_a_variable_is_refused(variable):
    assert problem(case_of(variable)).problem == "bad_parameter"


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_variable_is_no_secret(monkeypatch, text):
    monkeypatch.setenv("SMTP_PASSWORD", text)
    assert problem(case_of("SMTP_PASSWORD")).problem == "not_found"


@pytest.mark.parametrize(
    ("text", "expected"), [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a\n\n", " a\n"), ("ä", "ä")]
)
def test_one_newline_at_the_end_is_not_part_of_a_secret(monkeypatch, text, expected):
    monkeypatch.setenv("SMTP_PASSWORD", text)
    assert fetch(case_of("SMTP_PASSWORD")).reveal() == expected


@pytest.mark.parametrize("variable", ["SMTP_mail.password", "SMTP_mail-password"])
def test_the_names_that_kubernetes_allows_are_names(monkeypatch, variable):
    monkeypatch.setenv(variable, "here")
    assert fetch(case_of(variable)).reveal() == "here"


def test_what_is_not_utf_8_is_no_answer(monkeypatch):
    monkeypatch.setenv("SMTP_PASSWORD", "p\udce4ss")
    assert problem(case_of("SMTP_PASSWORD")).problem == "bad_answer"
