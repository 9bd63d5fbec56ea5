import asyncio
import json
import sys

import pytest
from double import Answered, Double, page, says
from gcp_double import PROJECT, Google, account, failure, payload, person, write
from loopback_only import cloudless, strays

from keyrelay.pam.backends.gcp import GcpSecrets, crc32c
from keyrelay.testing.pam import Case, PamContract, fetch, problem

__all__ = ["cloudless"]

METADATA = "google.auth.compute_engine._metadata"
VALUE = "geheim \u00e4\u20ac"


@pytest.fixture
def google():
    return Google()


@pytest.fixture
def vault(tmp_path, google, cloudless):
    with Double(tmp_path, google) as vault:
        yield vault


@pytest.fixture
def case(vault, google, tmp_path, monkeypatch):
    def rotate():
        google.secrets["smtp-password"] = "neu"
        return "neu"

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", write(tmp_path / "account.json", account(vault.url)))
    return Case(
        backend=GcpSecrets(vault.url),
        means=vault.means(seconds=10.0),
        given={"projectId": PROJECT},
        wanted={"secretId": "smtp-password"},
        value=VALUE,
        missing={"secretId": "no-such-secret"},
        refused={"projectId": "somebody-elses"},
        rotate=rotate,
        handed_out=google.tokens,
    )


class TestGcpSecrets(PamContract):
    @pytest.fixture
    def case(self, case):
        return case


def with_(case, **more):
    return Case(**{**{name: getattr(case, name) for name in case.__slots__}, **more})


def test_it_asks_google_unless_told_otherwise():
    assert GcpSecrets()._endpoint == "https://secretmanager.googleapis.com"


def test_a_vault_that_is_away_is_unreachable(case):
    away = GcpSecrets("https://127.0.0.1:1")
    assert problem(with_(case, backend=away)).problem == "unreachable"


@pytest.mark.parametrize("name", ["a/b", "../x", "a.b", "a:access", "a?b", "", "a" * 256, "a\n", "%2e", "\u00e4"])
def test_what_is_no_name_is_refused_before_anybody_is_asked(case, vault, name):
    assert problem(with_(case, wanted={"secretId": name})).problem == "bad_parameter"
    assert problem(with_(case, given={"projectId": f"/{name}"})).problem == "bad_parameter"
    assert vault.asked == []


@pytest.mark.parametrize(
    ("part", "answer", "expected", "words"),
    [
        ("vault", failure(400, "FAILED_PRECONDITION"), "not_found", "disabled or destroyed"),
        ("vault", failure(400, "INVALID_ARGUMENT"), "bad_parameter", "400"),
        ("vault", failure(403, "PERMISSION_DENIED", "SERVICE_DISABLED"), "denied", "not enabled"),
        ("vault", failure(403, "PERMISSION_DENIED"), "denied", "403"),
        ("vault", page(403), "denied", "403"),
        ("vault", failure(429, "RESOURCE_EXHAUSTED"), "sealed", "429"),
        ("vault", failure(503, "UNAVAILABLE"), "sealed", "503"),
        ("vault", failure(500, "INTERNAL"), "bad_answer", "500"),
        ("vault", page(), "bad_answer", "HTML"),
        ("vault", says({"payload": {}}), "bad_answer", "no data"),
        ("vault", says({"payload": {"data": "%%%"}}), "bad_answer", "base64"),
        ("vault", says({"payload": {"data": "/w=="}}), "bad_answer", "text"),
        ("vault", says({"payload": {**payload("one"), "dataCrc32c": "1"}}), "bad_answer", "checksum"),
        ("vault", says({"payload": {**payload("one"), "dataCrc32c": "x"}}), "bad_answer", ""),
        ("vault", Answered(302, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer", "redirect"),
        ("vault", Answered(200, b"{", huge=100_000_000), "bad_answer", "bytes"),
        ("vault", Answered(hang_up=True), "unreachable", ""),
        ("token", says({"error": "invalid_grant", "error_description": "words of theirs"}, 400), "denied", ""),
        ("token", Answered(hang_up=True), "unreachable", ""),
        ("token", Answered(200, b"{", huge=100_000_000), "bad_answer", "bytes"),
        ("token", Answered(302, b"", {"location": "https://127.0.0.1:1/"}), "bad_answer", "redirect"),
        ("token", page(), "bad_answer", ""),
    ],
)
def test_each_way_to_fail_has_its_word(case, google, part, answer, expected, words):  # noqa: PLR0917 - a table
    google.answers[part] = [answer]
    failed = problem(case)
    assert failed.problem == expected
    assert words in failed.detail
    assert "theirs" not in failed.detail
    assert fetch(case).reveal() == VALUE


@pytest.mark.parametrize("part", ["vault", "token"])
def test_a_silent_one_is_left_in_time(case, google, vault, part):
    google.answers[part] = [Answered(wait=30.0)]
    assert problem(with_(case, means=vault.means(seconds=1.0))).problem == "timeout"


def test_a_payload_without_a_checksum_is_taken(case, google):
    google.answers["vault"] = [says({"payload": {"data": payload("one")["data"]}})]
    assert fetch(case).reveal() == "one"


@pytest.mark.parametrize(  # RFC 3720 appendix B.4
    ("content", "expected"), [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)]
)
def test_the_checksum_is_the_one_of_the_standard(content, expected):
    assert crc32c(content) == expected


def test_a_hundred_fetches_sign_in_once(case, google):
    async def many():
        return await asyncio.gather(*(case.backend.fetch(case.wanted, case.given, case.means) for _ in range(100)))

    assert {found.reveal() for found in asyncio.run(many())} == {VALUE}
    assert google.counted["token"] == 1


def test_a_caller_that_is_cancelled_leaves_the_sign_in_to_the_others(case, google):
    async def some():
        first, second = (asyncio.create_task(case.backend.fetch(case.wanted, case.given, case.means)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(some()).reveal() == VALUE
    assert google.counted["token"] == 1


def test_a_kept_token_that_is_revoked_is_exchanged_once(case, google):
    fetch(case)
    google.revoked.update(google.tokens)
    assert fetch(case).reveal() == VALUE
    assert google.counted["token"] == 2


def test_a_token_is_renewed_before_it_ends(case, google):
    google.life = 0
    fetch(case)
    fetch(case)
    assert google.counted["token"] == 2


def test_an_account_that_google_does_not_know_is_denied(case, vault, tmp_path):
    write(tmp_path / "account.json", account(vault.url, "gone@keyrelay-tests.iam.gserviceaccount.com"))
    assert problem(case).problem == "denied"


def test_a_persons_credentials_name_the_project_that_pays(case, vault, tmp_path, monkeypatch):
    # What the file says of the endpoint is not heeded.
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{vault.url}/token")
    write(tmp_path / "account.json", person(vault.url))
    assert fetch(case).reveal() == VALUE
    assert vault.asked[-1].headers["x-goog-user-project"] == PROJECT


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"type": "service_account"}), "no json"])
def test_a_file_that_is_none_is_no_crash(case, tmp_path, content):
    (tmp_path / "account.json").write_text(content)
    assert problem(case).problem in {"denied", "bad_answer"}


def test_a_machine_without_credentials_is_denied(case, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setattr(f"{METADATA}._NO_GCE_CHECK", True)  # the variable is only read at first
    failed = problem(case)
    assert failed.problem == "denied"
    assert "application default credentials" in failed.detail


def test_the_account_of_a_machine_at_google_is_used(case, vault, google, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setattr(f"{METADATA}._NO_GCE_CHECK", False)
    monkeypatch.setattr(f"{METADATA}._get_metadata_ip_root", lambda _: vault.url)
    monkeypatch.setattr(f"{METADATA}._get_metadata_root", lambda _: f"{vault.url}/computeMetadata/v1/")
    assert fetch(case).reveal() == VALUE
    assert google.counted["machine"] > 0
    assert google.counted["token"] == 0


def test_the_fence_sees_a_chain_that_looks_for_a_metadata_service(case, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setattr(f"{METADATA}._NO_GCE_CHECK", False)
    monkeypatch.setattr(f"{METADATA}._METADATA_DETECT_RETRIES", 1)
    with strays() as seen:
        assert problem(case).problem in {"denied", "timeout"}
    assert any("169.254.169.254" in one or "metadata.google" in one for one in seen)


def test_neither_the_key_nor_the_token_is_logged(case, google, caplog):
    caplog.set_level("DEBUG")
    fetch(case)
    assert not any(token in caplog.text for token in google.tokens)
    assert "PRIVATE KEY" not in caplog.text


@pytest.mark.parametrize("module", ["google.auth", "google.auth.transport.requests"])
def test_without_the_extra_its_command_is_told(case, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    failed = problem(case)
    assert (failed.problem, failed.detail) == ("extra_missing", "pip install keyrelay[gcp]")
